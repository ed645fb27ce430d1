package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"berth/internal/api"
)

// Writers append at the same time, and followers that came at different times, from different events on, see each one
// once, in one order, until the session has ended.
func TestFollowersSeeEveryEventOnce(t *testing.T) {
	t.Parallel()
	const writers, each, followers = 4, 300, 8
	_, s := one(t)
	start(t, s)
	seen := make([][]string, followers)
	var following, writing sync.WaitGroup
	for number := range followers {
		following.Go(func() {
			for line, err := range s.Events(t.Context(), number, true) {
				if err != nil {
					t.Error(err)
				}
				seen[number] = append(seen[number], string(line))
			}
		})
	}
	for writer := range writers {
		writing.Go(func() {
			for index := range each {
				if err := s.Append(claudeLine(`{"type":"x","id":"%d-%d"}`, writer, index)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	must(t, s.Move(api.Succeeded, api.Event{}))
	following.Wait()
	for number := range followers {
		if got, want := len(seen[number]), s.Record().Events-number; got != want {
			t.Errorf("follower %d saw %d events, not %d", number, got, want)
			continue
		}
		for index, line := range seen[number] {
			if line != seen[0][index+number] {
				t.Fatalf("event %d is %s for one and %s for another", index+number, seen[0][index+number], line)
			}
		}
	}
	var last api.Event
	must(t, json.Unmarshal([]byte(seen[0][len(seen[0])-1]), &last))
	if last.State != api.Succeeded {
		t.Errorf("the last event is %+v", last)
	}
}

// A follower that comes at any moment around the end never hangs, and has the event that ended it.
func TestAFollowerEndsWithTheSession(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	for round := range 30 {
		start(t, s)
		from := s.Record().Events
		var following sync.WaitGroup
		begun := make(chan struct{})
		for range 3 {
			following.Go(func() {
				begun <- struct{}{}
				var states []string
				for line, err := range s.Events(t.Context(), from, true) {
					if err != nil {
						t.Error(err)
					}
					states = append(states, string(line))
				}
				if len(states) != 1 {
					t.Errorf("round %d: %q", round, states)
				}
			})
		}
		for range 3 {
			<-begun
		}
		must(t, s.Move(api.Succeeded, api.Event{}))
		following.Wait()
		must(t, s.Ask(api.Event{MessageID: fmt.Sprint(round), Text: "more"}))
	}
}

func TestAFollowerThatIsTakenUpAgainGoesOn(t *testing.T) {
	_, s := one(t)
	start(t, s)
	must(t, s.Append(claudeLine(`{}`)))
	next := make(chan string)
	go func() {
		defer close(next)
		for line, err := range s.Events(context.Background(), 4, true) {
			if err != nil {
				t.Error(err)
			}
			next <- string(line)
		}
	}()
	<-next // it reads no further until somebody takes the next one
	must(t, s.Move(api.Succeeded, api.Event{}))
	must(t, s.Ask(api.Event{MessageID: "m1", Text: "more"}))
	start(t, s)
	must(t, s.Move(api.Failed, api.Event{}))
	count := 0
	for range next {
		count++
	}
	if count != 6 {
		t.Errorf("%d further events, not 6", count)
	}
}

func TestAFollowerCanLeave(t *testing.T) {
	_, s := one(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var last error
	for _, err := range s.Events(ctx, 0, true) {
		if last = err; err == nil {
			leave()
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the last error is %v", last)
	}
	for _, err := range s.Events(t.Context(), 0, true) {
		must(t, err)
		break
	}
	for line, err := range s.Events(t.Context(), 99, false) {
		t.Errorf("beyond the end comes %s, %v", line, err)
	}
}
