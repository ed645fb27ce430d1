package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"berth/internal/api"
)

func init() {
	roles["full"] = full
}

// play starts the test binary in a role.
func play(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(self, args...)
	command.Env = append(os.Environ(), roleVariable+"="+role)
	command.Stderr = os.Stderr
	return command
}

// full appends to a session under a limit to the size of files, which is how a full disk looks: a write is cut short.
func full() error {
	signal.Ignore(syscall.SIGXFSZ)
	store, err := Open(os.Args[1], newClock().now)
	if err != nil {
		return err
	}
	s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
	err = errors.Join(err, s.Append(claudeLine(`{"type":"x","text":"%s"}`, strings.Repeat("x", 8000))),
		s.Move(api.Preparing, api.Event{}), s.Move(api.Running, api.Event{}))
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	tries := map[string]func() error{
		"claude": func() error { return s.Append(claudeLine(`{"type":"assistant","message":{"id":"a"}}`)) },
		"state":  func() error { return s.Move(api.Succeeded, api.Event{Text: "done"}) },
		"ask":    func() error { return s.Ask(api.Event{MessageID: "m", Text: "more"}) },
		"stop":   func() error { return s.Stop("enough") },
	}
	for name, try := range tries {
		for room := range 40 {
			if err := short(s, name, try, room, limit); err != nil {
				return err
			}
		}
	}
	// What took two lines is in the log as both or neither.
	if err := s.Move(api.Succeeded, api.Event{}); err != nil {
		return err
	}
	for room := range 150 {
		if err := short(s, "ask of an ended one", tries["ask"], room, limit); err != nil {
			return err
		}
	}
	if err := errors.Join(s.Ask(api.Event{MessageID: "m", Text: "more"}), store.Close()); err != nil {
		return err
	}
	if store, err = Open(os.Args[1], time.Now); err != nil {
		return err
	}
	if difference := cmp.Diff(s.Record(), store.Get(s.ID()).Record()); difference != "" {
		return errors.New(difference)
	}
	return store.Close()
}

// short tries something with so much room left, which must fail and leave nothing, and then adds an event.
func short(s *Session, name string, try func() error, room int, limit unix.Rlimit) error {
	file := filepath.Join(s.dir, logFile)
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	record, low := s.Record(), limit
	low.Cur = uint64(len(before) + room)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &low); err != nil {
		return err
	}
	failed := try()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	after, err := os.ReadFile(file)
	if failed == nil || err != nil || !bytes.Equal(before, after) || cmp.Diff(record, s.Record()) != "" {
		return fmt.Errorf("%s with %d bytes of room: %w, %w, or something is left of it", name, room, failed, err)
	}
	if err := s.Append(api.Event{Type: api.EventNotice, Text: "there is room again"}); err != nil {
		return fmt.Errorf("after %s with %d bytes of room: %w", name, room, err)
	}
	return nil
}

func TestAFullVolumeLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := play(t, "full", dir).Run(); err != nil {
		t.Error(err)
	}
}

// A sync that fails behind everybody's back fails the next append, once.
func TestALateErrorIsTold(t *testing.T) {
	_, s := one(t)
	held(t, s)
	start(t, s)
	must(t, s.Append(claudeLine(`{}`)))
	whole := s.log.file
	closed, err := os.Open(s.log.path)
	must(t, err)
	must(t, closed.Close())
	s.log.file = closed
	s.log.flush()
	s.log.file = whole
	if err := s.Append(claudeLine(`{}`)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the error is %v", err)
	}
	must(t, s.Append(claudeLine(`{}`)))
	consistent(t, s)
}

func TestWhatWasNotAcceptedIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "spool", uuid.NewString())
	must(t, os.MkdirAll(left, 0o700))
	must(t, os.WriteFile(filepath.Join(left, logFile), []byte("half"), 0o600))
	store := openStore(t, dir, time.Now)
	if entries, err := os.ReadDir(filepath.Join(dir, "spool")); err != nil || len(entries) > 0 || len(store.List()) > 0 {
		t.Errorf("%v, %v are left", entries, err)
	}
	must(t, store.Probe())
	must(t, store.Close())
}

