package session

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"berth/internal/api"
)

// FuzzLog opens a session whose log is anything: it is broken and left alone, or it opens, its log is whole lines of
// what was there, and takes a further event.
func FuzzLog(f *testing.F) {
	const id = "0190d3a0-0000-7000-8000-000000000001"
	good := `{"type":"message","time":"2026-01-02T03:04:05.006Z","message_id":"m0","text":"do it"}` + "\n" +
		`{"type":"state","time":"2026-01-02T03:04:05.007Z","state":"queued"}` + "\n"
	next := `{"type":"state","time":"2026-01-02T03:04:05.008Z","state":"preparing"}` + "\n" +
		`{"type":"state","time":"2026-01-02T03:04:05.009Z","state":"running","attempt":1}` + "\n"
	for _, seed := range []string{
		"", "\n", good, good + next, good + next[:30], good + "{}\n", good + "null\n", good + `{"type":7}` + "\n",
		good + next + `{"type":"claude","time":"2026-01-02T03:04:06Z","claude":{"type":"assistant","message":{"id":"a"}}}` + "\n",
		good + next + "\x00\x00\x00\n", good + "\x00\x00\n" + next, good + `{"type":"state","state":"succeeded"}` + "\n",
		good + next + `{"type":"state","time":"2026-01-02T03:04:09Z","state":"failed","error":{"code":"api_error","message":"no"}}` + "\n" +
			`{"type":"message","text":"more"}` + "\n",
	} {
		f.Add([]byte(seed))
	}
	snapshot, err := json.Marshal(Record{Version: Version, Session: api.Session{ID: id, Prompt: "do it"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		dir := filepath.Join(t.TempDir(), id)
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, snapshotFile), snapshot, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, logFile), log, 0o600))
		s, err := open(dir, newClock().now, self())
		if err != nil {
			left, err := os.ReadFile(filepath.Join(dir, logFile))
			must(t, err)
			if !bytes.HasPrefix(log, left) || len(left) < bytes.LastIndexByte(log, '\n')+1 {
				t.Fatal("the log of a broken session was changed")
			}
			return
		}
		whole := logOf(t, s)
		if added := bytes.TrimPrefix(whole, log[:bytes.LastIndexByte(log, '\n')+1]); len(whole) > len(log) && !bytes.Contains(added, []byte("a message came")) {
			t.Fatalf("the log has become %q", whole)
		}
		must(t, s.Append(api.Event{Type: api.EventNotice, Text: "it goes on"}))
		count := 0
		must(t, s.Each(func(api.Event) { count++ }))
		if count != s.Record().Events {
			t.Fatalf("%d events are said to be %d", count, s.Record().Events)
		}
	})
}

// FuzzRecordHear adds up a line of output that is anything. Figures never go back, and a session's record can always be
// written down.
func FuzzRecordHear(f *testing.F) {
	for _, seed := range lines {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := Record{Session: api.Session{CostUSD: 1, Turns: 2, Tokens: api.Tokens{Input: 3, Output: 4, CacheRead: 5, CacheWrite: 6}}}
		after := before
		after.hear(line)
		if after.CostUSD < before.CostUSD || after.Turns < before.Turns || after.Turns > before.Turns+1 ||
			after.Tokens.Input < 3 || after.Tokens.Output < 4 || after.Tokens.CacheRead < 5 || after.Tokens.CacheWrite < 6 {
			t.Fatalf("%s makes %+v", line, after)
		}
		if _, err := json.Marshal(after); err != nil {
			t.Fatal(err)
		}
	})
}
