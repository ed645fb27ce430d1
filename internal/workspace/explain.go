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
	{"Failed to traverse parents", "parts of its history are missing, as in a shallow clone", "run `git fetch --unshallow` in it, or name the repository that it was cloned from"},
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
	if Full(err) {
		return failed("cannot %s: %v; make room on that disk", what, err)
	}
	return failed("cannot %s: %v; look at the address, and whether `git clone` can read it from the agent's machine", what, err)
}

func failed(format string, args ...any) error {
	return api.Errorf(api.CodeCloneFailed, format, args...)
}
