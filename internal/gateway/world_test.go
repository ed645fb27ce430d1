package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/api"
	"berth/internal/gateway"
)

// pipes is a network within a bubble of testing/synctest, where sockets would keep the clock from moving on.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func newPipes() *pipes { return &pipes{connections: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.connections <- there:
		return here, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// world is a gateway between a session and an upstream that tests play, in a bubble.
type world struct {
	t      *testing.T
	g      *gateway.Gateway
	ledger *gateway.Ledger
	client *http.Client
	token  string
	began  time.Time

	upstream *pipes

	lock    sync.Mutex
	key     string
	asked   []time.Duration // when requests came to the upstream
	probes  []time.Duration
	keys    []string // of requests, probes included
	reports []api.Request
	notices []string
	parked  []time.Time
	why     []string
	refused []string
	logged  strings.Builder
}

// Write is for the log.
func (w *world) Write(text []byte) (int, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.logged.Write(text)
}

// play answers requests for messages, by their number from 1.
type play func(w http.ResponseWriter, r *http.Request, number int)

// inWorld runs a test in a bubble. The upstream's probes are answered with what probe says; 404 if it is nil.
func inWorld(t *testing.T, change func(*gateway.Config), upstream play, probe http.HandlerFunc, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, key: key, began: time.Now(), upstream: newPipes()}
		var stop []func()
		defer func() {
			for _, each := range stop {
				each()
			}
			synctest.Wait()
		}()
		serve := func(listener net.Listener, handler http.Handler) {
			server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: time.Hour}
			go func() { _ = server.Serve(listener) }()
			stop = append(stop, func() { _ = server.Close() })
		}
		serve(w.upstream, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.answer(rw, r, upstream, probe) }))
		ledger, err := gateway.OpenLedger("", "", gateway.Limits{}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		config := gateway.Config{
			Upstream: &url.URL{Scheme: "http", Host: "upstream.test"}, Key: w.currentKey, Ledger: ledger,
			Log:    slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Report: func(_ string, r api.Request) { w.note(func() { w.reports = append(w.reports, r) }) },
			Notice: func(_, text string) { w.note(func() { w.notices = append(w.notices, text) }) },
			Park: func(_ string, at time.Time, why string) {
				w.note(func() { w.parked, w.why = append(w.parked, at), append(w.why, why) })
			},
			Refused: func(_, why string) { w.note(func() { w.refused = append(w.refused, why) }) },
		}
		if change != nil {
			change(&config)
		}
		w.ledger = config.Ledger
		w.g = gateway.New(config)
		transport := &http.Transport{DialContext: w.upstream.dial, DisableCompression: true}
		w.g.Through(transport)
		front := newPipes()
		serve(front, w.g)
		w.client = &http.Client{Transport: &http.Transport{DialContext: front.dial}}
		stop = append(stop, w.g.Close, transport.CloseIdleConnections, w.client.CloseIdleConnections)
		w.token = w.g.Grant("one", gateway.Budget{})
		test(w)
		w.lock.Lock()
		defer w.lock.Unlock()
		if all := fmt.Sprint(w.logged.String(), w.notices, w.why, w.refused, w.reports); strings.Contains(all, key) || strings.Contains(all, w.token) {
			t.Errorf("a key is told: %s", all)
		}
	})
}

func (w *world) note(what func()) {
	w.lock.Lock()
	defer w.lock.Unlock()
	what()
}

func (w *world) currentKey() string {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.key
}

func (w *world) probed() int {
	w.lock.Lock()
	defer w.lock.Unlock()
	return len(w.probes)
}

func (w *world) setKey(key string) { w.note(func() { w.key = key }) }

func (w *world) answer(rw http.ResponseWriter, r *http.Request, upstream play, probe http.HandlerFunc) {
	w.lock.Lock()
	w.keys = append(w.keys, r.Header.Get("X-Api-Key"))
	if r.Method == http.MethodGet && r.URL.Path == "/v1/models" && r.URL.RawQuery == "limit=1" {
		w.probes = append(w.probes, time.Since(w.began))
		w.lock.Unlock()
		if probe == nil {
			http.NotFound(rw, r)
		} else {
			probe(rw, r)
		}
		return
	}
	w.asked = append(w.asked, time.Since(w.began))
	number := len(w.asked)
	w.lock.Unlock()
	_, _ = io.ReadAll(r.Body)
	upstream(rw, r, number)
}

// got is what a session got.
type got struct {
	status int
	text   string
	err    error // that the reply ended with
	after  time.Duration
	header http.Header
}

const streamBody = `{"model":"claude-sonnet-4-6","max_tokens":1000,"stream":true,"messages":[]}`

// ask sends a request and reads the answer.
func (w *world) ask(body string) got { return w.askAs(w.t.Context(), w.token, body) }

func (w *world) askAs(ctx context.Context, token, body string) got {
	began := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/v1/messages?beta=true", strings.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return got{err: err}
	}
	r.Header.Set("X-Api-Key", token)
	reply, err := w.client.Do(r)
	if err != nil {
		return got{err: err, after: time.Since(began)}
	}
	defer reply.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(reply.Body)
	return got{reply.StatusCode, string(text), err, time.Since(began), reply.Header}
}

// message is what an error says.
func (g got) message() string {
	var e struct {
		Error struct{ Type, Message string }
	}
	if json.Unmarshal([]byte(g.text), &e) != nil {
		return ""
	}
	return e.Error.Type + ": " + e.Error.Message
}

const (
	startText = `{"type":"message_start","message":{"model":"claude-sonnet-4-6","usage":{"input_tokens":100,"output_tokens":1}}}`
	wordText  = `{"type":"content_block_delta","delta":{"type":"text_delta","text":"0123456789"}}`
	endText   = `{"type":"message_delta","usage":{"output_tokens":20}}`
	stopText  = `{"type":"message_stop"}`
	goodCost  = (100*3 + 20*15) / 1e6
)

// stream sends events, and flushes each.
func stream(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	for _, event := range events {
		_, _ = fmt.Fprintf(w, "data: %s\n\n", event)
		_ = http.NewResponseController(w).Flush()
	}
}

func good(w http.ResponseWriter) { stream(w, startText, wordText, endText, stopText) }

// fail answers with an error in the API's form.
func fail(w http.ResponseWriter, status int, kind, message string, header ...string) {
	for i := 0; i < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"error","error":{"type":%q,"message":%q}}`, kind, message)
}