// What cannot be read is said, and left byte for byte.
func TestABrokenSessionIsLeftAlone(t *testing.T) {
	_, s := one(t)
	good, err := os.ReadFile(filepath.Join(s.dir, snapshotFile))
	must(t, err)
	log := logOf(t, s)
	old := regexp.MustCompile(`"task":\{[^}]*\},?`).ReplaceAll(log, nil) // as an older agent wrote it
	old = bytes.ReplaceAll(old, []byte(",}"), []byte("}"))
	for name, test := range map[string]struct {
		snapshot, log []byte
		says          string
	}{
		"no snapshot":     {nil, old, "no such file"},
		"empty snapshot":  {[]byte{}, old, "unexpected end"},
		"torn snapshot":   {good[:40], old, "unexpected end"},
		"newer version":   {bytes.Replace(good, []byte(`"version": 2`), []byte(`"version": 3`), 1), log, "use a newer one"},
		"another session": {bytes.Replace(good, []byte(s.ID()), []byte(uuid.NewString()), 1), log, "holds the session"},
		"no log":          {good, nil, "no such file"},
		"empty log":       {good, []byte{}, "no events"},
		"no line":         {good, []byte("zero"), "no events"},
		"damaged log":     {good, []byte("{]\n"), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			home := filepath.Join(dir, "sessions", s.ID())
			must(t, os.MkdirAll(home, 0o700))
			files := map[string][]byte{snapshotFile: test.snapshot, logFile: test.log}
			for file, text := range files {
				if text != nil {
					must(t, os.WriteFile(filepath.Join(home, file), text, 0o600))
				}
			}
			store := openStore(t, dir, time.Now)
			broken := store.Broken()
			if len(store.List()) > 0 || len(broken) != 1 || !strings.Contains(broken[0].Error(), test.says) || !strings.Contains(broken[0].Error(), s.ID()) {
				t.Errorf("it is told as %v", broken)
			}
			must(t, store.Close())
			for file, text := range files {
				left, err := os.ReadFile(filepath.Join(home, file))
				if !bytes.Equal(left, text) || (err != nil) != (text == nil) {
					t.Errorf("%s has become %q, %v", file, left, err)
				}
			}
		})
	}
}

// Thousands that wait for a place keep no file open, and no lease.
func TestOnlyHeldSessionsKeepFilesOpen(t *testing.T) {
	_, s := one(t)
	open := func(want bool) {
		t.Helper()
		current, leftover, err := readLease(s.dir)
		if got := s.log.file != nil; err != nil || got != want || (current != nil) != want || leftover {
			t.Errorf("its log is open: %v; its lease: %v, %v", got, current, err)
		}
	}
	open(false)
	must(t, s.Ask(api.Event{MessageID: "m", Text: "more"}))
	open(false)
	release, err := s.Hold()
	must(t, err)
	open(true)
	start(t, s)
	open(true)
	release()
	open(false)
}

// JSON may nest so deep that it is no longer JSON inside of an event: that is not the volume's fault.
func TestAnEventThatIsNoJSONIsNoFaultOfTheVolume(t *testing.T) {
	_, s := one(t)
	deep := strings.Repeat("[", 10000) + strings.Repeat("]", 10000)
	if !json.Valid([]byte(deep)) {
		t.Fatal("it nests too deep for a line")
	}
	if err := s.Append(api.Event{Type: api.EventClaude, Claude: []byte(deep)}); !errors.Is(err, ErrNotJSON) {
		t.Errorf("the error is %v", err)
	}
	consistent(t, s)
}

func TestALongLogIsRead(t *testing.T) {
	t.Parallel()
	const events = 30_000
	_, s := one(t)
	start(t, s)
	text := bytes.NewBuffer(logOf(t, s))
	for index := range events {
		fmt.Fprintf(text, `{"type":"claude","time":"2026-01-02T03:04:06Z","claude":{"type":"assistant","message":{"id":"%d","content":"%0200d"}}}`+"\n", index, index)
	}
	must(t, os.WriteFile(filepath.Join(s.dir, logFile), text.Bytes(), 0o600))
	before := time.Now()
	reopened, err := open(s.dir, time.Now, self())
	must(t, err)
	if turns := reopened.Record().Turns; turns != events {
		t.Errorf("%d replies are counted", turns)
	}
	t.Logf("opened in %v", time.Since(before))
}

