//go:build e2e

package local

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
)

// A repository that turns out to be none, or that asks for a password, costs its session and nothing else, and at once:
// nobody is there to type a password.
func TestHostileRepositories(t *testing.T) {
	x := newTarget(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); name {
		case "secret":
			w.Header().Set("WWW-Authenticate", `Basic realm="a repository"`)
			w.WriteHeader(http.StatusUnauthorized)
		case "elsewhere":
			http.Redirect(w, r, "file:///etc", http.StatusFound)
		case "page":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<!doctype html>\n<title>hello\x1b[2J</title>\n")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ repo, ref, says string }{
		"not there":       {server.URL + "/nowhere", "", "not found"},
		"a password":      {server.URL + "/secret", "", "nobody to ask"},
		"elsewhere":       {server.URL + "/elsewhere", "", "cannot clone"},
		"a page":          {server.URL + "/page", "", "cannot clone"},
		"nobody":          {closed.URL + "/x", "", "cannot clone"},
		"no git":          {empty, "", "cannot clone " + empty},
		"no such branch":  {x.repo, "nowhere", `"nowhere"`},
		"a hostile place": {server.URL + "/$(touch%20" + x.canary + ")", "", "cannot clone"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"run", "x", "--repo=" + c.repo}
			if c.ref != "" {
				args = append(args, "--ref="+c.ref)
			}
			stdout, stderr, exit := x.berth("", args...)
			id, _, _ := strings.Cut(stdout, "\n")
			session, err := x.client.Session(t.Context(), id)
			if err != nil {
				t.Fatalf("%v: %s%s", err, stdout, stderr)
			}
			if exit != 1 || session.State != api.Failed || session.Error == nil || session.Error.Code != api.CodeCloneFailed || session.Attempts != 0 {
				t.Errorf("exit status %d, it is %s after %d attempts: %+v", exit, session.State, session.Attempts, session.Error)
			}
			var said []string
			for line := range strings.Lines(stderr) {
				if strings.HasPrefix(line, "berth: ") {
					said = append(said, line)
				}
			}
			if len(said) != 1 || !strings.Contains(stderr, c.says) {
				t.Errorf("it says %q, want one line with %q", stderr, c.says)
			}
			checkLine(t, strings.Join(said, ""), "berth: ")
			if took := session.EndedAt.Sub(session.CreatedAt); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			if left := x.processes(id); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			x.noCanary(t)
		})
	}
	if _, stderr, exit := x.berth("", "status"); exit != 0 {
		t.Errorf("afterwards the agent is unwell: exit status %d: %s", exit, stderr)
	}
}
