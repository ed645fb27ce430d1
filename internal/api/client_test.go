package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// serve is an agent at the wire.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := NewClient(Endpoint{URL: server.URL, Token: "t0ken"})
	client.retry = retry{first: time.Millisecond, most: 4 * time.Millisecond, giveUp: 20 * time.Second, stall: 20 * time.Second}
	return client
}

// eventText is event i of n as it is on the wire. The last one ends the session.
func eventText(i, n int) string {
	data := fmt.Sprintf(`{"type":"notice","time":"2026-01-02T03:04:05Z","text":"%d %s"}`, i, strings.Repeat("x", i%7*100))
	if i == n-1 {
		data = `{"type":"state","time":"2026-01-02T03:04:05Z","state":"succeeded"}`
	}
	return fmt.Sprintf("id: %d\ndata: %s\n\n", i, data)
}

// firstIndex is where a request for events wants them to begin.
func firstIndex(t *testing.T, r *http.Request) int {
	text, plus := r.URL.Query().Get("from"), 0
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		text, plus = last, 1
	}
	index, err := strconv.Atoi(text)
	if err != nil {
		t.Errorf("asked for events from %q", text)
	}
	return index + plus
}

// Whatever is cut off where, each event comes once, in order.
func TestEventsOverACutConnection(t *testing.T) {
	const n = 60
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		var connections int
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/events") { // asked after an orderly end without an event
				_, _ = fmt.Fprintf(w, `{"id":"s","state":"running","events":%d}`, n)
				return
			}
			connections++
			first := firstIndex(t, r)
			text := ": alive\n\n"
			for i := max(0, first-random.IntN(2)); i < n; i++ { // sometimes one again
				text += eventText(i, n)
			}
			// A flat cut, or an orderly end in the middle.
			cut := random.IntN(4000)
			if cut >= len(text) {
				_, _ = io.WriteString(w, text)
				return
			}
			_, _ = io.WriteString(w, text[:cut])
			if random.IntN(3) > 0 {
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
		})
		next := 0
		for event, err := range client.Events(t.Context(), "s", 0, true) {
			if err != nil || event.ID != next || (event.Type == EventNotice && !strings.HasPrefix(event.Text, fmt.Sprint(next, " "))) {
				t.Fatalf("seed %d: %+v, %v, want event %d", seed, event, err, next)
			}
			next++
		}
		if next != n || connections < 3 {
			t.Errorf("seed %d: %d events of %d over %d connections", seed, next, n, connections)
		}
	}
}

func TestEventsAreChecked(t *testing.T) {
	for name, test := range map[string]struct{ stream, want string }{
		"gap":        {eventText(0, 9) + eventText(2, 9), "left out events 1 to 1"},
		"no index":   {"data: {}\n\n", "not a number"},
		"not JSON":   {"id: 0\ndata: {\n\n", "event 0 of session s cannot be read"},
		"failure":    {eventText(0, 9) + "event: failure\ndata: {\"code\":\"volume_error\",\"message\":\"the volume is gone\"}\n\n", "the volume is gone"},
		"odd reason": {"event: failure\ndata: x\n\n", "cannot be read"},
	} {
		client := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.stream) })
		var last error
		for _, err := range client.Events(t.Context(), "s", 0, true) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), test.want) || errors.Is(last, ErrUnreachable) {
			t.Errorf("%s: %v, want %q", name, last, test.want)
		}
	}
}

func TestEventsOfUnknownTypesArePassedOver(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "event: weather\ndata: fine\n\n"+eventText(0, 2)+"id: 1\ndata: {\"type\":\"state\",\"state\":\"failed\",\"novelty\":{}}\n\n")
	})
	count := 0
	for _, err := range client.Events(t.Context(), "s", 0, true) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 2 {
		t.Errorf("%d events", count)
	}
}

func TestLargeEvents(t *testing.T) {
	large := strings.Repeat("x", 5<<20)
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "id: 0\ndata: {\"type\":\"notice\",\"text\":\"%s\"}\n\n", large)
	})
	for event, err := range client.Events(t.Context(), "s", 0, false) {
		if err != nil || event.Text != large {
			t.Errorf("%d bytes, %v", len(event.Text), err)
		}
	}
}

