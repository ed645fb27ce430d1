package workspace_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/api"
	"berth/internal/workspace"
)

// poison has every program that git might run for a repository leave a trace.
func poison(t *testing.T, gitDir, evil string) {
	t.Helper()
	config := read(t, filepath.Join(gitDir, "config")) + "[core]\n\tfsmonitor = " + evil + "\n\thooksPath = hooks\n\tpager = " + evil + "\n\tsshCommand = " + evil +
		"\n\talternateRefsCommand = " + evil + "\n\tworktree = /\n\tattributesFile = /etc/passwd\n\texcludesFile = /dev/zero\n" +
		"[filter \"evil\"]\n\tclean = " + evil + "\n\tsmudge = " + evil + "\n\tprocess = " + evil + "\n\trequired = true\n" +
		"[diff]\n\texternal = " + evil + "\n[diff \"evil\"]\n\ttextconv = " + evil + "\n\tcommand = " + evil + "\n[gpg]\n\tprogram = " + evil + "\n[commit]\n\tgpgSign = true\n" +
		"[uploadpack]\n\tpackObjectsHook = " + evil + "\n[extensions]\n\tpartialClone = origin\n[remote \"origin\"]\n\tpromisor = true\n\turl = ext::" + evil + "\n" +
		"[include]\n\tpath = /dev/zero\n"
	write(t, filepath.Join(gitDir, "config"), config)
	mkdir(t, filepath.Join(gitDir, "hooks"), filepath.Join(gitDir, "info"))
	for _, hook := range []string{"post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman", "post-checkout", "pre-push"} {
		link(t, evil, filepath.Join(gitDir, "hooks", hook))
	}
	write(t, filepath.Join(gitDir, "info", "attributes"), "* filter=evil diff=evil\n")
}

// canary is a program that leaves a trace, and the trace.
func canary(t *testing.T) (evil, trace string) {
	t.Helper()
	dir := t.TempDir()
	evil, trace = filepath.Join(dir, "evil"), filepath.Join(dir, "trace")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\necho $0 $@ >>"+trace+"\ncat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return evil, trace
}

