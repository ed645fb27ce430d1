package workspace_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/api"
	"berth/internal/workspace"
)

// mirrorOf finds the only mirror on a volume.
func mirrorOf(t *testing.T, m *workspace.Mirrors) string {
	t.Helper()
	found, err := fs.Glob(os.DirFS(m.Dir()), "*.git")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return filepath.Join(m.Dir(), found[0])
}

// Many goroutines, and other processes, make and fetch one mirror at once.
func TestManyPrepareAtOnce(t *testing.T) {
	from, commits := origin(t)
	m := mirrors(t)
	var all sync.WaitGroup
	for number := range 20 {
		p := place(t, from)
		p.ID = fmt.Sprintf("%s%02d", id[:34], number)
		all.Go(func() {
			base, err := m.Prepare(t.Context(), p)
			if err != nil || base != commits["two"] {
				t.Errorf("%s, %v", base, err)
			}
		})
	}
	for range 2 {
		p := place(t, from)
		all.Go(func() {
			command := exec.Command(os.Args[0], m.Dir(), from, p.Tree, p.Scratch)
			command.Env = append(os.Environ(), helper+"=prepare")
			if output, err := command.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, output)
			}
			if head := run(t, p.Tree, "rev-parse", "HEAD"); head != commits["two"] {
				t.Error(head)
			}
		})
	}
	all.Wait()
	run(t, mirrorOf(t, m), "fsck", "--strict")
}

// The mirror follows the origin, also where branches move and go; checkpoints stay.
func TestMirrorFollowsTheOrigin(t *testing.T) {
	from, commits := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	commit, _ := saved(t, m, p)
	run(t, from, "branch", "-D", "topic/x")
	run(t, from, "branch", "topic", "main") // where a directory was
	run(t, from, "tag", "-d", "v1")
	run(t, from, "reset", "--hard", "--quiet", commits["one"])
	run(t, from, "branch", "-m", "main", "trunk")
	next := place(t, from)
	next.ID = strings.Replace(id, "0", "1", 1)
	if base := prepared(t, m, next); base != commits["one"] {
		t.Error(base)
	}
	if refs := run(t, next.Tree, "for-each-ref", "--format=%(refname)"); refs != "refs/heads/berth/01890a5d\nrefs/remotes/origin/HEAD\nrefs/remotes/origin/topic\nrefs/remotes/origin/trunk" {
		t.Error(refs)
	}
	if url := run(t, next.Tree, "remote", "get-url", "origin"); url != from {
		t.Error(url)
	}
	if _, err := os.Stat(filepath.Join(next.Tree, ".git", "objects", "info", "alternates")); err == nil {
		t.Error("the tree depends on the volume")
	}
	if now := run(t, mirrorOf(t, m), "rev-parse", "refs/berth/"+id); now != commit {
		t.Error(now)
	}
	if err := os.Rename(from, from+"x"); err != nil { // stale code is worse than none
		t.Fatal(err)
	}
	_, err := m.Prepare(t.Context(), place(t, from))
	if coded := new(api.Error); !errors.As(err, &coded) || coded.Code != api.CodeCloneFailed {
		t.Error(err)
	}
}

// Nothing of one session can be reached from another's tree, whatever it names.
func TestSessionsDoNotSeeEachOther(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	write(t, filepath.Join(p.Tree, "secret"), "of the first session\n")
	run(t, p.Tree, "add", "--all")
	run(t, p.Tree, "commit", "--quiet", "-m", "secret")
	secret := run(t, p.Tree, "rev-parse", "HEAD")
	commit, _ := saved(t, m, p)
	other := place(t, from)
	prepared(t, m, other)
	command := exec.Command("git", "cat-file", "-e", secret)
	command.Dir = other.Tree
	if err := command.Run(); err == nil {
		t.Error("the other session has it")
	}
	for _, ref := range []string{secret, commit, secret[:12], "refs/berth/" + id} {
		other := place(t, from)
		other.Source.Ref = ref
		if _, err := m.Prepare(t.Context(), other); err == nil {
			t.Errorf("%s can be had", ref)
		}
	}
}

