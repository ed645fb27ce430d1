package session

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/api"
)

// roles are what the test binary is when another test starts it.
var roles = map[string]func() error{}

const roleVariable = "BERTH_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVariable)]; role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Every step of a property is on the disk before the next one, which takes time. Arguments override it.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// clock is a clock that a test sets. It goes on by a millisecond whenever it is read.
type clock struct {
	mu   sync.Mutex
	time time.Time
}

func newClock() *clock { return &clock{time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(time.Millisecond)
	return c.time
}

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(by)
}

// failer is what testing.TB and rapid.T share.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openStore(t failer, dir string, now func() time.Time) *Store {
	t.Helper()
	store, err := Open(dir, now)
	must(t, err)
	return store
}

// one opens a store with one new session, and closes it with the test.
func one(t *testing.T) (*Store, *Session) {
	t.Helper()
	store := openStore(t, t.TempDir(), newClock().now)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
	must(t, err)
	return store, s
}

// at takes a session on to running.
func start(t failer, s *Session) {
	t.Helper()
	must(t, s.Move(api.Preparing, api.Event{}))
	must(t, s.Move(api.Running, api.Event{Attempt: s.Record().Attempts + 1}))
}

func logOf(t failer, s *Session) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, logFile))
	must(t, err)
	return text
}

// fold adds up the events of a log, beside what a record knows of itself.
func fold(t failer, text []byte, known Record) Record {
	t.Helper()
	sum := known.unheard()
	sum.Options = api.Options{}
	for line := range bytes.Lines(text) {
		var event api.Event
		must(t, json.Unmarshal(line, &event))
		must(t, sum.apply(&event))
		sum.noteLine(line)
	}
	sum.LastLine, sum.LastSum = known.LastLine, known.LastSum // of several lines that were written together
	return sum
}

// consistent sees that a session's record is what its log adds up to.
func consistent(t failer, s *Session) {
	t.Helper()
	if difference := cmp.Diff(fold(t, logOf(t, s), s.Record()), s.Record()); difference != "" {
		t.Fatalf("the record is not the fold of the log:\n%s", difference)
	}
}

var prepared = api.Event{Type: api.EventPrepared, Base: "base", Branch: "main", WorkDir: "tree", Disk: "disk"}

func held(t *testing.T, s *Session) {
	t.Helper()
	release, err := s.Hold()
	must(t, err)
	t.Cleanup(release)
}

func claudeLine(format string, args ...any) api.Event {
	return api.Event{Type: api.EventClaude, Claude: fmt.Appendf(nil, format, args...)}
}
