package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"berth/internal/api"
)

// A request that is sent again makes no second session, also across a restart; another task under its key is refused.
func TestAKeyMakesOneSession(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	task := api.NewSession{Prompt: "reply 1"}
	first, created, err := a.Create(t.Context(), task, "key")
	if err != nil || !created {
		t.Fatal(created, err)
	}
	a.stop()
	a.open(1)
	again, created, err := a.Create(t.Context(), task, "key")
	if err != nil || created || again.ID != first.ID {
		t.Errorf("it made %s beside %s: %v", again.ID, first.ID, err)
	}
	other, conflict := api.NewSession{Prompt: "reply 2"}, new(api.Error)
	if _, _, err := a.Create(t.Context(), other, "key"); !errors.As(err, &conflict) || conflict.Code != api.CodeConflict {
		t.Errorf("another task under the key: %v", err)
	}
	if _, created, err := a.Create(t.Context(), task, ""); err != nil || !created {
		t.Errorf("without a key: %v, %v", created, err)
	}
}

func TestSessionsComeByPages(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	var made []string
	for number := range 7 {
		made = append(made, a.create(fmt.Sprint("reply ", number)))
	}
	for _, newest := range []bool{false, true} {
		want := slices.Clone(made)
		if newest {
			slices.Reverse(want)
		}
		var got []string
		for query := (api.ListQuery{Limit: 3, Newest: newest}); ; {
			page := a.Sessions(query)
			if len(page.Sessions) > 3 {
				t.Fatalf("a page has %d sessions", len(page.Sessions))
			}
			for _, each := range page.Sessions {
				got = append(got, each.ID)
			}
			if query.After = page.Next; page.Next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("newest first %v: %v, want %v", newest, got, want)
		}
	}
	if list := a.Sessions(api.ListQuery{States: []api.State{api.Running}}); len(list.Sessions) != 0 {
		t.Errorf("none runs, and %d are listed", len(list.Sessions))
	}
}

// What has ended long ago is removed, with all that is left of it, and nothing else.
func TestOldSessionsAreRemoved(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 2).start()
	gate := filepath.Join(t.TempDir(), "gate")
	old, running := a.create("reply 1"), a.create("wait "+gate)
	a.await(old, api.Succeeded)
	a.await(running, api.Running)
	a.config.Retention = time.Hour
	a.prune(t.Context())
	if a.store.Get(old) == nil {
		t.Fatal("it was removed within its time")
	}
	a.config.Retention = time.Nanosecond
	a.prune(t.Context())
	if a.store.Get(old) != nil || a.store.Get(running) == nil {
		t.Error("the wrong ones are there")
	}
	for _, dir := range []string{filepath.Join(a.dir, "sessions", old), filepath.Join(a.dir, "work", old)} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	must(t, os.WriteFile(gate, nil, 0o600))
	a.await(running, api.Succeeded)
}
