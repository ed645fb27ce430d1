package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fakeAgent speaks the agent's API from a few canned sessions. It knows nothing of the types that berth uses:
// what it says is what docs/api.md says.
//
// What becomes of a new session is its prompt's first word: one of endings, "hang" (it runs until it is
// stopped) or one of refusals.
type fakeAgent struct {
	token  string
	pid    int
	status map[string]any // over the usual one
	dir    string         // where bundles are: thin.bundle and full.bundle
	ends   string         // one of endings: how sessions end whose prompt does not say it

	mu       sync.Mutex
	changed  chan struct{} // closed when something has happened
	sessions []*fakeSession
	asked    []string // the requests that changed something, with their bodies
	listed   []string // the queries of those for a list of sessions
}

type fakeSession struct {
	fields map[string]any
	events []string
	key    string
	ends   string
}

// ending is how a canned session ends: its last event, and what of the session changes.
type ending struct {
	event  string
	fields map[string]any
}

var endings = map[string]ending{
	"succeed": {`{"type":"state","state":"succeeded"}`, map[string]any{"state": "succeeded", "result": "All done."}},
	"fail":    failing("claude_failed", "Claude Code failed"),
	"turns":   failing("max_turns", "it reached its limit of 3 turns"),
	"budget":  failing("max_budget", "it reached its budget of $1.00"),
	"timeout": failing("timeout", "it took longer than its limit of 9 s"),
	"bare":    failing("clone_failed", "there is no such repository"),
	"spend":   failing("spend_limit", "the limit of $5 a day is reached"),
	"wait": {
		`{"type":"state","state":"waiting","until":"2026-11-24T02:00:00Z","reason":"a usage limit"}`,
		map[string]any{"state": "waiting", "waiting_until": "2026-11-24T02:00:00Z", "ended_at": nil},
	},
	"hostile": failing("api_error", "the model failed: \u001b]0;owned\u0007\u001b[31mred\nlines"),
}

func failing(code, message string) ending {
	problem := map[string]any{"code": code, "message": message}
	text, _ := json.Marshal(map[string]any{"type": "state", "state": "failed", "error": problem})
	return ending{string(text), map[string]any{"state": "failed", "error": problem}}
}

// refusals are the answers to tasks that an agent does not take.
var refusals = map[string]struct {
	status        int
	code, message string
}{
	"refuse":   {400, "bad_request", "the repository ext::sh is not allowed"},
	"odd":      {422, "bad_request", "max_turns: expected number >= 0,\nnot \u001b[31m-1"},
	"huge":     {413, "prompt_too_large", "the prompt has 600000 bytes, and at most 524288 are allowed"},
	"stopping": {503, "stopping", "the agent is going down; try again when it is up"},
	"full":     {507, "volume_error", "the volume is full; make room"},
	"broken":   {500, "internal", "something went wrong; the agent's log has more"},
}

// The first two ids differ in their last digits only, and begin alike.
const idPattern = "01a20627-df5e-7b97-99ab-b87a348be%03x"

const canned = `{"type":"state","state":"preparing"}
{"type":"state","state":"running","attempt":1}
{"type":"claude","claude":{"type":"system","subtype":"init","cwd":"/volume/work/s/tree","model":"claude-x"}}
{"type":"claude","claude":{"type":"assistant","message":{"content":[{"type":"text","text":"I look around.\u001b[2J"}]}}}
{"type":"claude","claude":{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls -la"}}]}}}
{"type":"claude","claude":{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"total 0"}]}}}`

// lastShown is the last line of a transcript that canned makes.
const lastShown = "  total 0"

func newFakeAgent(token string) *fakeAgent {
	return &fakeAgent{token: token, pid: os.Getpid(), changed: make(chan struct{})}
}

// change changes the agent and wakes those who wait for it.
func (a *fakeAgent) change(how func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	how()
	close(a.changed)
	a.changed = make(chan struct{})
}

