package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"berth/internal/api"
)

// CloneTime is how long making a workspace may take.
const CloneTime = 10 * time.Minute

var errTooSlow = fmt.Errorf("it took longer than %v", CloneTime)

var commitID = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// Prepare makes the directory tree, which must not exist or be empty, a work tree of a source: cloned,
// with Ref checked out, on a new branch. It returns the commit that the branch starts from; base is empty
// if there is none yet. Without a repository the tree is an empty one of git's, on the branch main.
//
// Either tree is whole afterwards, or it is as it was. Errors are an *api.Error with the code
// clone_failed (or bad_request, see Source.Check), or wrap ctx's.
func Prepare(ctx context.Context, tree string, source Source, branch string) (base string, err error) {
	if err := source.Check(); err != nil {
		return "", err
	}
	if entries, err := os.ReadDir(tree); len(entries) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", failed("cannot make a workspace in %s: it is not an empty directory", tree)
	}
	// What is half done has another name, so that a crash leaves nothing that could be taken for whole.
	temporary, err := os.MkdirTemp(filepath.Dir(tree), ".new-"+filepath.Base(tree)+"-*")
	if err != nil {
		return "", failed("cannot make a workspace beside %s: %s", tree, reason(err))
	}
	defer os.RemoveAll(temporary)
	limited, cancel := context.WithTimeoutCause(ctx, CloneTime, errTooSlow)
	defer cancel()
	fresh := filepath.Join(temporary, "tree")
	if source.Repo == "" {
		_, err = git{dir: temporary}.run(limited, "init", "--quiet", "--template=", "--initial-branch=main", "--", fresh)
		if err != nil {
			err = explain(limited, "make an empty repository", err)
		}
	} else {
		base, err = clone(limited, fresh, source, branch)
	}
	if err != nil {
		return "", err
	}
	if err := os.Remove(tree); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", failed("cannot make a workspace in %s: %s", tree, reason(err))
	}
	if err := os.Rename(fresh, tree); err != nil {
		return "", failed("cannot make a workspace in %s: %v", tree, err)
	}
	return base, nil
}

// clone clones a source into tree, and switches to a new branch.
func clone(ctx context.Context, tree string, source Source, branch string) (base string, err error) {
	from, err := source.parse(nil)
	if err != nil {
		return "", err
	}
	what := "clone " + from.text
	// No hard links and no symbolic links of a local repository: only what its objects say.
	_, err = git{dir: filepath.Dir(tree), protocol: from.kind}.run(ctx, "clone", "--quiet", "--no-checkout", "--no-local",
		"--no-recurse-submodules", "--template=", "--origin=origin", "--", from.text, tree)
	if err != nil && from.kind == local && ctx.Err() == nil && !isRepository(from.text) {
		return "", notRepository(from.text)
	}
	if err != nil {
		return "", explain(ctx, what, err)
	}
	inside := git{dir: tree, protocol: from.kind}
	commit, err := resolve(ctx, inside, source.Ref)
	switch {
	case err != nil && ctx.Err() != nil:
		return "", explain(ctx, what, err)
	case err != nil && source.Ref != "":
		return "", failed("cannot clone %s: it has no branch, tag or commit %.80q; name one that it has, or leave the ref out", from.text, source.Ref)
	case err != nil: // an empty repository
		if _, err := inside.run(ctx, "symbolic-ref", "HEAD", "refs/heads/"+branch); err != nil {
			return "", explain(ctx, what, err)
		}
		return "", nil
	}
	if _, err := inside.run(ctx, "checkout", "--quiet", "--no-track", "-B", branch, commit, "--"); err != nil {
		return "", explain(ctx, "check out "+commit+" of "+from.text, err)
	}
	return commit, nil
}

// notRepository says what to name instead of a directory that is no repository: git says that it does not exist.
func notRepository(path string) error {
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if isRepository(dir) {
			return failed("cannot clone %s: it lies inside the repository %s; name that one", path, dir)
		}
	}
	return failed("cannot clone %s: it is no git repository; make it one with git init and a commit, or name another", path)
}

// isRepository reports whether a directory looks like a work tree or a bare repository (gitrepository-layout(5)).
func isRepository(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
		return true
	}
	for _, part := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
			return false
		}
	}
	return true
}

// resolve finds the commit that a ref names: as a branch of the origin, a tag, or a commit, which is
// fetched if no branch or tag led to it.
func resolve(ctx context.Context, repository git, ref string) (string, error) {
	if ref == "" {
		return repository.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}")
	}
	names := []string{"refs/remotes/origin/" + ref, "refs/tags/" + ref}
	if strings.HasPrefix(ref, "refs/") {
		names = append(names, ref, "refs/remotes/origin/"+strings.TrimPrefix(ref, "refs/heads/"))
	}
	if isHex(ref) {
		names = append(names, ref)
	}
	var commit string
	var err error
	for _, name := range names {
		commit, err = repository.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
		if err == nil {
			return commit, nil
		}
	}
	if !commitID.MatchString(ref) {
		return "", err
	}
	if _, err := repository.run(ctx, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "origin", ref); err != nil {
		return "", err
	}
	return repository.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
}

func isHex(text string) bool {
	return len(text) >= 4 && strings.Trim(text, "0123456789abcdefABCDEF") == ""
}

// hints say what to do about what git says.
var hints = []struct{ said, meaning, next string }{
	{"could not read Username", "it asks for a user's name and password, and there is nobody to ask", "use an SSH URL with a key that the agent's SSH agent holds, or a repository that needs no password"},
	{"could not read Password", "it asks for a password, and there is nobody to ask", "use an SSH URL with a key that the agent's SSH agent holds, or a repository that needs no password"},
	{"Permission denied (", "", "see that the agent's SSH agent holds a key that may read it"},
	{"Host key verification failed", "", "add the host's key to the agent's ~/.ssh/known_hosts"},
	{"dubious ownership", "it belongs to another user of the machine", "run the agent as that user, or name a URL"},
	{"Could not resolve host", "", "look at the name of the host, and at the agent's network"},
	{"No space left on device", "", "free some of the disk that sessions work on"},
}

// explain makes git's failure to do something an error for people. That it was told to stop is not one.
func explain(ctx context.Context, what string, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errTooSlow) {
		return failed("cannot %s: %v; try a smaller repository, or a nearer one", what, cause)
	} else if cause != nil {
		return fmt.Errorf("cannot %s: %w", what, ctx.Err())
	}
	failure := new(gitError)
	if errors.As(err, &failure) {
		for _, hint := range hints {
			if strings.Contains(failure.said, hint.said) {
				meaning := hint.meaning
				if meaning == "" {
					meaning = failure.reason()
				}
				return failed("cannot %s: %s; %s", what, meaning, hint.next)
			}
		}
	}
	return failed("cannot %s: %v; look at the address, and whether `git clone` can read it from the agent's machine", what, err)
}

func failed(format string, args ...any) error {
	return api.Errorf(api.CodeCloneFailed, format, args...)
}
