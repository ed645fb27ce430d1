package ops

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/term"

	"berth/internal/tunnel"
)

// Exec is the verb `berth exec`: it runs a command in the agent's container.
type Exec struct {
	Target
	Command []string `arg:"" optional:"" passthrough:"" placeholder:"COMMAND" help:"The command and its arguments; a shell without one."`
}

// Help is the long help.
func (Exec) Help() string {
	return `The command runs as root in the container, with a terminal, beside the agent (ECS Exec). What is typed goes to it, Ctrl-C
too; of standard input that is no terminal, its end is typed as Ctrl-D. What it writes to either of its outputs comes to
standard output. No session-manager-plugin is needed.

Examples:
  berth exec --env dev
  berth exec --env dev -- ls -l /data/volume/sessions
  berth exec --env prod -- berthd health

Exit codes: the command's own; 1 also if AWS refuses, or the session is cut off; 2 a flag cannot be used; 3 no task runs,
or AWS cannot be reached; 130 Ctrl-C, where standard input is no terminal.`
}

// CommandError is how a command ended that did not end well. It has told its user why.
type CommandError struct{ Code int }

func (e *CommandError) Error() string { return fmt.Sprintf("the command exited with %d", e.Code) }

// Run runs the command.
func (e *Exec) Run(ctx context.Context, stdio Stdio) error {
	if err := e.needsEnv("exec"); err != nil {
		return err
	}
	command := e.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		command = []string{"/bin/bash"}
	}
	aws, stack, err := e.standing(ctx)
	if err != nil {
		return away(err)
	}
	task, err := aws.TaskToReach(ctx, stack)
	if err != nil {
		return away(err)
	}
	text, mark := tunnel.Wrap(command)
	started, err := aws.Execute(ctx, stack, task, text)
	if err != nil {
		return away(err)
	}
	terminal := tunnel.Terminal{In: stdio.In, Out: stdio.Out}
	if out, is := terminalFile(stdio.Out); is {
		terminal.Size = func() (cols, rows int) {
			cols, rows, err := term.GetSize(int(out.Fd()))
			if err != nil {
				return 0, 0
			}
			return cols, rows
		}
	}
	if in, is := stdio.In.(*os.File); is && term.IsTerminal(int(in.Fd())) {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("the terminal does not let keys pass as they are typed: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), before) }() // there is nothing to be done about it
	}
	code, err := tunnel.Run(ctx, tunnel.Session(started), terminal, mark)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("the command was cut off: %w; `berth status%s` says how the task is", err, e.flags())
	case code < 0:
		return fmt.Errorf("the session ended, and the command did not tell how it ended; `berth exec%s` opens another one", e.flags())
	case code > 0:
		return &CommandError{code}
	}
	return nil
}
