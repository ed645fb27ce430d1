package workspace_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/api"
	"berth/internal/workspace"
)

// bareOrigin is a bare copy of an origin, that can be pushed to.
func bareOrigin(t *testing.T) (dir string, commits map[string]string) {
	t.Helper()
	from, commits := origin(t)
	dir = filepath.Join(t.TempDir(), "bare.git")
	run(t, from, "clone", "--quiet", "--bare", from, dir)
	return dir, commits
}

// work has a session commit something, and leave something uncommitted.
func work(t *testing.T, p workspace.Place) {
	t.Helper()
	write(t, filepath.Join(p.Tree, "committed"), "work\n")
	run(t, p.Tree, "add", "--all")
	run(t, p.Tree, "commit", "--quiet", "-m", "by the session")
	write(t, filepath.Join(p.Tree, "uncommitted"), "more\n")
}

func TestDeliver(t *testing.T) {
	from, commits := bareOrigin(t)
	m, p := mirrors(t), place(t, from)
	base := prepared(t, m, p)
	request := workspace.Request{Title: "A title", Body: "A body", Base: base}
	if nothing := m.Deliver(t.Context(), p, request); nothing != (api.Delivery{}) {
		t.Errorf("before there is a checkpoint: %+v", nothing)
	}
	saved(t, m, p)
	if nothing := m.Deliver(t.Context(), p, request); nothing != (api.Delivery{}) {
		t.Errorf("nothing was changed: %+v", nothing)
	}
	work(t, p)
	head := run(t, p.Tree, "rev-parse", "HEAD")
	saved(t, m, p)
	first := m.Deliver(t.Context(), p, request)
	if first.Problem != "" || first.Branch != p.Branch || first.PullRequest != "" {
		t.Fatalf("%+v", first)
	}
	said := run(t, from, "log", "-1", "--format=%H %P %an <%ae> %s", p.Branch)
	if said != first.Commit+" "+head+" Claude <noreply@anthropic.com> A title" {
		t.Error(said)
	}
	if files := run(t, from, "ls-tree", "--name-only", p.Branch); files != "committed\none\ntwo\nuncommitted" {
		t.Error(files)
	}
	if again := m.Deliver(t.Context(), p, request); again != first {
		t.Errorf("%+v, then %+v", first, again)
	}
	// Another title, and then all committed, take its place.
	request.Title = "Another"
	if next := m.Deliver(t.Context(), p, request); next.Problem != "" || next.Commit == first.Commit {
		t.Errorf("%+v", next)
	}
	run(t, p.Tree, "add", "--all")
	run(t, p.Tree, "commit", "--quiet", "-m", "the rest")
	saved(t, m, p)
	last := m.Deliver(t.Context(), p, request)
	if want := run(t, p.Tree, "rev-parse", "HEAD"); last.Commit != want || last.Problem != "" || run(t, from, "rev-parse", p.Branch) != want {
		t.Errorf("%+v, want %s", last, want)
	}
	if main := run(t, from, "rev-parse", "main"); main != commits["two"] {
		t.Error(main)
	}
	// What somebody else has pushed stays.
	run(t, from, "update-ref", "refs/heads/"+p.Branch, commits["three"])
	write(t, filepath.Join(p.Tree, "later"), "x")
	saved(t, m, p)
	refused := m.Deliver(t.Context(), p, request)
	if !strings.Contains(refused.Problem, "somebody else has pushed") || !strings.Contains(refused.Problem, "`berth pull "+id+"`") || refused.Commit != "" {
		t.Errorf("%+v", refused)
	}
	if now := run(t, from, "rev-parse", p.Branch); now != commits["three"] {
		t.Error(now)
	}
}

// An agent that was killed between a push and its record goes on from what it finds.
func TestDeliverAfterAKill(t *testing.T) {
	from, _ := bareOrigin(t)
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	work(t, p)
	saved(t, m, p)
	first := m.Deliver(t.Context(), p, workspace.Request{})
	run(t, mirrorOf(t, m), "update-ref", "-d", "refs/delivered/"+id)
	if again := m.Deliver(t.Context(), p, workspace.Request{}); again != first || again.Problem != "" {
		t.Errorf("%+v, then %+v", first, again)
	}
	run(t, mirrorOf(t, m), "update-ref", "-d", "refs/delivered/"+id)
	run(t, p.Tree, "fetch", "--quiet", "origin")
	run(t, p.Tree, "reset", "--quiet", "--hard", "origin/"+p.Branch)
	write(t, filepath.Join(p.Tree, "more"), "x")
	saved(t, m, p)
	if next := m.Deliver(t.Context(), p, workspace.Request{}); next.Problem != "" || next.Commit == first.Commit {
		t.Errorf("%+v", next)
	}
}

