package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fresh is a tree that is being made, under a name that nobody takes for a whole one, so that a crash leaves
// nothing that could be. Nobody but us can enter the directory around it.
type fresh struct {
	place     Place
	temporary string
	path      string
	inner     bool // a repository within it
}

// newTree begins to make a place's tree.
func newTree(place Place) (*fresh, error) {
	tree := place.Tree
	if entries, err := os.ReadDir(tree); len(entries) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, failed("cannot make a workspace in %s: it is not an empty directory", tree)
	}
	if strings.ContainsAny(tree, "\n") {
		return nil, failed("cannot make a workspace in %q: its name has characters that git does not take", tree)
	}
	prefix := ".new-" + filepath.Base(tree) + "-"
	for _, dir := range namedIn(filepath.Dir(tree), prefix, "") { // of somebody who was killed: a session has one owner at a time
		_ = os.RemoveAll(dir) // the next one tries again
	}
	temporary, err := os.MkdirTemp(filepath.Dir(tree), prefix)
	if err != nil {
		return nil, failed("cannot make a workspace beside %s: %s", tree, reason(err))
	}
	return &fresh{place: place, temporary: temporary, path: filepath.Join(temporary, "tree")}, nil
}

func (f *fresh) remove() { _ = os.RemoveAll(f.temporary) } // what is left is removed by the next one

// rawIndex is the index of the files as they are on disk, if the tree was restored.
func (f *fresh) rawIndex() string { return filepath.Join(f.temporary, "index") }

// keepRaw keeps a copy of such an index.
func (f *fresh) keepRaw(index string) error {
	if f.inner {
		return nil
	}
	return copyKeepingTime(index, f.rawIndex())
}

// again begins anew.
func (f *fresh) again() error { return os.RemoveAll(f.path) }

// git works in the tree, whose repository is still as we made it. It is told where that is: by itself it would refuse one
// that belongs to the session's user already.
func (f *fresh) git() git {
	return git{dir: f.path, config: []string{"core.fsync=none"}, env: []string{"GIT_DIR=" + filepath.Join(f.path, ".git"), "GIT_WORK_TREE=" + f.path}}
}

// init makes it an empty repository on a branch, with the remote origin if there is one.
func (f *fresh) init(ctx context.Context, format format, branch, origin string) error {
	_, err := git{dir: f.temporary}.run(ctx, "init", "--quiet", "--template=", "--object-format="+string(format), "--initial-branch="+branch, "--", f.path)
	if err != nil || origin == "" {
		return err
	}
	_, err = f.git().run(ctx, "remote", "add", "--", "origin", origin)
	return err
}

// ref is a ref of a repository: an object's name, or another ref's.
type ref struct{ name, oid, symbolic string }

// writeRefs gives it refs, sorted by name, in one file (git-pack-refs(1)); a file each would be slow for many.
func (f *fresh) writeRefs(refs []ref) error {
	var packed strings.Builder
	for _, ref := range refs {
		if ref.symbolic == "" {
			packed.WriteString(ref.oid + " " + ref.name + "\n")
			continue
		}
		path := filepath.Join(f.path, ".git", filepath.FromSlash(ref.name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("ref: "+ref.symbolic+"\n"), 0o600)); err != nil {
			return err
		}
	}
	if packed.Len() == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(f.path, ".git", "packed-refs"), []byte(packed.String()), 0o600)
}

// handOver gives the tree its name, and to the session's user.
func (f *fresh) handOver(ctx context.Context, base string) error {
	if err := f.give(ctx); err != nil {
		return failed("cannot give %s to the session's user: %v", f.place.Tree, err)
	}
	if f.place.Scratch != "" {
		if err := f.scratch(ctx, base); err != nil {
			return failed("cannot make a workspace beside %s: %v", f.place.Tree, err)
		}
	}
	if err := os.Remove(f.place.Tree); err != nil && !errors.Is(err, os.ErrNotExist) {
		return failed("cannot make a workspace in %s: %s", f.place.Tree, reason(err))
	}
	if err := os.Rename(f.path, f.place.Tree); err != nil {
		return failed("cannot make a workspace in %s: %s", f.place.Tree, reason(err))
	}
	return nil
}

// own gives a path to the session's user.
func (p Place) own(path string) error {
	if p.Own == nil {
		return nil
	}
	if err := p.Own(path); err != nil {
		return fmt.Errorf("handing over %s: %w", path, err)
	}
	return nil
}

// give gives the tree to the session's user. Git takes every file for changed that has a new owner, so the index
// has to look at them now: as long as nobody else can reach the tree.
func (f *fresh) give(ctx context.Context) error {
	if f.place.Own == nil {
		return nil
	}
	if err := f.place.own(f.path); err != nil {
		return err
	}
	gitDir := filepath.Join(f.path, ".git")
	index := filepath.Join(gitDir, "index")
	for _, one := range []string{index, f.rawIndex()} {
		if _, err := os.Lstat(one); err != nil {
			continue
		}
		g := withIndex(f.git(), one)
		g.env = append(g.env, "GIT_DIR="+gitDir, "GIT_WORK_TREE="+f.path)
		if _, err := g.run(ctx, "update-index", "-q", "--refresh"); fatal(err) {
			return err
		}
	}
	if _, err := os.Lstat(index); err != nil {
		return nil //nolint:nilerr // nothing was ever staged
	}
	return f.place.own(index)
}
