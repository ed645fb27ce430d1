package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
)

// BackupVerify is the verb `berth backup verify`.
type BackupVerify struct {
	Target
	Point string `name:"point" placeholder:"ARN" help:"The recovery point; the newest without it."`
	JSON  bool   `name:"json" help:"Write JSON."`
}

// Help is the long help.
func (BackupVerify) Help() string {
	return `The backup is restored to a file system of its own. A task like the agent's, with that in its volume's place, reads
every session of it. Then file system, mount targets and task definition are removed, also after a failure or Ctrl-C. The
agent and its volume are not touched. What it costs is the restored storage and the task, for the time that it takes.

Examples:
  berth backup verify --env prod

Exit codes: 0 every session can be read; 1 one cannot, or the drill failed; 2 a flag cannot be used; 130 Ctrl-C.`
}

// Run restores a backup, has it read, and removes it.
func (b *BackupVerify) Run(ctx context.Context, stdio Stdio) (err error) {
	if err := b.needsEnv("backup verify"); err != nil {
		return err
	}
	from, err := b.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	client, stack := from.client, from.stack
	point, err := choosePoint(ctx, client, stack, b.Point)
	if err != nil {
		return err
	}
	tell(stdio.Err, "restoring %s to a file system of its own", describePoint(point, time.Now()))
	d := &drill{client: client, stack: stack, stdio: stdio, every: pollEvery(stdio.Getenv)}
	err = d.restore(ctx, point, uuid.NewString())
	var found *verified
	if err == nil {
		found, err = d.check(ctx, false)
	}
	made := d.fileSystem
	if cleaned := d.clean(ctx, false); cleaned != nil {
		err = errors.Join(err, fmt.Errorf("cleaning up: %w", cleaned))
	} else if made != "" {
		tell(stdio.Err, "file system %s is removed again", made)
	}
	if found == nil {
		return err
	}
	if b.JSON {
		if written := writeJSON(stdio.Out, map[string]any{"recovery_point": point.ARN, "restored_to": made, "passed": err == nil, "found": found}); written != nil {
			return written
		}
		return err
	}
	table := tabwriter.NewWriter(stdio.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "recovery point\t%s\n", oneLine(describePoint(point, time.Now()), 200))
	fmt.Fprintf(table, "sessions\t%d can be read%s; %d cannot\n", found.Sessions, statesText(found.States), len(found.Broken))
	fmt.Fprintf(table, "events\t%d; the newest of %s UTC\n", found.Events, found.Newest.UTC().Format("2006-01-02 15:04"))
	fmt.Fprintf(table, "git mirrors\t%d\n", found.Mirrors)
	return errors.Join(table.Flush(), err)
}

// statesText is how many sessions are in which state.
func statesText(states map[string]int) string {
	var parts []string
	for state, n := range states {
		parts = append(parts, fmt.Sprintf("%d %s", n, oneLine(state, 20)))
	}
	if len(parts) == 0 {
		return ""
	}
	slices.Sort(parts)
	return " (" + strings.Join(parts, ", ") + ")"
}
