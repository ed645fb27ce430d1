package workspace_test

import (
	"os"
	"path/filepath"
	"testing"

	"berth/internal/workspace"
)

// Somebody who was killed as work was delivered leaves the lock of what was delivered: the next delivery is as any other.
func TestADeliveryThatWasKilledIsFinished(t *testing.T) {
	t.Parallel()
	from, _ := bareOrigin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	work(t, p)
	saved(t, m, p)
	delivered := filepath.Join(mirrorOf(t, m), "refs", "delivered")
	mkdir(t, delivered)
	write(t, filepath.Join(delivered, p.ID+".lock"), "")
	request := workspace.Request{Title: "A title"}
	first := m.Deliver(t.Context(), p, request)
	if first.Problem != "" || first.Commit == "" || run(t, from, "rev-parse", p.Branch) != first.Commit {
		t.Errorf("%+v", first)
	}
	write(t, filepath.Join(p.Tree, "more"), "of it\n")
	saved(t, m, p)
	write(t, filepath.Join(delivered, p.ID+".lock"), "")
	if next := m.Deliver(t.Context(), p, request); next.Problem != "" || run(t, from, "rev-parse", p.Branch) != next.Commit {
		t.Errorf("%+v", next)
	}
	noLocks(t, m)

	// It was pushed, and the session has done more since: what is there is not somebody else's, nor is it after an attempt in vain.
	ref := filepath.Join(delivered, p.ID)
	if err := os.Rename(ref, ref+".lock"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.Tree, "more"), "of it, and other\n")
	saved(t, m, p)
	run(t, from, "config", "receive.denyNonFastForwards", "true")
	if refused := m.Deliver(t.Context(), p, request); refused.Problem == "" {
		t.Errorf("%+v", refused)
	}
	run(t, from, "config", "receive.denyNonFastForwards", "false")
	if next := m.Deliver(t.Context(), p, request); next.Problem != "" || run(t, from, "rev-parse", p.Branch) != next.Commit {
		t.Errorf("%+v", next)
	}
	noLocks(t, m)
}

// So it is with what is removed of a session.
func TestAForgettingThatWasKilledIsFinished(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{"packed-refs.lock", "refs/berth/" + id + ".lock"} {
		m, p := mirrors(t), place(t, "")
		prepared(t, m, p)
		write(t, filepath.Join(p.Tree, "file"), "of the session\n")
		saved(t, m, p)
		mirror := mirrorOf(t, m)
		write(t, filepath.Join(mirror, filepath.FromSlash(lock)), "")
		if err := m.Forget(t.Context(), p.Source, p.ID); err != nil {
			t.Errorf("%s: %v", lock, err)
		}
		if refs := run(t, mirror, "for-each-ref"); refs != "" {
			t.Errorf("%s: there are still %s", lock, refs)
		}
		noLocks(t, m)
	}
}

// noLocks sees that no lock of git's is left in the mirror.
func noLocks(t *testing.T, m *workspace.Mirrors) {
	t.Helper()
	err := filepath.WalkDir(mirrorOf(t, m), func(path string, _ os.DirEntry, err error) error {
		if filepath.Ext(path) == ".lock" {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A directory may be called as a pattern is.
func TestDirectoriesThatLookLikePatterns(t *testing.T) {
	t.Parallel()
	from, _ := bareOrigin(t)
	dir := t.TempDir()
	volume, temporary, disk := filepath.Join(dir, "v[ol]ume"), filepath.Join(dir, "t[e-m]p"), filepath.Join(dir, "d[i]sk")
	mkdir(t, temporary, disk)
	m := workspace.NewMirrors(filepath.Join(volume, "repos"), workspace.MirrorConfig{Temporary: temporary})
	p := place(t, from)
	p.Tree, p.Scratch = filepath.Join(disk, "tree"), filepath.Join(disk, "scratch")
	mkdir(t, filepath.Join(disk, ".new-tree-left"))
	prepared(t, m, p)
	if left, err := os.ReadDir(disk); err != nil || len(left) != 2 {
		t.Errorf("beside the tree are %v, %v", left, err)
	}
	work(t, p)
	saved(t, m, p)
	write(t, filepath.Join(p.Tree, "more"), "of it\n")
	saved(t, m, p)
	run(t, from, "branch", "new", "topic/x~1")
	other := elsewhere(t, p)
	other.ID = "01890a5d-ac96-774b-bcce-b302099a8058"
	other.Source.Ref = "new"
	again := workspace.NewMirrors(filepath.Join(volume, "repos"), workspace.MirrorConfig{Temporary: temporary})
	prepared(t, again, other)
	// Somebody was killed as the mirror was made anew.
	mirror := mirrorOf(t, m)
	if err := os.Rename(mirror, mirror[:len(mirror)-len(".git")]+".damaged-1"); err != nil {
		t.Fatal(err)
	}
	restored(t, again, p)
}