// Whatever is damaged, and whoever was killed: the next Prepare works, and checkpoints are saved.
func TestDamageIsRepaired(t *testing.T) {
	from, commits := origin(t)
	overwrite := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			mkdir(t, filepath.Dir(filepath.Join(dir, name)))
			write(t, filepath.Join(dir, name), text)
		}
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"empty HEAD":       overwrite("HEAD", ""),
		"no HEAD":          remove("HEAD"),
		"broken config":    overwrite("config", "[core\n\x00"),
		"hostile config":   overwrite("config", "[core]\n\tsshCommand = touch /nowhere\n"),
		"no config":        remove("config"),
		"no refs":          remove("refs/heads"),
		"empty ref":        overwrite("refs/heads/main", ""),
		"locked refs":      overwrite("packed-refs.lock", ""),
		"locked HEAD":      overwrite("HEAD.lock", ""),
		"locked session":   overwrite("refs/berth/"+id+".lock", ""),
		"broken packed":    overwrite("packed-refs", "nonsense\n"),
		"a torn pack":      func(t *testing.T, dir string) { tear(t, dir, "pack", oldest) },
		"a torn index":     func(t *testing.T, dir string) { tear(t, dir, "idx", oldest) },
		"a half made pack": overwrite("objects/pack/tmp_pack_x", "PACK"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p := mirrors(t), place(t, from)
			prepared(t, m, p)
			write(t, filepath.Join(p.Tree, "mine"), "work\n")
			saved(t, m, p)
			dir := mirrorOf(t, m)
			damage(t, dir)
			m = workspace.NewMirrors(m.Dir(), workspace.MirrorConfig{}) // another process
			other := place(t, from)
			other.ID = strings.Replace(id, "0", "1", 1)
			if base, err := m.Prepare(t.Context(), other); err != nil || base != commits["two"] {
				t.Fatalf("%s, %v", base, err)
			}
			restored(t, m, p)
			write(t, filepath.Join(p.Tree, "mine"), "more work\n")
			saved(t, m, p)
			restored(t, m, p)
			run(t, mirrorOf(t, m), "fsck")
		})
	}
}

const (
	oldest = iota
	newest
)

// tear cuts the oldest or the newest pack in two.
func tear(t *testing.T, dir, ext string, which int) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*."+ext))
	if err != nil || len(packs) < 2 {
		t.Fatal(packs, err)
	}
	var chosen string
	var made time.Time
	for _, pack := range packs {
		info, err := os.Stat(pack)
		if err != nil {
			t.Fatal(err)
		}
		if chosen == "" || info.ModTime().After(made) == (which == newest) {
			chosen, made = pack, info.ModTime()
		}
	}
	text := []byte(read(t, chosen))
	if err := os.Remove(chosen); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(chosen, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
}

// A checkpoint of which parts are lost is not taken for none: the session would begin anew, and nobody would know.
func TestADamagedCheckpointIsNotForgotten(t *testing.T) {
	from, commits := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	write(t, filepath.Join(p.Tree, "mine"), "work\n")
	saved(t, m, p)
	tear(t, mirrorOf(t, m), "pack", newest)
	other := place(t, from)
	if base := prepared(t, m, other); base != commits["two"] {
		t.Error(base)
	}
	damaged := func() {
		t.Helper()
		checkpoint, err := m.Restore(t.Context(), elsewhere(t, p))
		coded := new(api.Error)
		if checkpoint != nil || !errors.As(err, &coded) || coded.Code != api.CodeWorkspaceLost {
			t.Error(checkpoint, err)
		}
	}
	damaged()
	age(t, mirrorStamp(t, m))
	if err := m.Maintain(t.Context()); err == nil { // writes the stamp, or finds the damage
		age(t, mirrorStamp(t, m))
		if err := m.Maintain(t.Context()); err != nil {
			t.Error(err)
		}
	}
	damaged()
	write(t, filepath.Join(p.Tree, "mine"), "more work\n")
	saved(t, workspace.NewMirrors(m.Dir(), workspace.MirrorConfig{}), p)
	restored(t, m, p)
}

