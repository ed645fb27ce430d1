package workspace_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// What a killed agent has left of a scratch or a tree is no hindrance.
func TestLeftoversOfTheKilled(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	half := filepath.Join(filepath.Dir(p.Tree), ".new-tree-123", "tree")
	mkdir(t, half, filepath.Join(m.Dir(), ".new-x"))
	prepared(t, m, p)
	if _, err := os.Stat(half); err == nil {
		t.Error("a half made tree was left")
	}
	for _, name := range []string{"staged.lock", "git/index.lock", "as-git/index.lock", "git/refs/last.lock", "git/packed-refs.lock"} {
		write(t, filepath.Join(p.Tree, "work"), name)
		write(t, filepath.Join(p.Scratch, name), "")
		if _, leftOut := saved(t, m, p); len(leftOut) > 0 {
			t.Errorf("with %s: left out is %v", name, leftOut)
		}
		if again, err := m.Checkpoint(t.Context(), p); again != nil || err != nil {
			t.Errorf("with %s: nothing has changed, and saved is %+v, %v", name, again, err)
		}
	}
	for name, text := range map[string]string{"git/index": "DIRC", "git/HEAD": "", "git/refs/last": "", "as-git/config": "[", "with-submodules.lock": ""} {
		write(t, filepath.Join(p.Tree, "work"), name)
		write(t, filepath.Join(p.Scratch, name), text)
		saved(t, m, p)
		restored(t, m, p)
	}
	if err := os.RemoveAll(p.Scratch); err != nil {
		t.Fatal(err)
	}
	if again, err := m.Checkpoint(t.Context(), p); err != nil {
		t.Error(again, err)
	}
	restored(t, m, p)
}

// What a checkpoint makes in scratch is packed when it becomes much.
func TestScratchIsTidied(t *testing.T) {
	m, p := mirrors(t), place(t, "")
	prepared(t, m, p)
	for range 2 {
		for number := range 3000 {
			write(t, filepath.Join(p.Tree, strconv.Itoa(number)), strconv.Itoa(number)+time.Now().String())
		}
		saved(t, m, p)
	}
	if loose, err := os.ReadDir(filepath.Join(p.Scratch, "git", "objects", "17")); err == nil && len(loose) > 27 {
		t.Errorf("%d loose objects in one of 256 directories", len(loose))
	}
	write(t, filepath.Join(p.Tree, "x"), "y")
	saved(t, m, p)
	restored(t, m, p)
}
