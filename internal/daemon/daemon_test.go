package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/api"
)

func TestSessionsRunInOrderAndNeverMoreThanThereArePlaces(t *testing.T) {
	t.Parallel()
	const places = 3
	a := newAgent(t, places).start()
	var ids []string
	for index := range 10 {
		ids = append(ids, a.create(fmt.Sprint("reply ", index)))
	}
	var last time.Time
	for index, id := range ids {
		record := a.await(id, api.Succeeded)
		if record.Result != fmt.Sprint(index) || record.Attempts != 1 || record.StartedAt.Before(last) {
			t.Errorf("session %d: %+v", index, record)
		}
		last = *record.StartedAt
		running := 0
		for _, other := range ids {
			// Times are whole milliseconds: who ended in the one in which another started may have made place for it.
			if o := a.await(other, api.Succeeded); !o.StartedAt.After(last) && o.EndedAt.After(last) {
				running++
			}
		}
		if running > places {
			t.Errorf("%d run at once", running)
		}
	}
}

func TestStopInEveryState(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	go1 := filepath.Join(a.dir, "go1")
	a.start()
	running := a.create("wait " + go1)
	queued := a.create("reply never")
	a.await(running, api.Running)
	stopped, err := a.Stop(t.Context(), queued)
	must(t, err)
	if stopped.State != api.Cancelled {
		t.Errorf("a queued session is %s when it is stopped", stopped.State)
	}
	conflict := new(api.Error)
	if _, err := a.Stop(t.Context(), queued); !errors.As(err, &conflict) || conflict.Code != api.CodeConflict {
		t.Errorf("an ended one: %v", err)
	}
	_, err = a.Stop(t.Context(), running)
	must(t, err)
	if _, err := a.Send(t.Context(), running, api.NewMessage{Text: "reply late"}); a.get(running).State == api.Running && (!errors.As(err, &conflict) || conflict.Code != api.CodeConflict) {
		t.Errorf("a message after it: %v", err)
	}
	a.await(running, api.Cancelled)
	// Taken up again, it goes to the end, and blocks nobody.
	must(t, os.WriteFile(go1, nil, 0o600))
	a.send(running, "reply on")
	a.await(running, api.Succeeded)
	if _, err := a.Stop(t.Context(), "none"); !errors.As(err, &conflict) || conflict.Code != api.CodeNotFound {
		t.Errorf("one that there is not: %v", err)
	}
}

// A request to stop at any moment of a session's start ends it, and the place is free again.
func TestStopAtAnyMoment(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	for round := range 25 {
		id := a.create("wait " + filepath.Join(a.dir, "never"))
		pause := time.NewTimer(time.Duration(round) * 4 * time.Millisecond)
		<-pause.C
		_, err := a.Stop(t.Context(), id)
		must(t, err)
		a.await(id, api.Cancelled)
	}
	if status := a.Status(t.Context()); len(status.Problems) > 0 {
		t.Errorf("problems: %v", status.Problems)
	}
	a.await(a.create("reply yes"), api.Succeeded)
}

// A session that waits twice in the queue, because it was stopped there and taken up again, holds up nobody.
func TestASessionThatIsQueuedTwiceHoldsUpNobody(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 2)
	gate := filepath.Join(a.dir, "gate")
	first := a.create("reply early")
	_, err := a.Stop(t.Context(), first)
	must(t, err)
	a.send(first, "wait "+gate)
	a.enqueue(a.store.Get(first)) // as by two who ask at the same time
	second := a.create("reply second")
	a.start()
	a.await(first, api.Running)
	a.enqueue(a.store.Get(first))
	third := a.create("reply third")
	a.await(second, api.Succeeded)
	a.await(third, api.Succeeded)
	must(t, os.WriteFile(gate, nil, 0o600))
	a.await(first, api.Succeeded)
}

// A session that was stopped in the queue and taken up again stands where it was asked last.
func TestWhoIsTakenUpAgainStandsAtTheEndOfTheQueue(t *testing.T) {
	a := newAgent(t, 1)
	first, second := a.create("reply 1"), a.create("reply 2")
	_, err := a.Stop(t.Context(), first)
	must(t, err)
	until(t, func() bool { return time.Since(a.get(second).AskedAt) > 5*time.Millisecond }, func() string { return "time stands still" })
	a.send(first, "reply 3")
	r, more := a.next()
	for r == nil && more {
		r, more = a.next()
	}
	if r == nil || r.session.ID() != second {
		t.Fatal("it is before one that was asked earlier")
	}
	a.forget(r)
}

// Messages that come at the moment of the end are answered, each once.
func TestAMessageAtTheEndIsNeverLost(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 2).start()
	var all sync.WaitGroup
	for number := range 2 {
		id := a.create("reply start")
		all.Go(func() {
			for round := range 15 {
				text := fmt.Sprintf("reply %d-%d", number, round)
				pause := time.NewTimer(time.Duration(round*7) * time.Millisecond)
				<-pause.C
				if _, err := a.Send(t.Context(), id, api.NewMessage{Text: text}); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for round := range 15 {
				text := fmt.Sprintf("reply %d-%d", number, round)
				until(t, func() bool { return a.answered(id, text) == 1 }, func() string { return text + " is not answered:\n" + a.events(id) })
			}
			until(t, func() bool { return a.get(id).State == api.Succeeded }, func() string { return "it does not end:\n" + a.events(id) })
		})
	}
	all.Wait()
}

