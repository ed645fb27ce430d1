package workspace_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/workspace"
)

// fifo puts a pipe, to which nobody writes, in a file's place.
func fifo(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Dir(path))
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// soon fails a test in which something waits for what never comes.
func soon(t *testing.T, p workspace.Place, do func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); do(ctx) }()
	select {
	case <-done:
	case <-time.After(100 * time.Second):
		t.Fatalf("nobody ends what waits in %s", p.Tree)
	}
}

// A pipe, wherever a session puts it, holds nobody up, and costs no more of a checkpoint than itself.
func TestAPipeCostsNoCheckpoint(t *testing.T) {
	for name, test := range map[string]struct {
		put  func(t *testing.T, p workspace.Place)
		said string
	}{
		"a new one": {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, "pipe")) }, ""},
		"a socket": {func(t *testing.T, p workspace.Place) {
			t.Chdir(p.Tree) // a socket's name is short
			listener, err := net.Listen("unix", "socket")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
		}, ""},
		"instead of a file": {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, "one")) }, "one (0 MiB): it is a pipe, a socket or a device; the checkpoint has it as it was before"},
		"HEAD":              {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, ".git", "HEAD")) }, "the branch that it is on: .git/HEAD cannot be read"},
		"packed-refs":       {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, ".git", "packed-refs")) }, "branches and tags: .git/packed-refs cannot be read"},
		"the index":         {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, ".git", "index")) }, "what is staged: the index is no file"},
		"the configuration": {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, ".git", "config")) }, ""},
		"the refs":          {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, ".git", "refs")) }, ""},
		"a ref":             {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, ".git", "refs", "heads", "pipe")) }, ""},
		"packs within": {func(t *testing.T, p workspace.Place) {
			run(t, p.Tree, "init", "--quiet", "within")
			fifo(t, filepath.Join(p.Tree, "within", ".git", "objects", "pack"))
		}, ""},
		"what is ignored": {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, "d", ".gitignore")) }, ""},
		"attributes":      {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Tree, ".gitattributes")) }, ""},
		"other objects": {func(t *testing.T, p workspace.Place) {
			fifo(t, filepath.Join(p.Tree, ".git", "objects", "info", "alternates"))
		}, ""},
		"a commit": {func(t *testing.T, p workspace.Place) {
			run(t, p.Tree, "commit", "--quiet", "--allow-empty", "-m", "made")
			made := run(t, p.Tree, "rev-parse", "HEAD")
			fifo(t, filepath.Join(p.Tree, ".git", "objects", made[:2], made[2:]))
		}, "refs/heads/"},
		"scratch": {func(t *testing.T, p workspace.Place) { fifo(t, filepath.Join(p.Scratch, "git", "objects", "17")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			from, _ := origin(t)
			m, p := mirrors(t), place(t, from)
			prepared(t, m, p)
			test.put(t, p)
			write(t, filepath.Join(p.Tree, "work"), "work")
			soon(t, p, func(ctx context.Context) {
				made, err := m.Checkpoint(ctx, p)
				if err != nil || made == nil || !strings.Contains(strings.Join(made.LeftOut, "\n"), test.said) || test.said == "" && len(made.LeftOut) > 0 {
					t.Errorf("%+v, %v", made, err)
				}
				to := elsewhere(t, p)
				if _, err := m.Restore(ctx, to); err != nil {
					t.Error(err)
				}
				if text := read(t, filepath.Join(to.Tree, "work")); text != "work" {
					t.Error(text)
				}
			})
		})
	}
}

