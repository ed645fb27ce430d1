//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/session"
)

// An agent whose machine remembers that a key is not there, or its session, as a client of NFS does for up to a minute, finds both
// when another agent has made them since.
func TestAKeyThatAnotherAgentHasJustMadeIsFound(t *testing.T) {
	directory := t.TempDir()
	volume := mount(t, directory, 0)
	fresh, stale := directory, volume.Path
	open := func(dir string) *session.Store {
		t.Helper()
		store, err := session.Open(dir, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return store
	}
	first, second := open(fresh), open(stale)
	task := api.NewSession{Prompt: "do it"}
	same := func(key string, made *session.Session) {
		t.Helper()
		found, there, err := second.Create(task, "m1", key)
		if err != nil || !there || found.ID() != made.ID() {
			t.Errorf("%s: %v, there %v, %v; want %s", key, found, there, err, made.ID())
		}
	}
	keyFile := func(key string) string {
		sum := sha256.Sum256([]byte(key))
		return filepath.Join("keys", hex.EncodeToString(sum[:]))
	}

	made, _, err := first.Create(task, "m0", "a key")
	if err != nil {
		t.Fatal(err)
	}
	volume.Hide(filepath.Base(keyFile("a key")))
	same("a key", made)

	// The key is known, and its session not.
	made, _, err = first.Create(task, "m0", "another key")
	if err != nil {
		t.Fatal(err)
	}
	target, err := os.Readlink(filepath.Join(fresh, keyFile("another key")))
	if err != nil {
		t.Fatal(err)
	}
	promised := uuid.NewString()
	if err := os.Symlink(promised+target[len(made.ID()):], filepath.Join(fresh, keyFile("promised"))); err != nil {
		t.Fatal(err)
	}
	if made, _, err = first.Create(task, "m0", "promised"); err != nil || made.ID() != promised {
		t.Fatal(made, err)
	}
	volume.Hide(promised)
	same("promised", made)
	for _, dir := range []string{"sessions", "keys"} {
		if left, err := filepath.Glob(filepath.Join(directory, dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}