func TestDeliverIsRefused(t *testing.T) {
	from, _ := bareOrigin(t)
	hook := filepath.Join(from, "hooks", "pre-receive")
	mkdir(t, filepath.Dir(hook))
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho 'policy 17 says no' >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m, p := mirrors(t), place(t, from)
	prepared(t, m, p)
	work(t, p)
	saved(t, m, p)
	refused := m.Deliver(t.Context(), p, workspace.Request{})
	if !strings.Contains(refused.Problem, "policy 17 says no") || !strings.Contains(refused.Problem, "berth diff") || strings.Contains(refused.Problem, "\n") {
		t.Errorf("%+v", refused)
	}
	if err := os.Rename(from, from+"x"); err != nil {
		t.Fatal(err)
	}
	if gone := m.Deliver(t.Context(), p, workspace.Request{}); gone.Problem == "" || gone.Commit != "" {
		t.Errorf("%+v", gone)
	}
	p.Source.Repo = ""
	if nowhere := m.Deliver(t.Context(), p, workspace.Request{}); nowhere != (api.Delivery{}) {
		t.Errorf("%+v", nowhere)
	}
}

const token = "ghp_a-secret-that-nobody-else-sees"

// hub is a GitHub on loopback: repositories over https, for those with the token, and the API.
type hub struct {
	*httptest.Server
	t    *testing.T
	root string

	mu     sync.Mutex
	pulls  []map[string]any
	asked  []string // calls of the API
	leaks  []string
	denied bool
}

func newHub(t *testing.T) *hub {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	bare, _ := bareOrigin(t)
	h := &hub{t: t, root: t.TempDir()}
	mkdir(t, filepath.Join(h.root, "me"))
	if err := os.Rename(bare, filepath.Join(h.root, "me", "app.git")); err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Join(h.root, "me", "app.git"), "config", "http.receivepack", "true")
	backend := &cgi.Handler{
		Path: filepath.Join(run(t, h.root, "--exec-path"), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + h.root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=me"},
		InheritEnv: []string{"PATH"}, Stderr: &bytes.Buffer{},
	}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v3/") {
			h.answer(w, r)
			return
		}
		if user, password, _ := r.BasicAuth(); user != "x-access-token" || password != token {
			w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		h.lookForLeaks()
		r.Header.Del("Authorization") // or the backend's environment would have it
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "authority.pem")
	write(t, file, string(authority))
	t.Setenv("GIT_SSL_CAINFO", file)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := http.DefaultTransport.(*http.Transport)
	before := transport.TLSClientConfig
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	t.Cleanup(func() { transport.TLSClientConfig = before })
	return h
}

// lookForLeaks looks at every process while git has the token.
func (h *hub) lookForLeaks() {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		h.t.Error(err)
	}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		h.t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, file := range append(files, environments...) {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(token)) {
			h.leaks = append(h.leaks, file)
		}
	}
}

func (h *hub) answer(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, r.Method+" "+r.URL.RequestURI())
	w.Header().Set("Content-Type", "application/json")
	fail := func(status int, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"message": message})
	}
	switch {
	case r.Header.Get("Authorization") != "Bearer "+token:
		fail(http.StatusUnauthorized, "Bad credentials")
	case h.denied:
		fail(http.StatusForbidden, "Resource not accessible by personal access token")
	case r.URL.Path != "/api/v3/repos/me/app/pulls":
		fail(http.StatusNotFound, "Not Found")
	case r.Method == http.MethodGet:
		open := []map[string]any{}
		for _, pull := range h.pulls {
			if "me:"+pull["head"].(map[string]any)["ref"].(string) == r.URL.Query().Get("head") && r.URL.Query().Get("state") == "open" {
				open = append(open, pull)
			}
		}
		_ = json.NewEncoder(w).Encode(open)
	default:
		var wanted map[string]any
		if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
			fail(http.StatusBadRequest, err.Error())
			return
		}
		made := map[string]any{
			"html_url": fmt.Sprintf("%s/me/app/pull/%d", h.URL, len(h.pulls)+1), "title": wanted["title"], "body": wanted["body"],
			"head": map[string]any{"ref": wanted["head"]}, "base": map[string]any{"ref": wanted["base"]},
		}
		h.pulls = append(h.pulls, made)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(made)
	}
}

func (h *hub) mirrors(given *string) *workspace.Mirrors {
	h.t.Helper()
	return workspace.NewMirrors(filepath.Join(h.t.TempDir(), "repos"), workspace.MirrorConfig{
		GitHubAPI: h.URL + "/api/v3",
		Credential: func(host string) (string, string) {
			if host != strings.TrimPrefix(h.URL, "https://") {
				h.t.Errorf("asked for the token of %s", host)
			}
			return "", *given
		},
	})
}