// A process of the session's waits at a pipe of its own for another one. A checkpoint that takes long is not the other one.
func TestAPipeOfTheSessionsOwnIsLeftAlone(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	own := filepath.Join(p.Tree, "own")
	fifo(t, own)
	fifo(t, filepath.Join(p.Tree, "d", ".gitignore")) // git waits at it until it is freed
	opened := make(chan error, 1)
	go func() {
		file, err := os.Open(own)
		if err == nil {
			err = file.Close()
		}
		opened <- err
	}()
	soon(t, p, func(ctx context.Context) {
		if _, err := m.Checkpoint(ctx, p); err != nil {
			t.Error(err)
		}
	})
	select {
	case err := <-opened:
		t.Errorf("it went on without the other one: %v", err)
		return
	default:
	}
	other, err := os.OpenFile(own, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }() // nothing was written
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// What lies in repositories within the tree is on no branch and in no patch: whoever looks there is told.
func TestRepositoriesWithinTheTreeAreNamed(t *testing.T) {
	from, _ := bareOrigin(t)
	m, p := mirrors(t), place(t, from)
	base := prepared(t, m, p)
	run(t, p.Tree, "init", "--quiet", "vendor/mine")
	write(t, filepath.Join(p.Tree, "vendor", "mine", "file"), "work")
	made, err := m.Checkpoint(t.Context(), p)
	if err != nil || len(made.Nested) != 1 || made.Nested[0] != "vendor/mine/" {
		t.Fatalf("%+v, %v", made, err)
	}
	named := func(text string, err error) {
		t.Helper()
		if err != nil || !strings.Contains(text, "# vendor/mine/ is a repository of its own") {
			t.Errorf("%q, %v", text, err)
		}
	}
	named(m.Diff(t.Context(), p, base))
	gone := p
	gone.Tree = filepath.Join(t.TempDir(), "gone")
	named(m.Diff(t.Context(), gone, base))
	request := workspace.Request{Title: "A title", Base: base}
	alone := m.Deliver(t.Context(), p, request)
	if alone.Commit != "" || alone.Problem != "" || !strings.Contains(alone.Note, "vendor/mine/") {
		t.Errorf("%+v", alone)
	}
	err = m.Bundle(t.Context(), p.ID, p.Source, p.Branch, base, false, &strings.Builder{})
	if said, ok := err.(*api.Error); !ok || said.Code != api.CodeNotFound || !strings.Contains(said.Message, "vendor/mine/") { //nolint:errorlint // it is not wrapped
		t.Error(err)
	}
	write(t, filepath.Join(p.Tree, "file"), "work")
	saved(t, m, p)
	if both := m.Deliver(t.Context(), p, request); both.Commit == "" || both.Problem != "" || both.Note != alone.Note {
		t.Errorf("%+v", both)
	}
}

// trap has git run a program for each file that it adds, and be content with what comes of it.
func trap(t *testing.T, gitDir, evil string) {
	t.Helper()
	config := read(t, filepath.Join(gitDir, "config"))
	write(t, filepath.Join(gitDir, "config"), config+"[filter \"evil\"]\n\tclean = "+evil+"\n\tsmudge = "+evil+"\n[diff \"evil\"]\n\ttextconv = "+evil+"\n")
}

// A session can write what it likes into our repositories beside its own; nothing of that runs when it has ended.
func TestScratchRunsNothing(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, dir, evil string){
		"its configuration": func(t *testing.T, dir, evil string) {
			for _, twin := range []string{"git", "as-git"} {
				trap(t, filepath.Join(dir, twin), evil)
			}
		},
		"another one's": func(t *testing.T, dir, evil string) {
			other := t.TempDir()
			run(t, other, "init", "--quiet", "--bare", ".")
			trap(t, other, evil)
			for _, twin := range []string{"git", "as-git"} {
				write(t, filepath.Join(dir, twin, "commondir"), other+"\n")
			}
		},
		"a link": func(t *testing.T, dir, evil string) {
			for _, twin := range []string{"git", "as-git"} {
				other := filepath.Join(t.TempDir(), "other")
				if err := os.Rename(filepath.Join(dir, twin), other); err != nil {
					t.Fatal(err)
				}
				trap(t, other, evil)
				link(t, other, filepath.Join(dir, twin))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, _ := origin(t)
			m, p := mirrors(t), place(t, from)
			base := prepared(t, m, p)
			evil, trace := canary(t)
			nested := filepath.Join(p.Tree, "nested")
			mkdir(t, nested)
			run(t, nested, "init", "--quiet")
			write(t, filepath.Join(nested, "file"), "x")
			write(t, filepath.Join(p.Tree, "file"), "x")
			saved(t, m, p)
			put(t, p.Scratch, evil)
			inner, err := filepath.Glob(filepath.Join(p.Scratch, "nested", "*"))
			if err != nil || len(inner) != 1 {
				t.Fatal(inner, err)
			}
			put(t, inner[0], evil)
			for _, dir := range []string{p.Tree, nested} {
				write(t, filepath.Join(dir, ".gitattributes"), "* filter=evil diff=evil\n")
				write(t, filepath.Join(dir, "more"), "more\n")
			}
			if patch, err := m.Diff(t.Context(), p, base); err != nil || !strings.Contains(patch, "+more\n") {
				t.Errorf("%q, %v", patch, err)
			}
			saved(t, m, p)
			put(t, p.Scratch, evil)
			write(t, filepath.Join(p.Tree, "more"), "again\n")
			saved(t, m, p)
			if text, err := os.ReadFile(trace); err == nil {
				t.Errorf("it ran %s", text)
			}
			to := elsewhere(t, p)
			if _, err := m.Restore(t.Context(), to); err != nil {
				t.Error(err)
			}
			if text := read(t, filepath.Join(to.Tree, "nested", "more")); text != "more\n" {
				t.Error(text)
			}
		})
	}
}

