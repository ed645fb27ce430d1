package session

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"berth/internal/api"
)

func always(*Record) bool { return true }

// What is elsewhere of a session that was removed is removed too, however often that fails, and whoever was killed in between.
func TestARemovalIsFinished(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := openStore(t, dir, time.Now)
	s, _, err := store.Create(api.NewSession{Prompt: "do it", Repo: "https://h/p"}, "m0", "")
	must(t, err)
	must(t, s.Stop("enough"))
	full := errors.New("not now")
	if err := store.Remove(s, always, func(*Record) error { return full }); !errors.Is(err, full) || store.Get(s.ID()) != nil {
		t.Fatalf("the error is %v", err)
	}
	// As a daemon that is killed: it says no more that it lives.
	store.stop()
	<-store.stopped
	must(t, os.Remove(store.presence()))
	again := openStore(t, dir, time.Now)
	if len(again.List()) > 0 || len(again.Broken()) > 0 {
		t.Errorf("there are %v, %v", again.List(), again.Broken())
	}
	for _, step := range []struct {
		fails       error
		calls, left int
	}{{full, 1, 1}, {nil, 1, 0}, {nil, 0, 0}} {
		calls := 0
		err := again.FinishRemovals(func(record *Record) error {
			calls++
			if record.ID != s.ID() || record.Repo != "https://h/p" {
				t.Errorf("it is %+v", record)
			}
			return step.fails
		})
		left, unread := os.ReadDir(filepath.Join(dir, spoolDir))
		must(t, unread)
		if !errors.Is(err, step.fails) || calls != step.calls || len(left) != step.left {
			t.Errorf("%v after %d calls; left are %v", err, calls, left)
		}
	}
	must(t, again.Close())
}

// What another daemon has removed is no more here either.
func TestWhatAnotherDaemonRemovedIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := openStore(t, dir, time.Now)
	var all []*Session
	for range 3 {
		s, _, err := first.Create(api.NewSession{Prompt: "do it"}, "m0", "")
		must(t, err)
		must(t, s.Stop("enough"))
		all = append(all, s)
	}
	second := openStore(t, dir, time.Now)
	none := func(*Record) error { return nil }
	for _, each := range second.List() {
		must(t, second.Remove(each, always, none))
	}
	if !first.Peers() || first.Get(all[0].ID()) != nil {
		t.Error("it is still found")
	}
	must(t, first.Remove(all[1], always, none))
	if _, err := first.Changed(); err != nil || len(first.List()) > 0 {
		t.Errorf("listed are %v, %v", first.List(), err)
	}
	must(t, errors.Join(first.Close(), second.Close()))
}

// A session that the volume does not give at one time is there at another, and no damage.
func TestWhatTheVolumeFailedToGiveIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{logFile, snapshotFile} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store := openStore(t, dir, time.Now)
			s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "key")
			must(t, err)
			must(t, store.Close())
			file := filepath.Join(s.dir, name)
			must(t, os.Rename(file, file+".away"))
			must(t, os.Mkdir(file, 0o700)) // reading it fails, and not because of what is in it
			store = openStore(t, dir, time.Now)
			if broken := store.Broken(); len(broken) != 1 || store.Get(s.ID()) != nil || len(store.Reread()) > 0 {
				t.Fatalf("broken are %v", broken)
			}
			if _, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m1", "key"); err == nil {
				t.Error("its key made another session")
			}
			must(t, os.Remove(file))
			must(t, os.Rename(file+".away", file))
			if list := store.Reread(); len(list) != 1 || list[0].ID() != s.ID() || len(store.Broken()) > 0 {
				t.Errorf("read again are %v, and broken are %v", list, store.Broken())
			}
			if list := store.Reread(); len(list) > 0 {
				t.Errorf("read again once more are %v", list)
			}
			must(t, store.Close())
		})
	}
}

// A read that fails midway leaves the record as it was: no event counts twice when it goes well.
func TestAReadThatFailsMidwayCountsNothing(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	reader := follower(t, s)
	start(t, s)
	must(t, s.Append(claudeLine(`{"type":"assistant","message":{"id":"a"}}`)))
	good := logOf(t, s)
	before := reader.Record()
	must(t, os.WriteFile(s.log.path, append(good, "{\"type\":7}\n"...), 0o600))
	if err := reader.Refresh(); !errors.Is(err, ErrDamaged) || reader.Record().Events != before.Events {
		t.Errorf("%d events, %v", reader.Record().Events, err)
	}
	must(t, os.WriteFile(s.log.path, good, 0o600))
	must(t, reader.Refresh())
	consistent(t, reader)
	if reader.Record().Turns != 1 || reader.State() != api.Running {
		t.Errorf("it is %+v", reader.Record())
	}
}

// A daemon that was asleep for so long that others take it for gone does not sweep away what it is about to accept itself.
func TestADaemonDoesNotSweepAwayItsOwn(t *testing.T) {
	t.Parallel()
	store, _ := one(t)
	must(t, os.Remove(store.presence()))
	own, others := store.path(spoolDir, newPrefix+store.Owner()+".x"), store.path(spoolDir, newPrefix+"other.x")
	for _, dir := range []string{own, others} {
		must(t, os.Mkdir(dir, 0o700))
	}
	must(t, store.Sweep())
	if missing(own) || !missing(others) {
		t.Errorf("its own is gone: %v, another's is gone: %v", missing(own), missing(others))
	}
}
