package session_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/session"
)

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	store, err := session.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var made []*session.Session
	for range 3 {
		each, _, err := store.Create(api.NewSession{Prompt: "hello"}, uuid.NewString(), "")
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, each)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "sessions", made[2].ID(), "events.jsonl")
	if err := os.WriteFile(log, []byte("this is no log\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	before := files(t, dir)
	found, err := session.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if found.Sessions != 2 || found.States[api.Queued] != 2 || found.Events < 2 || found.Newest.IsZero() {
		t.Errorf("found %+v; want two sessions in the queue", found)
	}
	if len(found.Broken) != 1 || !strings.Contains(found.Broken[0], made[2].ID()) {
		t.Errorf("broken: %v; want the third session", found.Broken)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("it changed the volume:\n%s", diff)
	}
	if _, err := session.Inspect(filepath.Join(dir, "sessions")); err == nil {
		t.Error("a directory that is no volume is taken for an empty one")
	}
}

// files are the names below a directory, with sizes and times.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			list = append(list, path+" "+info.Mode().String()+" "+info.ModTime().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
