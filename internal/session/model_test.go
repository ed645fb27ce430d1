package session

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/internal/api"
)

// Whatever is done to a session in whatever order: what its state does not allow is refused and leaves no trace, its
// record is what its log adds up to, and a store that is opened anew has the same one.
func TestASessionIsTheFoldOfItsLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Every step is on the disk before the next one.
		dir, err := os.MkdirTemp("", "berth-session-")
		must(t, err)
		defer os.RemoveAll(dir)
		clock := newClock()
		store := openStore(t, dir, clock.now)
		s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
		must(t, err)
		id := s.ID()
		step := func(allowed bool, do func() error) {
			before, record := logOf(t, s), s.Record()
			err := do()
			if conflict := new(StateError); errors.As(err, &conflict) == allowed || allowed && err != nil {
				t.Fatalf("allowed: %v, error: %v", allowed, err)
			}
			if !allowed && (!bytes.Equal(before, logOf(t, s)) || cmp.Diff(record, s.Record()) != "") {
				t.Fatal("what was refused left something behind")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { consistent(t, s) },
			"move": func(t *rapid.T) {
				to := rapid.SampledFrom(api.States).Draw(t, "to")
				event := api.Event{Attempt: s.Record().Attempts + 1, Reason: "because"}
				if to == api.Failed {
					event.Error = api.Errorf(api.CodeClaudeFailed, "it failed")
				}
				step(Allowed(s.State(), to), func() error { return s.Move(to, event) })
			},
			"end": func(t *rapid.T) {
				known := s.Record().Messages - rapid.IntRange(0, 1).Draw(t, "unknown")
				fits := known == s.Record().Messages
				step(!fits || Allowed(s.State(), api.Succeeded), func() error {
					ended, err := s.End(api.Succeeded, api.Event{Text: "done"}, known)
					if err == nil && ended != fits {
						t.Fatalf("ended: %v", ended)
					}
					return err
				})
			},
			"fail": func(*rapid.T) {
				step(Allowed(s.State(), api.Failed), func() error { return s.Fail(api.Event{Error: api.Errorf(api.CodeAPIError, "no")}) })
			},
			"ask": func(t *rapid.T) {
				options := &api.Options{MaxTurns: rapid.IntRange(0, 3).Draw(t, "turns")}
				record := s.Record()
				step(record.State.Ended() || !record.StopAsked, func() error {
					return s.Ask(api.Event{MessageID: "m", Text: "more <&>\n", Options: options})
				})
				if record.State.Ended() && s.State() != api.Queued {
					t.Fatal("a message did not take up an ended session")
				}
			},
			"stop":    func(*rapid.T) { step(!s.State().Ended(), func() error { return s.Stop("enough") }) },
			"requeue": func(*rapid.T) { step(true, func() error { return s.Requeue("enough") }) },
			"claude": func(t *rapid.T) {
				line := rapid.SampledFrom(lines).Draw(t, "line")
				step(true, func() error { return s.Append(api.Event{Type: api.EventClaude, Claude: []byte(line)}) })
			},
			"prepared": func(*rapid.T) { step(true, func() error { return s.Append(prepared) }) },
			"clock": func(t *rapid.T) {
				clock.advance(time.Duration(rapid.IntRange(-3600, 3600).Draw(t, "seconds")) * time.Second)
			},
			"reopen": func(t *rapid.T) {
				before := s.Record()
				must(t, store.Close())
				store = openStore(t, dir, clock.now)
				if s = store.Get(id); s == nil {
					t.Fatalf("the session is gone: %v", store.Broken())
				}
				if difference := cmp.Diff(before, s.Record()); difference != "" {
					t.Fatalf("opened anew it is another:\n%s", difference)
				}
			},
		})
		must(t, store.Close())
	})
}

// lines are Claude Code's, as they come and as nobody expects them.
var lines = []string{
	`{"type":"assistant","message":{"id":"a","model":"m","content":[{"type":"text","text":"<b>&"}]}}`,
	`{"type":"assistant","message":{"id":"a","model":"m"}}`,
	`{"type":"assistant","message":{"id":"b","model":"m"}}`,
	`{"type":"assistant","message":{"id":"c","model":"<synthetic>"}}`,
	`{"type":"assistant","parent_tool_use_id":"t","message":{"id":"d"}}`,
	`{"type":"result","result":"r","total_cost_usd":0.1,"modelUsage":{"m":{"inputTokens":7}}}`,
	`{"type":"cost-state","totalCostUSD":0.2,"modelUsage":{"m":{"outputTokens":9},"n":{"cacheReadInputTokens":1}}}`,
	`{"type":7}`, `{"type":"assistant","message":"text"}`, `{"type":"result","total_cost_usd":"dear","result":{}}`,
	`{"type":"result","total_cost_usd":-1}`, `[]`, `null`, `"text"`, `{"type":"assistant","message":{"id":["e"]}}`,
	`{"type":"result","modelUsage":{"m":{"inputTokens":9223372036854775807},"n":{"inputTokens":9223372036854775807}}}`,
}

func TestDurationsAreThoseOfWork(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	store := openStore(t, dir, clock.now)
	s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
	must(t, err)
	start(t, s)
	clock.advance(10 * time.Second)
	must(t, s.Append(claudeLine(`{"type":"system"}`)))
	clock.advance(time.Hour) // nobody is there
	must(t, s.Move(api.Interrupted, api.Event{}))
	if seconds := s.Record().DurationSeconds; seconds < 10 || seconds > 11 {
		t.Errorf("it worked for %v s, not 10", seconds)
	}
	must(t, s.Requeue(""))
	start(t, s)
	clock.advance(-time.Hour) // somebody set the clock back
	must(t, s.Move(api.Succeeded, api.Event{}))
	if seconds := s.Record().DurationSeconds; seconds < 10 || seconds > 11 {
		t.Errorf("it worked for %v s, not 10", seconds)
	}
	if s.Record().AskSeconds != s.Record().DurationSeconds || s.Record().EndedAt.Before(*s.Record().StartedAt) {
		t.Errorf("what does not fit: %+v", s.Record())
	}
	must(t, store.Close())
}
