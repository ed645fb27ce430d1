package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/internal/api"
	"berth/internal/server"
)

const (
	token = "s3cret-token"
	id    = "01890a5d-ac96-774b-bcce-b302099a8057"
)

// fakeAgent has one session, with the id above, and notes what is asked of it.
type fakeAgent struct {
	lock   sync.Mutex
	calls  []string
	events iter.Seq2[json.RawMessage, error]
	err    error
	diff   api.Diff
	states []api.State
	query  api.ListQuery
	key    string
	task   api.NewSession
	from   int
	follow bool
	status api.Status
}

func (a *fakeAgent) note(call string) {
	a.lock.Lock()
	a.calls = append(a.calls, call)
	a.lock.Unlock()
}

func (a *fakeAgent) session(call, id string) (api.Session, error) {
	a.note(call)
	if a.err != nil {
		return api.Session{}, a.err
	}
	return api.Session{ID: id, State: api.Queued}, nil
}

func (a *fakeAgent) Status(context.Context) api.Status { return a.status }

func (a *fakeAgent) Create(_ context.Context, task api.NewSession, key string) (api.Session, bool, error) {
	again := key != "" && a.key == key
	a.task, a.key = task, key
	session, err := a.session("create", id)
	return session, !again, err
}

func (a *fakeAgent) Sessions(query api.ListQuery) api.SessionList {
	a.note("list")
	a.states, a.query = query.States, query
	return api.SessionList{Sessions: []api.Session{}}
}

func (a *fakeAgent) Spend(context.Context) api.SpendReport {
	a.note("spend")
	return api.SpendReport{}
}

func (a *fakeAgent) Bundle(_ context.Context, _ string, full bool, w io.Writer) error {
	a.note("bundle")
	if a.err == nil {
		_, a.err = fmt.Fprint(w, "a bundle", full)
	}
	return a.err
}

func (a *fakeAgent) Session(id string) (api.Session, error) { return a.session("show", id) }

func (a *fakeAgent) Send(_ context.Context, id string, _ api.NewMessage) (api.Session, error) {
	return a.session("send", id)
}

func (a *fakeAgent) Stop(_ context.Context, id string) (api.Session, error) {
	return a.session("stop", id)
}

func (a *fakeAgent) Resume(_ context.Context, id string, _ api.Resumption) (api.Session, error) {
	return a.session("resume", id)
}

func (a *fakeAgent) Diff(context.Context, string) (api.Diff, error) {
	a.note("diff")
	return a.diff, a.err
}

func (a *fakeAgent) Events(_ context.Context, _ string, from int, follow bool) (iter.Seq2[json.RawMessage, error], error) {
	a.note("events")
	a.lock.Lock()
	defer a.lock.Unlock()
	a.from, a.follow = from, follow
	return a.events, a.err
}

var metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "berth_heartbeat 1") })

// handler is the API of an agent, and what it logs.
func handler(agent server.Agent) (http.Handler, *bytes.Buffer) {
	logged := new(bytes.Buffer)
	return server.New(agent, metrics, token, slog.New(slog.NewTextHandler(logged, nil))), logged
}

