package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
)

// Checkpoints that list little go side by side; of those that list much, one at a time.
func TestLargeListingsGoOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := &listings{few: 10, most: 100, large: make(chan struct{}, 1)}
		first, second, third := all.begin(), all.begin(), all.begin()
		for _, one := range []*listed{first, second, third} {
			if err := one.take(t.Context(), 10); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(first.take(t.Context(), 1), first.take(t.Context(), 89)); err != nil {
			t.Error(err)
		}
		if err := first.take(t.Context(), 1); !errors.Is(err, errTooMuchListed) {
			t.Errorf("more than the most: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		has := make(chan error, 2)
		go func() { has <- second.take(t.Context(), 1) }()
		go func() { has <- third.take(ctx, 1) }()
		synctest.Wait()
		if len(has) > 0 {
			t.Error("another one did not wait")
		}
		cancel()
		if err := <-has; !errors.Is(err, context.Canceled) {
			t.Errorf("one that was called off: %v", err)
		}
		first.done()
		if err := <-has; err != nil {
			t.Error(err)
		}
		second.done()
		if err := second.take(t.Context(), 100); err == nil || len(all.large) > 0 {
			t.Errorf("one that has ended takes the place: %v", err)
		}
		third.done()
	})
}

// However many sessions list much at once, and a diff beside each: all come to their end. One that lists too much says what to do.
func TestCheckpointsThatListMuch(t *testing.T) {
	t.Parallel()
	m := NewMirrors(t.TempDir(), MirrorConfig{Temporary: t.TempDir()})
	m.listings.few = 1
	places := make([]Place, 4)
	for i := range places {
		dir := t.TempDir()
		places[i] = Place{ID: uuid.NewString(), Branch: "main", Tree: filepath.Join(dir, "tree"), Scratch: filepath.Join(dir, "scratch")}
		if _, err := m.Prepare(t.Context(), places[i]); err != nil {
			t.Fatal(err)
		}
		for number := range 20 {
			if err := os.WriteFile(filepath.Join(places[i].Tree, fmt.Sprint("file-", number)), []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var all sync.WaitGroup
	for _, place := range places {
		all.Go(func() {
			if saved, err := m.Checkpoint(t.Context(), place); err != nil || saved == nil {
				t.Errorf("a checkpoint: %v, %v", saved, err)
			}
		})
		all.Go(func() {
			if patch, err := m.Diff(t.Context(), place, ""); err != nil || !strings.Contains(patch, "file-19") {
				t.Errorf("a diff: %.100q, %v", patch, err)
			}
		})
	}
	all.Wait()
	m.listings.most = 100
	if _, err := m.Checkpoint(t.Context(), places[0]); !errors.Is(err, errTooMuchListed) || !strings.Contains(err.Error(), ".gitignore") {
		t.Errorf("more than the most: %v", err)
	}
	if len(m.listings.large) > 0 {
		t.Error("nobody works, and the place is taken")
	}
}