// Whatever a session puts into its repository, nothing of it runs, and its files come back.
func TestCheckpointRunsNothing(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	base := prepared(t, m, p)
	evil, trace := canary(t)
	nested := filepath.Join(p.Tree, "nested")
	mkdir(t, nested)
	run(t, nested, "init", "--quiet")
	write(t, filepath.Join(nested, "file"), "x")
	run(t, nested, "add", "--all")
	run(t, nested, "commit", "--quiet", "-m", "x")
	write(t, filepath.Join(p.Tree, ".gitattributes"), "* filter=evil diff=evil\n")
	write(t, filepath.Join(p.Tree, ".gitmodules"), "[submodule \"nested\"]\n\tpath = nested\n\turl = ext::"+evil+"\n\tupdate = !"+evil+"\n")
	run(t, p.Tree, "add", "nested")
	write(t, filepath.Join(p.Tree, "one"), "changed\n")
	write(t, filepath.Join(nested, "file"), "changed\n")
	poison(t, filepath.Join(p.Tree, ".git"), evil)
	poison(t, filepath.Join(nested, ".git"), evil)
	for _, modules := range []string{"", "[submodule"} {
		if modules != "" {
			write(t, filepath.Join(p.Tree, ".gitmodules"), modules)
		}
		saved(t, m, p)
		if patch, err := m.Diff(t.Context(), p, base); err != nil || !strings.Contains(patch, "+changed\n") || !strings.Contains(patch, "+Subproject commit") {
			t.Errorf("%v: %s", err, patch)
		}
		write(t, filepath.Join(p.Tree, "two"), "changed\n")
	}
	other := elsewhere(t, p)
	if _, err := m.Restore(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "nested/file", ".gitattributes"} {
		if got, want := read(t, filepath.Join(other.Tree, name)), read(t, filepath.Join(p.Tree, name)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if text, err := os.ReadFile(trace); err == nil {
		t.Errorf("something was run: %s", text)
	}
}

// A .git that leads elsewhere is not followed, and the files are kept all the same.
func TestCheckpointOfATreeWithoutItsRepository(t *testing.T) {
	from, _ := origin(t)
	elsewhereDir, _ := origin(t)
	for name, swap := range map[string]func(gitDir string) error{
		"gone":   func(gitDir string) error { return nil },
		"a link": func(gitDir string) error { return os.Symlink(filepath.Join(elsewhereDir, ".git"), gitDir) },
		"a file": func(gitDir string) error {
			return os.WriteFile(gitDir, []byte("gitdir: "+filepath.Join(elsewhereDir, ".git")+"\n"), 0o644)
		},
		"a loop": func(gitDir string) error { return os.Symlink(".git", gitDir) },
	} {
		t.Run(name, func(t *testing.T) {
			m, p := mirrors(t), place(t, from)
			prepared(t, m, p)
			write(t, filepath.Join(p.Tree, "mine"), "committed")
			run(t, p.Tree, "add", "--all")
			run(t, p.Tree, "commit", "--quiet", "-m", "mine")
			mine := run(t, p.Tree, "rev-parse", "HEAD")
			saved(t, m, p)
			write(t, filepath.Join(p.Tree, "mine"), "work")
			gitDir := filepath.Join(p.Tree, ".git")
			if err := errors.Join(os.RemoveAll(gitDir), swap(gitDir)); err != nil {
				t.Fatal(err)
			}
			checkpoint, err := m.Checkpoint(t.Context(), p)
			if err != nil || len(checkpoint.LeftOut) == 0 || !strings.Contains(checkpoint.LeftOut[0], ".git is gone") {
				t.Fatal(checkpoint, err)
			}
			other := elsewhere(t, p)
			if _, err := m.Restore(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			if text := read(t, filepath.Join(other.Tree, "mine")); text != "work" {
				t.Error(text)
			}
			run(t, mirrorOf(t, m), "merge-base", "--is-ancestor", mine, "refs/berth/"+id)
		})
	}
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	if err := os.RemoveAll(p.Tree); err != nil {
		t.Fatal(err)
	}
	_, err := m.Checkpoint(t.Context(), p)
	if coded := new(api.Error); !errors.As(err, &coded) || coded.Code != api.CodeWorkspaceLost {
		t.Error(err)
	}
}

// A checkpoint that a session has had its hands in leads nowhere out of the tree.
func TestRestoreTrustsNoCheckpoint(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	mkdir(t, outside)
	write(t, filepath.Join(outside, "victim"), "mine")
	before := state(t, outside)
	for name, about := range map[string]string{
		"a directory above":      `{"version":1,"dirs":["../x"]}`,
		"an absolute one":        `{"version":1,"dirs":["/x"]}`,
		"through a link":         `{"version":1,"modes":{"file":"0644","exec":"0755","dir":"0755"},"dirs":["link/x"]}`,
		"a mode through a link":  `{"version":1,"modes":{"file":"0644","exec":"0755","dir":"0755","except":{"0777":["link/victim"]}}}`,
		"a mode that is none":    `{"version":1,"modes":{"file":"77777"}}`,
		"a repository in a link": `{"version":1,"modes":{"file":"0644","exec":"0755","dir":"0755"},"nested":[{"path":"link/x","commit":"COMMIT"}]}`,
		"a repository in .git":   `{"version":1,"modes":{"file":"0644","exec":"0755","dir":"0755"},"nested":[{"path":".git/x","commit":"COMMIT"}]}`,
		"a newer version":        `{"version":99}`,
		"nonsense":               `{`,
	} {
		t.Run(name, func(t *testing.T) {
			m, p := mirrors(t), place(t, "")
			prepared(t, m, p)
			link(t, outside, filepath.Join(p.Tree, "link"))
			write(t, filepath.Join(p.Tree, "file"), "x")
			commit, _ := saved(t, m, p)
			dir := mirrorOf(t, m)
			command := exec.Command("git", "hash-object", "-w", "--stdin")
			command.Dir, command.Stdin = dir, strings.NewReader(strings.ReplaceAll(about, "COMMIT", commit))
			blob, err := command.Output()
			if err != nil {
				t.Fatal(err)
			}
			command = exec.Command("git", "mktree")
			command.Dir = dir
			listing := run(t, dir, "ls-tree", commit)
			lines := slices.DeleteFunc(strings.Split(listing, "\n"), func(line string) bool { return strings.HasSuffix(line, "about.json") })
			refs := "100644 blob " + hash(t, dir, strings.Repeat("ab", 20)+" refs/heads/../../../x\n"+commit+" refs/heads/ok\nref: ../../x refs/heads/y\n") + "\trefs2"
			command.Stdin = strings.NewReader(strings.Join(append(lines, "100644 blob "+strings.TrimSpace(string(blob))+"\tabout.json", refs), "\n") + "\n")
			tree, err := command.Output()
			if err != nil {
				t.Fatal(err)
			}
			forged := run(t, dir, "commit-tree", "-m", "forged", "-p", commit, strings.TrimSpace(string(tree)))
			run(t, dir, "update-ref", "refs/berth/"+id, forged)
			other := elsewhere(t, p)
			restoredTo, err := m.Restore(t.Context(), other)
			if err != nil {
				coded := new(api.Error)
				if !errors.As(err, &coded) || coded.Code != api.CodeWorkspaceLost {
					t.Error(err)
				}
				if _, err := os.Lstat(other.Tree); err == nil {
					t.Error("there is a tree that could be taken for whole")
				}
			} else if restoredTo == nil || name != "a mode through a link" {
				t.Error("it was restored")
			}
			if change := cmp.Diff(before, state(t, outside)); change != "" {
				t.Error(change)
			}
		})
	}
}

func hash(t *testing.T, dir, text string) string {
	t.Helper()
	command := exec.Command("git", "hash-object", "-w", "--stdin")
	command.Dir, command.Stdin = dir, strings.NewReader(text)
	oid, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(oid))
}

// sessionUser has a place's git run as another user, if the test may; else under a program that does nothing. Its calls are
// counted by a file that only that program writes.
func sessionUser(t *testing.T, p *workspace.Place) {
	t.Helper()
	const user = 4712
	if os.Getuid() != 0 {
		p.Run = []string{"env"}
		p.Own = func(path string) error { return os.Chmod(filepath.Dir(path), 0o700) }
		return
	}
	p.Run = []string{"setpriv", "--reuid=" + strconv.Itoa(user), "--regid=" + strconv.Itoa(user), "--clear-groups", "--pdeathsig=KILL"}
	p.Own = func(path string) error {
		return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, user, user))
		})
	}
	for dir := filepath.Dir(p.Tree); dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) { // what leads there, as an agent makes it
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
}