// request makes a request as berth would send it.
func request(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8787"
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// refusal decodes an answer that must be an error.
func refusal(t *testing.T, w *httptest.ResponseRecorder) api.Error {
	t.Helper()
	var fields map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &fields); err != nil || len(fields) != 2 {
		t.Fatalf("status %d with %q: want an object of code and message alone", w.Code, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
	if strings.ContainsAny(fields["message"], "\n\r") || fields["message"] == "" {
		t.Errorf("the message is %q, want one line", fields["message"])
	}
	return api.Error{Code: api.Code(fields["code"]), Message: fields["message"]}
}

func TestOperations(t *testing.T) {
	for _, test := range []struct {
		method, path, body string
		status             int
		call               string
	}{
		{"POST", "/v1/sessions", `{"prompt":"x","repo":"https://h/p","ref":"main","model":"opus[1m]","max_turns":3,"max_budget_usd":0.5,"timeout_seconds":60}`, 201, "create"},
		{"GET", "/v1/sessions", "", 200, "list"},
		{"GET", "/v1/sessions?id=8057", "", 200, "list"},
		{"GET", "/v1/sessions?order=newest&limit=3&after=" + id + "&repo=https://h/p&created_after=2026-01-02T03:04:05Z", "", 200, "list"},
		{"GET", "/v1/spend", "", 200, "spend"},
		{"GET", "/v1/sessions/" + id + "/bundle?full=true", "", 200, "bundle"},
		{"GET", "/v1/sessions/" + id, "", 200, "show"},
		{"POST", "/v1/sessions/" + id + "/messages", `{"text":"go on"}`, 202, "send"},
		{"POST", "/v1/sessions/" + id + "/stop", "", 202, "stop"},
		{"POST", "/v1/sessions/" + id + "/resume", "", 202, "resume"},
		{"POST", "/v1/sessions/" + id + "/resume", `{"max_turns":5}`, 202, "resume"},
		{"GET", "/v1/sessions/" + id + "/diff", "", 200, "diff"},
	} {
		agent := &fakeAgent{}
		h, _ := handler(agent)
		w := answer(h, request(test.method, test.path, test.body))
		if w.Code != test.status || !slices.Equal(agent.calls, []string{test.call}) {
			t.Errorf("%s %s: status %d, calls %q, %s; want %d, %s", test.method, test.path, w.Code, agent.calls, w.Body, test.status, test.call)
		}
		if strings.Contains(w.Body.String(), "$schema") {
			t.Errorf("%s %s answers %s", test.method, test.path, w.Body)
		}
		if location := w.Header().Get("Location"); test.status == 201 && location != "/v1/sessions/"+id {
			t.Errorf("Location is %q", location)
		}
	}
}

func TestListFiltersByState(t *testing.T) {
	agent := &fakeAgent{}
	h, _ := handler(agent)
	w := answer(h, request("GET", "/v1/sessions?state=queued&state=running,failed", ""))
	if want := []api.State{api.Queued, api.Running, api.Failed}; w.Code != 200 || !slices.Equal(agent.states, want) {
		t.Errorf("status %d, states %v, want %v", w.Code, agent.states, want)
	}
	if body := strings.TrimSpace(w.Body.String()); body != `{"sessions":[],"next":""}` {
		t.Errorf("no sessions are %s", body)
	}
}

func TestDiffAsText(t *testing.T) {
	h, _ := handler(&fakeAgent{diff: api.Diff{Base: "b", Patch: "--- a\xff\n"}})
	accepting := request("GET", "/v1/sessions/"+id+"/diff", "")
	accepting.Header.Set("Accept", "text/x-diff")
	for _, r := range []*http.Request{accepting, request("GET", "/v1/sessions/"+id+"/diff?format=patch", "")} {
		if w := answer(h, r); w.Body.String() != "--- a\xff\n" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/x-diff") {
			t.Errorf("%s: %q, %v", r.URL, w.Body, w.Header())
		}
	}
}

func TestErrorsOfTheAgent(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   api.Code
	}{
		{api.Errorf(api.CodeNotFound, "no such session"), 404, api.CodeNotFound},
		{api.Errorf(api.CodeConflict, "it runs"), 409, api.CodeConflict},
		{api.Errorf(api.CodeStopping, "going down"), 503, api.CodeStopping},
		{api.Errorf(api.CodeBusy, "in a moment"), 503, api.CodeBusy},
		{api.Errorf(api.CodeVolume, "disk full"), 507, api.CodeVolume},
		{errors.Join(errors.New("outer"), api.Errorf(api.CodeBadRequest, "bad")), 400, api.CodeBadRequest},
		{errors.New("boom\nwith a second line"), 500, api.CodeInternal},
		{api.Errorf("some_new_code", "what"), 500, "some_new_code"},
	} {
		h, logged := handler(&fakeAgent{err: test.err})
		w := answer(h, request("GET", "/v1/sessions/"+id, ""))
		if got := refusal(t, w); w.Code != test.status || got.Code != test.code {
			t.Errorf("%v: status %d, %+v; want %d, %s", test.err, w.Code, got, test.status, test.code)
		}
		if after := w.Header().Get("Retry-After"); (after != "") != (test.code == api.CodeBusy) {
			t.Errorf("%v: Retry-After is %q", test.err, after)
		}
		if test.code == api.CodeInternal && !strings.Contains(logged.String(), "boom") {
			t.Errorf("not in the log: %v", test.err)
		}
	}
}

func TestPanicIsAnsweredWithoutItsStack(t *testing.T) {
	h, logged := handler(&panickingAgent{})
	w := answer(h, request("GET", "/v1/status", ""))
	got := refusal(t, w)
	if w.Code != 500 || got.Code != api.CodeInternal || strings.Contains(w.Body.String(), "kaboom") || strings.Contains(w.Body.String(), ".go:") {
		t.Errorf("status %d, %s", w.Code, w.Body)
	}
	if !strings.Contains(logged.String(), "kaboom") || !strings.Contains(logged.String(), "server_test.go") {
		t.Errorf("the log says %s", logged)
	}
}

type panickingAgent struct{ fakeAgent }

func (*panickingAgent) Status(context.Context) api.Status { panic("kaboom") }

func TestHealthNeedsNoToken(t *testing.T) {
	agent := &fakeAgent{}
	h, _ := handler(agent)
	for _, path := range []string{"/healthz", "/readyz"} {
		r := request("GET", path, "")
		r.Header.Del("Authorization")
		if w := answer(h, r); w.Code != 200 || w.Body.String() != "ok\n" {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	agent.status.Problems = []string{"there is no key", "claude is missing"}
	stranger := request("GET", "/readyz", "")
	stranger.Header.Del("Authorization")
	if w := answer(h, stranger); w.Code != 503 || w.Body.String() != "not ready: `berth status` says why\n" {
		t.Errorf("/readyz without a token: %d %q", w.Code, w.Body)
	}
	if w := answer(h, request("GET", "/readyz", "")); w.Code != 503 || w.Body.String() != "there is no key\nclaude is missing\n" {
		t.Errorf("/readyz: %d %q", w.Code, w.Body)
	}
	if w := answer(h, request("GET", "/healthz", "")); w.Code != 200 {
		t.Errorf("/healthz: %d", w.Code)
	}
}