// mirrorStamp is the file that tells when a mirror was last tidied thoroughly.
func mirrorStamp(t *testing.T, m *workspace.Mirrors) string {
	t.Helper()
	path := filepath.Join(mirrorOf(t, m), "berth-repacked")
	write(t, path, "")
	return path
}

// A checkpoint does not need what the mirror has lost, and a mirror that is gone is made anew.
func TestCheckpointOutlivesItsMirror(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	saved(t, m, p)
	if err := errors.Join(os.RemoveAll(m.Dir()), os.RemoveAll(from)); err != nil {
		t.Fatal(err)
	}
	saved(t, m, p)
	restored(t, m, p)
}

func TestMaintain(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	if err := m.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	prepared(t, m, p)
	packs := func() int {
		found, err := filepath.Glob(filepath.Join(mirrorOf(t, m), "objects", "pack", "*.pack"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	for number := range 15 {
		write(t, filepath.Join(p.Tree, "work"), fmt.Sprint(number))
		saved(t, m, p)
	}
	if before := packs(); before < 15 {
		t.Fatal(before)
	}
	if err := m.Maintain(t.Context()); err != nil || packs() > 3 {
		t.Fatal(packs(), err)
	}
	restored(t, m, p)
	other := place(t, from)
	other.ID = strings.Replace(id, "0", "1", 1)
	prepared(t, m, other)
	saved(t, m, other)
	for range 2 {
		if err := m.Forget(t.Context(), p.Source, p.ID); err != nil {
			t.Error(err)
		}
	}
	if gone, err := m.Restore(t.Context(), elsewhere(t, p)); gone != nil || err != nil {
		t.Error(gone, err)
	}
	// Once a day it looks for what nobody needs.
	dir := mirrorOf(t, m)
	age(t, filepath.Join(dir, "berth-repacked"))
	write(t, filepath.Join(dir, "objects", "pack", "tmp_pack_old"), "")
	age(t, filepath.Join(dir, "objects", "pack", "tmp_pack_old"))
	if err := m.Maintain(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "objects", "pack", "tmp_pack_old")); err == nil {
		t.Error("a leftover is still there")
	}
	restored(t, m, other)
}

// A web page is no repository, though git takes one without a line for an empty one.
func TestAWebPageIsNoRepository(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<html>Welcome</html>"))
	}))
	defer page.Close()
	_, err := mirrors(t).Prepare(t.Context(), place(t, page.URL+"/x"))
	coded := new(api.Error)
	if !errors.As(err, &coded) || coded.Code != api.CodeCloneFailed || !strings.Contains(coded.Message, "web page") {
		t.Error(err)
	}
}

// A directory that was closed, or a link that was changed, after the task was accepted.
func TestPrepareLooksAgainAtWhatIsClosed(t *testing.T) {
	from, _ := origin(t)
	closed := filepath.Dir(from)
	open := filepath.Join(t.TempDir(), "link")
	link(t, from, open)
	m := workspace.NewMirrors(filepath.Join(t.TempDir(), "repos"), workspace.MirrorConfig{Closed: []string{closed}})
	_, err := m.Prepare(t.Context(), place(t, open))
	coded := new(api.Error)
	if !errors.As(err, &coded) || coded.Code != api.CodeCloneFailed || !strings.Contains(coded.Message, "agent's own") {
		t.Error(err)
	}
}

// Volumes that belong to another user, as those on EFS do, and a HOME with settings of its own, make no difference.
func TestAMirrorNeedsNothingOfItsOwner(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	if os.Getuid() == 0 {
		err := filepath.WalkDir(m.Dir(), func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, 4711, 4711))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(p.Tree, "x"), "y")
	saved(t, m, p)
	restored(t, m, p)
	prepared(t, m, place(t, from))
	var out bytes.Buffer
	if err := m.Bundle(t.Context(), id, p.Source, p.Branch, "", true, &out); err != nil || out.Len() == 0 {
		t.Error(err)
	}
	if change := cmp.Diff(read(t, filepath.Join(mirrorOf(t, m), "config")), "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"); change != "" {
		t.Error(change)
	}
}
