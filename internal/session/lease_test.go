package session

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
)

func init() { roles["hold"] = hold }

// hold opens a volume and holds its session until its input ends; then it writes an event.
func hold() error {
	store, err := Open(os.Args[1], time.Now)
	if err != nil {
		return err
	}
	s := store.List()[0]
	release, err := s.Hold()
	if err != nil {
		return err
	}
	fmt.Println("held")
	_, _ = io.ReadAll(os.Stdin)
	fmt.Println("wrote", s.Append(api.Event{Type: api.EventNotice, Text: "from the other one"}))
	release()
	return store.Close()
}

// elsewhere has another process hold a session, and returns a function that has it write and end.
func elsewhere(t *testing.T, dir string) (process *os.Process, finish func() string) {
	t.Helper()
	other := play(t, "hold", dir)
	input, err := other.StdinPipe()
	must(t, err)
	output, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	lines := bufio.NewReader(output)
	if said, err := lines.ReadString('\n'); said != "held\n" {
		t.Fatal(said, err)
	}
	return other.Process, func() string {
		t.Helper()
		must(t, input.Close())
		said, _ := lines.ReadString('\n')
		_ = other.Wait()
		return strings.TrimSpace(said)
	}
}

func notes(t *testing.T, s *Session) (texts []string) {
	t.Helper()
	must(t, s.Each(func(event api.Event) {
		if event.Type == api.EventNotice {
			texts = append(texts, event.Text)
		}
	}))
	return texts
}

func TestASessionIsForOneDaemon(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir, time.Now)
	s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
	must(t, err)
	_, finish := elsewhere(t, dir)
	leased := new(LeasedError)
	if err := s.Append(api.Event{Type: api.EventNotice, Text: "mine"}); !errors.As(err, &leased) || !store.Peers() {
		t.Errorf("the error is %v", err)
	}
	if said := finish(); said != "wrote <nil>" {
		t.Error(said)
	}
	must(t, s.Append(api.Event{Type: api.EventNotice, Text: "mine"}))
	if texts := notes(t, s); len(texts) != 2 || s.Record().Epoch != 3 || store.Peers() {
		t.Errorf("there are %v, epoch %d", texts, s.Record().Epoch)
	}
	must(t, store.Close())
}

// Who died on this machine is followed at once, and leaves nothing.
func TestADeadOwnerIsFollowedAtOnce(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir, time.Now)
	s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
	must(t, err)
	process, finish := elsewhere(t, dir)
	must(t, process.Kill())
	finish()
	must(t, os.WriteFile(filepath.Join(s.dir, "."+snapshotFile+"123"), nil, 0o600))
	must(t, s.Append(api.Event{Type: api.EventNotice, Text: "mine"}))
	if current, leftover, err := readLease(s.dir); current != nil || leftover || err != nil {
		t.Errorf("left are %v, %v, %v", current, leftover, err)
	}
	must(t, store.Close())
	if left, err := os.ReadDir(filepath.Join(dir, daemonsDir)); err != nil || len(left) > 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// An owner that was stopped, and is followed, wakes up: what it writes counts nowhere.
func TestAZombieIsFencedOff(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir, time.Now)
	s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
	must(t, err)
	process, finish := elsewhere(t, dir)
	must(t, process.Signal(syscall.SIGSTOP))
	// The clock of this store goes ahead, so that nobody has to wait.
	s.now = func() time.Time { return time.Now().Add(2 * LeaseTime) }
	must(t, s.Append(api.Event{Type: api.EventNotice, Text: "mine"}))
	must(t, process.Signal(syscall.SIGCONT))
	finish()
	if texts := notes(t, s); len(texts) != 1 || texts[0] != "mine" {
		t.Errorf("there are %v", texts)
	}
	again := openStore(t, dir, time.Now)
	if texts := notes(t, again.Get(s.ID())); len(texts) != 1 {
		t.Errorf("there are %v", texts)
	}
	must(t, errors.Join(store.Close(), again.Close()))
}

