package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// clone is a git repository on this machine: the one around the current directory.
type clone struct{ git string }

// findClone finds it.
func findClone(ctx context.Context) (clone, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return clone{}, errors.New("git is not in PATH; install it, and run this again")
	}
	found := clone{program}
	if _, err := found.run(ctx, "rev-parse", "--git-dir"); err != nil {
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		return found, fmt.Errorf("no repository to pull into: %w; change to a clone of the session's repository, or `git init` one", err)
	}
	return found, nil
}

// run runs git, and returns what it writes. An error has git's own words.
func (g clone) run(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, g.git, args...)
	command.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
	command.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	command.Stderr = &said
	text, err := command.Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		if words := oneLine(said.String(), 500); words != "" {
			err = errors.New(words)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(text)), nil
}

// checkBranch says what is wrong with a branch's name.
func (g clone) checkBranch(ctx context.Context, name string) error {
	if _, err := g.run(ctx, "check-ref-format", "refs/heads/"+name); err != nil || strings.HasPrefix(name, "-") {
		return fmt.Errorf("--branch: %.80q is not a name that git allows for a branch", name)
	}
	return nil
}

// place makes a branch of a commit, or moves the branch forward to it.
func (g clone) place(ctx context.Context, branch, commit, session string, force bool) error {
	ref := "refs/heads/" + branch
	before, err := g.run(ctx, "rev-parse", "--verify", "--quiet", ref+"^{commit}")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		before = strings.Repeat("0", len(commit)) // there must not be one when it is made
	}
	if before == commit {
		return nil
	}
	if where := g.checkedOut(ctx, ref); where != "" {
		return fmt.Errorf("branch %s is checked out in %s and is not moved; take another with --branch NAME, or `git merge %s`", branch, where, commit)
	}
	told := "berth pull " + shortID(session)
	if err == nil && !force && g.lastMove(ctx, ref) != told {
		if _, apart := g.run(ctx, "merge-base", "--is-ancestor", before, commit); apart != nil {
			return fmt.Errorf("branch %s has commits that the session's work lacks (it is at %.10s, the work at %.10s); --branch NAME takes another one, --force moves it", branch, before, commit)
		}
	}
	if _, err := g.run(ctx, "update-ref", "--create-reflog", "-m", told, ref, commit, before); err != nil {
		return fmt.Errorf("branch %s cannot be made: %w; take another with --branch NAME", branch, err)
	}
	return nil
}

// lastMove is why a branch is where it is, as its reflog has it. A session's work that is not committed is a commit of
// its own, which the next checkpoint's replaces: nobody loses anything if the last to move the branch was a pull.
func (g clone) lastMove(ctx context.Context, ref string) string {
	why, err := g.run(ctx, "-c", "log.showSignature=false", "log", "--walk-reflogs", "-1", "--format=%gs", ref, "--")
	if err != nil {
		return ""
	}
	return why
}

// checkedOut is where a branch is checked out, be it one without a commit yet; empty if nowhere.
func (g clone) checkedOut(ctx context.Context, ref string) string {
	if where, err := g.run(ctx, "for-each-ref", "--format=%(worktreepath)", ref); err == nil && where != "" {
		return where
	}
	if head, err := g.run(ctx, "symbolic-ref", "--quiet", "HEAD"); err == nil && head == ref {
		return "this directory"
	}
	return ""
}

// next is what to type to have the work of a branch.
func (g clone) next(ctx context.Context, branch string) string {
	next := "`git switch " + branch + "`"
	if _, err := g.run(ctx, "merge-base", "HEAD", "refs/heads/"+branch); err == nil {
		next += " or `git merge " + branch + "`"
	}
	return next
}
