package gateway

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a full volume did not take is in the sums that are written when there is room again, so that nothing is missing.
func TestWhatAFullVolumeMissed(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	l := openAt(t, dir, "one", Limits{}, at)
	leave(t, l, "a", "m", 5).end("m", 6)
	c := leave(t, l, "a", "m", 5)
	flush(t, l)
	full := true
	l.writer.before = func() {
		if file := l.writer.files["2026-05"]; full && file != nil {
			_ = file.Close() // which takes no line any more
			full = false
		}
	}
	c.end("m", 9)
	if err := l.Close(); err != nil || full {
		t.Errorf("the sums make up for it: %v", err)
	}
	checkSession(t, "after all", openAt(t, dir, "one", Limits{}, at), "a", 15e-9)
}

// Where there is no room for the sums either, what is missing is said.
func TestWhatAFullVolumeStillMisses(t *testing.T) {
	w := newWriter(t.TempDir(), "one")
	go w.run()
	if err := os.WriteFile(filepath.Join(w.dir, "2026-05"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.put(job{month: "2026-05", text: []byte("{}\n")})
	w.put(job{month: "2026-05", sums: &sums{account: *newAccount()}})
	if err := w.close(); err == nil || !strings.Contains(err.Error(), "2026-05") {
		t.Errorf("%v", err)
	}
}

// The lines of requests under way are on the disk in a new journal before the old one, which has them too, is removed.
func TestANewJournalIsSyncedBeforeTheOldOneGoes(t *testing.T) {
	w := newWriter(t.TempDir(), "one")
	if err := errors.Join(w.append("2026-05", []byte("{}\n")), w.begin("2026-05", []byte("{}\n"), &sums{account: *newAccount()})); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "2026-05", "one.*.jsonl"))
	if err != nil || len(left) != 1 || w.unsynced["2026-05"] {
		t.Errorf("%v are left, not synced: %v", left, w.unsynced)
	}
}

func TestATinyLimitIsALimit(t *testing.T) {
	l := newLedger("", "", Limits{DayUSD: 1e-300}, time.Now)
	leave(t, l, "a", "m", 1).end("m", 1)
	if _, err := l.admit(t.Context(), order{session: "a", estimate: 1, worst: 1}, nil); refused(err).Scope != ScopeDay {
		t.Errorf("it goes: %v", err)
	}
	for usd, want := range map[float64]nano{0: 0, -1: 0, 1e-300: 1, 4e-10: 1, 1.6e-9: 2} {
		if got := fromUSD(usd); got != want {
			t.Errorf("$%g is %d", usd, got)
		}
	}
}

// A container of the API's code execution counts for an hour, however a reply tells of it.
func TestCodeExecutionIsPriced(t *testing.T) {
	const before, hour = `{"type":"message_start","message":{"model":"claude-haiku-4-5","usage":{"input_tokens":100}}}`, dollar / 20
	plain := nano(100 * 1000)
	for name, reply := range map[string]string{
		"at its beginning": `{"type":"message_start","message":{"container":{"id":"c"},"usage":{"input_tokens":100}}}`,
		"at its end":       `{"type":"message_delta","delta":{"container":{"id":"c","expires_at":"x"}},"usage":{}}`,
		"by its usage":     `{"type":"message_delta","usage":{"server_tool_use":{"code_execution_requests":3}}}`,
	} {
		m := newMeter(asked{model: "claude-haiku-4-5"}, "text/event-stream", "")
		m.Write([]byte("data: " + before + "\n\n"))
		if cost, _ := m.cost(); cost != plain {
			t.Errorf("without: %d", cost)
		}
		m.Write([]byte("data: " + reply + "\n\ndata: {\"type\":\"message_stop\"}\n\n"))
		if cost, _ := m.cost(); cost != plain+hour {
			t.Errorf("%s: %d", name, cost)
		}
	}
	whole := newMeter(asked{model: "claude-haiku-4-5"}, "application/json", "")
	whole.Write([]byte(`{"model":"claude-haiku-4-5","container":{"id":"c"},"usage":{"input_tokens":100}}`))
	whole.End(true)
	if cost, _ := whole.cost(); cost != plain+hour {
		t.Errorf("in one piece: %d", cost)
	}
	row, _ := prices.find("claude-haiku-4-5")
	for body, want := range map[string]nano{`{"max_tokens":1}`: 0, `{"max_tokens":1,"tools":[{"type":"code_execution_20250825"}]}`: hour, `{"max_tokens":1,"container":"c"}`: hour, `{"container":null,"max_tokens":1}`: 0} {
		a := ask([]byte(body))
		without := a
		without.containers = 0
		if got := prices.worst(row, a) - prices.worst(row, without); got != want {
			t.Errorf("%s: at worst %d more", body, got)
		}
	}
}

