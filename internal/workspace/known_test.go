package workspace_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/api"
	"berth/internal/workspace"
)

// overtaken is a checkpoint that must not be made: the mirror stays as it is.
func overtaken(t *testing.T, m *workspace.Mirrors, p workspace.Place) {
	t.Helper()
	before := run(t, mirrorOf(t, m), "rev-parse", "refs/berth/"+id)
	if made, err := m.Checkpoint(t.Context(), p); !errors.Is(err, workspace.ErrOvertaken) || made != nil {
		t.Errorf("%v, %v", made, err)
	}
	if now := run(t, mirrorOf(t, m), "rev-parse", "refs/berth/"+id); now != before {
		t.Errorf("the checkpoint was %s and is %s", before, now)
	}
}

// An agent that stands still while another one takes its session over does not replace that one's checkpoint, whether it
// has made one itself or not, until it runs the session again.
func TestACheckpointOfAnotherAgentIsNotReplaced(t *testing.T) {
	from, _ := origin(t)
	for name, first := range map[string]bool{"after its first checkpoint": true, "before its first checkpoint": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, p := mirrors(t), place(t, from)
			prepared(t, ours, p)
			theirs, other := workspace.NewMirrors(ours.Dir(), workspace.MirrorConfig{}), elsewhere(t, p)
			if first {
				write(t, filepath.Join(p.Tree, "mine"), "work\n")
				saved(t, ours, p)
				if made, err := theirs.Restore(t.Context(), other); err != nil || made == nil {
					t.Fatal(made, err)
				}
			} else {
				prepared(t, theirs, other)
			}
			write(t, filepath.Join(other.Tree, "theirs"), "work\n")
			saved(t, theirs, other)
			write(t, filepath.Join(p.Tree, "late"), "work\n")
			overtaken(t, ours, p)
			overtaken(t, ours, p)
			write(t, filepath.Join(other.Tree, "theirs"), "more work\n")
			saved(t, theirs, other)
			restored(t, theirs, other)
			if err := ours.Resume(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			saved(t, ours, p)
			restored(t, ours, p)
		})
	}
}

// A process that has just begun, beside a tree that was left, goes on from what is there.
func TestARestartedAgentGoesOnFromTheCheckpointThatIsThere(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	saved(t, m, p)
	m = workspace.NewMirrors(m.Dir(), workspace.MirrorConfig{})
	if err := m.Resume(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.Tree, "mine"), "work\n")
	saved(t, m, p)
	restored(t, m, p)
}

// A ref that says nothing is not taken for none where the files are gone; where they are there, it is replaced.
func TestADamagedRefIsNoMissingOne(t *testing.T) {
	from, _ := origin(t)
	for name, text := range map[string]string{"empty": "", "cut": "0123\n", "symbolic": "ref: refs/heads/main\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p := mirrors(t), place(t, from)
			prepared(t, m, p)
			write(t, filepath.Join(p.Tree, "mine"), "work\n")
			saved(t, m, p)
			write(t, filepath.Join(mirrorOf(t, m), "refs", "berth", id), text)
			other := elsewhere(t, p)
			made, err := m.Restore(t.Context(), other)
			if coded := new(api.Error); made != nil || !errors.As(err, &coded) || coded.Code != api.CodeWorkspaceLost || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("%v, %v", made, err)
			}
			if _, err := os.Lstat(other.Tree); !errors.Is(err, os.ErrNotExist) {
				t.Error("there is a tree:", err)
			}
			write(t, filepath.Join(p.Tree, "mine"), "more work\n")
			saved(t, m, p)
			restored(t, m, p)
		})
	}
}
