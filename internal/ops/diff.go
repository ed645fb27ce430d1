package ops

import (
	"context"
	"strings"
)

// Diff is the verb `berth diff`: what a session changed.
type Diff struct {
	Target
	ID   *string `arg:"" optional:"" help:"The session, by its id or a part of it; the newest if left out."`
	JSON bool    `name:"json" help:"Write JSON: the commit that it started from, and the patch."`
}

// Help is the long help.
func (Diff) Help() string {
	return `Everything that differs from where the session started, committed or not. Ignored files are left out.

Examples:
  berth diff
  berth diff 7a63ffb1e2f5 | git apply

Exit codes: 0 shown; 1 failed; 2 the id fits several; 3 the agent cannot be reached.`
}

// Run writes the patch to stdio.Out: as it is, for git apply, unless somebody reads it in a terminal.
func (d *Diff) Run(ctx context.Context, stdio Stdio) error {
	client, session, err := d.connected(ctx, stdio, d.ID)
	if err != nil {
		return err
	}
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
