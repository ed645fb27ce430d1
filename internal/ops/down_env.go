package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/internal/cloud"
	"berth/internal/contract"
)

// teardown deletes a deployment, in the order that works.
type teardown struct {
	down   *Down
	client *cloud.Client
	stdio  Stdio
	names  contract.Names
	stack  *cloud.Stack // nil: it is gone already
	holds  *cloud.Holds

	stopped bool // this run has ended the service's tasks, and nothing is deleted yet
}

// keeps reports whether data outlives the stack.
func (t *teardown) keeps() bool { return t.names.Environment == contract.Production && !t.down.Purge }

// tearDown is `berth down --env`.
func (d *Down) tearDown(ctx context.Context, stdio Stdio) error {
	client, err := d.cloud(ctx)
	if err != nil {
		return err
	}
	t := &teardown{down: d, client: client, stdio: stdio, names: d.names()}
	if err := t.look(ctx); err != nil {
		return err
	}
	if t.stack == nil && (!d.Purge || t.holds.Empty()) {
		tell(stdio.Err, "there is no stack %s in %s", t.names.Stack(), client.Region)
		return t.left(ctx)
	}
	cdk, err := t.cdk()
	if err != nil {
		return err
	}
	if err := t.refuseWhileSessionsRun(ctx); err != nil {
		return err
	}
	t.announce()
	if err := confirmName(ctx, stdio, t.names, d.Yes); err != nil {
		return err
	}
	if err := t.run(ctx, cdk); err != nil {
		return err
	}
	return t.left(ctx)
}

// cdk finds the CDK CLI, unless there is no stack to delete with it.
func (t *teardown) cdk() (*cloud.CDK, error) {
	if t.stack == nil {
		return nil, nil //nolint:nilnil // said above
	}
	return cloud.FindCDK(".")
}

// look finds out what there is.
func (t *teardown) look(ctx context.Context) (err error) {
	t.stack, err = waitForStack(ctx, t.client, t.names, pollEvery(t.stdio.Getenv), func(format string, args ...any) { tell(t.stdio.Err, format, args...) })
	switch {
	case errors.Is(err, cloud.ErrNoStack):
		t.stack = nil
	case err != nil:
		return err
	}
	if t.stack != nil && t.stack.Protected { // before anything goes that the stack would then stay without
		return &cloud.Error{
			What: "stack " + t.names.Stack() + " has termination protection, which somebody has put on",
			Next: "take it off: `aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name " + t.names.Stack() + t.client.RegionFlag() + "`, then the same command again",
		}
	}
	t.holds, err = t.client.Holds(ctx, t.names)
	return err
}

// refuseWhileSessionsRun asks how many sessions there are to lose; --force does not ask.
func (t *teardown) refuseWhileSessionsRun(ctx context.Context) error {
	if t.down.Force || t.stack == nil || t.stack.Status == "ROLLBACK_COMPLETE" {
		return nil
	}
	service, err := t.client.Service(ctx, t.stack)
	if err != nil {
		return err
	}
	if service.Running == 0 {
		return nil
	}
	sessions, known, err := t.sessions(ctx)
	next := "wait for them (`berth ps " + t.client.Flags(t.names) + "`), or give --force, and they are cut off"
	switch {
	case err != nil:
		return err
	case !known:
		return &cloud.Error{What: "the agent runs, and has not said in the last minutes how many sessions it has", Next: "`berth ps " + t.client.Flags(t.names) + "` asks it; --force deletes in any case"}
	case sessions > 0:
		return &cloud.Error{What: plural(sessions, "session runs or waits", "sessions run or wait"), Next: next}
	}
	return nil
}

// sessions is how many sessions have not ended. The metric is a minute old, and may be of before one that has just begun: the agent itself is
// asked too. Where it cannot be reached, the metric has to do.
func (t *teardown) sessions(ctx context.Context) (n int, known bool, err error) {
	n, known, err = t.client.ActiveSessions(ctx, t.names, time.Now())
	if err != nil || n > 0 {
		return n, known, err
	}
	limited, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	client, err := reachStack(limited, t.client, t.stack)
	if err != nil {
		return n, known, ctx.Err()
	}
	defer client.Close()
	status, err := client.Status(limited)
	if err != nil {
		return n, known, ctx.Err()
	}
	for state, count := range status.Sessions {
		if !state.Ended() {
			n += count
		}
	}
	return n, true, nil
}

