package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
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

// A disk that is full is no fault of the address.
func TestWhereThereIsNoRoomIsSaid(t *testing.T) {
	t.Parallel()
	full := &os.PathError{Op: "write", Path: "/volume/repos/x", Err: syscall.ENOSPC}
	if err := explain(t.Context(), "clone x", full); !strings.Contains(err.Error(), full.Error()+"; make room") {
		t.Error(err)
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

// A large file that changes all the time does not fill the disk: neither as it was before, nor what git leaves of one that changed
// while it was read.
func TestScratchIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := NewMirrors(filepath.Join(dir, "repos"), MirrorConfig{Temporary: t.TempDir()})
	m.slack = 4 << 20
	place := Place{ID: "0190a1b2-0000-7000-8000-000000000001", Branch: "main", Tree: filepath.Join(dir, "w", "tree"), Scratch: filepath.Join(dir, "w", "scratch")}
	for _, name := range []string{"w", "o"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Prepare(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	noise := rand.New(rand.NewPCG(1, 2))
	half := filepath.Join(place.Scratch, "git", "objects", "pack", "tmp_pack_half")
	var last []byte
	for range 16 {
		last = make([]byte, 1<<20)
		for i := range last {
			last[i] = byte(noise.Uint32())
		}
		if err := errors.Join(os.WriteFile(filepath.Join(place.Tree, "large"), last, 0o600), os.WriteFile(half, last, 0o600)); err != nil {
			t.Fatal(err)
		}
		if saved, err := m.Checkpoint(t.Context(), place); err != nil || saved == nil || len(saved.LeftOut) > 0 {
			t.Fatal(saved, err)
		}
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("half of a pack was left")
	}
	var size int64
	err := filepath.WalkDir(place.Scratch, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			info, err := entry.Info()
			if err == nil {
				size += info.Size()
			}
		}
		return err
	})
	if err != nil || size > 8<<20 {
		t.Errorf("scratch has %d bytes: %v", size, err)
	}
	other := place
	other.Tree, other.Scratch = filepath.Join(dir, "o", "tree"), filepath.Join(dir, "o", "scratch")
	if _, err := m.Restore(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(other.Tree, "large")); err != nil || !bytes.Equal(text, last) {
		t.Errorf("restored are %d bytes: %v", len(text), err)
	}
}