// A look at the volume while sessions are created finds none of them a second time: two that are one would keep each other out.
func TestASessionThatIsBeingCreatedIsFoundOnce(t *testing.T) {
	t.Parallel()
	store := openStore(t, t.TempDir(), newClock().now)
	stop, stopped := make(chan struct{}), make(chan struct{})
	found := map[string]*Session{}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := store.load(); err != nil {
				t.Error(err)
			}
			for _, each := range store.List() {
				if found[each.ID()] == nil {
					found[each.ID()] = each
				}
			}
		}
	}()
	var all []*Session
	for range 100 {
		created, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
		must(t, err)
		all = append(all, created)
	}
	close(stop)
	<-stopped
	for _, created := range all {
		if other := found[created.ID()]; other != nil && other != created {
			t.Fatalf("session %s was found beside", created.ID())
		}
	}
	must(t, store.Close())
}

// Mail that cannot be read keeps nobody from reading the rest.
func TestMailThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	store, s := one(t)
	must(t, os.WriteFile(store.path(spoolDir, mailPrefix+"x.1.json"), []byte("{"), 0o600))
	must(t, store.Post(Mail{Session: s.ID(), Event: api.Event{Type: api.EventMessage, MessageID: "m1"}}))
	mails, err := store.Mails()
	if err == nil || !strings.Contains(err.Error(), mailPrefix+"x.1.json") {
		t.Errorf("the error is %v", err)
	}
	if len(mails) != 1 || mails[0].Event.MessageID != "m1" {
		t.Errorf("the mail is %+v", mails)
	}
}

// A daemon that starts leaves alone what another one is just writing, and removes what was left long ago.
func TestMailThatIsBeingWrittenIsLeftAlone(t *testing.T) {
	t.Parallel()
	store := openStore(t, t.TempDir(), time.Now)
	t.Cleanup(func() { must(t, store.Close()) })
	young, old := store.path(spoolDir, "."+mailPrefix+"young"), store.path(spoolDir, "."+mailPrefix+"old")
	for _, file := range []string{young, old} {
		must(t, os.WriteFile(file, nil, 0o600))
	}
	long := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(old, long, long))
	must(t, store.Sweep())
	if missing(young) || !missing(old) {
		t.Errorf("young is gone: %v, old is gone: %v", missing(young), missing(old))
	}
}

// A snapshot that is lost or damaged is made anew from the log.
func TestALostSnapshotIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(file string) error{
		"lost":  os.Remove,
		"torn":  func(file string) error { return os.Truncate(file, 40) },
		"empty": func(file string) error { return os.Truncate(file, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store := openStore(t, dir, newClock().now)
			task := api.NewSession{Prompt: "do it", Repo: "https://h/p", Ref: "r", Options: api.Options{Model: "m", MaxTurns: 3, Settings: []byte(`{"a":{"b":1}}`)}}
			s, _, err := store.Create(task, "m0", "key")
			must(t, err)
			start(t, s)
			must(t, s.Append(claudeLine(`{"type":"assistant","message":{"id":"x"}}`)))
			before := s.Record()
			must(t, store.Close())
			must(t, damage(filepath.Join(dir, sessionsDir, s.ID(), snapshotFile)))

			store = openStore(t, dir, newClock().now)
			again := store.Get(s.ID())
			if again == nil {
				t.Fatal(store.Broken())
			}
			after := again.Record()
			after.LastLine, after.LastSum = before.LastLine, before.LastSum
			if difference := cmp.Diff(before, after); difference != "" {
				t.Errorf("it has become another one:\n%s", difference)
			}
			if same, found, err := store.Create(task, "m1", "key"); err != nil || !found || same != again {
				t.Errorf("its key is not known: %v, %v", found, err)
			}
			held(t, again) // who holds it writes the snapshot
			if text, err := os.ReadFile(filepath.Join(dir, sessionsDir, s.ID(), snapshotFile)); err != nil || !json.Valid(text) {
				t.Errorf("the snapshot is %q, %v", text, err)
			}
		})
	}
}