// Two owners in one process: the one that was followed finds out at its next lasting event, at the latest.
func TestWhoWasFollowedIsTold(t *testing.T) {
	clock := newClock()
	store, s := one(t)
	s.now = clock.now
	release, err := s.Hold()
	must(t, err)
	defer release()
	must(t, s.KeepTranscript(0, []byte("one\n")))
	later := func() time.Time { return clock.now().Add(2 * LeaseTime) }
	other, err := open(s.dir, later, self())
	must(t, err)
	must(t, other.Append(api.Event{Type: api.EventNotice, Text: "mine"}))
	if err := s.Ask(api.Event{MessageID: "m", Text: "more"}); !errors.Is(err, ErrLost) {
		t.Errorf("the error is %v", err)
	}
	select {
	case <-s.Lost():
	default:
		t.Error("it was not told")
	}
	if err := s.KeepTranscript(4, []byte("two\n")); !errors.Is(err, ErrLost) {
		t.Errorf("the error is %v", err)
	}
	release()
	must(t, s.Ask(api.Event{MessageID: "m", Text: "more"}))
	if texts := notes(t, s); len(texts) != 1 || s.Record().Messages != 2 || store.Peers() {
		t.Errorf("there are %v, %+v", texts, s.Record())
	}
	consistent(t, s)
}

// No epoch is claimed twice, though nothing was written in it: one that was followed may have been stopped just before it removed its
// claim, by name, and must not remove another one's.
func TestAnEpochIsClaimedOnce(t *testing.T) {
	_, s := one(t)
	release, err := s.Hold()
	must(t, err)
	zombie := s.held()
	later := func() time.Time { return newClock().now().Add(2 * LeaseTime) }
	second, err := open(s.dir, later, self())
	must(t, err)
	letGo, err := second.Hold()
	must(t, err)
	letGo()
	third, err := open(s.dir, later, self())
	must(t, err)
	letGo, err = third.Hold()
	must(t, err)
	if epoch := third.held().epoch; epoch <= zombie.epoch+1 {
		t.Errorf("the epoch %d is claimed after %d and one more", epoch, zombie.epoch)
	}
	must(t, os.Remove(filepath.Join(s.dir, leaseFile)))
	must(t, zombie.remove())
	fourth, err := open(s.dir, later, self())
	must(t, err)
	if _, err := fourth.Hold(); !errors.As(err, new(*LeasedError)) {
		t.Errorf("a fourth one can have it: %v", err)
	}
	letGo()
	release()
}

// Of many that want a session at once, one has it at a time, and every event is there once.
func TestLeasesAreExclusive(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	const daemons, each = 8, 25
	errs := make(chan error, daemons)
	for range daemons {
		go func() {
			mine, err := open(s.dir, time.Now, self())
			for count := 0; err == nil && count < each; {
				leased := new(LeasedError)
				switch err = mine.Append(api.Event{Type: api.EventNotice, Text: "note"}); {
				case err == nil:
					count++
				case errors.As(err, &leased):
					err = nil
				}
			}
			errs <- err
		}()
	}
	for range daemons {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	must(t, s.Refresh())
	if texts := notes(t, s); len(texts) != daemons*each {
		t.Errorf("there are %d", len(texts))
	}
	consistent(t, s)
}

func TestMail(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir, newClock().now)
	must(t, store.Post(Mail{Session: "s", Event: api.Event{Type: api.EventMessage, Text: "one"}}))
	again := openStore(t, dir, newClock().now)
	mails, err := again.Mails()
	if err != nil || len(mails) != 1 || mails[0].Event.Text != "one" {
		t.Fatalf("%v, %v", mails, err)
	}
	must(t, again.Delivered(mails[0]))
	if mails, err := again.Mails(); err != nil || len(mails) != 0 {
		t.Errorf("%v, %v", mails, err)
	}
	must(t, errors.Join(store.Close(), again.Close()))
}
