package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth/internal/cloud"
	"berth/internal/contract"
)

// BackupRestore is the verb `berth backup restore`.
type BackupRestore struct {
	Target
	Point    string   `name:"point" placeholder:"ARN" help:"The recovery point; the newest without it."`
	NoSwitch bool     `name:"no-switch" help:"Restore only: the agent stays on the volume that it has."`
	Context  []string `name:"context" short:"c" sep:"none" placeholder:"key=value" help:"A deploy option that is to change, as the CDK CLI takes it; repeat it for more."`
	Yes      bool     `name:"yes" short:"y" help:"Do not ask for the stack's name."`
	JSON     bool     `name:"json" help:"Write JSON."`
}

// Help is the long help.
func (BackupRestore) Help() string {
	return `The backup is restored to a new file system, and a task sees whether its sessions can be read, while the agent goes on. Then
the agent is stopped, a last backup of its volume is taken, and the CDK CLI deploys the stack with the new file system
(the option fileSystemId, which the stack records). What was written after the restored backup is not in the new volume:
it is in the last backup. Outside prod CloudFormation deletes the old file system with that deployment; in prod it stays.
A path alone cannot be restored: a session is its log, its checkpoints in a mirror that others share, and its place in the queue.
` + optionsHelp + `

Examples:
  berth backup restore --env prod
  berth backup restore --env prod --point 1eb3b5e7-9eb0-435a-a80b-108b488b0d45 --no-switch
  berth backup restore --env dev --yes

Exit codes: 0 restored; 1 failed; 2 a flag cannot be used; 130 Ctrl-C: it says what is left and how to go on.`
}

// restored is what the verb reports.
type restored struct {
	Point      string    `json:"recovery_point"`
	FileSystem string    `json:"file_system"`
	Found      *verified `json:"found"`
	Switched   bool      `json:"switched"`
	Before     string    `json:"file_system_before"`
	LastBackup string    `json:"last_backup,omitempty"`
}

// Run restores a backup, and has the agent use it.
func (b *BackupRestore) Run(ctx context.Context, stdio Stdio) error {
	given, err := b.options()
	if err != nil {
		return err
	}
	from, err := b.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	client, stack := from.client, from.stack
	if !b.NoSwitch {
		if err := from.findCDK(); err != nil {
			return err
		}
		if given, _, err = from.options(ctx, given); err != nil {
			return err
		}
	}
	point, err := choosePoint(ctx, client, stack, b.Point)
	if err != nil {
		return err
	}
	b.announce(stdio, stack, point)
	if err := confirmName(ctx, stdio, stack.Names, b.Yes || b.NoSwitch); err != nil {
		return err
	}
	d := &drill{client: client, stack: stack, stdio: stdio, every: pollEvery(stdio.Getenv)}
	found, err := b.restoreAndCheck(ctx, d, point)
	if err != nil {
		return err
	}
	result := restored{Point: point.ARN, FileSystem: d.fileSystem, Found: found, Before: stack.Outputs[contract.OutputFileSystemID]}
	if !b.NoSwitch {
		s := &switchover{client: client, cdk: from.cdk, stack: stack, stdio: stdio, options: given, to: d.fileSystem}
		if result.LastBackup, err = s.run(ctx); err != nil {
			return err
		}
		result.Switched = true
	}
	return b.write(stdio, &result)
}

// options are the deploy options, with those that the target gives.
func (b *BackupRestore) options() (map[string]string, error) {
	if err := b.needsEnv("backup restore"); err != nil {
		return nil, err
	}
	given, err := readOptions(b.Context, b.Target)
	if err != nil {
		return nil, err
	}
	if _, named := given["fileSystemId"]; named {
		return nil, &UsageError{errors.New("-c fileSystemId is not to be given here: it is the restored one's")}
	}
	return given, nil
}

func (b *BackupRestore) announce(stdio Stdio, stack *cloud.Stack, point *cloud.RecoveryPoint) {
	tell(stdio.Err, "restoring %s to a new file system", describePoint(point, time.Now()))
	if b.NoSwitch {
		return
	}
	old := stack.Outputs[contract.OutputFileSystemID]
	tell(stdio.Err, "what was written to %s after that is not in it; a last backup, taken when the agent has stopped, keeps it", old)
	if stack.Names.Environment == contract.Production || stack.Parameters[contract.ParamFileSystemID] != "" {
		tell(stdio.Err, "then the agent starts on the new file system; %s stays, and is paid for until you delete it", old)
	} else {
		tell(stdio.Err, "then the agent starts on the new file system, and CloudFormation deletes %s", old)
	}
}

