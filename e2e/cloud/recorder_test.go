//go:build e2e

package cloud

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// recorder stands before the emulator, and remembers what was called. What starts a session with a task, which the emulator has nothing
// for, it answers itself.
type recorder struct {
	*httptest.Server

	mu    sync.Mutex
	calls []string
}

func newRecorder(t *testing.T, emulator string, tasks *fargate) *recorder {
	t.Helper()
	target, err := url.Parse(emulator)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	forward := &httputil.ReverseProxy{Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(target)
		request.Out.Host = request.In.Host // the signature is over it, and answers lead to it
	}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		switch r.remember(request) {
		case "StartSession":
			tasks.startSession(w, request)
			return
		case "ExecuteCommand":
			tasks.executeCommand(w, request)
			return
		}
		forward.ServeHTTP(w, request)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) address() string { return strings.TrimPrefix(r.URL, "http://") }

// reading is what calls begin with that change nothing.
var reading = regexp.MustCompile(`^(Describe|List|Get|BatchGet|Filter|Lookup|Validate|View|Search)`)

// remember notes a call that changes something, and returns its name. It is in a header, in a form, in a path (of CBOR), or is the method.
func (r *recorder) remember(request *http.Request) (action string) {
	name := request.Method + " " + request.URL.Path
	changes := request.Method != http.MethodGet && request.Method != http.MethodHead
	if target := request.Header.Get("X-Amz-Target"); target != "" {
		action = target[strings.LastIndex(target, ".")+1:]
	} else if _, operation, found := strings.Cut(request.URL.Path, "/operation/"); found {
		action = operation
	} else if strings.HasPrefix(request.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body, _ := io.ReadAll(request.Body)
		request.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		action = form.Get("Action")
	}
	if action != "" {
		name, changes = action, !reading.MatchString(action)
	}
	if changes {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls = append(r.calls, name)
	}
	return action
}

func (r *recorder) mutating() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.calls...)
}

func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = nil
}