// announce says what goes and what stays.
func (t *teardown) announce() {
	say := func(format string, args ...any) { fmt.Fprintf(t.stdio.Err, format+"\n", args...) }
	held := t.heldThings()
	if t.stack != nil {
		say("Deleted: stack %s in %s, with its service, cluster, network rules, secrets, alarms and dashboard", t.names.Stack(), t.client.Region)
	}
	for _, thing := range held {
		if !t.keeps() {
			say("Deleted: %s", thing)
		}
	}
	if !t.keeps() {
		return
	}
	for _, thing := range held {
		if !strings.HasPrefix(thing, "secret") {
			say("Kept:    %s", thing)
		}
	}
	say("A last backup is taken first.")
}

// heldThings are what may outlive the stack, in words.
func (t *teardown) heldThings() (things []string) {
	for _, each := range t.holds.FileSystems {
		things = append(things, fmt.Sprintf("file system %s (%s)", each.ID, bytesText(each.SizeBytes)))
	}
	if n := len(t.holds.RecoveryPoints); n > 0 {
		things = append(things, plural(n, "backup", "backups")+" in vault "+t.names.Stack())
	}
	if t.holds.Vault && len(t.holds.RecoveryPoints) == 0 && t.stack == nil {
		things = append(things, "the empty backup vault "+t.names.Stack())
	}
	if t.holds.Repository {
		things = append(things, fmt.Sprintf("repository %s (%s, %s)", t.names.Stack(), plural(t.holds.Images, "image", "images"), bytesText(t.holds.ImageBytes)))
	}
	if t.holds.LogGroup {
		things = append(things, fmt.Sprintf("log group %s (%s)", t.names.LogGroup(), bytesText(t.holds.LogBytes)))
	}
	if t.stack == nil {
		for _, each := range t.holds.Secrets {
			things = append(things, "secret "+each)
		}
	}
	return things
}

// run deletes: what stands in the stack's way, the stack, and with --purge what stays behind.
func (t *teardown) run(ctx context.Context, cdk *cloud.CDK) error {
	again := "`berth down " + t.client.Flags(t.names) + "` goes on"
	if t.down.Purge {
		again = "`berth down " + t.client.Flags(t.names) + " --purge` goes on"
	}
	steps := []func(context.Context) error{}
	if t.stack != nil && t.keeps() {
		steps = append(steps, t.lastBackup)
	}
	if !t.keeps() {
		steps = append(steps, t.emptyVault)
	}
	if t.stack != nil {
		steps = append(steps, func(ctx context.Context) error { return t.destroy(ctx, cdk) })
	}
	if !t.keeps() {
		steps = append(steps, t.deleteVolumes)
	}
	if t.down.Purge {
		steps = append(steps, t.purge)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			if t.stopped {
				again += ", `berth up " + t.client.Flags(t.names) + "` has the agent run again instead"
			}
			if ctx.Err() != nil {
				return &interruptedError{"interrupted; " + again}
			}
			return fmt.Errorf("%w; %s", err, again)
		}
	}
	return nil
}

const (
	// stopTime is how long a task may take to end: its own two minutes, and ECS'.
	stopTime = 10 * time.Minute
	// emptyTime is how long AWS Backup may take to delete what a vault holds.
	emptyTime = 30 * time.Minute
)

// lastBackup stops the agent and takes a backup of what it leaves.
func (t *teardown) lastBackup(ctx context.Context) error {
	if !t.stack.Healthy() || t.stack.Outputs[contract.OutputBackupRoleARN] == "" {
		tell(t.stdio.Err, "no last backup: the stack is in %s; its file system stays in any case", t.stack.Status)
		return nil
	}
	service, err := t.client.Service(ctx, t.stack)
	if err != nil {
		return err
	}
	if service.Desired > 0 || service.Running > 0 {
		tell(t.stdio.Err, "stopping the agent")
		if err := t.client.Scale(ctx, t.stack, 0); err != nil {
			return err
		}
		t.stopped = true
		if err := untilWithin(ctx, pollEvery(t.stdio.Getenv), stopTime, "the agent has not stopped", func(ctx context.Context) (bool, error) {
			service, err := t.client.Service(ctx, t.stack)
			return err == nil && service.Running == 0, err
		}); err != nil {
			return err
		}
	}
	if _, err = backUp(ctx, t.stdio, t.client, t.stack); err == nil {
		t.stopped = false
	}
	return err
}