// A refusal ends it at once; so does whoever has seen enough.
func TestEventsEndAtOnce(t *testing.T) {
	var asked atomic.Int64
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"code":"not_found","message":"no such session"}`)
	})
	for _, err := range client.Events(t.Context(), "s", 0, true) {
		refused := new(StatusError)
		if !errors.As(err, &refused) || refused.Status != 404 || refused.Err.Code != CodeNotFound {
			t.Error(err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	client = serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, eventText(0, 9)+eventText(1, 9))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	for event, err := range client.Events(t.Context(), "s", 0, true) {
		if err != nil || event.ID != 0 {
			t.Errorf("%v, %v", event, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range client.Events(ctx, "s", 0, true) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) || errors.Is(last, ErrUnreachable) {
		t.Errorf("called off: %v", last)
	}
}

// Who follows an ended session from behind its last event gets nothing, and does not wait.
func TestEventsBehindTheEnd(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			_, _ = io.WriteString(w, `{"id":"s","state":"failed","events":5}`)
		}
	})
	for event, err := range client.Events(t.Context(), "s", 5, true) {
		t.Errorf("%v, %v", event, err)
	}
}

// unreachable is a client whose agent takes no connections, and counts the attempts.
func unreachable() (*Client, *int) {
	client, attempts := NewClient(Endpoint{URL: "http://127.0.0.1:9", Token: "t0ken"}), new(int)
	client.http.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
		*attempts++
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	})
	return client, attempts
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestEventsGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, attempts := unreachable()
		began := time.Now()
		var last error
		for _, err := range client.Events(t.Context(), "s", 0, true) {
			last = err
		}
		took := time.Since(began)
		if !errors.Is(last, ErrUnreachable) || strings.Contains(last.Error(), "\n") || strings.Count(last.Error(), "cannot be reached") != 1 {
			t.Error(last)
		}
		if took < 20*time.Second || took > 30*time.Second || *attempts < 8 || *attempts > 14 {
			t.Errorf("gave up after %v and %d attempts", took, *attempts)
		}
	})
}

// An agent that takes connections and says nothing is lost as well.
func TestEventsOfASilentAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, attempts := unreachable()
		client.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			*attempts++
			reader, _ := io.Pipe()
			context.AfterFunc(r.Context(), func() { reader.CloseWithError(r.Context().Err()) })
			if *attempts > 3 {
				_ = reader.Close()
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(eventText(0, 1)))}, nil
			}
			return &http.Response{StatusCode: 200, Body: reader}, nil
		})
		began, count := time.Now(), 0
		for _, err := range client.Events(t.Context(), "s", 0, true) {
			if err != nil {
				t.Error(err)
			}
			count++
		}
		if took := time.Since(began); count != 1 || took < 3*time.Minute || took > 4*time.Minute {
			t.Errorf("%d events after %v", count, took)
		}
	})
}

func TestCalls(t *testing.T) {
	ctx := t.Context()
	client, _ := unreachable()
	_, err := client.Status(ctx)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) || strings.Count(err.Error(), "127.0.0.1:9") != 1 {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		status     int
		body, want string
	}{
		"refused":    {409, `{"code":"conflict","message":"it runs"}`, "it runs"},
		"no agent":   {502, "<html>Bad Gateway", "is not an agent: it says 502 Bad Gateway to GET /v1/status"},
		"no error":   {500, "{}", "is not an agent"},
		"redirected": {302, "", "is not an agent"},
		"no JSON":    {200, "hello", "not what its API describes"},
	} {
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer t0ken" {
				t.Errorf("%s: Authorization is %q", name, r.Header.Get("Authorization"))
			}
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		if _, err := client.Status(ctx); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := client.Status(cancelled); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
		t.Errorf("called off: %v", err)
	}
	if _, err := NewClient(Endpoint{URL: "http://[::1"}).Status(ctx); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}
