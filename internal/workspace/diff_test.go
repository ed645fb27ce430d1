package workspace_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/api"
	"berth/internal/workspace"
)

// worktree is a workspace of the origin above, with its base.
func worktree(t *testing.T) (tree, base string) {
	t.Helper()
	from, _ := origin(t)
	write(t, filepath.Join(from, "old name"), strings.Repeat("some line\n", 20))
	write(t, filepath.Join(from, "script"), "#!/bin/sh\n")
	write(t, filepath.Join(from, ".gitignore"), "ignored/\n*.o\n")
	run(t, from, "add", "--all")
	run(t, from, "commit", "--quiet", "-m", "more")
	tree = filepath.Join(t.TempDir(), "tree")
	base, err := prepareTree(t.Context(), t, tree, workspace.Source{Repo: from}, "berth/x")
	if err != nil {
		t.Fatal(err)
	}
	run(t, tree, "config", "user.name", "A")
	run(t, tree, "config", "user.email", "a@example.com")
	return tree, base
}

func diff(t *testing.T, tree, base string) string {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	before := state(t, tree)
	patch, err := diffOf(t.Context(), t, tree, base)
	if err != nil {
		t.Fatal(err)
	}
	if change := cmp.Diff(before, state(t, tree)); change != "" {
		t.Errorf("the repository was changed: %s", change)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	return patch
}

// diffOf makes one with a scratch of its own, and without a checkpoint.
func diffOf(ctx context.Context, t *testing.T, tree, base string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	m := workspace.NewMirrors(filepath.Join(dir, "repos"), workspace.MirrorConfig{})
	return m.Diff(ctx, workspace.Place{ID: id, Tree: tree, Scratch: filepath.Join(dir, "scratch")}, base)
}

// state lists every file of a tree, .git included, with what could show that it was written to.
func state(t *testing.T, tree string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(tree, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		written := info.ModTime()
		if strings.Contains(path, "/.git/objects/") {
			written = time.Time{} // git touches objects that it would else write again
		}
		all.WriteString(written.String() + info.Mode().String() + " " + path + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestDiffHasEverything(t *testing.T) {
	tree, base := worktree(t)
	if patch := diff(t, tree, base); patch != "" {
		t.Errorf("nothing was changed: %s", patch)
	}
	write(t, filepath.Join(tree, "committed"), "in a commit\n")
	run(t, tree, "add", "--all")
	run(t, tree, "commit", "--quiet", "-m", "work")
	write(t, filepath.Join(tree, "staged"), "in the index\n")
	run(t, tree, "add", "staged")
	write(t, filepath.Join(tree, "one"), "one\nnot staged\n")
	write(t, filepath.Join(tree, "untracked é"), "new\n")
	write(t, filepath.Join(tree, "binary"), "\x00\x01\x02")
	write(t, filepath.Join(tree, "x.o"), "ignored")
	mkdir(t, filepath.Join(tree, "ignored"))
	write(t, filepath.Join(tree, "ignored", "y"), "ignored")
	link(t, "/etc/passwd", filepath.Join(tree, "link"))
	if err := errors.Join(os.Remove(filepath.Join(tree, "two")), os.Rename(filepath.Join(tree, "old name"), filepath.Join(tree, "new name")), os.Chmod(filepath.Join(tree, "script"), 0o755)); err != nil {
		t.Fatal(err)
	}
	patch := diff(t, tree, base)
	for _, want := range []string{
		"+in a commit\n", "+in the index\n", "+not staged\n", "+new\n", "GIT binary patch\n",
		"deleted file mode 100644", "-two\n", "rename from old name\nrename to new name\n", "old mode 100644\nnew mode 100755\n",
		"new file mode 120000", "+/etc/passwd\n",
	} {
		if !strings.Contains(patch, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(patch, "ignored") || strings.Contains(patch, "root:") {
		t.Error("it has what it should not")
	}
	if t.Failed() {
		t.Log(patch)
	}
}

func TestDiffOfNothingToSomething(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "tree")
	if _, err := prepareTree(t.Context(), t, tree, workspace.Source{}, ""); err != nil {
		t.Fatal(err)
	}
	if patch := diff(t, tree, ""); patch != "" {
		t.Error(patch)
	}
	write(t, filepath.Join(tree, "file"), "first\n")
	if patch := diff(t, tree, ""); !strings.Contains(patch, "new file mode") || !strings.Contains(patch, "+first\n") {
		t.Error(patch)
	}
}

// Whatever a session puts into its repository, nothing of it runs.
func TestDiffRunsNothing(t *testing.T) {
	tree, base := worktree(t)
	canary := filepath.Join(t.TempDir(), "canary")
	evil := filepath.Join(t.TempDir(), "evil")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\necho $0 $@ >>"+canary+"\ncat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := "[core]\n\tfsmonitor = " + evil + "\n\thooksPath = hooks\n\tpager = " + evil + "\n\tsshCommand = " + evil + "\n\talternateRefsCommand = " + evil + "\n" +
		"[filter \"evil\"]\n\tclean = " + evil + "\n\tsmudge = " + evil + "\n\tprocess = " + evil + "\n\trequired = true\n" +
		"[diff]\n\texternal = " + evil + "\n[diff \"evil\"]\n\ttextconv = " + evil + "\n\tcommand = " + evil + "\n" +
		"[pager]\n\tdiff-tree = " + evil + "\n[alias]\n\tdiff-tree = !" + evil + "\n\tadd = !" + evil + "\n[extensions]\n\tpartialClone = origin\n[remote \"origin\"]\n\tpromisor = true\n\turl = ext::" + evil + "\n"
	poison := func(gitDir string) {
		text, err := os.ReadFile(filepath.Join(gitDir, "config"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(gitDir, "config"), string(text)+config)
		mkdir(t, filepath.Join(gitDir, "hooks"))
		for _, hook := range []string{"post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman"} {
			link(t, evil, filepath.Join(gitDir, "hooks", hook))
		}
	}
	mkdir(t, filepath.Join(tree, "nested"), filepath.Join(tree, "unborn"))
	run(t, filepath.Join(tree, "nested"), "init", "--quiet")
	write(t, filepath.Join(tree, "nested", "file"), "x")
	run(t, filepath.Join(tree, "nested"), "add", "--all")
	run(t, filepath.Join(tree, "nested"), "commit", "--quiet", "-m", "x")
	run(t, tree, "add", "nested") // as a submodule, also in the base
	run(t, tree, "commit", "--quiet", "-m", "a submodule")
	base2 := run(t, tree, "rev-parse", "HEAD")
	write(t, filepath.Join(tree, "nested", "file"), "y") // so that somebody might look inside
	run(t, filepath.Join(tree, "unborn"), "init", "--quiet")
	write(t, filepath.Join(tree, "unborn", "file"), "x")
	write(t, filepath.Join(tree, ".gitattributes"), "* filter=evil diff=evil\n")
	write(t, filepath.Join(tree, "one"), "changed\n")
	poison(filepath.Join(tree, ".git"))
	poison(filepath.Join(tree, "nested", ".git"))
	poison(filepath.Join(tree, "unborn", ".git"))
	for _, from := range []string{base, base2, ""} {
		patch := diff(t, tree, from)
		if !strings.Contains(patch, "+changed\n") {
			t.Errorf("from %q: %s", from, patch)
		}
		if has := strings.Contains(patch, "+Subproject commit "); has != (from != base2) {
			t.Errorf("from %q: a submodule is %t in it: %s", from, has, patch)
		}
	}
	if text, err := os.ReadFile(canary); err == nil {
		t.Errorf("something was run: %s", text)
	}
	// The trap does snap when git reads the session's configuration.
	command := exec.Command("git", "status")
	command.Dir = tree
	_, _ = command.CombinedOutput() // it may well fail
	if _, err := os.Stat(canary); err != nil {
		t.Errorf("nothing could have been run: %v", err)
	}
}

// A submodule that was never cloned is not a change; one that was removed is.
func TestDiffOfSubmodules(t *testing.T) {
	tree, _ := worktree(t)
	oid := strings.Repeat("ab", 20)
	run(t, tree, "update-index", "--add", "--cacheinfo", "160000,"+oid+",sub/ module")
	run(t, tree, "commit", "--quiet", "-m", "a submodule")
	base := run(t, tree, "rev-parse", "HEAD")
	mkdir(t, filepath.Join(tree, "sub", " module"))
	if patch := diff(t, tree, base); patch != "" {
		t.Error(patch)
	}
	if err := os.RemoveAll(filepath.Join(tree, "sub")); err != nil {
		t.Fatal(err)
	}
	if patch := diff(t, tree, base); !strings.Contains(patch, "-Subproject commit "+oid) {
		t.Error(patch)
	}
}

func TestDiffIsCutOff(t *testing.T) {
	tree, base := worktree(t)
	write(t, filepath.Join(tree, "large"), strings.Repeat("a line of fifty bytes, or nearly as many as that\n", workspace.MaxPatch/49+1000))
	patch := diff(t, tree, base)
	if len(patch) > workspace.MaxPatch+1000 || !strings.Contains(patch[len(patch)-300:], "\n# The patch goes on: only the first 32 MiB are shown.") {
		t.Errorf("%d bytes, ending %q", len(patch), patch[len(patch)-300:])
	}
}

func TestDiffOfWhatIsLost(t *testing.T) {
	tree, base := worktree(t)
	elsewhere, _ := worktree(t)
	gitDir := filepath.Join(tree, ".git")
	check := func(name, tree, base, says string) {
		t.Helper()
		_, err := diffOf(t.Context(), t, tree, base)
		coded := new(api.Error)
		if !errors.As(err, &coded) || coded.Code != api.CodeWorkspaceLost || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("no tree", tree+"x", base, "are gone, and there is no checkpoint")
	check("no base", tree, strings.Repeat("ab", 20), "does not have the commit")
	if err := os.Rename(gitDir, gitDir+"x"); err != nil {
		t.Fatal(err)
	}
	check("no .git", tree, base, "no git repository")
	link(t, filepath.Join(elsewhere, ".git"), gitDir)
	check("a link", tree, base, "is not a directory")
	if err := os.Remove(gitDir); err != nil {
		t.Fatal(err)
	}
	write(t, gitDir, "gitdir: "+filepath.Join(elsewhere, ".git")+"\n")
	check("a file", tree, base, "is not a directory")
	if err := os.Remove(gitDir); err != nil {
		t.Fatal(err)
	}
	mkdir(t, gitDir)
	link(t, filepath.Join(elsewhere, ".git", "objects"), filepath.Join(gitDir, "objects"))
	check("linked objects", tree, base, "is not a directory")

	if _, err := diffOf(t.Context(), t, elsewhere, "--output=x"); err == nil || !strings.Contains(err.Error(), "is not a commit") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := diffOf(ctx, t, elsewhere, ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
