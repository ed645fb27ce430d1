// Command berthd is the agent: it takes sessions, runs Claude Code for each, and never loses one.
//
// The same program is the agent (no argument), the check of its health (health), and the helpers of package claude: the
// reaper that each Claude Code runs below, and those that become a session's user.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"berth/internal/claude"
)

type cli struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Serve  serve  `cmd:"" default:"withargs" help:"Be the agent (the default)."`
	Health health `cmd:"" help:"Ask the agent that uses this volume whether it answers; exit 0 if it does."`
	Verify verify `cmd:"" help:"Read every session of a restored volume, and say as JSON what is there."`
}

func main() {
	if status, is := claude.Helper(os.Args); is {
		os.Exit(status)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	inTime := endAtLast(ctx, lastMoment, os.Stderr, os.Exit)
	err := run(ctx, os.Args[1:])
	inTime()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", strings.Join(strings.Fields(err.Error()), " "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	parser, err := kong.New(&cli{}, kong.Name("berthd"),
		kong.Description("The agent that runs Claude Code sessions. It is set up by environment variables; see docs/agent.md."),
		kong.Vars{"version": "berthd " + version()}, kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w; see berthd --help", err)
	}
	return command.Run()
}

// release is the version where the build knows of none, as in the image: -ldflags "-X main.release=…".
var release string

// version is what the build recorded: the module's version, or the commit of a local build.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "(unknown version)"
}