// until waits for a condition.
func (a *fakeAgent) until(ctx context.Context, holds func() bool) error {
	for {
		a.mu.Lock()
		done, changed := holds(), a.changed
		a.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *fakeAgent) add(prompt string) *fakeSession {
	s := &fakeSession{fields: map[string]any{
		"id": fmt.Sprintf(idPattern, len(a.sessions)), "state": "running", "prompt": prompt, "repo": "", "ref": "", "model": "claude-x",
		"created_at": "2026-11-23T02:00:00Z", "started_at": "2026-11-23T02:00:01Z", "ended_at": nil, "duration_seconds": 65.0,
		"attempts": 1, "turns": 2, "cost_usd": 0.25, "tokens": map[string]int{"input": 10, "output": 20, "cache_read": 3000, "cache_write": 0},
		"work_dir": "/volume/work/s/tree", "branch": "main", "pull_request": "", "error": nil, "result": "",
	}}
	a.sessions = append(a.sessions, s)
	return s
}

func (s *fakeSession) tell(event string) { s.events = append(s.events, event) }

// play plays what a message starts.
func (s *fakeSession) play(text string) {
	message, _ := json.Marshal(map[string]string{"type": "message", "text": text})
	s.tell(string(message))
	word, _, _ := strings.Cut(text, " ")
	if word == "queue" { // until the script has seen what it waits for
		s.tell(`{"type":"state","state":"queued"}`)
		s.fields["state"] = "queued"
		return
	}
	s.work()
	if word == "deliver" {
		s.tell(`{"type":"checkpoint","checkpoint":{"commit":"abcdef0123456","tree":"t","seconds":0.5}}`)
		s.tell(`{"type":"delivery","delivery":{"branch":"berth/x","commit":"c","pull_request":"https://example.com/pull/1"}}`)
		s.fields["pull_request"], word = "https://example.com/pull/1", "succeed"
	}
	if _, found := endings[word]; !found && word != "hang" {
		word = s.ends
	}
	if end, found := endings[word]; found {
		s.end(end)
	}
}

func (s *fakeSession) work() {
	for line := range strings.Lines(canned) {
		s.tell(strings.TrimSpace(line))
	}
	s.fields["state"] = "running"
}

func (s *fakeSession) end(how ending) {
	s.tell(how.event)
	s.fields["ended_at"], s.fields["error"] = "2026-11-23T02:01:06Z", nil
	for name, value := range how.fields {
		s.fields[name] = value
	}
}

func (s *fakeSession) ended() bool {
	return s.fields["ended_at"] != nil && s.fields["state"] != "running"
}

func (s *fakeSession) json() map[string]any {
	all := map[string]any{"events": len(s.events)}
	for name, value := range s.fields {
		all[name] = value
	}
	return all
}

func (a *fakeAgent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", a.tellStatus)
	mux.HandleFunc("GET /v1/spend", a.spend)
	mux.HandleFunc("GET /v1/sessions", a.list)
	mux.HandleFunc("POST /v1/sessions", a.create)
	mux.HandleFunc("GET /v1/sessions/{id}", a.session(func(w http.ResponseWriter, _ *http.Request, s *fakeSession) { answer(w, 200, s.json()) }))
	mux.HandleFunc("GET /v1/sessions/{id}/diff", a.session(func(w http.ResponseWriter, r *http.Request, _ *fakeSession) {
		patch := "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\r\n+caf\xe9\x1b[m\n"
		if r.URL.Query().Get("format") == "patch" {
			_, _ = io.WriteString(w, patch)
			return
		}
		answer(w, 200, map[string]any{"base": "abc", "patch": patch})
	}))
	mux.HandleFunc("GET /v1/sessions/{id}/bundle", a.session(a.bundle))
	mux.HandleFunc("GET /v1/sessions/{id}/events", a.events)
	mux.HandleFunc("POST /v1/sessions/{id}/messages", a.session(func(w http.ResponseWriter, r *http.Request, s *fakeSession) {
		s.play(a.note(r)["text"].(string))
		answer(w, 202, s.json())
	}))
	mux.HandleFunc("POST /v1/sessions/{id}/resume", a.session(func(w http.ResponseWriter, r *http.Request, s *fakeSession) {
		a.note(r)
		if !s.ended() {
			refuse(w, 409, "conflict", "the session is running; there is nothing to resume")
			return
		}
		s.play("succeed now")
		answer(w, 202, s.json())
	}))
	mux.HandleFunc("POST /v1/sessions/{id}/stop", a.session(func(w http.ResponseWriter, r *http.Request, s *fakeSession) {
		a.note(r)
		if s.ended() {
			refuse(w, 409, "conflict", "the session has ended already")
			return
		}
		answer(w, 202, s.json())
		s.end(ending{`{"type":"state","state":"cancelled","reason":"it was stopped on request"}`, map[string]any{"state": "cancelled"}})
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+a.token {
			refuse(w, 401, "unauthorized", "the token is wrong") //nolint:misspell // HTTP spells it so
			return
		}
		if strings.HasSuffix(r.URL.Path, "/events") {
			mux.ServeHTTP(w, r)
			return
		}
		a.change(func() { mux.ServeHTTP(w, r) })
	})
}

func (a *fakeAgent) create(w http.ResponseWriter, r *http.Request) {
	task := a.note(r)
	prompt := task["prompt"].(string)
	word, _, _ := strings.Cut(prompt, " ")
	if refusal, found := refusals[word]; found {
		refuse(w, refusal.status, refusal.code, refusal.message)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	for _, s := range a.sessions {
		if key != "" && s.key == key {
			answer(w, 200, s.json())
			return
		}
	}
	s := a.add(prompt)
	s.key, s.ends = key, a.ends
	if repo, given := task["repo"]; given {
		s.fields["repo"] = repo
	}
	s.play(prompt)
	answer(w, 201, s.json())
}

// note keeps a request, and returns its body.
func (a *fakeAgent) note(r *http.Request) (body map[string]any) {
	text, _ := io.ReadAll(r.Body)
	a.asked = append(a.asked, r.Method+" "+r.URL.Path+" "+string(text))
	_ = json.Unmarshal(text, &body)
	return body
}

func (a *fakeAgent) session(then func(http.ResponseWriter, *http.Request, *fakeSession)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, s := range a.sessions {
			if s.fields["id"] == r.PathValue("id") {
				then(w, r, s)
				return
			}
		}
		refuse(w, 404, "not_found", "there is no session "+r.PathValue("id"))
	}
}

// events streams a session's events.
func (a *fakeAgent) events(w http.ResponseWriter, r *http.Request) {
	var s *fakeSession
	a.change(func() {
		a.session(func(_ http.ResponseWriter, _ *http.Request, found *fakeSession) { s = found })(w, r)
	})
	if s == nil {
		return
	}
	next, follow := 0, r.URL.Query().Get("follow") == "true"
	_, _ = fmt.Sscan(r.URL.Query().Get("from"), &next)
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		var text strings.Builder
		var over bool
		err := a.until(r.Context(), func() bool {
			for ; next < len(s.events); next++ {
				timed := strings.Replace(s.events[next], "{", `{"time":"2026-11-23T02:00:00Z",`, 1)
				fmt.Fprintf(&text, "id: %d\ndata: %s\n\n", next, timed)
			}
			over = !follow || s.ended()
			return over || text.Len() > 0
		})
		if _, failed := io.WriteString(w, text.String()); err != nil || failed != nil || over {
			return
		}
		w.(http.Flusher).Flush()
	}
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]string{"code": code, "message": message})
}