// emptyVault deletes the vault's recovery points: while it holds one it cannot go, and CloudFormation stops at it.
func (t *teardown) emptyVault(ctx context.Context) error {
	vault := t.names.Stack()
	if t.stack != nil {
		vault = t.stack.Vault()
	}
	asked := map[string]bool{}
	return untilWithin(ctx, pollEvery(t.stdio.Getenv), emptyTime, "the vault "+vault+" still holds backups", func(ctx context.Context) (bool, error) {
		points, err := t.client.RecoveryPoints(ctx, vault)
		if err != nil || len(points) == 0 {
			return true, err
		}
		for i := range points {
			if asked[points[i].ARN] {
				continue
			}
			if err := t.client.DeleteRecoveryPoint(ctx, vault, points[i].ARN); err != nil {
				return false, err
			}
			asked[points[i].ARN] = true
			tell(t.stdio.Err, "backup %s is deleted", points[i].ID())
		}
		return false, nil
	})
}

// destroy deletes the stack through the CDK CLI.
func (t *teardown) destroy(ctx context.Context, cdk *cloud.CDK) error {
	from := time.Now().Add(-time.Minute) // the clocks may differ
	// With a new VPC the app looks nothing up: the network does not matter to what is deleted.
	args := append([]string{"destroy", t.names.Stack(), "--force"},
		cloud.Context(map[string]string{"projectName": t.names.Project, "environment": t.names.Environment, "vpcId": "new"})...)
	err := cdk.Run(ctx, t.client, t.stdio.Err, args...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if first, asked := t.client.FirstFailure(ctx, t.names, from); asked == nil && first != "" {
			return fmt.Errorf("stack %s is not deleted: %s", t.names.Stack(), first)
		}
		return err
	}
	stack, err := t.client.Stack(ctx, t.names)
	if err == nil {
		return fmt.Errorf("stack %s is still there, in %s %s", t.names.Stack(), stack.Status, stack.Reason)
	}
	if !errors.Is(err, cloud.ErrNoStack) {
		return err
	}
	tell(t.stdio.Err, "stack %s is deleted", t.names.Stack())
	return nil
}

// deleteVolumes deletes file systems that have outlived the stack: in prod its own, and everywhere one that it had adopted, such as a
// restored one, which CloudFormation leaves alone. Only such as carry the deployment's tags.
func (t *teardown) deleteVolumes(ctx context.Context) error {
	found, err := t.client.FileSystems(ctx, t.names)
	if err != nil {
		return err
	}
	for _, each := range found {
		d := &drill{client: t.client, stdio: t.stdio, every: pollEvery(t.stdio.Getenv), fileSystem: each.ID}
		targets, err := t.client.MountTargets(ctx, each.ID)
		if err != nil {
			return err
		}
		for _, target := range targets {
			d.targets = append(d.targets, target.ID)
		}
		if err := d.clean(ctx, false); err != nil {
			return err
		}
		tell(t.stdio.Err, "file system %s is deleted", each.ID)
	}
	return nil
}

// purge deletes what else has outlived the stack.
func (t *teardown) purge(ctx context.Context) error {
	held, err := t.client.Holds(ctx, t.names)
	if err != nil {
		return err
	}
	if err := t.emptyVault(ctx); err != nil {
		return err
	}
	for _, err := range []error{t.client.DeleteVault(ctx, t.names.Stack()), t.client.DeleteRepository(ctx, t.names), t.client.DeleteLogGroup(ctx, t.names)} {
		if err != nil {
			return err
		}
	}
	for _, each := range held.Secrets {
		if err := t.client.DeleteSecret(ctx, each); err != nil {
			return err
		}
	}
	return nil
}
