package workspace_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/workspace"
)

const id = "01890a5d-ac96-774b-bcce-b302099a8057"

// mirrors are those of a new volume.
func mirrors(t *testing.T) *workspace.Mirrors {
	t.Helper()
	return workspace.NewMirrors(filepath.Join(t.TempDir(), "repos"), workspace.MirrorConfig{Temporary: t.TempDir()})
}

// place is a new one of the session id.
func place(t *testing.T, repo string) workspace.Place {
	t.Helper()
	dir := t.TempDir()
	branch := "berth/01890a5d"
	if repo == "" {
		branch = "main"
	}
	return workspace.Place{
		ID: id, Source: workspace.Source{Repo: repo}, Branch: branch,
		Tree: filepath.Join(dir, "tree"), Scratch: filepath.Join(dir, "scratch"),
	}
}

// elsewhere is a session's place on another machine.
func elsewhere(t *testing.T, from workspace.Place) workspace.Place {
	t.Helper()
	other := place(t, from.Source.Repo)
	other.ID, other.Source, other.Run, other.Own = from.ID, from.Source, from.Run, from.Own
	return other
}

// picture describes all that a checkpoint keeps: every file with its mode and content, what git says of the branch,
// the refs, the index and the stash.
func picture(t *testing.T, tree string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		if entry.Name() == ".git" {
			return fs.SkipDir
		}
		if name == "." {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		value := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			value += " " + string(text)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			value = "-> " + target
		}
		all[name] = value
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all[" refs"] = run(t, tree, "for-each-ref", "--format=%(objectname) %(objecttype) %(refname) %(symref)")
	all[" head"] = read(t, filepath.Join(tree, ".git", "HEAD"))
	all[" index"] = run(t, tree, "ls-files", "--stage")
	all[" status"] = run(t, tree, "status", "--porcelain=v1", "--ignored=no", "--branch")
	all[" stash"] = run(t, tree, "stash", "list", "--format=%H %gd %gs")
	all[" log"] = run(t, tree, "log", "--all", "--format=%H %s")
	all[" origin"] = run(t, tree, "remote", "-v")
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// saved makes a checkpoint, which has to be new, and checks that nothing of the session's repository was changed.
func saved(t *testing.T, m *workspace.Mirrors, p workspace.Place) (commit string, leftOut []string) {
	t.Helper()
	before := state(t, p.Tree)
	checkpoint, err := m.Checkpoint(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if checkpoint == nil {
		t.Fatal("nothing was saved")
	}
	if change := cmp.Diff(before, state(t, p.Tree)); change != "" {
		t.Errorf("the repository was changed: %s", change)
	}
	return checkpoint.Commit, checkpoint.LeftOut
}

// restored makes a tree elsewhere, which has to be as the one that was saved.
func restored(t *testing.T, m *workspace.Mirrors, p workspace.Place) workspace.Place {
	t.Helper()
	want := picture(t, p.Tree)
	other := elsewhere(t, p)
	checkpoint, err := m.Restore(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if checkpoint == nil {
		t.Fatal("there is no checkpoint")
	}
	if change := cmp.Diff(want, picture(t, other.Tree)); change != "" {
		t.Errorf("the restored tree differs: %s", change)
	}
	if again, err := m.Checkpoint(t.Context(), other); err != nil || again != nil {
		t.Errorf("a checkpoint of what was just restored: %+v, %v", again, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(other.Tree)); err != nil || len(entries) != 2 {
		t.Errorf("beside the tree: %v, %v", entries, err)
	}
	return other
}

func prepared(t *testing.T, m *workspace.Mirrors, p workspace.Place) (base string) {
	t.Helper()
	base, err := m.Prepare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return base
}

func TestCheckpointAndRestore(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	saved(t, m, p)
	if again, err := m.Checkpoint(t.Context(), p); err != nil || again != nil {
		t.Fatalf("nothing has changed: %+v, %v", again, err)
	}
	restored(t, m, p)

	at := func(name string) string { return filepath.Join(p.Tree, name) }
	write(t, at("committed"), "in a commit\n")
	run(t, p.Tree, "add", "--all")
	run(t, p.Tree, "commit", "--quiet", "-m", "work")
	run(t, p.Tree, "tag", "-a", "-m", "annotated", "mine")
	run(t, p.Tree, "tag", "light")
	for _, text := range []string{"first", "second"} {
		write(t, at("one"), text)
		run(t, p.Tree, "stash", "push", "--quiet", "-m", text)
	}
	run(t, p.Tree, "branch", "other", "HEAD~1")
	write(t, at("staged"), "staged\n")
	write(t, at("both"), "staged\n")
	run(t, p.Tree, "add", "staged", "both")
	write(t, at("both"), "and changed\n")
	write(t, at("untracked é"), "new\n")
	write(t, at(".gitignore"), "*.o\n")
	write(t, at("x.o"), "ignored")
	write(t, at("y.o"), "ignored but staged")
	run(t, p.Tree, "add", "--force", "y.o")
	mkdir(t, at("empty/one"), at("empty/two"), at("dir"))
	write(t, at("dir/secret"), "private")
	write(t, at("dir/run"), "#!/bin/sh\n")
	link(t, "/etc/passwd", at("link"))
	link(t, "dir", at("dirlink"))
	for name, mode := range map[string]os.FileMode{"dir/secret": 0o600, "dir/run": 0o755, "dir": 0o700, "empty/one": 0o711, "staged": 0o664} {
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(at("two")); err != nil {
		t.Fatal(err)
	}
	_, leftOut := saved(t, m, p)
	if len(leftOut) > 0 {
		t.Error(leftOut)
	}
	if err := os.Remove(at("x.o")); err != nil { // ignored files are not kept
		t.Fatal(err)
	}
	if err := os.RemoveAll(from); err != nil { // a restore does not need the origin
		t.Fatal(err)
	}
	restored(t, m, restored(t, m, p))
}

func TestCheckpointWithoutARepository(t *testing.T) {
	m, p := mirrors(t), place(t, "")
	if base := prepared(t, m, p); base != "" {
		t.Error(base)
	}
	if nothing, err := m.Restore(t.Context(), elsewhere(t, p)); nothing != nil || err != nil {
		t.Error(nothing, err)
	}
	write(t, filepath.Join(p.Tree, "file"), "x")
	saved(t, m, p)
	other := restored(t, m, p)
	run(t, other.Tree, "add", "--all")
	run(t, other.Tree, "commit", "--quiet", "-m", "first")
	run(t, other.Tree, "checkout", "--quiet", "--detach")
	saved(t, m, other)
	restored(t, m, other)
}

// Files that git converts come back as they were on disk, though git would keep them otherwise.
func TestRestoreIsExactInSpiteOfAttributes(t *testing.T) {
	from, _ := origin(t)
	write(t, filepath.Join(from, ".gitattributes"), "*.bat text eol=crlf\n*.c ident\n*.txt text=auto\n")
	write(t, filepath.Join(from, "a.bat"), "one\r\ntwo\r\n")
	write(t, filepath.Join(from, "a.c"), "/* $Id$ */\n")
	run(t, from, "add", "--all")
	run(t, from, "commit", "--quiet", "-m", "attributes")
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	if text := read(t, filepath.Join(p.Tree, "a.bat")); !strings.Contains(text, "\r\n") {
		t.Fatalf("%q", text)
	}
	write(t, filepath.Join(p.Tree, "b.bat"), "unix\nlines\n")
	write(t, filepath.Join(p.Tree, "c.txt"), "both\nkinds\r\n")
	saved(t, m, p)
	restored(t, m, p)
}

// age makes a file as old as two days.
func age(t *testing.T, path string) {
	t.Helper()
	then := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

// What is broken in a session's repository is left out, and named; all else is saved.
func TestCheckpointOfABrokenRepository(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	base := prepared(t, m, p)
	var commits []string
	for _, name := range []string{"a", "b"} {
		write(t, filepath.Join(p.Tree, name), name)
		run(t, p.Tree, "add", "--all")
		run(t, p.Tree, "commit", "--quiet", "-m", name)
		commits = append(commits, run(t, p.Tree, "rev-parse", "HEAD"))
	}
	run(t, p.Tree, "branch", "whole", base)
	if err := os.Remove(filepath.Join(p.Tree, ".git", "objects", commits[0][:2], commits[0][2:])); err != nil {
		t.Fatal(err)
	}
	_, leftOut := saved(t, m, p)
	if len(leftOut) != 1 || leftOut[0] != "refs/heads/berth/01890a5d: parts of its history are not there; its files are" {
		t.Error(leftOut)
	}
	other := elsewhere(t, p)
	if _, err := m.Restore(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "one"} {
		if read(t, filepath.Join(other.Tree, name)) != read(t, filepath.Join(p.Tree, name)) {
			t.Errorf("%s differs", name)
		}
	}
	if whole := run(t, other.Tree, "rev-parse", "whole"); whole != base {
		t.Error(whole)
	}
	if again, err := m.Checkpoint(t.Context(), p); again != nil || err != nil {
		t.Errorf("nothing has changed: %+v, %v", again, err)
	}
	write(t, filepath.Join(p.Tree, "c"), "c")
	saved(t, m, p)
}

// Of a shallow clone the files come back.
func TestShallowRepositoryWithinTheTree(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	run(t, p.Tree, "-c", "protocol.file.allow=always", "clone", "--quiet", "--depth=1", "file://"+from, "dep")
	_, leftOut := saved(t, m, p)
	if len(leftOut) == 0 || !strings.HasPrefix(leftOut[0], "dep/refs/heads/main: parts of its history") {
		t.Error(leftOut)
	}
	other := elsewhere(t, p)
	if _, err := m.Restore(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if text := read(t, filepath.Join(other.Tree, "dep", "two")); text != "two\n" {
		t.Error(text)
	}
	if url := run(t, filepath.Join(other.Tree, "dep"), "remote", "get-url", "origin"); url != "file://"+from {
		t.Error(url)
	}
}
