package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth/internal/cloud"
)

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
	w := &wait{d: d, teller: d.newTeller()}
	err := until(limited, d.every, w.look)
	switch {
	case ctx.Err() != nil:
		return d.interrupted()
	case limited.Err() == nil:
		return err
	case w.failed != nil:
		return d.taskFailed(ctx, *w.failed)
	}
	return &cloud.Error{What: fmt.Sprintf("the service %s is not steady after %s", d.names.Stack(), limit), Next: fmt.Sprintf("`berth status %s` shows how it is; `berth up %s` waits on", d.flags(), d.flags())}
}

// wait is what steady knows from one look to the next.
type wait struct {
	d      *deployment
	teller *teller
	missed int // looks in a row that AWS did not answer
	failed *cloud.Task
	seen   bool // ECS has answered with the deployment that is waited for
	scaled bool
}

func (w *wait) look(ctx context.Context) (done bool, err error) {
	service, err := w.d.client.Service(ctx, w.d.stack)
	var tasks []cloud.Task
	if err == nil {
		tasks, err = w.d.client.Tasks(ctx, w.d.stack)
	}
	if err != nil {
		if w.missed++; w.missed >= outage || errors.Is(err, cloud.ErrDenied) || errors.Is(err, cloud.ErrExpired) {
			return false, err
		}
		if ctx.Err() == nil {
			w.d.say("AWS did not answer, and is asked again: %v", err)
		}
		return false, nil
	}
	w.missed = 0
	w.teller.service(service)
	if task := w.teller.tasks(tasks); task != nil {
		w.failed = task
	}
	if astray, err := w.count(ctx, service); err != nil || astray {
		return false, err
	}
	if old, err := w.oldKey(ctx, tasks); err != nil || old {
		return false, err
	}
	return w.judge(ctx, service)
}

// count has the service run as many tasks as the stack says, once: `aws ecs update-service --desired-count` changes that beside the
// stack, whose next update does not notice it. It reports whether the number is another one.
func (w *wait) count(ctx context.Context, service *cloud.Service) (astray bool, err error) {
	wanted, differs := w.d.stack.WrongCount(service)
	if !differs {
		return false, nil
	}
	if w.scaled { // it takes a moment to show, or somebody else sets it again
		return true, nil
	}
	w.d.say("the service was set to %s beside the stack, which says %d: it is set to that again", plural(service.Desired, "task", "tasks"), wanted)
	w.scaled, w.d.changed = true, true
	return true, w.d.client.Scale(ctx, w.d.stack, int32(wanted)) //nolint:gosec // the parameter is 0 or 1
}

// oldKey has a task replaced, once, that was made before the present key was set: an earlier run may have been cut off between the two, and a
// task reads the key when it starts.
func (w *wait) oldKey(ctx context.Context, tasks []cloud.Task) (old bool, err error) {
	if w.d.awaited != "" || w.d.keySince.IsZero() {
		return false, nil
	}
	for _, task := range tasks {
		if task.Running() && !task.Made.IsZero() && w.d.keySince.After(task.Made.Add(time.Second)) {
			w.d.say("task %s was started before the key was set, and is replaced", shortID(task.ID))
			return true, w.d.restart(ctx)
		}
	}
	return false, nil
}

// judge reports whether a service is as it should be, and why it will not be.
func (w *wait) judge(ctx context.Context, service *cloud.Service) (done bool, err error) {
	primary := service.Primary()
	rolledBack := slices.ContainsFunc(service.Deployments, func(each cloud.Deployment) bool { return each.State == "FAILED" })
	if w.d.awaited != "" && primary.ID == w.d.awaited {
		w.seen = true
	} else if w.d.awaited != "" && w.seen {
		rolledBack = true // by the circuit breaker, or by whoever has started another one meanwhile
	}
	switch {
	case w.failed != nil && (rolledBack || service.Running < service.Desired):
		return false, w.d.taskFailed(ctx, *w.failed)
	case rolledBack:
		return false, &cloud.Error{What: "the deployment was rolled back: " + primary.Reason, Next: fmt.Sprintf("`berth logs %s` has the last words of its tasks", w.d.flags())}
	case w.d.awaited != "" && !w.seen:
		return false, nil // that is how it was before
	}
	return service.Steady(), nil
}

func (d *deployment) taskFailed(ctx context.Context, task cloud.Task) error {
	why, next := d.autopsy(ctx, task)
	return &cloud.Error{What: why, Next: next}
}