func TestPullRequest(t *testing.T) {
	h := newHub(t)
	given := token
	m := h.mirrors(&given)
	p := place(t, h.URL+"/me/app.git")
	p.Source.Ref = "topic/x"
	prepared(t, m, p)
	work(t, p)
	saved(t, m, p)
	request := workspace.Request{Title: "A title", Body: "A body"}
	first := m.Deliver(t.Context(), p, request)
	if first.Problem != "" || first.PullRequest != h.URL+"/me/app/pull/1" || first.Commit == "" {
		t.Fatalf("%+v", first)
	}
	want := map[string]any{
		"html_url": first.PullRequest, "title": "A title", "body": "A body",
		"head": map[string]any{"ref": p.Branch}, "base": map[string]any{"ref": "topic/x"},
	}
	if change := cmp.Diff([]map[string]any{want}, h.pulls); change != "" {
		t.Error(change)
	}
	write(t, filepath.Join(p.Tree, "more"), "x")
	saved(t, m, p)
	if again := m.Deliver(t.Context(), p, request); again.Problem != "" || again.PullRequest != first.PullRequest || len(h.pulls) != 1 || again.Commit == first.Commit {
		t.Errorf("%+v", again)
	}
	if len(h.leaks) > 0 {
		t.Errorf("the token was in %s", h.leaks)
	}
	noToken(t, m.Dir(), filepath.Dir(p.Tree), h.root, os.TempDir())

	h.denied = true
	denied := m.Deliver(t.Context(), p, request)
	if denied.Commit == "" || denied.PullRequest != "" || !strings.Contains(denied.Problem, "Resource not accessible") || strings.Contains(denied.Problem, token) {
		t.Errorf("%+v", denied)
	}
	write(t, filepath.Join(p.Tree, "even more"), "x")
	saved(t, m, p)
	given = "a wrong one"
	refused := m.Deliver(t.Context(), p, request)
	if refused.Commit != "" || refused.Problem == "" || strings.Contains(refused.Problem, given) {
		t.Errorf("%+v", refused)
	}
	given = ""
	none := m.Deliver(t.Context(), p, request)
	if none.Commit != "" || !strings.Contains(none.Problem, "no token for 127.0.0.1") || !strings.Contains(none.Problem, "`berth pull "+id+"`") {
		t.Errorf("%+v", none)
	}
	given = token // it was renewed
	h.denied = false
	if renewed := m.Deliver(t.Context(), p, request); renewed.Problem != "" || renewed.PullRequest != first.PullRequest {
		t.Errorf("%+v", renewed)
	}
}

// noToken checks that no file below some directories has the token in it.
func noToken(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		command := exec.Command("grep", "--recursive", "--fixed-strings", "--files-with-matches", "--devices=skip", "--exclude=*.test", "--exclude-dir=go-build*", "--", token, dir)
		found, err := command.Output()
		if exit := new(exec.ExitError); len(found) > 0 || err != nil && !errors.As(err, &exit) {
			t.Errorf("the token is in %s (%v)", found, err)
		}
	}
}

// The next session starts from what was pushed from here, and from what became of it at the origin.
func TestTheNextSessionSeesWhatWasPushed(t *testing.T) {
	from, _ := bareOrigin(t)
	m, first := mirrors(t), place(t, from)
	base := prepared(t, m, first)
	work(t, first)
	saved(t, m, first)
	done := m.Deliver(t.Context(), first, workspace.Request{Title: "A title", Base: base})
	if done.Problem != "" {
		t.Fatal(done.Problem)
	}
	next := func(ref string) workspace.Place {
		p := place(t, from)
		p.Source.Ref = ref
		return p
	}
	second := next(first.Branch)
	if base := prepared(t, m, second); base != done.Commit {
		t.Errorf("it starts from %s, not from %s", base, done.Commit)
	}
	if at := run(t, second.Tree, "rev-parse", "origin/"+first.Branch); at != done.Commit {
		t.Error(at)
	}
	run(t, from, "update-ref", "refs/heads/main", done.Commit) // it is merged, and the branch removed
	run(t, from, "branch", "--quiet", "-D", first.Branch)
	run(t, from, "branch", "berth", done.Commit) // which was a directory of branches
	third := next("")
	if base := prepared(t, m, third); base != done.Commit {
		t.Errorf("it starts from %s, not from %s", base, done.Commit)
	}
	if branches := run(t, third.Tree, "for-each-ref", "--format=%(refname)", "refs/remotes/origin/berth*"); branches != "refs/remotes/origin/berth" {
		t.Error(branches)
	}
	if _, err := m.Prepare(t.Context(), next(first.Branch)); err == nil {
		t.Error("the branch is gone")
	}
	saved(t, m, third)
}
