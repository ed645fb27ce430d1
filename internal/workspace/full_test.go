package workspace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFull(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		fmt.Errorf("writing: %w", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}),
		fmt.Errorf("cannot: %w", &gitError{said: "hint: x\nfatal: write error: No space left on device\n", cause: errors.New("exit status 128")}),
		&gitError{said: "error: unable to write file: Disk quota exceeded", cause: errors.New("exit status 128")},
	} {
		if !Full(err) {
			t.Error(err)
		}
	}
	for _, err := range []error{nil, os.ErrPermission, &gitError{said: "fatal: no space in names", cause: errors.New("exit status 128")}} {
		if Full(err) {
			t.Error(err)
		}
	}
}

// What git says of a failure is why, and not what it hints at; that a program could not write any more is the fault of the one that read.
func TestAPipeTellsWhoFailed(t *testing.T) {
	t.Parallel()
	shell := func(script string) (git, []string) {
		return git{dir: "/", before: []string{"sh", "-c", script}}, []string{"--"}
	}
	writer, args := shell(`echo "hint: buy more" >&2; while echo something; do :; done`)
	reader, more := shell(`echo "fatal: write error: No space left on device" >&2; exit 1`)
	_, err := pipe(t.Context(), writer, args, reader, more)
	if err == nil || err.Error() != "write error: No space left on device" || !Full(err) {
		t.Error(err)
	}
	failed, args := shell(`echo "fatal: it is broken" >&2; exit 1`)
	reader, more = shell(`cat >/dev/null; echo "fatal: early end" >&2; exit 1`)
	if _, err := pipe(t.Context(), failed, args, reader, more); err == nil || err.Error() != "it is broken" {
		t.Error(err)
	}
	if err := (&gitError{said: "hint: only\nwarning: this\n", cause: errors.New("exit status 1")}); err.Error() != "exit status 1" {
		t.Error(err)
	}
}

// A pack that could not be stored leaves nothing behind, and one that could is as git makes it.
func TestAPackThatCannotBeStored(t *testing.T) {
	t.Parallel()
	m := NewMirrors(t.TempDir(), MirrorConfig{Temporary: t.TempDir()})
	r := &mirror{Mirrors: m, path: filepath.Join(m.Dir(), "x.git")}
	from := git{dir: "/", env: []string{"GIT_DIR=" + filepath.Join(t.TempDir(), "from")}}
	for _, dir := range []string{r.path, strings.TrimPrefix(from.env[0], "GIT_DIR=")} {
		if output, err := exec.Command("git", "init", "--quiet", "--bare", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
	maker := from
	maker.stdin = commitText(emptyTree(sha1Format), nil, "A <a@example.com>", "1700000000 +0000", "Work")
	commit, err := maker.line(t.Context(), "hash-object", "-t", "commit", "-w", "--stdin")
	if err != nil {
		t.Fatal(err)
	}
	from.stdin = commit + "\n"
	files := func() []string {
		names, err := filepath.Glob(filepath.Join(r.path, "objects", "pack", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	missing := from
	missing.stdin = strings.Repeat("1", 40) + "\n"
	if err := r.takePack(t.Context(), missing, commit); err == nil || len(files()) > 0 {
		t.Errorf("%v; left are %v", err, files())
	}
	if err := r.takePack(t.Context(), from, commit); err != nil || len(files()) != 2 {
		t.Errorf("%v; there are %v", err, files())
	}
	if kind, err := r.git().line(t.Context(), "cat-file", "-t", commit); err != nil || kind != "commit" {
		t.Error(kind, err)
	}
	if said, err := exec.Command("git", "-C", r.path, "verify-pack", "-v", files()[0]).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}