// Where sessions have users of their own, git works in their trees as them, and they own all of it.
func TestSessionsOfAnotherUser(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	sessionUser(t, &p)
	base := prepared(t, m, p)
	asSession := func(args ...string) string {
		t.Helper()
		words := append(slices.Clone(p.Run), args...)
		command := exec.Command(words[0], words[1:]...)
		command.Dir = p.Tree
		command.Env = append(os.Environ(), "HOME=/nonexistent", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@x")
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v: %s", args, err, output)
		}
		return string(output)
	}
	if out := asSession("git", "status", "--porcelain"); out != "" {
		t.Error(out)
	}
	asSession("sh", "-c", "echo mine > mine; git add mine; git commit -qm mine; echo more > more; mkdir -m 700 closed; echo secret > closed/x; chmod 600 closed/x")
	saved(t, m, p)
	if patch, err := m.Diff(t.Context(), p, base); err != nil || !strings.Contains(patch, "+more\n") {
		t.Error(patch, err)
	}
	if os.Getuid() != 0 {
		restored(t, m, p)
		return
	}
	other := elsewhere(t, p)
	sessionUser(t, &other)
	if _, err := m.Restore(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	p = other
	if out := asSession("git", "status", "--porcelain"); out != "?? closed/\n?? more\n" {
		t.Error(out)
	}
	asSession("sh", "-c", "test $(cat closed/x) = secret && echo again >> mine && git commit -qam again")
	if again, err := m.Checkpoint(t.Context(), other); err != nil || again == nil {
		t.Error(again, err)
	}
	// What leads to what only the agent may see is not followed.
	secret := filepath.Join(t.TempDir(), "secret")
	mkdir(t, filepath.Join(secret, "objects"))
	write(t, filepath.Join(secret, "index"), "the agent's")
	if err := os.Chmod(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	asSession("sh", "-c", fmt.Sprintf("rm -rf closed; ln -s %s closed; rm .git/index; ln -s %s/index .git/index; rm -rf %s/git/objects; ln -s %s %s/git/objects", secret, secret, other.Scratch, secret, other.Scratch))
	before := state(t, secret)
	if again, err := m.Checkpoint(t.Context(), other); err != nil || again == nil {
		t.Error(again, err)
	}
	if change := cmp.Diff(before, state(t, secret)); change != "" {
		t.Error(change)
	}
}

func TestLimits(t *testing.T) {
	m, p := mirrors(t), place(t, "")
	prepared(t, m, p)
	write(t, filepath.Join(p.Tree, "grows"), "small")
	write(t, filepath.Join(p.Tree, "kept"), "x")
	saved(t, m, p)
	large := func(name string, size int64) {
		t.Helper()
		file, err := os.Create(filepath.Join(p.Tree, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(file.Truncate(size), file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	large("dir-less large", workspace.MaxFile+1)
	large("grows", workspace.MaxFile*2)
	large("most", 1<<20)
	_, leftOut := saved(t, m, p)
	want := []string{
		"dir-less large (100 MiB): the limit of a file is 100 MiB",
		"grows (200 MiB): the limit of a file is 100 MiB; the checkpoint has it as it was before",
	}
	if change := cmp.Diff(want, leftOut); change != "" {
		t.Error(change)
	}
	other := elsewhere(t, p)
	checkpoint, err := m.Restore(t.Context(), other)
	if err != nil || cmp.Diff(want, checkpoint.LeftOut) != "" {
		t.Error(checkpoint, err)
	}
	if text := read(t, filepath.Join(other.Tree, "grows")); text != "small" {
		t.Error(len(text))
	}
	if _, err := os.Stat(filepath.Join(other.Tree, "most")); err != nil {
		t.Error(err)
	}
}

// A checkpoint that is called off ends, and the one before stays.
func TestCheckpointIsCalledOff(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	commit, _ := saved(t, m, p)
	write(t, filepath.Join(p.Tree, "x"), "y")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if again, err := m.Checkpoint(ctx, p); again != nil || !errors.Is(err, context.Canceled) {
		t.Error(again, err)
	}
	if now := run(t, mirrorOf(t, m), "rev-parse", "refs/berth/"+id); now != commit {
		t.Error(now)
	}
}

// Repositories within the tree come back with their commits, branches and files.
func TestRepositoriesWithinTheTree(t *testing.T) {
	from, _ := origin(t)
	other, commits := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	run(t, p.Tree, "clone", "--quiet", other, "vendor/x")
	inner := filepath.Join(p.Tree, "vendor", "x")
	write(t, filepath.Join(inner, "changed"), "work")
	run(t, inner, "checkout", "--quiet", "-b", "mine")
	run(t, inner, "clone", "--quiet", other, "deeper")
	run(t, p.Tree, "init", "--quiet", "unborn")
	write(t, filepath.Join(p.Tree, "unborn", "file"), "work")
	run(t, p.Tree, "worktree", "add", "--quiet", "linked", commits["one"][:0]+"HEAD")
	_, leftOut := saved(t, m, p)
	if len(leftOut) != 1 || !strings.HasPrefix(leftOut[0], "linked/: it is a submodule or a work tree") {
		t.Error(leftOut)
	}
	if again, err := m.Checkpoint(t.Context(), p); again != nil || err != nil {
		t.Errorf("nothing has changed: %+v, %v", again, err)
	}
	to := elsewhere(t, p)
	if _, err := m.Restore(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"vendor/x", "vendor/x/deeper"} {
		if change := cmp.Diff(picture(t, filepath.Join(p.Tree, dir)), picture(t, filepath.Join(to.Tree, dir))); change != "" {
			t.Errorf("%s: %s", dir, change)
		}
	}
	if text := read(t, filepath.Join(to.Tree, "unborn", "file")); text != "work" {
		t.Error(text)
	}
	if err := os.RemoveAll(filepath.Join(to.Tree, "linked")); err != nil {
		t.Fatal(err)
	}
	if again, err := m.Checkpoint(t.Context(), to); err != nil || again != nil && again.Tree == "" {
		t.Error(again, err)
	}
	write(t, filepath.Join(inner, "changed"), "more")
	saved(t, m, p)
}
