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

	changed bool // this run has changed what runs
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

// watch tells what the service does until it is called off, and returns a task that failed meanwhile, if any did.
// It only tells: when AWS does not answer, it is silent.
func (d *deployment) watch(ctx context.Context) (end func() *cloud.Task) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan *cloud.Task, 1)
	teller := d.newTeller()
	go func() {
		ticker := time.NewTicker(d.every)
		defer ticker.Stop()
		var failed *cloud.Task
		for {
			select {
			case <-ctx.Done():
				done <- failed
				return
			case <-ticker.C:
				if d.stack == nil {
					continue
				}
				if service, err := d.client.Service(ctx, d.stack); err == nil {
					teller.service(service)
				}
				if tasks, err := d.client.Tasks(ctx, d.stack); err == nil {
					if task := teller.tasks(tasks); task != nil {
						failed = task
					}
				}
			}
		}
	}()
	return func() *cloud.Task {
		cancel()
		return <-done
	}
}

// teller says each thing about a service once.
type teller struct {
	d       *deployment
	since   time.Time
	told    map[string]bool
	counted string
}

func (d *deployment) newTeller() *teller {
	return &teller{d: d, since: time.Now().Add(-clockSkew), told: map[string]bool{}}
}

func (t *teller) service(service *cloud.Service) {
	for _, event := range slices.Backward(service.Events) {
		if event.Time.After(t.since) && !t.told[event.ID] {
			t.told[event.ID] = true
			t.d.say("%s", event.Message)
		}
	}
	counted := fmt.Sprintf("tasks: %d wanted, %d running, %d pending", service.Desired, service.Running, service.Pending)
	if counted != t.counted {
		t.counted = counted
		t.d.say("%s", counted)
	}
}

// tasks tells of tasks that failed, and returns the newest of them.
func (t *teller) tasks(tasks []cloud.Task) (failed *cloud.Task) {
	for i, task := range tasks {
		if !failedTask(task) || !task.Stopped.After(t.since) {
			continue
		}
		if failed == nil {
			failed = &tasks[i]
		}
		if !t.told[task.ARN] {
			t.told[task.ARN] = true
			t.d.say("task %s stopped: %s", shortID(task.ID), task.Why())
		}
	}
	return failed
}

// outage is how many looks in a row may fail before a wait gives up.
const outage = 5

// steady waits until the service has the tasks it is to have. A task that ends by itself, a deployment that was rolled back, and
// the end of the time are failures, each with its reason.
func (d *deployment) steady(ctx context.Context, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	teller, missed := d.newTeller(), 0
	var failed *cloud.Task
	err := until(limited, d.every, func(ctx context.Context) (bool, error) {
		service, err := d.client.Service(ctx, d.stack)
		var tasks []cloud.Task
		if err == nil {
			tasks, err = d.client.Tasks(ctx, d.stack)
		}
		if err != nil {
			if missed++; missed >= outage || errors.Is(err, cloud.ErrDenied) || errors.Is(err, cloud.ErrExpired) {
				return false, err
			}
			if ctx.Err() == nil {
				d.say("AWS did not answer, and is asked again: %v", err)
			}
			return false, nil
		}
		missed = 0
		teller.service(service)
		if task := teller.tasks(tasks); task != nil {
			failed = task
		}
		return d.judge(ctx, service, failed)
	})
	switch {
	case ctx.Err() != nil:
		return d.interrupted()
	case limited.Err() == nil:
		return err
	case failed != nil:
		return d.taskFailed(ctx, *failed)
	}
	return &cloud.Error{What: fmt.Sprintf("the service %s is not steady after %s", d.names.Stack(), limit), Next: fmt.Sprintf("`berth status %s` shows how it is; `berth up %s` waits on", d.flags(), d.flags())}
}

// judge reports whether a service is as it should be, and why it will not be.
func (d *deployment) judge(ctx context.Context, service *cloud.Service, failed *cloud.Task) (done bool, err error) {
	if len(service.Deployments) > 0 && service.Deployments[0].State == "FAILED" || len(service.Deployments) > 1 && service.Deployments[1].State == "FAILED" {
		if failed != nil {
			return false, d.taskFailed(ctx, *failed)
		}
		return false, &cloud.Error{What: "the deployment was rolled back: " + service.Deployments[0].Reason, Next: fmt.Sprintf("`berth logs %s` has the last words of its tasks", d.flags())}
	}
	if failed != nil && service.Running < service.Desired {
		return false, d.taskFailed(ctx, *failed)
	}
	return service.Steady(), nil
}

func (d *deployment) taskFailed(ctx context.Context, task cloud.Task) error {
	why, next := d.autopsy(ctx, task)
	return &cloud.Error{What: why, Next: next}
}

// orInterrupted replaces what a call says of being called off by what a person needs to know then.
func (d *deployment) orInterrupted(ctx context.Context, err *error) {
	var told *interruptedError
	if *err != nil && ctx.Err() != nil && !errors.As(*err, &told) {
		*err = d.interrupted()
	}
}

// interrupted is how a wait ends at Ctrl-C: what it waits for goes on.
func (d *deployment) interrupted() error {
	return &interruptedError{"interrupted; AWS goes on with it: `berth status " + d.flags() + "` shows how it is, and the same command goes on from there"}
}