// Of submodules and of files in LFS the pointers are kept: nothing is asked for what they point to.
func TestPointersAreKept(t *testing.T) {
	module, commits := origin(t)
	from, _ := bareOrigin(t)
	seed := t.TempDir()
	pointer := "version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("4d", 32) + "\nsize 12345\n"
	run(t, seed, "clone", "--quiet", from, "seed")
	seed = filepath.Join(seed, "seed")
	write(t, filepath.Join(seed, ".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n")
	write(t, filepath.Join(seed, "large.bin"), pointer)
	run(t, seed, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", module, "lib")
	run(t, seed, "add", "--all")
	run(t, seed, "commit", "--quiet", "-m", "pointers")
	run(t, seed, "push", "--quiet", "origin", "HEAD")
	m, p := mirrors(t), place(t, from)
	base := prepared(t, m, p)
	if text := read(t, filepath.Join(p.Tree, "large.bin")); text != pointer {
		t.Errorf("%q", text)
	}
	changed := strings.Replace(pointer, "12345", "54321", 1)
	write(t, filepath.Join(p.Tree, "large.bin"), changed)
	run(t, p.Tree, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
	run(t, filepath.Join(p.Tree, "lib"), "checkout", "--quiet", commits["one"])
	run(t, p.Tree, "add", "lib")
	run(t, p.Tree, "commit", "--quiet", "-m", "an older one")
	_, leftOut := saved(t, m, p)
	if len(leftOut) != 1 || !strings.HasPrefix(leftOut[0], "lib/: it is a submodule") {
		t.Error(leftOut)
	}
	patch, err := m.Diff(t.Context(), p, base)
	if err != nil || !strings.Contains(patch, "+Subproject commit "+commits["one"]) || !strings.Contains(patch, "+size 54321") || !strings.Contains(patch, "# lib/ is") {
		t.Error(patch, err)
	}
	to := elsewhere(t, p)
	if _, err := m.Restore(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if text := read(t, filepath.Join(to.Tree, "large.bin")); text != changed {
		t.Errorf("%q", text)
	}
	if at := run(t, to.Tree, "ls-tree", "HEAD", "lib"); !strings.Contains(at, commits["one"]) {
		t.Error(at)
	}
	if status := run(t, to.Tree, "status", "--porcelain"); status != " M large.bin" && status != "M large.bin" {
		t.Errorf("%q", status)
	}
	if done := m.Deliver(t.Context(), p, workspace.Request{Title: "A title", Base: base}); done.Problem != "" {
		t.Errorf("%+v", done)
	}
	if at := run(t, from, "ls-tree", p.Branch); !strings.Contains(at, "160000 commit "+commits["one"]) {
		t.Error(at)
	}
}
