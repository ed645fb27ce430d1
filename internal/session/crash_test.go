package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/api"
)

// history is a session's whole life, with the snapshot that there was after each step, as its files.
func history(t *testing.T) (id string, log []byte, snapshots []snapshot) {
	t.Helper()
	_, s := one(t)
	keep := func(err error) {
		t.Helper()
		must(t, err)
		text, err := os.ReadFile(filepath.Join(s.dir, snapshotFile))
		must(t, err)
		snapshots = append(snapshots, snapshot{text: text, log: len(logOf(t, s))})
	}
	keep(nil)
	keep(s.Move(api.Preparing, api.Event{}))
	keep(s.Append(prepared))
	keep(s.Move(api.Running, api.Event{Attempt: 1}))
	for index := range 3 {
		keep(s.Append(claudeLine(`{"type":"assistant","message":{"id":"%d"}}`, index)))
	}
	keep(s.Ask(api.Event{MessageID: "m1", Text: "more"}))
	keep(s.Move(api.Interrupted, api.Event{Reason: "it crashed"}))
	keep(s.Requeue(""))
	start(t, s)
	keep(s.Append(claudeLine(`{"type":"result","result":"done","total_cost_usd":0.5}`)))
	keep(s.Move(api.Succeeded, api.Event{}))
	keep(s.Ask(api.Event{MessageID: "m2", Text: "again", Options: &api.Options{MaxTurns: 5}}))
	start(t, s)
	keep(s.Stop("enough"))
	keep(s.Move(api.Cancelled, api.Event{}))
	return s.ID(), logOf(t, s), snapshots
}

type snapshot struct {
	text []byte
	log  int // how long the log was
}

// A crash leaves the log cut at any byte, and the snapshot of any earlier moment.
func TestAnyCrashLeavesASessionThatOpens(t *testing.T) {
	t.Parallel()
	id, log, snapshots := history(t)
	first := snapshots[0].log
	for index, snapshot := range snapshots {
		if index%6 != 0 && index < len(snapshots)-1 {
			continue
		}
		dir := t.TempDir()
		home := filepath.Join(dir, "sessions", id)
		must(t, os.MkdirAll(home, 0o700))
		for cut := first; cut <= len(log); cut = next(log, cut) {
			must(t, os.WriteFile(filepath.Join(home, snapshotFile), snapshot.text, 0o600))
			must(t, os.WriteFile(filepath.Join(home, logFile), log[:cut], 0o600))
			store := openStore(t, dir, newClock().now)
			s := store.Get(id)
			if s == nil {
				t.Fatalf("cut at %d with the snapshot of %d: %v", cut, snapshot.log, store.Broken())
			}
			recovered(t, s, log[:cut])
			must(t, s.Append(api.Event{Type: api.EventNotice, Text: "it goes on"}))
			count := 0
			must(t, s.Each(func(api.Event) { count++ }))
			if count != s.Record().Events {
				t.Errorf("%d events are said to be %d", count, s.Record().Events)
			}
			must(t, store.Close())
		}
	}
}

// next goes on from a cut to one of interest: at the end of a line and on either side of it, and some within.
func next(log []byte, cut int) int {
	line := bytes.IndexByte(log[min(cut+1, len(log)):], '\n')
	if line <= 1 {
		return cut + 1
	}
	return cut + 1 + min(line-1, 60)
}

// recovered sees that a session that was opened has all whole lines of a log, and nothing else but what follows from
// the last one.
func recovered(t *testing.T, s *Session, log []byte) {
	t.Helper()
	whole := log[:bytes.LastIndexByte(log, '\n')+1]
	release, err := s.Hold()
	must(t, err)
	release()
	unheard := s.Record().Unheard
	if unheard {
		must(t, s.Requeue("")) // as the daemon does at its start
	}
	got := logOf(t, s)
	if !bytes.HasPrefix(got, whole) {
		t.Fatalf("the log is no longer %q", whole)
	}
	if sum := fold(t, got, s.Record()); sum.State != s.State() || sum.Messages != s.Record().Messages || sum.LogSize != s.Record().LogSize {
		t.Fatalf("the log adds up to %+v, not to %+v", sum, s.Record())
	}
	if s.State() == "" {
		t.Fatal("it has no state")
	}
	more := string(got[len(whole):])
	if unheard != (more != "") || unheard && (!strings.Contains(more, "a message came") || s.State() != api.Queued) {
		t.Fatalf("after %q came %q, and it is %s", whole, more, s.State())
	}
}

// What the disk never wrote of lines that nobody waited for reads as zeros.
func TestBlocksThatWereNeverWrittenAreCutOff(t *testing.T) {
	store, s := one(t)
	dir, id := store.dir, s.ID()
	start(t, s)
	good := len(logOf(t, s))
	for index := range 4 {
		must(t, s.Append(claudeLine(`{"type":"assistant","message":{"id":"%d"}}`, index)))
	}
	unsynced := logOf(t, s)
	must(t, s.Move(api.Interrupted, api.Event{}))
	synced := logOf(t, s)
	snapshot, err := os.ReadFile(filepath.Join(s.dir, snapshotFile))
	must(t, err)
	old := bytes.Replace(snapshot, fmt.Appendf(nil, `"log_size": %d`, len(synced)), []byte(`"log_size": 0`), 1)
	for name, test := range map[string]struct {
		log    []byte
		broken bool
	}{
		"promised to nobody": {log: unsynced}, "promised": {log: synced, broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			other := t.TempDir()
			home := filepath.Join(other, "sessions", id)
			must(t, os.MkdirAll(home, 0o700))
			log := bytes.Clone(test.log)
			clear(log[good+5 : good+100])
			var record Record
			must(t, json.Unmarshal(old, &record))
			record = record.unheard()
			text, err := json.Marshal(record)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(home, snapshotFile), text, 0o600))
			must(t, os.WriteFile(filepath.Join(home, logFile), log, 0o600))
			store := openStore(t, other, newClock().now)
			defer store.Close() //nolint:errcheck // the test has seen what it wants
			if test.broken {
				left, err := os.ReadFile(filepath.Join(home, logFile))
				must(t, err)
				if store.Get(id) != nil || len(store.Broken()) != 1 || !errors.Is(store.Broken()[0], ErrDamaged) || !bytes.Equal(left, log) {
					t.Errorf("a damaged log is not reported, or not left alone: %v", store.Broken())
				}
				return
			}
			s := store.Get(id)
			if s == nil {
				t.Fatal(store.Broken())
			}
			held(t, s)
			must(t, s.Append(api.Event{Type: api.EventNotice, Text: "it goes on"}))
			if text := logOf(t, s); !bytes.HasPrefix(text, log[:good]) || bytes.IndexByte(text, 0) >= 0 {
				t.Errorf("the log is not cut off where it was whole: %q", text)
			}
		})
	}
	_ = dir
}

func TestADamagedLineIsAnErrorOfEach(t *testing.T) {
	_, s := one(t)
	log := logOf(t, s)
	log[1] ^= 0x40
	must(t, os.WriteFile(filepath.Join(s.dir, logFile), log, 0o600))
	if err := s.Each(func(api.Event) {}); !errors.Is(err, ErrDamaged) {
		t.Errorf("the error is %v", err)
	}
}
