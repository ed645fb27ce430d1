package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/cloud"
	"berth/internal/contract"
)

// deployment is a deployed stack, and what it takes to work with it.
type deployment struct {
	client *cloud.Client
	names  contract.Names
	stack  *cloud.Stack

	template cloud.Template // the deployed one, once the options were asked for
	cdk      *cloud.CDK
	said     io.Writer     // standard error
	every    time.Duration // between two looks while something is waited for

	changed  bool      // this run has changed what runs
	awaited  string    // the id of the deployment that is waited for, where this run has started one
	keySince time.Time // since when the key is set that tasks are to have; zero: whichever they have
}

// envPoll is how many seconds pass between two looks at AWS while something is waited for.
const envPoll = "BERTH_POLL_SECONDS"

// pollEvery is what the variable says; 3 s without it.
func pollEvery(getenv func(string) string) time.Duration {
	if seconds, err := strconv.ParseFloat(getenv(envPoll), 64); err == nil && seconds > 0 && seconds <= 60 {
		return time.Duration(seconds * float64(time.Second))
	}
	return 3 * time.Second
}

// newDeployment connects to AWS. There need not be a stack yet.
func (t Target) newDeployment(ctx context.Context, stdio Stdio) (*deployment, error) {
	client, err := t.cloud(ctx)
	if err != nil {
		return nil, err
	}
	return &deployment{client: client, names: t.names(), said: stdio.Err, every: pollEvery(stdio.Getenv)}, nil
}

// deployed is newDeployment for a stack that has to be there, and to be usable.
func (t Target) deployed(ctx context.Context, stdio Stdio) (*deployment, error) {
	d, err := t.newDeployment(ctx, stdio)
	if err != nil {
		return nil, err
	}
	d.stack, err = d.client.Usable(ctx, d.names)
	return d, err
}

// say tells how it goes, on standard error.
func (d *deployment) say(format string, values ...any) {
	fmt.Fprintln(d.said, "· "+oneLine(fmt.Sprintf(format, values...), 1000))
}

// flags name the deployment in a command.
func (d *deployment) flags() string { return d.client.Flags(d.names) }

// findCDK finds the pinned CDK CLI.
func (d *deployment) findCDK() (err error) {
	if d.cdk == nil {
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		if d.cdk, err = cloud.FindCDK(here); err != nil {
			return err
		}
	}
	return nil
}

// refresh looks at the stack again.
func (d *deployment) refresh(ctx context.Context) (err error) {
	d.stack, err = d.client.Usable(ctx, d.names)
	return err
}

// change changes parameters of the stack through the CDK CLI, and tells meanwhile what the service does.
func (d *deployment) change(ctx context.Context, parameters map[string]string) error {
	d.changed = true
	if err := d.findCDK(); err != nil {
		return err
	}
	begun := time.Now().Add(-clockSkew)
	watch := d.watch(ctx)
	err := d.cdk.Roll(ctx, d.client, d.stack, parameters, d.said)
	seen := watch()
	if err != nil {
		return d.why(ctx, err, begun, seen)
	}
	return d.refresh(ctx)
}

// restart has the service replace its task, for steady to wait for.
func (d *deployment) restart(ctx context.Context) (err error) {
	d.changed = true
	d.awaited, err = d.client.Restart(ctx, d.stack)
	return err
}

// clockSkew is how much this machine's clock may be ahead of AWS's.
const clockSkew = 2 * time.Second

// why explains a failure of the CDK CLI: by the task that stopped, else by the event that failed first.
func (d *deployment) why(ctx context.Context, err error, begun time.Time, stopped *cloud.Task) error {
	var failed *cloud.CDKError
	if !errors.As(err, &failed) || ctx.Err() != nil {
		return err
	}
	first, problem := d.client.FirstFailure(ctx, d.names, begun)
	if problem != nil && !errors.Is(problem, cloud.ErrNoStack) {
		first = ""
	}
	next := "mend that, and run the same command again; `berth doctor " + d.flags() + "` checks what it needs"
	if stopped == nil && d.stack != nil && first != "" {
		stopped = d.lastFailed(ctx, begun)
	}
	if stopped != nil {
		text, advice := d.autopsy(ctx, *stopped)
		first, next = text, advice
	}
	return d.client.Why(ctx, d.names, failed, first, next)
}

// lastFailed is a task that has failed since a time; nil if none has.
func (d *deployment) lastFailed(ctx context.Context, since time.Time) *cloud.Task {
	tasks, err := d.client.Tasks(ctx, d.stack)
	if err != nil {
		return nil
	}
	for _, task := range tasks {
		if failedTask(task) && task.Stopped.After(since) {
			return &task
		}
	}
	return nil
}

// failedTask reports whether a task has ended otherwise than by being told to.
func failedTask(task cloud.Task) bool {
	return task.Status == "STOPPED" && slices.Contains([]string{"TaskFailedToStart", "EssentialContainerExited"}, task.StopCode)
}

// autopsy says why a task has failed, and what to do.
func (d *deployment) autopsy(ctx context.Context, task cloud.Task) (why, next string) {
	why = fmt.Sprintf("task %s stopped: %s", shortID(task.ID), task.Why())
	next = fmt.Sprintf("`berth logs %s` has more; mend it and `berth up %s`, or `berth deploy %s --rollback`", d.flags(), d.flags(), d.flags())
	var last string
	if lines, err := d.client.TaskLog(ctx, d.stack, task.ID); err == nil && len(lines) > 0 {
		last = oneLine(lines[len(lines)-1], 300)
		why += "; its last words: " + last
	}
	switch architecture := d.stack.Outputs[contract.OutputArchitecture]; {
	case strings.Contains(last, "exec format error"), strings.Contains(why, "exec format error"), strings.Contains(why, "does not contain descriptor matching platform"):
		why += "; the image is not for " + architecture
		next = fmt.Sprintf("build it for that: `berth up %s`", d.flags())
	case strings.Contains(why, "CannotPull"):
		next = fmt.Sprintf("check that the image is there (`berth status %s`) and that the task's subnets reach the internet; then `berth up %s`", d.flags(), d.flags())
	}
	return why, next
}

// orInterrupted replaces what a call says of being called off by what a person needs to know then.
func (d *deployment) orInterrupted(ctx context.Context, err *error) {
	var told *interruptedError
	if *err != nil && ctx.Err() != nil && !errors.As(*err, &told) {
		*err = d.interrupted()
	}
}

// interrupted is how a verb ends at Ctrl-C: what it has AWS do goes on.
func (d *deployment) interrupted() error {
	return &interruptedError{"interrupted; what AWS has begun goes on: `berth status " + d.flags() + "` shows how it is, and the same command goes on from there"}
}
