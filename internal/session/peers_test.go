package session

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"berth/internal/api"
)

// A session that had ended, and that another daemon took up before it left, is found by who stays.
func TestWhatAnotherDaemonTookUpAndLeftIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := openStore(t, dir, time.Now)
	t.Cleanup(func() { must(t, store.Close()) })
	s, _, err := store.Create(api.NewSession{Prompt: "do it"}, "m0", "")
	must(t, err)
	start(t, s)
	must(t, s.Move(api.Succeeded, api.Event{}))
	other := openStore(t, dir, time.Now)
	if !store.Peers() {
		t.Fatal("the other daemon is not seen")
	}
	if changed, err := store.Changed(); err != nil || len(changed) > 0 {
		t.Errorf("changed are %v, %v", changed, err)
	}
	must(t, other.Get(s.ID()).Ask(api.Event{MessageID: "m1", Text: "more"}))
	must(t, other.Close())
	if store.Peers() {
		t.Fatal("the other daemon is still seen")
	}
	changed, err := store.Changed()
	must(t, err)
	if len(changed) != 1 || changed[0] != s || s.State() != api.Queued {
		t.Errorf("changed are %v; it is %s", changed, s.State())
	}
	if _, err := store.Changed(); err != nil || store.left {
		t.Errorf("it is looked for again and again: %v", err)
	}
}

// A daemon says that it lives in one file, however often, and leaves none beside it. One that cannot be read is of a daemon that may be
// writing it.
func TestPresenceIsOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := openStore(t, dir, time.Now)
	for range 3 {
		must(t, store.beat())
	}
	files := func() (names []string) {
		entries, err := os.ReadDir(filepath.Join(dir, daemonsDir))
		must(t, err)
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names
	}
	if got := files(); len(got) != 1 || got[0] != store.Owner()+".json" || store.Peers() {
		t.Errorf("there are %v", got)
	}
	torn := filepath.Join(dir, daemonsDir, "another.json")
	must(t, os.WriteFile(torn, []byte(`{"owner":{"id":"anoth`), 0o600))
	if !store.Peers() {
		t.Error("a daemon that is just saying that it lives is not seen")
	}
	long := time.Now().Add(-2 * forgetAfter)
	must(t, os.Chtimes(torn, long, long))
	if store.Peers() || len(files()) != 1 {
		t.Errorf("there are %v", files())
	}
	must(t, store.Close())
}
