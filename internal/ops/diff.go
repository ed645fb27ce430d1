package ops

import (
	"context"
	"io"
)

// Diff is the verb `berth diff`: what a session changed.
type Diff struct {
	Target
	ID   string `arg:"" optional:"" help:"The session, by its id or a part of it; the newest if left out."`
	JSON bool   `name:"json" help:"Write JSON: the commit that it started from, and the patch."`
}

// Help is the long help.
func (Diff) Help() string {
	return `Everything that differs from where the session started, committed or not. Ignored files are left out.

Examples:
  berth diff
  berth diff 7a63ffb1e2f5 | git apply

Exit codes: 0 shown; 1 failed; 2 the id fits several; 3 the agent cannot be reached.`
}

// Run writes the patch to stdio.Out as it is: it may be for git apply.
func (d *Diff) Run(ctx context.Context, stdio Stdio) error {
	client, session, err := d.connected(ctx, stdio, d.ID)
	if err != nil {
		return err
	}
	diff, err := client.Diff(ctx, session.ID)
	if err != nil {
		return err
	}
	if d.JSON {
		return writeJSON(stdio.Out, diff)
	}
	_, err = io.WriteString(stdio.Out, diff.Patch)
	return err
}
