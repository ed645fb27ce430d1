package workspace

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A commit that is written here is the one that git makes.
func TestACommitIsWrittenAsGitDoes(t *testing.T) {
	t.Parallel()
	for _, as := range []format{sha1Format, sha256Format} {
		m := NewMirrors(t.TempDir(), MirrorConfig{Temporary: t.TempDir()})
		r := &mirror{Mirrors: m, path: filepath.Join(m.Dir(), "x.git")}
		if output, err := exec.Command("git", "init", "--quiet", "--bare", "--object-format="+string(as), r.path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		tree, err := git{dir: "/", env: []string{"GIT_DIR=" + r.path}}.line(t.Context(), "mktree")
		if err != nil || tree != emptyTree(as) {
			t.Fatal(tree, err)
		}
		first, err := r.writeCommit(commitText(tree, nil, "Claude <noreply@anthropic.com>", "1700000000 +0000", "Söme wörk\n\nof length"), as)
		if err != nil {
			t.Fatal(err)
		}
		g := r.git()
		for _, who := range []string{"AUTHOR", "COMMITTER"} {
			g.env = append(g.env, "GIT_"+who+"_NAME=Claude", "GIT_"+who+"_EMAIL=noreply@anthropic.com", "GIT_"+who+"_DATE=1700000000 +0000")
		}
		g.stdin = "Söme wörk\n\nof length\n"
		if same, err := g.line(t.Context(), "commit-tree", tree); err != nil || same != first {
			t.Errorf("%s, not %s: %v", first, same, err)
		}
		second, err := r.writeCommit(commitText(tree, []string{first}, "Claude <noreply@anthropic.com>", "1700000000 +0000", "More"), as)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := r.writeCommit(commitText(tree, []string{first}, "Claude <noreply@anthropic.com>", "1700000000 +0000", "More"), as); again != second || err != nil {
			t.Error(again, err)
		}
		if _, err := r.git().run(t.Context(), "update-ref", "refs/heads/main", second); err != nil {
			t.Error(err)
		}
		if said, err := r.git().run(t.Context(), "fsck", "--strict", "--no-progress"); err != nil {
			t.Error(said, err)
		}
		if left, _ := filepath.Glob(filepath.Join(r.path, "objects", "*", "tmp_*")); len(left) > 0 {
			t.Error(left)
		}
	}
}

// What was pushed from here is not fetched again, and what others push is.
func TestOnlyWhatIsNewIsFetched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := NewMirrors(filepath.Join(dir, "repos"), MirrorConfig{})
	r := &mirror{Mirrors: m, path: filepath.Join(dir, "x.git")}
	if err := os.MkdirAll(filepath.Join(r.path, "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	oid := func(digit string) string { return strings.Repeat(digit, 40) }
	says := &origin{head: "refs/heads/main", tips: []tip{{oid: oid("1"), name: "refs/heads/main"}, {oid: oid("2"), name: "refs/tags/v1"}}}
	r.pushed(tip{oid: oid("3"), name: "refs/heads/berth/x"}) // nothing is known yet
	if r.upToDate(says) {
		t.Error("nothing is known")
	}
	r.mirrored(says, says.tips)
	if !r.upToDate(says) {
		t.Error("it has just been fetched")
	}
	for _, next := range []string{oid("3"), oid("4")} { // a branch that is new, and moved
		r.pushed(tip{oid: next, name: "refs/heads/berth/x"})
		with := &origin{head: says.head, tips: slices.Insert(slices.Clone(says.tips), 0, tip{oid: next, name: "refs/heads/berth/x"})}
		if !r.upToDate(with) || r.upToDate(says) {
			t.Error("the mirror has what was pushed")
		}
		with.tips[1].oid = oid("5")
		if r.upToDate(with) {
			t.Error("somebody has pushed to main")
		}
	}
	m.origins[r.path].since = time.Now().Add(-2 * sweepAfter)
	if r.upToDate(&m.origins[r.path].origin) {
		t.Error("that is long ago")
	}
}
