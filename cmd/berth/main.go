// Command berth provisions, runs and watches an always-on Claude Code agent in your own AWS account.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"

	"berth/internal/ops"
)

// cli is the command line; a verb is a field whose type has Run(context.Context, ops.Stdio) error.
type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Up     ops.Up     `cmd:"" group:"The agent" help:"Make sure that the agent is there."`
	Down   ops.Down   `cmd:"" group:"The agent" help:"End the agent; its sessions wait. With --env: delete the deployment."`
	Status ops.Status `cmd:"" group:"The agent" help:"Show how the agent is."`
	Spend  ops.Spend  `cmd:"" group:"The agent" help:"Show what sessions have spent, by day and model."`

	Deploy  ops.Deploy  `cmd:"" group:"In AWS" help:"Roll out an image that the repository has."`
	Push    ops.Push    `cmd:"" group:"In AWS" help:"Build the image, and push it to the repository."`
	Pause   ops.Pause   `cmd:"" group:"In AWS" help:"Have no task run; the data stays."`
	Unpause ops.Unpause `cmd:"" group:"In AWS" help:"Have the task run again."`
	Key     ops.Key     `cmd:"" group:"In AWS" help:"Set the Anthropic key."`
	Doctor  ops.Doctor  `cmd:"" group:"In AWS" help:"Check what a deployment needs."`
	Env     ops.Env     `cmd:"" group:"In AWS" help:"List deployments."`

	Run    ops.Run    `cmd:"" group:"Sessions" help:"Hand in a task, and follow it to its end."`
	Ps     ops.Ps     `cmd:"" group:"Sessions" help:"List sessions."`
	Show   ops.Show   `cmd:"" group:"Sessions" help:"Show everything about a session."`
	Logs   ops.Logs   `cmd:"" group:"Sessions" help:"Show what a session says and does."`
	Send   ops.Send   `cmd:"" group:"Sessions" help:"Send a session a further message."`
	Stop   ops.Stop   `cmd:"" group:"Sessions" help:"End a session."`
	Resume ops.Resume `cmd:"" group:"Sessions" help:"Take an ended session up again."`
	Diff   ops.Diff   `cmd:"" group:"Sessions" help:"Show what a session changed."`
	Pull   ops.Pull   `cmd:"" group:"Sessions" help:"Fetch a session's work into this clone, as a branch."`

	Exec   ops.Exec   `cmd:"" group:"The agent" help:"Run a command in the container of an agent in AWS; a shell without one."`
	Open   ops.Open   `cmd:"" group:"The agent" help:"Make the API of an agent in AWS answer on this machine."`
	Backup ops.Backup `cmd:"" group:"Backup" help:"Back the volume of a deployment in AWS up, and restore it."`

	Cost       ops.Cost   `cmd:"" group:"Other" help:"Estimate what a deployment costs a month."`
	Completion completion `cmd:"" group:"Other" help:"Print how to have the shell complete berth's verbs and flags."`
}

const description = `A place to live for Claude Code: an always-on agent, on this machine or in your own AWS account.

Start here:
  berth up --local                       start the agent on this machine
  berth run "Write a program that greets, and a test for it"
  berth diff                             what it changed
  berth run --help                       more of what a task can be

Exit codes: 0 done; 1 failed; 2 a flag or a value cannot be used; 3 the agent cannot be reached; 4 a limit ended
the session; 130 Ctrl-C.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	err := run(ctx, os.Args[1:], ops.OSStdio())
	stop()
	if err != nil {
		for _, line := range ops.Lines(err) {
			fmt.Fprintln(os.Stderr, "berth: "+line)
		}
	}
	os.Exit(ops.ExitCode(err))
}

func run(ctx context.Context, args []string, stdio ops.Stdio) error {
	parser, err := newParser(ctx, stdio)
	if err != nil {
		return err
	}
	kongcompletion.Register(parser) // answers the shell and exits if it is the shell that asks
	command, err := parse(parser, args)
	if err != nil {
		return err
	}
	if name := emptyFlag(command); name != "" {
		return &ops.UsageError{Err: fmt.Errorf("--%s is empty, as a script's unset variable is; give it a value, or leave it out", name)}
	}
	return command.Run()
}

// emptyFlag is the name of a flag that was given an empty text, "" if there is none. An empty --env would mean this machine, and an empty
// --project the default one: another agent than the one that was meant.
func emptyFlag(command *kong.Context) string {
	for _, each := range command.Path {
		if flag := each.Flag; flag != nil && flag.Target.Kind() == reflect.String && strings.TrimSpace(flag.Target.String()) == "" {
			return flag.Name
		}
	}
	return ""
}

func newParser(ctx context.Context, stdio ops.Stdio) (*kong.Kong, error) {
	return kong.New(&cli{}, kong.Name("berth"), kong.Writers(stdio.Out, stdio.Err),
		kong.Description(description),
		kong.Vars{"version": version(), "project": ops.DefaultProject}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(stdio))
}

// verbOf is the command that a command line was for, as far as it could be read.
func verbOf(err error) string {
	if failed := new(kong.ParseError); errors.As(err, &failed) && failed.Context != nil && failed.Context.Command() != "" {
		return "berth " + strings.Fields(failed.Context.Command())[0]
	}
	return "berth"
}

// release is the version where the build knows of none, as in an archive: -ldflags "-X main.release=…".
var release string

// version is what the build recorded: the module's version, or the commit of a local build.
func version() string {
	if release != "" {
		return "berth " + release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "berth (unknown version)"
	}
	return "berth " + info.Main.Version
}