// restoreAndCheck makes the new file system ready to be adopted: what it holds can be read and is where the agent looks, it has the
// old one's policy and tags, and no mount target, because the stack makes those. After a failure nothing of it is left.
func (b *BackupRestore) restoreAndCheck(ctx context.Context, d *drill, point *cloud.RecoveryPoint) (found *verified, err error) {
	err = d.restore(ctx, point, uuid.NewString())
	if err == nil {
		found, err = d.check(ctx, true)
	}
	if cleaned := d.clean(ctx, err == nil); cleaned != nil {
		return nil, errors.Join(err, fmt.Errorf("cleaning up: %w", cleaned))
	}
	if err != nil {
		return nil, err
	}
	tell(d.stdio.Err, "file system %s has %s that can be read", d.fileSystem, plural(found.Sessions, "session", "sessions"))
	if err := d.client.CopyPolicy(ctx, d.stack.Outputs[contract.OutputFileSystemID], d.fileSystem); err != nil {
		return nil, fmt.Errorf("%w; file system %s is restored and stays: `aws efs delete-file-system --file-system-id %s%s` deletes it", err, d.fileSystem, d.fileSystem, d.client.RegionFlag())
	}
	return found, nil
}

func (b *BackupRestore) write(stdio Stdio, result *restored) error {
	if b.JSON {
		return writeJSON(stdio.Out, result)
	}
	if !result.Switched {
		_, err := fmt.Fprintf(stdio.Out, "Restored to file system %s, which has no mount target yet. The agent stays on %s.\n", result.FileSystem, result.Before)
		return err
	}
	_, err := fmt.Fprintf(stdio.Out, "The agent uses file system %s now. Whoever runs `npx cdk deploy` gives it -c fileSystemId=%s from now on; berth knows.\nWhat was on %s last is in recovery point %s\n",
		result.FileSystem, result.FileSystem, result.Before, result.LastBackup)
	return err
}

// switchover has the stack adopt another file system, through the CDK CLI.
type switchover struct {
	client  *cloud.Client
	cdk     *cloud.CDK
	stack   *cloud.Stack
	stdio   Stdio
	options map[string]string
	to      string
}

// run stops the agent, takes a last backup, deploys the stack with the other file system, and starts the agent if it ran before.
// It returns the last backup's recovery point. An error says how to go on, or back.
func (s *switchover) run(ctx context.Context) (last string, err error) {
	desired := s.stack.Parameters[contract.ParamDesiredCount]
	flags := s.stack.Flags()
	stays := "file system " + s.to + " is restored and stays"
	onward := fmt.Sprintf("what CloudFormation has begun goes on: `berth status %s` tells whether the agent runs, `berth unpause %s` starts it; ", flags, flags)
	if desired != "0" {
		tell(s.stdio.Err, "stopping the agent; its sessions wait")
		stop := map[string]string{contract.ParamDesiredCount: "0"}
		if err := s.cdk.Roll(ctx, s.client, s.stack, stop, s.stdio.Err); err != nil {
			next := "the agent is still on its volume; " + stays
			if ctx.Err() != nil {
				next = onward + stays
			}
			return "", s.explain(ctx, err, next)
		}
	}
	back := fmt.Sprintf("the agent is stopped, on its old volume: `berth unpause %s` starts it there; %s", flags, stays)
	if last, err = backUp(ctx, s.stdio, s.client, s.stack); err != nil {
		return "", also(err, back)
	}
	tell(s.stdio.Err, "what the old volume held last is in %s", last)
	given := maps.Clone(s.options)
	given["fileSystemId"] = s.to
	parameters := map[string]string{contract.ParamFileSystemID: s.to, contract.ParamDesiredCount: desired}
	if err := s.cdk.Deploy(ctx, s.client, s.stack.Names, cloud.With{Options: given, Parameters: parameters, Protected: s.stack.Protected}, s.stdio.Err); err != nil {
		if ctx.Err() != nil {
			back = onward + stays + "; what the old volume held last is in " + last
		}
		return "", s.explain(ctx, err, back)
	}
	return last, nil
}

// explain adds to a failed deployment what failed first, and how to go on.
func (s *switchover) explain(ctx context.Context, err error, next string) error {
	if ctx.Err() == nil {
		if first, asked := s.client.FirstFailure(ctx, s.stack.Names, time.Now().Add(-time.Hour)); asked == nil && first != "" {
			err = fmt.Errorf("%w (%s)", err, first)
		}
	}
	return also(err, next)
}

// also adds to an error what a person has to know beside it.
func also(err error, text string) error {
	if errors.Is(err, context.Canceled) {
		return &interruptedError{strings.ReplaceAll(err.Error(), "context canceled", "interrupted") + "; " + text}
	}
	return errors.Join(err, errors.New(text))
}
