package workspace_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/workspace"
)

// run runs git in a directory, with a name for its commits and nobody's configuration.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	command := exec.Command("git", args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, output)
	}
	return strings.TrimSpace(string(output))
}

// origin is a repository with the commits one and two on main, one also tagged v1, and three on the
// branch topic/x.
func origin(t *testing.T) (dir string, commits map[string]string) {
	t.Helper()
	dir, commits = filepath.Join(t.TempDir(), "origin"), map[string]string{}
	mkdir(t, dir)
	run(t, dir, "init", "--quiet", "--initial-branch=main")
	commit := func(name string) {
		write(t, filepath.Join(dir, name), name+"\n")
		run(t, dir, "add", "--all")
		run(t, dir, "commit", "--quiet", "-m", name)
		commits[name] = run(t, dir, "rev-parse", "HEAD")
	}
	commit("one")
	run(t, dir, "tag", "-a", "-m", "first", "v1")
	commit("two")
	run(t, dir, "checkout", "--quiet", "-b", "topic/x")
	commit("three")
	run(t, dir, "checkout", "--quiet", "main")
	return dir, commits
}

// prepareTree makes a tree from a volume of its own.
func prepareTree(ctx context.Context, t *testing.T, tree string, source workspace.Source, branch string) (string, error) {
	t.Helper()
	return mirrors(t).Prepare(ctx, workspace.Place{ID: id, Source: source, Branch: branch, Tree: tree})
}

func TestPrepare(t *testing.T) {
	from, commits := origin(t)
	for ref, want := range map[string]string{
		"": "two", "HEAD": "two", "main": "two", "topic/x": "three", "v1": "one", "refs/tags/v1": "one", "refs/heads/topic/x": "three",
		commits["one"]: "one", commits["three"][:12]: "three",
	} {
		tree := filepath.Join(t.TempDir(), "tree")
		mkdir(t, tree) // an empty one is fine
		base, err := prepareTree(t.Context(), t, tree, workspace.Source{Repo: from, Ref: ref}, "berth/1234")
		if err != nil || base != commits[want] {
			t.Errorf("ref %q: %s, %v; want %s", ref, base, err, commits[want])
			continue
		}
		if head := run(t, tree, "rev-parse", "HEAD"); head != base {
			t.Errorf("ref %q: HEAD is %s", ref, head)
		}
		if branch := run(t, tree, "symbolic-ref", "HEAD"); branch != "refs/heads/berth/1234" {
			t.Errorf("ref %q: on %s", ref, branch)
		}
		if status := run(t, tree, "status", "--porcelain"); status != "" {
			t.Errorf("ref %q: %s", ref, status)
		}
		if _, err := os.Stat(filepath.Join(tree, want)); err != nil {
			t.Error(err)
		}
		onlyEntry(t, tree)
	}
}

// onlyEntry checks that nothing was left beside a directory.
func onlyEntry(t *testing.T, tree string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(tree))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != filepath.Base(tree) {
			t.Errorf("%s was left", entry.Name())
		}
	}
}

// A commit that no branch leads to is fetched, if the origin gives it.
func TestPrepareACommitOfNoBranch(t *testing.T) {
	from, commits := origin(t)
	run(t, from, "branch", "--quiet", "-D", "topic/x")
	tree := filepath.Join(t.TempDir(), "tree")
	base, err := prepareTree(t.Context(), t, tree, workspace.Source{Repo: from, Ref: commits["three"]}, "b")
	if err != nil || base != commits["three"] {
		t.Errorf("%s, %v", base, err)
	}
}

func TestPrepareWithoutARepository(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "tree")
	base, err := prepareTree(t.Context(), t, tree, workspace.Source{}, "berth/1234")
	if base != "" || err != nil {
		t.Fatal(base, err)
	}
	if head := run(t, tree, "symbolic-ref", "HEAD"); head != "refs/heads/main" {
		t.Error(head)
	}
	empty := filepath.Join(t.TempDir(), "tree")
	base, err = prepareTree(t.Context(), t, empty, workspace.Source{Repo: tree}, "berth/1234")
	if base != "" || err != nil {
		t.Fatal(base, err)
	}
	if head := run(t, empty, "symbolic-ref", "HEAD"); head != "refs/heads/berth/1234" {
		t.Error(head)
	}
}

