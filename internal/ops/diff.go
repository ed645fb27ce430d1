package ops

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Diff is the verb `berth diff`: what a session changed.
type Diff struct {
	Target
	ID   *string `arg:"" optional:"" help:"The session, by its id or a part of it; the newest if left out."`
	JSON bool    `name:"json" help:"Write JSON: the commit that it started from, and the patch."`

	Context []string `name:"context" short:"c" sep:"none" placeholder:"key=value" help:"With --env and no session: a deploy option, as the CDK CLI takes it; repeat it for more."`
}

// runStack writes how the stack that would be deployed differs from the one that is.
func (d *Diff) runStack(ctx context.Context, stdio Stdio) error {
	if err := d.check(); err != nil {
		return err
	}
	if d.JSON {
		return &UsageError{errors.New("--json is for a session's changes; name a session, or leave it out")}
	}
	given, err := readOptions(d.Context, d.Target)
	if err != nil {
		return err
	}
	deployed, err := d.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	if err := deployed.findCDK(); err != nil {
		return err
	}
	if given, _, err = deployed.options(ctx, given); err != nil {
		return err
	}
	if err := deployed.cdk.Diff(ctx, deployed.client, deployed.names, given, stdio.Out); err != nil {
		return deployed.why(ctx, err, time.Now(), nil)
	}
	return nil
}

// Help is the long help.
func (Diff) Help() string {
	return `With --env and without a session it is the stack's: how what would be deployed differs from what is (cdk diff).
` + optionsHelp + `

Everything that differs from where the session started, committed or not. Ignored files are left out.

Examples:
  berth diff
  berth diff 7a63ffb1e2f5 | git apply
  berth diff --env dev -c cpu=4096

Exit codes: 0 shown; 1 failed; 2 the id fits several; 3 the agent cannot be reached.`
}

// Run writes the patch to stdio.Out: as it is, for git apply, unless somebody reads it in a terminal.
func (d *Diff) Run(ctx context.Context, stdio Stdio) error {
	if d.inCloud() && d.ID == nil {
		return d.runStack(ctx, stdio)
	}
	if len(d.Context) > 0 {
		return &UsageError{errors.New("-c goes with --env and without a session: it is for the stack's difference")}
	}
	client, session, err := d.connected(ctx, stdio, d.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	if d.JSON {
		diff, err := client.Diff(ctx, session.ID)
		if err != nil {
			return err
		}
		return writeJSON(stdio.Out, diff)
	}
	patch, err := client.Patch(ctx, session.ID)
	if err != nil {
		return err
	}
	if _, is := terminalFile(stdio.Out); is {
		return writePatch(newTerminal(stdio), string(patch))
	}
	_, err = stdio.Out.Write(patch)
	return err
}

// writePatch writes a patch for people.
func writePatch(to *terminal, patch string) error {
	for line := range strings.Lines(printable(patch)) {
		style := ""
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"), strings.HasPrefix(line, "diff "):
			style = bold
		case strings.HasPrefix(line, "+"):
			style = green
		case strings.HasPrefix(line, "-"):
			style = red
		case strings.HasPrefix(line, "@@"):
			style = cyan
		}
		to.say(style, strings.TrimSuffix(line, "\n"))
	}
	return to.failed
}
