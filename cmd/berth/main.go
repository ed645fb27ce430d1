// Command berth provisions, runs and watches an always-on Claude Code agent in your own AWS account.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"berth/internal/ops"
)

// cli is the command line; a verb is a field whose type has Run(context.Context, ops.Stdio) error.
type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Cost ops.Cost `cmd:"" help:"Estimate what a deployment costs a month."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	parser, err := kong.New(&cli{}, kong.Name("berth"), kong.Writers(stdio.Out, stdio.Err),
		kong.Description("A place to live for Claude Code: an always-on agent in your own AWS account."),
		kong.Vars{"version": version()}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(stdio))
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return &ops.UsageError{Err: fmt.Errorf("%w; see berth --help", err)}
	}
	return command.Run()
}

// version is what the build recorded: the module's version, or the commit of a local build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "berth (unknown version)"
	}
	return "berth " + info.Main.Version
}
