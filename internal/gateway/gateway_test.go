package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/gateway"
)

const key = "sk-ant-the-real-key"

func fixed() string { return key }

// start runs a gateway in front of an upstream, and returns its URL and what it logs.
func start(t *testing.T, config gateway.Config, upstream http.HandlerFunc) (*gateway.Gateway, string, *bytes.Buffer) {
	t.Helper()
	if upstream != nil {
		server := httptest.NewServer(upstream)
		t.Cleanup(server.Close)
		address, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if config.Upstream != nil {
			address.Path = config.Upstream.Path
		}
		config.Upstream = address
	}
	logged := new(bytes.Buffer)
	config.Log = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g := gateway.New(config)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return g, server.URL, logged
}

func request(t *testing.T, method, address string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(`{"model":"m"}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	text   string
}

// send sends a request and reads the whole answer.
func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	got, body := open(t, r)
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	got.text = string(text)
	return got
}

// open sends a request, and leaves the answer's body to be read.
func open(t *testing.T, r *http.Request) (answer, io.Reader) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return answer{status: response.StatusCode, header: response.Header}, response.Body
}

// checkRefusal checks an answer in the form of the Messages API.
func checkRefusal(t *testing.T, name string, got answer, status int, kind, says string) {
	t.Helper()
	var refusal struct {
		Type  string
		Error struct{ Type, Message string }
	}
	if err := json.Unmarshal([]byte(got.text), &refusal); err != nil {
		t.Errorf("%s: %d %q: %v", name, got.status, got.text, err)
		return
	}
	if got.status != status || refusal.Type != "error" || refusal.Error.Type != kind || !strings.Contains(refusal.Error.Message, says) {
		t.Errorf("%s: %d %s; want %d, %s, %q", name, got.status, got.text, status, kind, says)
	}
	if strings.Contains(got.text, key) || strings.Contains(refusal.Error.Message, "\n") {
		t.Errorf("%s: %s", name, got.text)
	}
}

func TestTheKeyTakesTheTokensPlace(t *testing.T) {
	var got *http.Request
	var body []byte
	g, address, logged := start(t, gateway.Config{Key: fixed, Upstream: &url.URL{Path: "/prefix/"}}, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Request-Id", "req_1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.WriteHeader(418)
		_, _ = io.WriteString(w, "teapot")
	})
	token := g.Grant("one", gateway.Budget{})
	for _, header := range [][]string{
		{"X-Api-Key", token},
		{"Authorization", "Bearer " + token},
		{"X-Api-Key", token, "Authorization", "Bearer " + token, "Cookie", "c=" + token},
		{"X-Api-Key", token, "Connection", "X-Mine", "X-Mine", token, "Te", "trailers", "Proxy-Authorization", token},
	} {
		header = append(header, "Anthropic-Version", "2023-06-01", "X-Forwarded-For", "1.2.3.4", "Accept-Encoding", "br")
		reply := send(t, request(t, "POST", address+"/v1/messages?beta=true", header...))
		if reply.status != 418 || reply.text != "teapot" || reply.header.Get("Request-Id") != "req_1" || reply.header.Get("Keep-Alive") != "" {
			t.Errorf("%+v", reply)
		}
		if got.URL.Path != "/prefix/v1/messages" || got.URL.RawQuery != "beta=true" || string(body) != `{"model":"m"}` {
			t.Errorf("upstream got %s with %q", got.URL, body)
		}
		if got.Header.Get("X-Api-Key") != key || got.Header.Get("Anthropic-Version") != "2023-06-01" || got.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("upstream got %v", got.Header)
		}
		if sent := fmt.Sprint(got.Header); strings.Contains(sent, token) || got.Header.Get("X-Forwarded-For") != "" || strings.Contains(address, got.Host) {
			t.Errorf("upstream got %s for %s", sent, got.Host)
		}
	}
	if strings.Contains(logged.String(), key) || strings.Contains(logged.String(), token) {
		t.Errorf("the log has a key: %s", logged)
	}
}

func TestWhatIsRefused(t *testing.T) {
	var asked atomic.Int64
	g, address, _ := start(t, gateway.Config{Key: fixed}, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	token, revoked, other := g.Grant("one", gateway.Budget{}), g.Grant("two", gateway.Budget{}), g.Grant("three", gateway.Budget{})
	again := g.Grant("two", gateway.Budget{})
	g.Revoke("two")
	g.Revoke("nobody")
	for name, test := range map[string]struct {
		method, path string
		header       []string
		status       int
		kind, says   string
	}{
		"no token":       {"POST", "/v1/messages", nil, 401, "authentication_error", "does not know this token"},
		"foreign token":  {"POST", "/v1/messages", []string{"X-Api-Key", "berth-x"}, 401, "authentication_error", ""},
		"the real key":   {"POST", "/v1/messages", []string{"X-Api-Key", key}, 401, "authentication_error", ""},
		"revoked":        {"POST", "/v1/messages", []string{"X-Api-Key", revoked}, 401, "authentication_error", ""},
		"revoked, too":   {"POST", "/v1/messages", []string{"Authorization", "Bearer " + again}, 401, "authentication_error", ""},
		"basic":          {"POST", "/v1/messages", []string{"Authorization", "Basic " + token}, 401, "authentication_error", ""},
		"other path":     {"GET", "/v1/models", []string{"X-Api-Key", token}, 404, "not_found_error", `"/v1/models"`},
		"files":          {"POST", "/v1/files", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"batches":        {"POST", "/v1/messages/batches", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"wrong method":   {"GET", "/v1/messages", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"with ..":        {"POST", "/v1/messages/../files", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"with %2e%2e":    {"POST", "/v1/%2e%2e/v1/messages", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"encoded":        {"POST", "/v1/%6dessages", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"encoded slash":  {"POST", "/v1%2fmessages", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"within":         {"POST", "/v1//messages", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"trailing slash": {"POST", "/v1/messages/", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"double slash":   {"POST", "//v1/messages", []string{"X-Api-Key", token}, 404, "not_found_error", ""},
		"other host":     {"POST", "/v1/messages", []string{"X-Api-Key", token, "Host", "evil.example"}, 403, "permission_error", ""},
		"from a browser": {"POST", "/v1/messages", []string{"X-Api-Key", token, "Origin", "https://evil.example"}, 403, "permission_error", ""},
	} {
		r := request(t, test.method, address+test.path, test.header...)
		if host := r.Header.Get("Host"); host != "" {
			r.Host = host
		}
		checkRefusal(t, name, send(t, r), test.status, test.kind, test.says)
	}
	if asked.Load() != 0 {
		t.Errorf("%d of them went upstream", asked.Load())
	}
	for _, good := range []*http.Request{
		request(t, "POST", address+"/v1/messages/count_tokens", "X-Api-Key", other),
		request(t, "HEAD", address+"/", "X-Api-Key", token), // answered without asking
		request(t, "POST", address+"/v1/messages?beta=true", "X-Api-Key", token),
	} {
		if reply := send(t, good); reply.status != 200 {
			t.Errorf("%s %s: %d %s", good.Method, good.URL, reply.status, reply.text)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("%d of 2 went upstream", asked.Load())
	}
}

// The first part of a reply arrives before the upstream goes on.
func TestStreamsArePassedOnAsTheyCome(t *testing.T) {
	goOn := make(chan struct{})
	g, address, _ := start(t, gateway.Config{Key: fixed}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_, _ = io.WriteString(w, "event: message_start\n\n")
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = io.WriteString(w, "event: message_stop\n\n")
	})
	_, body := open(t, request(t, "POST", address+"/v1/messages", "X-Api-Key", g.Grant("one", gateway.Budget{})))
	first := make([]byte, len("event: message_start\n\n"))
	if _, err := io.ReadFull(body, first); err != nil || string(first) != "event: message_start\n\n" {
		t.Errorf("%q, %v", first, err)
	}
	close(goOn)
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "event: message_stop\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

// A stream that the upstream cuts is cut for the session too: half a reply must not look like a whole one.
func TestCutStreamsAreCut(t *testing.T) {
	g, address, _ := start(t, gateway.Config{Key: fixed}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "event: message_start\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	_, body := open(t, request(t, "POST", address+"/v1/messages", "X-Api-Key", g.Grant("one", gateway.Budget{})))
	if text, err := io.ReadAll(body); err == nil {
		t.Errorf("%q ended in order", text)
	}
}

func TestCancellationGoesUpstream(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	g, address, _ := start(t, gateway.Config{Key: fixed}, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	r := request(t, "POST", address+"/v1/messages", "X-Api-Key", g.Grant("one", gateway.Budget{})).WithContext(ctx)
	go func() {
		response, err := http.DefaultClient.Do(r)
		if err == nil {
			err = response.Body.Close()
		}
		ended <- err
	}()
	<-arrived
	cancel()
	<-gone
	if err := <-ended; err == nil {
		t.Error("there was an answer")
	}
}

func TestWithoutAKey(t *testing.T) {
	var asked atomic.Int64
	upstream := func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("X-Api-Key") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("upstream got %v", r.Header)
		}
	}
	g, address, _ := start(t, gateway.Config{}, upstream)
	reply := send(t, request(t, "POST", address+"/v1/messages", "X-Api-Key", g.Grant("one", gateway.Budget{})))
	checkRefusal(t, "no key", reply, 403, "permission_error", "no API key is set")
	if reply := send(t, request(t, "HEAD", address+"/", "X-Api-Key", g.Grant("one", gateway.Budget{}))); reply.status != 200 || asked.Load() != 0 {
		t.Errorf("HEAD: %d, %d requests upstream", reply.status, asked.Load())
	}
	g, address, _ = start(t, gateway.Config{NoKey: true}, upstream)
	if reply := send(t, request(t, "POST", address+"/v1/messages", "X-Api-Key", g.Grant("one", gateway.Budget{}))); reply.status != 200 || asked.Load() != 1 {
		t.Errorf("an upstream that needs none: %+v", reply)
	}
}

func TestUnreachableUpstream(t *testing.T) {
	g, address, logged := start(t, gateway.Config{Key: fixed, Patience: time.Millisecond, Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("u", "pa55word")}}, nil)
	token := g.Grant("one", gateway.Budget{})
	reply := send(t, request(t, "POST", address+"/v1/messages", "X-Api-Key", token))
	checkRefusal(t, "nobody there", reply, 502, "api_error", "the model's API at 127.0.0.1:1 cannot be reached (connection refused)")
	if all := reply.text + logged.String(); strings.Contains(all, key) || strings.Contains(all, "pa55word") || strings.Contains(all, token) || !strings.Contains(all, "session=one") {
		t.Error(all)
	}
}

func TestClaudeCodeWaitsAsLong(t *testing.T) {
	for patience, want := range map[time.Duration]string{
		0:         "[API_FORCE_IDLE_TIMEOUT=0 API_TIMEOUT_MS=1260000 CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS=1260000 CLAUDE_STREAM_IDLE_TIMEOUT_MS=1260000]",
		time.Hour: "[API_FORCE_IDLE_TIMEOUT=0 API_TIMEOUT_MS=4260000 CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS=4260000 CLAUDE_STREAM_IDLE_TIMEOUT_MS=4260000]",
	} {
		if got := fmt.Sprint(gateway.Environment(patience)); got != want {
			t.Errorf("%s: %s", patience, got)
		}
	}
}