// serve serves the agent on a port of its own, and says so in its volume, as berthd does.
func (a *fakeAgent) serve(data string) (stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	endpoint := fmt.Sprintf(`{"url":"http://%s","token":%q}`, listener.Addr(), a.token)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	return func() { _ = server.Close() }, os.WriteFile(filepath.Join(data, "endpoint.json"), []byte(endpoint), 0o600)
}

// fakeBerthd stands in for berthd in the tests of `berth up` and `berth down`: a process with the fake agent's
// API, that ends by itself before long. FAKE_BERTHD says what it does instead.
func fakeBerthd() {
	if os.Getenv("FAKE_BERTHD") != "die" {
		fmt.Fprintln(os.Stderr, "berthd", strings.Join(os.Args[1:], " "), "claude="+os.Getenv("BERTH_CLAUDE"),
			"work="+os.Getenv("BERTH_WORK"), "key file="+os.Getenv("ANTHROPIC_API_KEY_FILE"))
	}
	data := os.Getenv("BERTH_DATA")
	switch {
	case os.Getenv("FAKE_BERTHD") == "die":
		os.Exit(7)
	case os.Getenv("FAKE_BERTHD") == "fail":
		fmt.Fprintln(os.Stderr, "berthd: cannot listen on 127.0.0.1:8787: another program does")
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	agent := newFakeAgent("secret")
	if os.Getenv("FAKE_BERTHD") == "refused" {
		agent.status = map[string]any{"model": "https://api.anthropic.com", "key": "refused", "problems": []string{"the API refuses the key"}}
	}
	if _, err := agent.serve(data); err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", err)
		os.Exit(1)
	}
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	<-ctx.Done()
	_ = os.Remove(filepath.Join(data, "endpoint.json"))
	fmt.Fprintln(os.Stderr, "berthd has ended")
}