// A message that no process was given is no part of the failure that came at the same time.
func TestAMessageAtAFailureTakesTheSessionUpAgain(t *testing.T) {
	a := newAgent(t, 1)
	id := a.create("maxturns")
	s := a.store.Get(id)
	r, _ := a.next()
	must(t, s.Move(api.Preparing, api.Event{}))
	must(t, s.Move(api.Running, api.Event{Attempt: 1}))
	r.sent["prompt"] = true
	message := api.Event{MessageID: "late", Text: "reply on"}
	must(t, s.Ask(message))
	r.tell(message)
	r.take()
	must(t, r.settle(failed(api.CodeMaxTurns, "enough")))
	if got := a.states(id); got != "queued preparing running failed queued" || a.get(id).Error != nil {
		t.Errorf("it went through %s, with the error %v", got, a.get(id).Error)
	}
	a.done(r)
}

func TestFailuresAreTold(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 3).start()
	for prompt, want := range map[string]api.Code{"apierror": api.CodeAPIError, "maxturns": api.CodeMaxTurns, "crash": api.CodeClaudeFailed} {
		id := a.create(prompt)
		record := a.await(id, api.Failed)
		if record.Error.Code != want || record.DurationSeconds < 0 {
			t.Errorf("%s: %+v", prompt, record.Error)
		}
		if prompt == "crash" && record.Attempts != maxIdleStarts {
			t.Errorf("it was started %d times", record.Attempts)
		}
	}
}

// What a session says does not fill the volume.
func TestALogIsBounded(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	a.config.LogSize = 64 << 10
	a.start()
	record := a.await(a.create("chatter"), api.Failed)
	if record.Error.Code != api.CodeLogFull || record.LogSize < a.config.LogSize || record.LogSize > a.config.LogSize+8<<10 {
		t.Errorf("%d bytes: %+v", record.LogSize, record.Error)
	}
}

func TestAnEndedSessionIsResumed(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	id := a.create("maxturns")
	a.await(id, api.Failed)
	_, err := a.Resume(t.Context(), id, api.Resumption{Options: api.Options{MaxTurns: 9}})
	must(t, err)
	if record := a.await(id, api.Succeeded); record.MaxTurns != 9 || record.Error != nil {
		t.Errorf("it is %+v", record)
	}
	if got := a.states(id); got != "queued preparing running failed queued preparing running succeeded" {
		t.Errorf("it went through %s", got)
	}
}

func TestADaemonThatStopsInterruptsAndTheNextOneGoesOn(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	gate := filepath.Join(a.dir, "gate")
	a.start()
	running, queued := a.create("wait "+gate), a.create("reply queued")
	a.await(running, api.Running)
	until(t, func() bool { return strings.Contains(a.events(running), "init") }, func() string { return "no turn begins" })
	a.stop()
	if got := a.get(running).State; got != api.Interrupted {
		t.Errorf("it is %s", got)
	}
	must(t, os.WriteFile(gate, nil, 0o600))
	a.open(1)
	a.start()
	a.await(running, api.Succeeded)
	a.await(queued, api.Succeeded)
	if count := a.answered(running, "wait "+gate); count != 1 {
		t.Errorf("it was asked %d times", count)
	}
	if _, _, err := a.Create(t.Context(), api.NewSession{Prompt: "more"}, ""); err != nil {
		t.Error(err)
	}
	a.stop()
	stopping := new(api.Error)
	if _, _, err := a.Create(t.Context(), api.NewSession{Prompt: "late"}, ""); !errors.As(err, &stopping) || stopping.Code != api.CodeStopping {
		t.Errorf("a daemon that has stopped says %v", err)
	}
}

// What a killed daemon leaves is what the log says, in whatever state.
func TestRecover(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 2)
	preparing, running, stopped, idle := a.create("reply 1"), a.create("reply 2"), a.create("reply 3"), a.create("reply 4")
	for _, id := range []string{preparing, running, stopped, idle} {
		must(t, a.store.Get(id).Move(api.Preparing, api.Event{}))
	}
	for _, id := range []string{running, stopped, idle} {
		must(t, a.store.Get(id).Move(api.Running, api.Event{Attempt: 1}))
	}
	must(t, a.store.Get(stopped).Stop("enough"))
	for attempt := 2; attempt <= maxIdleRestarts; attempt++ {
		s := a.store.Get(idle)
		must(t, s.Move(api.Interrupted, api.Event{}))
		must(t, s.Requeue(""))
		must(t, s.Move(api.Preparing, api.Event{}))
		must(t, s.Move(api.Running, api.Event{Attempt: attempt}))
	}
	a.start()
	a.await(preparing, api.Succeeded)
	a.await(running, api.Succeeded)
	a.await(stopped, api.Cancelled)
	if record := a.await(idle, api.Failed); record.Error.Code != api.CodeNoProgress {
		t.Errorf("the error is %v", record.Error)
	}
}
