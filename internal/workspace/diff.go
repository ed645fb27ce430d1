package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// Diff returns everything in a work tree that differs from the commit base, as git prints it: committed or
// not, untracked files included, ignored ones left out, renames found, binary files only named. An empty
// base is the empty tree. Of submodules and repositories within the tree only the commit counts.
//
// Nothing that a session can put into its repository is run, and nothing of it is changed: git works in a
// repository of our own that borrows the objects of the other one.
// Errors are an *api.Error with the code workspace_lost if the repository, or base, is gone.
func Diff(ctx context.Context, tree, base string) (patch string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, diffTime, errDiffTooSlow)
	defer cancel()
	outside, err := borrow(ctx, tree, base)
	if err != nil {
		return "", err
	}
	defer outside.remove()
	patch, err = outside.diff(ctx, base)
	if cause := context.Cause(ctx); errors.Is(cause, errDiffTooSlow) {
		return "", fmt.Errorf("cannot tell what changed in %s: %w", tree, cause)
	}
	if err != nil {
		return "", fmt.Errorf("cannot tell what changed in %s: %w", tree, err)
	}
	return patch, nil
}

// outside is a repository of our own with a session's objects and work tree, and nothing else of it.
type outside struct {
	git
	temporary string
	tree      string
}

func (o *outside) remove() { _ = os.RemoveAll(o.temporary) } // of a directory for temporary files

// borrow makes one.
func borrow(ctx context.Context, tree, base string) (*outside, error) {
	if base != "" && !commitID.MatchString(base) {
		return nil, fmt.Errorf("cannot tell what changed in %s: its base %.80q is not a commit", tree, base)
	}
	objects, err := objectStore(tree)
	if err != nil {
		return nil, err
	}
	temporary, err := os.MkdirTemp("", "berth-diff-*")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what changed in %s: %w", tree, err)
	}
	o := &outside{temporary: temporary, tree: tree, git: git{dir: temporary}}
	format := "sha1"
	if len(base) == 64 {
		format = "sha256"
	}
	repository := filepath.Join(temporary, "git")
	_, err = o.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+format, "--", repository)
	if err == nil {
		alternates := filepath.Join(repository, "objects", "info", "alternates")
		err = errors.Join(os.MkdirAll(filepath.Dir(alternates), 0o700), os.WriteFile(alternates, []byte(objects+"\n"), 0o600))
	}
	if err != nil {
		o.remove()
		return nil, fmt.Errorf("cannot tell what changed in %s: %w", tree, err)
	}
	o.dir = tree
	o.env = []string{"GIT_DIR=" + repository, "GIT_WORK_TREE=" + tree, "GIT_INDEX_FILE=" + filepath.Join(temporary, "index")}
	return o, nil
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

// diff compares base with what the work tree holds.
func (o *outside) diff(ctx context.Context, base string) (string, error) {
	before, submodules, err := o.base(ctx, base)
	if err != nil {
		return "", err
	}
	after, err := o.snapshot(ctx, submodules)
	if err != nil {
		return "", err
	}
	differ := o.git
	differ.most = MaxPatch
	patch, err := differ.run(ctx, "diff-tree", "-r", "-p", "-M", "--no-ext-diff", "--no-textconv",
		"--submodule=short", "--src-prefix=a/", "--dst-prefix=b/", before, after)
	if errors.Is(err, errTooLong) {
		whole := patch[:strings.LastIndexByte(patch, '\n')+1]
		return whole + fmt.Sprintf("# The patch goes on: only the first %d MiB are shown. Look at %s for the rest.\n", MaxPatch>>20, o.tree), nil
	}
	return patch, err
}

// base reads base into the index, and returns its tree and its submodules, as `update-index --index-info`
// takes them, by path.
//
// Submodules are taken out of the index again: git would run `git status` in each to see whether its files
// changed, with the configuration that the session gave it.
func (o *outside) base(ctx context.Context, base string) (tree string, submodules map[string]string, err error) {
	if base == "" {
		if _, err := o.run(ctx, "read-tree", "--empty"); err != nil {
			return "", nil, err
		}
		tree, err = o.line(ctx, "write-tree")
		return tree, nil, err
	}
	tree, err = o.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", base+"^{tree}")
	if err != nil {
		if ctx.Err() != nil {
			return "", nil, err
		}
		return "", nil, lost("the repository does not have the commit %s any more, from which the session started: nobody can tell what it changed", base)
	}
	if _, err := o.run(ctx, "read-tree", tree); err != nil {
		return "", nil, err
	}
	lister := o.git
	lister.most = 256 << 20
	listing, err := lister.run(ctx, "ls-files", "--stage", "-z")
	if err != nil {
		return "", nil, err
	}
	submodules = map[string]string{}
	var removals strings.Builder
	for entry := range strings.SplitSeq(listing, "\x00") {
		about, path, found := strings.Cut(entry, "\t")
		if found && strings.HasPrefix(about, "160000 ") {
			submodules[path] = entry
			removals.WriteString("0 " + strings.Repeat("0", len(tree)) + "\t" + path + "\x00")
		}
	}
	if len(submodules) > 0 {
		err = o.index(ctx, removals.String())
	}
	return tree, submodules, err
}

// snapshot makes a tree of the files in the work tree. What cannot be read is left out: a session that goes
// on meanwhile removes files, and may have repositories without a commit.
func (o *outside) snapshot(ctx context.Context, submodules map[string]string) (string, error) {
	_, err := o.run(ctx, "add", "--all", "--ignore-errors", "--", ".")
	if failure := new(gitError); err != nil && (!errors.As(err, &failure) || ctx.Err() != nil) {
		return "", err
	}
	// A submodule that was not cloned is an empty directory, of which git keeps nothing.
	var kept strings.Builder
	for path, entry := range submodules {
		if info, err := os.Lstat(filepath.Join(o.tree, path)); err != nil || !info.IsDir() {
			continue
		}
		listed, err := o.run(ctx, "--literal-pathspecs", "ls-files", "-z", "--", path)
		if err != nil {
			return "", err
		}
		if listed == "" {
			kept.WriteString(entry + "\x00")
		}
	}
	if kept.Len() > 0 {
		if err := o.index(ctx, kept.String()); err != nil {
			return "", err
		}
	}
	return o.line(ctx, "write-tree")
}

// index changes entries of the index, given as `git ls-files --stage -z` prints them.
func (o *outside) index(ctx context.Context, entries string) error {
	changer := o.git
	changer.stdin = entries
	_, err := changer.run(ctx, "update-index", "-z", "--index-info")
	return err
}

func lost(format string, args ...any) error {
	return api.Errorf(api.CodeWorkspaceLost, format, args...)
}
