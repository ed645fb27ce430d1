package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
)

// Requests with one key that come at the same time, to one daemon and to two, make one session, which each of them is told of.
func TestAKeyMakesOneSessionWhoeverIsAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := openStore(t, dir, time.Now), openStore(t, dir, time.Now)
	for round := range 10 {
		key := fmt.Sprint("key ", round)
		ids, news := make([]string, 8), make([]bool, 8)
		var all sync.WaitGroup
		for index := range ids {
			all.Go(func() {
				store := []*Store{first, second}[index%2]
				s, found, err := store.Create(api.NewSession{Prompt: "do it"}, uuid.NewString(), key)
				if err != nil {
					t.Error(err)
					return
				}
				ids[index], news[index] = s.ID(), !found
			})
		}
		all.Wait()
		count := 0
		for index := range ids {
			if ids[index] != ids[0] {
				t.Errorf("%s and %s have one key", ids[index], ids[0])
			}
			if news[index] {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%d daemons made the session", count)
		}
		if _, _, err := second.Create(api.NewSession{Prompt: "another"}, "m", key); !errors.Is(err, ErrOtherTask) {
			t.Errorf("another task: %v", err)
		}
	}
	must(t, errors.Join(first.Close(), second.Close()))
	again := openStore(t, dir, time.Now)
	if list := again.List(); len(list) != 10 || len(again.Broken()) > 0 {
		t.Errorf("there are %d sessions, and broken are %v", len(list), again.Broken())
	}
	if left, err := os.ReadDir(filepath.Join(dir, spoolDir)); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	must(t, again.Close())
}

// A daemon that is killed between the key and the session leaves both to the next request.
func TestAKeyWithoutASessionIsTakenUp(t *testing.T) {
	t.Parallel()
	store := openStore(t, t.TempDir(), time.Now)
	task := api.NewSession{Prompt: "do it"}
	promised := uuid.NewString()
	must(t, os.Symlink(promised+"."+taskSum(task), store.keyFile("key")))
	if _, _, err := store.Create(api.NewSession{Prompt: "another"}, "m0", "key"); !errors.Is(err, ErrOtherTask) {
		t.Errorf("another task: %v", err)
	}
	s, found, err := store.Create(task, "m0", "key")
	must(t, err)
	if found || s.ID() != promised {
		t.Errorf("it is %s, found: %v", s.ID(), found)
	}
	must(t, store.Close())
}

// A key ends with its session; one that never got a session ends after a day.
func TestKeysAreRemoved(t *testing.T) {
	t.Parallel()
	store := openStore(t, t.TempDir(), time.Now)
	task := api.NewSession{Prompt: "do it"}
	s, _, err := store.Create(task, "m0", "key")
	must(t, err)
	must(t, s.Stop("enough"))
	must(t, store.Remove(s, func(*Record) bool { return true }, func(*Record) error { return nil }))
	if !missing(store.keyFile("key")) {
		t.Error("the key of a removed session is there")
	}
	if other, found, err := store.Create(task, "m0", "key"); err != nil || found || other.ID() == s.ID() {
		t.Errorf("a new session under it: %v, %v", found, err)
	}
	must(t, os.Symlink(uuid.NewString()+"."+taskSum(task), store.keyFile("lonely")))
	must(t, store.sweepKeys())
	if missing(store.keyFile("lonely")) {
		t.Error("a key that may still be asked for is gone")
	}
	store.now = func() time.Time { return time.Now().Add(2 * keepKeys) }
	must(t, store.sweepKeys())
	if !missing(store.keyFile("lonely")) || missing(store.keyFile("key")) {
		t.Error("the wrong keys are there")
	}
	must(t, store.Close())
}