func TestPrepareFails(t *testing.T) {
	from, _ := origin(t)
	full := t.TempDir()
	write(t, filepath.Join(full, "file"), "mine")
	plain := t.TempDir()
	shallow := filepath.Join(t.TempDir(), "shallow")
	run(t, from, "commit", "-q", "--allow-empty", "-m", "another")
	run(t, plain, "clone", "-q", "--depth=1", "file://"+from, shallow)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/secret") {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	for name, test := range map[string]struct {
		tree   string
		source workspace.Source
		code   api.Code
		says   string
	}{
		"no such ref":       {"", workspace.Source{Repo: from, Ref: "nope"}, api.CodeCloneFailed, `no branch, tag or commit "nope"`},
		"no such commit":    {"", workspace.Source{Repo: from, Ref: strings.Repeat("ab", 20)}, api.CodeCloneFailed, "no branch, tag or commit"},
		"shallow":           {"", workspace.Source{Repo: shallow}, api.CodeCloneFailed, "shallow clone; run `git fetch --unshallow`"},
		"no repository":     {"", workspace.Source{Repo: plain}, api.CodeCloneFailed, "is no git repository"},
		"asks for password": {"", workspace.Source{Repo: server.URL + "/secret/x"}, api.CodeCloneFailed, "asks for a user's name and password"},
		"not found":         {"", workspace.Source{Repo: server.URL + "/x"}, api.CodeCloneFailed, "not found"},
		"nobody there":      {"", workspace.Source{Repo: "http://127.0.0.1:1/x"}, api.CodeCloneFailed, "Failed to connect"},
		"hostile":           {"", workspace.Source{Repo: "ext::sh"}, api.CodeCloneFailed, "transport"},
		"not empty":         {full, workspace.Source{Repo: from}, api.CodeCloneFailed, "not an empty directory"},
		"a file":            {filepath.Join(full, "file"), workspace.Source{}, api.CodeCloneFailed, "not an empty directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := test.tree
			if tree == "" {
				tree = filepath.Join(t.TempDir(), "tree")
				defer func() {
					if _, err := os.Stat(tree); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("the tree is there: %v", err)
					}
				}()
			}
			began := time.Now()
			_, err := prepareTree(t.Context(), t, tree, test.source, "b")
			coded := new(api.Error)
			if !errors.As(err, &coded) || coded.Code != test.code || !strings.Contains(coded.Message, test.says) || strings.Contains(coded.Message, "\n") {
				t.Errorf("%v; want %s, %q", err, test.code, test.says)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if test.tree == "" {
				onlyEntry(t, tree)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(full, "file")); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

// A clone that hangs ends with its context, with all its processes, and leaves nothing.
func TestPrepareIsCalledOff(t *testing.T) {
	asked := make(chan struct{}, 1)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	tree := filepath.Join(t.TempDir(), "tree")
	ended := make(chan error)
	go func() {
		_, err := prepareTree(ctx, t, tree, workspace.Source{Repo: server.URL + "/x"}, "b")
		ended <- err
	}()
	<-asked
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	onlyEntry(t, tree)
}

// Hooks, filters and the like of a repository that is cloned, or of the user's own configuration, stay out.
func TestPrepareRunsNothing(t *testing.T) {
	from, _ := origin(t)
	canary := filepath.Join(t.TempDir(), "canary")
	home := t.TempDir()
	write(t, filepath.Join(home, ".gitconfig"), "[core]\n\tfsmonitor = touch "+canary+"; false\n[filter \"evil\"]\n\tsmudge = touch "+canary+"; cat\n[uploadpack]\n\tpackObjectsHook = touch "+canary+";\n[init]\n\ttemplateDir = "+home+"\n")
	mkdir(t, filepath.Join(home, "hooks"))
	script := "#!/bin/sh\ntouch " + canary + "\n"
	for _, hook := range []string{filepath.Join(home, "hooks"), filepath.Join(from, ".git", "hooks")} {
		mkdir(t, hook)
		if err := os.WriteFile(filepath.Join(hook, "post-checkout"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, from, "config", "uploadpack.packObjectsHook", "touch "+canary+";")
	run(t, from, "config", "filter.evil.smudge", "touch "+canary+"; cat")
	write(t, filepath.Join(from, ".gitattributes"), "* filter=evil\n")
	write(t, filepath.Join(from, ".gitmodules"), "[submodule \"x\"]\n\tpath = x\n\turl = ext::touch% "+canary+"\n\tupdate = !touch "+canary+"\n")
	run(t, from, "-c", "core.hooksPath=/dev/null", "add", ".gitattributes", ".gitmodules")
	run(t, from, "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("ab", 20)+",x")
	run(t, from, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", "evil")
	if err := os.RemoveAll(canary); err != nil { // what making it has done
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	if _, err := prepareTree(t.Context(), t, filepath.Join(t.TempDir(), "tree"), workspace.Source{Repo: from}, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("something was run")
	}
}
