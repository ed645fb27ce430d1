package workspace_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/internal/workspace"
)

// Whatever a session does to its tree, a restored one is the same, byte for byte.
func TestRoundTrip(t *testing.T) {
	from, _ := origin(t)
	rapid.Check(t, func(r *rapid.T) {
		m, p := mirrors(t), place(t, from)
		prepared(t, m, p)
		s := &editor{t: t, r: r, tree: p.Tree}
		steps := rapid.IntRange(1, 12).Draw(r, "steps")
		for range steps {
			s.step()
			if rapid.IntRange(0, 3).Draw(r, "checkpoint") == 0 {
				if _, err := m.Checkpoint(t.Context(), p); err != nil {
					r.Fatal(err)
				}
			}
		}
		if _, err := m.Checkpoint(t.Context(), p); err != nil {
			r.Fatal(err)
		}
		want := picture(t, p.Tree)
		other := elsewhere(t, p)
		if checkpoint, err := m.Restore(t.Context(), other); err != nil || checkpoint == nil {
			// Nothing at all was done: there may be no checkpoint only if the tree is as it was.
			r.Fatalf("%+v, %v", checkpoint, err)
		}
		if change := cmp.Diff(want, picture(t, other.Tree)); change != "" {
			r.Fatalf("the restored tree differs: %s", change)
		}
		again, err := workspace.NewMirrors(m.Dir(), workspace.MirrorConfig{}).Checkpoint(t.Context(), other)
		if err != nil || again != nil {
			r.Fatalf("a checkpoint of what was just restored: %+v, %v", again, err)
		}
	})
}

// editor does what sessions do.
type editor struct {
	t     *testing.T
	r     *rapid.T
	tree  string
	count int
}

var names = []string{"one", "two", "a", "b.txt", "d/x", "d/y", "d/e/z", "é", "with space", "-dash", "new\nline", "\xff\xfe", ":(top)x", "e", "script.sh"}

func (s *editor) path() string {
	return filepath.Join(s.tree, rapid.SampledFrom(names).Draw(s.r, "name"))
}

// git may fail: there may be nothing to commit, or to stash.
func (s *editor) git(args ...string) {
	command := exec.Command("git", args...)
	command.Dir = s.tree
	command.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	_, _ = command.CombinedOutput()
}

func (s *editor) step() {
	s.count++
	tag := fmt.Sprintf("n%d", s.count)
	switch rapid.IntRange(0, 15).Draw(s.r, "step") {
	case 0, 1, 2:
		path := s.path()
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		text := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(s.r, "text")
		_ = os.WriteFile(path, text, 0o644) // it may be a directory, or below a file
	case 3:
		_ = os.RemoveAll(s.path())
	case 4:
		mode := rapid.SampledFrom([]os.FileMode{0o600, 0o644, 0o755, 0o700, 0o444, 0o664}).Draw(s.r, "mode")
		path := s.path()
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			_ = os.Chmod(path, mode)
		}
	case 5:
		path := s.path()
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		_ = os.Symlink(rapid.SampledFrom([]string{"one", "/nowhere", "d", "../.."}).Draw(s.r, "target"), path)
	case 6:
		_ = os.MkdirAll(filepath.Join(s.tree, "empty", tag), rapid.SampledFrom([]os.FileMode{0o755, 0o700}).Draw(s.r, "mode"))
	case 7:
		s.git("add", "--all")
	case 8:
		s.git("add", "--", filepath.Base(s.path()))
	case 9, 10:
		s.git("add", "--all")
		s.git("commit", "-m", tag)
	case 11:
		s.git("branch", tag)
	case 12:
		s.git("tag", "-a", "-m", tag, tag)
	case 13:
		s.git("stash", "push", "-m", tag)
	case 14:
		s.git("checkout", "-q", rapid.SampledFrom([]string{"--detach", "-", "-b" + tag, "--orphan=" + tag}).Draw(s.r, "checkout"))
	case 15:
		_ = os.WriteFile(filepath.Join(s.tree, ".gitattributes"), []byte(rapid.SampledFrom([]string{"* text=auto\n", "*.txt eol=crlf\n", "* ident\n", "*.txt working-tree-encoding=UTF-16\n"}).Draw(s.r, "attributes")), 0o644)
	}
}
