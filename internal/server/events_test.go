package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/api"
	"berth/internal/server"
)

// lines is a sequence of given events, and then an error unless it is nil.
func lines(err error, events ...string) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		for _, event := range events {
			if !yield(json.RawMessage(event), nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func TestEvents(t *testing.T) {
	for name, test := range map[string]struct {
		query, lastID string
		sequence      iter.Seq2[json.RawMessage, error]
		from          int
		follow        bool
		want          string
	}{
		"from the start":       {"", "", lines(nil, `{"a":1}`, `{"b":2}`), 0, true, "id: 0\ndata: {\"a\":1}\n\nid: 1\ndata: {\"b\":2}\n\n"},
		"from":                 {"?from=7", "", lines(nil, `{}`), 7, true, "id: 7\ndata: {}\n\n"},
		"without following":    {"?follow=false", "", lines(nil), 0, false, ""},
		"after the last":       {"?from=2", "11", lines(nil, `{}`), 12, true, "id: 12\ndata: {}\n\n"},
		"on more than a line":  {"", "", lines(nil, "{\"a\":\r\n1}"), 0, true, "id: 0\ndata: {\"a\":1}\n\n"},
		"cut by the agent":     {"", "", lines(fmt.Errorf("stopping: %w", context.Canceled), `{}`), 0, true, "id: 0\ndata: {}\n\n"},
		"that cannot be read":  {"", "", lines(errors.New("torn"), `{}`), 0, true, "id: 0\ndata: {}\n\nevent: failure\ndata: {\"code\":\"internal\",\"message\":\"the agent could not do this: event 1 of session " + id + ": torn\"}\n\n"},
		"from where it panics": {"", "", func(func(json.RawMessage, error) bool) { panic("kaboom") }, 0, true, "event: failure\ndata: {\"code\":\"internal\",\"message\":\"the agent could not do this: event 0 of session " + id + ": panic: kaboom\"}\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			agent := &fakeAgent{events: test.sequence}
			h, _ := handler(agent)
			listening := httptest.NewServer(h)
			defer listening.Close()
			r, err := http.NewRequest("GET", listening.URL+"/v1/sessions/"+id+"/events"+test.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			if test.lastID != "" {
				r.Header.Set("Last-Event-ID", test.lastID)
			}
			response, err := listening.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			text, err := io.ReadAll(response.Body)
			if err != nil || string(text) != test.want || response.Header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("%q, %v, %v; want %q", text, response.Header, err, test.want)
			}
			if agent.from != test.from || agent.follow != test.follow {
				t.Errorf("asked from %d, follow %t; want %d, %t", agent.from, agent.follow, test.from, test.follow)
			}
		})
	}
}

// inBubble serves an agent to one connection without a network, so that time is the test's. It returns the
// client's end, and what Serve returns in the end.
func inBubble(t *testing.T, ctx context.Context, agent server.Agent) (net.Conn, <-chan error) {
	client, other := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	accepted := make(chan net.Conn, 1)
	accepted <- other
	h, _ := handler(agent)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, &pipeListener{accepted, make(chan struct{})}, h) }()
	fmt.Fprintf(client, "GET /v1/sessions/%s/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", id, token)
	return client, served
}

type pipeListener struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case connection := <-l.accepted:
		return connection, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// A follower that never reads stops the sequence that it pulls, is dropped, and holds up nothing.
func TestFollowerThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pulls atomic.Int64
		left := make(chan struct{})
		agent := &fakeAgent{events: func(yield func(json.RawMessage, error) bool) {
			defer close(left)
			for yield(json.RawMessage(`"`+strings.Repeat("x", 64<<10)+`"`), nil) {
				pulls.Add(1)
			}
		}}
		ctx, stop := context.WithCancel(t.Context())
		client, served := inBubble(t, ctx, agent)
		response, err := http.ReadResponse(bufio.NewReader(client), nil) // and not a byte more than it takes
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		synctest.Wait()
		if n := pulls.Load(); n == 0 || n > 32 {
			t.Errorf("%d events were pulled by somebody who reads none", n)
		}
		began := time.Now()
		<-left
		if took := time.Since(began); took > 31*time.Second {
			t.Errorf("it was dropped after %v", took)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// While nothing happens a stream says that it is alive; and it ends when the server stops.
func TestQuietStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		agent := &quietAgent{}
		client, served := inBubble(t, ctx, agent)
		reader := bufio.NewReader(client)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body := bufio.NewReader(response.Body)
		began := time.Now()
		for range 3 {
			line, err := body.ReadString('\n')
			if blank, _ := body.ReadString('\n'); err != nil || line != ": alive\n" || blank != "\n" {
				t.Fatalf("%q, %q, %v", line, blank, err)
			}
		}
		if took := time.Since(began); took != 45*time.Second {
			t.Errorf("three signs of life in %v", took)
		}
		stop()
		if _, err := io.ReadAll(body); err != nil {
			t.Errorf("the stream was cut off: %v", err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// quietAgent's sessions have no events, and do not end.
type quietAgent struct{ fakeAgent }

func (*quietAgent) Events(ctx context.Context, _ string, _ int, _ bool) (iter.Seq2[json.RawMessage, error], error) {
	return func(func(json.RawMessage, error) bool) { <-ctx.Done() }, nil
}

func TestServeSaysThatItsListenerFailed(t *testing.T) {
	listener := &pipeListener{make(chan net.Conn), make(chan struct{})}
	close(listener.closed)
	h, _ := handler(&fakeAgent{})
	if err := server.Serve(t.Context(), listener, h); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestClientAndServer(t *testing.T) {
	agent := &fakeAgent{
		status: api.Status{Version: "1", PID: 7},
		diff:   api.Diff{Base: "b", Patch: "p"},
		events: lines(nil, `{"type":"state","time":"2026-01-02T03:04:05Z","state":"running","attempt":1}`, `{"type":"claude","time":"2026-01-02T03:04:05Z","claude":{"type":"result"}}`, `{"type":"state","time":"2026-01-02T03:04:06Z","state":"succeeded"}`),
	}
	h, _ := handler(agent)
	listening := httptest.NewServer(h)
	defer listening.Close()
	client := api.NewClient(api.Endpoint{URL: listening.URL + "/", Token: token})
	ctx := t.Context()
	if status, err := client.Status(ctx); err != nil || status.PID != 7 {
		t.Errorf("status %+v, %v", status, err)
	}
	task := api.NewSession{Prompt: "do <it> & \u2028 more", Options: api.Options{MaxTurns: 2}}
	if session, err := client.Create(ctx, task); err != nil || session.ID != id || !reflect.DeepEqual(agent.task, task) {
		t.Errorf("created %+v of %+v, %v", session, agent.task, err)
	}
	for name, call := range map[string]func() (*api.Session, error){
		"show":   func() (*api.Session, error) { return client.Session(ctx, id) },
		"send":   func() (*api.Session, error) { return client.Send(ctx, id, api.NewMessage{Text: "more"}) },
		"stop":   func() (*api.Session, error) { return client.Stop(ctx, id) },
		"resume": func() (*api.Session, error) { return client.Resume(ctx, id, api.Resumption{}) },
	} {
		if session, err := call(); err != nil || session.ID != id {
			t.Errorf("%s: %+v, %v", name, session, err)
		}
	}
	if list, err := client.Sessions(ctx, api.Running, api.Queued); err != nil || len(list) != 0 || len(agent.states) != 2 {
		t.Errorf("list %v of %v, %v", list, agent.states, err)
	}
	if diff, err := client.Diff(ctx, id); err != nil || *diff != agent.diff {
		t.Errorf("diff %v, %v", diff, err)
	}
	var types []string
	for event, err := range client.Events(ctx, id, 0, true) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, fmt.Sprint(event.ID, event.Type))
	}
	if got := strings.Join(types, " "); got != "0state 1claude 2state" {
		t.Errorf("events %s", got)
	}
	for _, bad := range []string{"../status", "..", "", "a/b", "?x", id + "#"} {
		_, err := client.Session(ctx, bad)
		refused := new(api.StatusError)
		coded := new(api.Error)
		if !errors.As(err, &refused) || refused.Status != 404 || !errors.As(err, &coded) || coded.Code != api.CodeNotFound {
			t.Errorf("session %q: %v", bad, err)
		}
	}
}
