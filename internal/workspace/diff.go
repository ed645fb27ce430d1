package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/internal/api"
)

const (
	// MaxPatch is the size in bytes of the longest patch; a longer one is cut off, and ends with a note.
	MaxPatch = 32 << 20

	// diffTime is how long a diff may take.
	diffTime = 2 * time.Minute
)

var errDiffTooSlow = fmt.Errorf("it took longer than %v; leave large files out with .gitignore", diffTime)

// Diff returns everything in a place's tree that differs from the commit base, as git prints it: committed or not,
// untracked files included, ignored ones left out, renames found, binary files in a form that git can apply. An
// empty base is the empty tree. It is made from the last checkpoint if there is no tree. Errors are an *api.Error
// with the code workspace_lost if there is neither, or base is gone.
func (m *Mirrors) Diff(ctx context.Context, place Place, base string) (patch string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, diffTime, errDiffTooSlow)
	defer cancel()
	r, err := m.mirror(place.Source)
	if err != nil {
		return "", err
	}
	if base != "" && !commitID.MatchString(base) {
		return "", fmt.Errorf("cannot tell what changed in %s: its base %.80q is not a commit", place.Tree, base)
	}
	var g git
	var tree string
	var nested []string
	if _, err := os.Lstat(place.Tree); err == nil {
		g, tree, nested, err = r.treeNow(ctx, place)
		if err != nil {
			return "", notTold(place, err)
		}
	} else {
		if err := sessionID.check(place.ID); err != nil {
			return "", err
		}
		commit, err := r.sessionRef(ctx, "refs/berth/"+place.ID)
		if err != nil {
			return "", notTold(place, err)
		}
		if commit == "" {
			return "", lost("the session's files in %s are gone, and there is no checkpoint of them: nobody can tell what it changed", place.Tree)
		}
		about, err := r.readAbout(ctx, commit)
		if err != nil {
			return "", notTold(place, err)
		}
		g, tree, nested = r.bare(commit), commit+":tree", nestedPaths(about.Nested)
	}
	patch, err = patchOf(ctx, g, base, tree, place.Tree)
	if err != nil {
		return "", notTold(place, err)
	}
	for _, path := range nested {
		patch += fmt.Sprintf("# %s is a repository of its own, or a submodule: what changed in it is not in this patch.\n", oneLine(path))
	}
	return patch, nil
}

func notTold(place Place, err error) error {
	if coded := new(api.Error); errors.As(err, &coded) {
		return err
	}
	return fmt.Errorf("cannot tell what changed in %s: %w", place.Tree, err)
}

// treeNow returns the tree of a place's files as git would commit them, where it is, and which repositories lie within.
func (r *mirror) treeNow(ctx context.Context, place Place) (in git, tree string, nested []string, err error) {
	unlock, err := r.lockPlace(ctx, place.Scratch)
	if err != nil {
		return git{}, "", nil, err
	}
	defer unlock()
	s := openScratch(place)
	defer s.unplug(ctx)()
	s.listed = r.listings.begin()
	defer s.listed.done()
	if s.there() {
		tree, nested, err = s.now(ctx)
		if err == nil || final(ctx, err) {
			return s.git(), tree, nested, err
		}
	}
	if err := r.newScratch(ctx, s); err != nil {
		return git{}, "", nil, err
	}
	tree, nested, err = s.now(ctx)
	return s.git(), tree, nested, err
}

func (s *scratch) now(ctx context.Context) (tree string, nested []string, err error) {
	root, err := openTree(s.place.Tree)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = root.Close() }() // of a directory
	if _, err := objectStore(s.place.Tree); err != nil {
		return "", nil, err
	}
	s.listed.again()
	s.findObjects()
	index := ""
	found, err := s.files(ctx, root, s.stagedMeanwhile(ctx, &captured{}, &index))
	if err != nil {
		return "", nil, err
	}
	for _, dir := range found.nested {
		nested = append(nested, strings.ToValidUTF8(dir, "?")+"/")
	}
	return found.asGit, nested, nil
}

// patchOf compares a commit with a tree.
func patchOf(ctx context.Context, g git, base, tree, where string) (string, error) {
	before := base + "^{tree}"
	if base == "" {
		format, err := g.line(ctx, "rev-parse", "--show-object-format")
		if err != nil {
			return "", err
		}
		before = emptyTree(sha(format))
	} else if _, err := g.run(ctx, "cat-file", "-e", before); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		return "", lost("the repository does not have the commit %s any more, from which the session started: nobody can tell what it changed", base)
	}
	g.most = MaxPatch
	// With a work tree git would read what .gitmodules there says.
	g.inside = ""
	g.env = slices.DeleteFunc(slices.Clone(g.env), func(one string) bool { return strings.HasPrefix(one, "GIT_WORK_TREE=") })
	patch, err := g.run(ctx, "diff-tree", "-r", "-p", "-M", "--binary", "--no-ext-diff", "--no-textconv",
		"--submodule=short", "--src-prefix=a/", "--dst-prefix=b/", before, tree)
	if errors.Is(err, errTooLong) {
		whole := patch[:strings.LastIndexByte(patch, '\n')+1]
		return whole + fmt.Sprintf("# The patch goes on: only the first %d MiB are shown. Look at %s for the rest.\n", MaxPatch>>20, where), nil
	}
	return patch, err
}

// objectStore finds the objects of the repository in tree. It follows no link, and no .git file: a session
// could have them lead anywhere.
func objectStore(tree string) (string, error) {
	if strings.ContainsAny(tree, "\n\"") { // the file of alternates has no way to say it
		return "", fmt.Errorf("cannot tell what changed in %q: its name has characters that git does not take", tree)
	}
	objects := tree
	for _, name := range []string{".", ".git", "objects"} {
		objects = filepath.Join(objects, name)
		info, err := os.Lstat(objects)
		if err != nil {
			return "", lost("the session has no git repository in %s any more (%s: %s): nobody can tell what it changed", tree, objects, reason(err))
		}
		if !info.IsDir() {
			return "", lost("the git repository in %s cannot be used, because %s is not a directory: nobody can tell what the session changed", tree, objects)
		}
	}
	return objects, nil
}

func lost(format string, args ...any) error {
	return api.Errorf(api.CodeWorkspaceLost, format, args...)
}