// A kill in the very first request of all, of which nobody knows what requests come to, does not end a session of $0.10.
func TestTheFirstRequestCountsModestly(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	a := ask([]byte(`{"model":"claude-haiku-4-5","max_tokens":32000,"x":"` + strings.Repeat("x", 60_000) + `"}`))
	row, _ := prices.find(a.model)
	o := order{session: "a", model: a.model, limit: dollar / 10, estimate: prices.estimate(row, a), modest: prices.modest(row, a), worst: prices.worst(row, a)}
	if _, err := openAt(t, dir, "one", Limits{}, at).admit(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	after := killed(t, dir, "two", at)
	if got := after.Session("a"); got < 0.03 || got > 0.04 {
		t.Errorf("it counts as $%g", got)
	}
	at.add(time.Hour)
	if _, err := after.admit(t.Context(), o, nil); err != nil {
		t.Errorf("the session does not go on: %v", err)
	}
}

// A request that only what a living daemon has under way keeps from leaving waits for that to end. One that was killed
// is waited for a bounded time.
func TestNearALimitARequestWaitsForOtherDaemons(t *testing.T) {
	for name, kill := range map[string]bool{"it ends": false, "it was killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, at := t.TempDir(), &clock{at: time.Now()}
			one, two := openAt(t, dir, "one", Limits{DayUSD: 1}, at), openAt(t, dir, "two", Limits{DayUSD: 1}, at)
			theirs, err := one.admit(t.Context(), order{session: "a", model: "m", estimate: dollar / 10, modest: dollar, worst: dollar}, nil)
			if err != nil {
				t.Fatal(err)
			}
			flush(t, one)
			waiting, left := make(chan Scope, 1), make(chan error, 1)
			at.add(refreshEvery)
			go func() {
				_, err := two.admit(t.Context(), order{session: "b", model: "m", estimate: 1, worst: 1}, func(s Scope) { waiting <- s })
				left <- err
			}()
			select {
			case s := <-waiting:
				if s != ScopeDay {
					t.Errorf("it waits for the %s", s)
				}
			case err := <-left:
				t.Fatalf("it did not wait: %v", err)
			}
			if kill {
				at.add(othersTime)
			} else {
				theirs.end("m", dollar/2)
				flush(t, one)
				at.add(othersEvery)
			}
			if err := <-left; kill != (refused(err).Scope == ScopeDay) || !kill && err != nil {
				t.Errorf("after that: %v", err)
			}
		})
	}
}

// Of a session's own limit nobody else spends: other daemons' files are not read for it.
func TestOthersAreReadOnlyWhereTheySpend(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	one, two := openAt(t, dir, "one", Limits{}, at), openAt(t, dir, "two", Limits{}, at)
	leave(t, two, "b", "m", dollar)
	leave(t, one, "a", "m", 1).end("m", dollar*9/10)
	o := order{session: "a", limit: dollar, estimate: 1, worst: 1}
	if _, err := one.admit(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	if owners := slices.Collect(maps.Keys(one.months["2026-05"].others)); len(owners) != 0 {
		t.Errorf("%v are read", owners)
	}
}
