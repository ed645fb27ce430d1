package daemon

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/api"
)

// onItsClock runs a test whose clock moves on when nothing else does: processes take no time on it. late is set when it
// has taken too long on any other clock.
func onItsClock(t *testing.T, test func(t *testing.T, late *atomic.Bool)) {
	t.Helper()
	late := &atomic.Bool{}
	defer time.AfterFunc(time.Minute, func() { late.Store(true) }).Stop()
	synctest.Test(t, func(t *testing.T) { test(t, late) })
}

// spin waits for a session's state while its process runs, and the clock stands still.
func (a *agent) spin(id string, want api.State, late *atomic.Bool) {
	a.t.Helper()
	for a.get(id).State != want {
		if late.Load() {
			a.t.Fatalf("it is %s, not %s:\n%s", a.get(id).State, want, a.events(id))
		}
		runtime.Gosched()
	}
}

// pass lets time pass, and what begins in it come to its end.
func (a *agent) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (a *agent) check(id string, want api.State) {
	a.t.Helper()
	if now := a.get(id).State; now != want {
		a.t.Fatalf("it is %s, not %s:\n%s", now, want, a.events(id))
	}
}

// A session for which the API has named a time gives its place to others, and goes on by itself at that time, though the
// agent was started anew meanwhile.
func TestAParkedSessionGoesOn(t *testing.T) {
	t.Parallel()
	onItsClock(t, func(t *testing.T, late *atomic.Bool) {
		a := newAgent(t, 1).start()
		file := filepath.Join(a.dir, "file")
		id := a.create("wait " + file)
		a.spin(id, api.Running, late)
		until := time.Now().Add(3 * time.Hour)
		a.park(id, until, "the API says so")
		other := a.create("reply meanwhile")
		a.pass(time.Minute)
		a.check(other, api.Succeeded)
		a.check(id, api.Waiting)
		if record := a.get(id); record.WaitingUntil == nil || !record.WaitingUntil.Equal(until) {
			t.Errorf("it waits until %v, not %v", record.WaitingUntil, until)
		}
		a.pass(time.Hour)
		a.stop()
		a.open(1)
		a.start()
		must(t, os.WriteFile(file, nil, 0o600))
		a.pass(time.Until(until) - time.Second)
		a.check(id, api.Waiting)
		a.pass(time.Minute)
		a.check(id, api.Succeeded)
		if record := a.get(id); record.WaitingUntil != nil || record.Attempts != 2 || record.DurationSeconds > 60 {
			t.Errorf("%+v", record)
		}
		a.stop()
	})
}

// A session that was stopped while it waited, and is taken up again, does not keep the old appointment.
func TestAParkedSessionIsStoppedAndResumed(t *testing.T) {
	t.Parallel()
	onItsClock(t, func(t *testing.T, late *atomic.Bool) {
		a := newAgent(t, 1).start()
		file := filepath.Join(a.dir, "file")
		id := a.create("wait " + file)
		a.spin(id, api.Running, late)
		a.park(id, time.Now().Add(3*time.Hour), "the API says so")
		a.pass(time.Minute)
		a.check(id, api.Waiting)
		_, err := a.Stop(t.Context(), id)
		must(t, err)
		a.check(id, api.Cancelled)
		_, err = a.Resume(t.Context(), id, api.Resumption{})
		must(t, err)
		a.spin(id, api.Running, late)
		a.park(id, time.Now().Add(time.Hour), "the API says so")
		a.pass(time.Minute)
		a.check(id, api.Waiting)
		must(t, os.WriteFile(file, nil, 0o600))
		a.pass(time.Hour)
		a.check(id, api.Succeeded)
		a.stop()
	})
}
