package session

import (
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
