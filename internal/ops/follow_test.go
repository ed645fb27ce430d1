package ops

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/api"
)

// frames are what was written to the live line, in order: a line that was cleared and written anew each time.
func frames(shown string) []string { return strings.Split(shown, clearLine) }

// A bubble's clock stands still until every goroutine waits, so that the pictures are always the same.
func TestLiveLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all streams
		to := terminalFor(&all, 60)
		to.colourOut, to.colourErr = false, false
		start := time.Now()
		events := func(yield func(api.Event, error) bool) {
			say := func(event api.Event) bool { event.Time = time.Now(); return yield(event, nil) }
			claude := func(text string) { say(api.Event{Type: api.EventClaude, Claude: json.RawMessage(text)}) }
			if !say(api.Event{Type: api.EventState, State: api.Queued}) {
				return
			}
			time.Sleep(250 * time.Millisecond) //nolint:forbidigo // the bubble's clock
			say(api.Event{Type: api.EventState, State: api.Running, Attempt: 1})
			claude(`{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"make all the things that there are, and then some more of them"}}]}}`)
			time.Sleep(61 * time.Second) //nolint:forbidigo // the bubble's clock
			claude(`{"type":"result","total_cost_usd":0.5,"result":""}`)
			time.Sleep(150 * time.Millisecond) //nolint:forbidigo // the bubble's clock
			say(api.Event{Type: api.EventState, State: api.Succeeded})
			time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		}
		ticker := time.NewTicker(liveEvery)
		defer ticker.Stop()
		if err := watch(t.Context(), events, newTranscript(to), ticker.C); err != nil {
			t.Fatal(err)
		}
		if passed := time.Since(start); passed < 62*time.Second {
			t.Errorf("it took %v", passed)
		}
		shown := frames(all.text.String())
		for i, want := range []string{
			"",
			"⠙ 0 s · waits for a place",
			"⠹ 0 s · waits for a place",
			"● Bash  make all the things that there are, and then some m…\n", // the live line is gone before it
		} {
			if shown[i] != want {
				t.Errorf("frame %d is %q, want %q", i, shown[i], want)
			}
		}
		tail := shown[len(shown)-4:]
		if tail[0] != "⠏ 1 min 1 s · Bash  make all the things that there are, an…" {
			t.Errorf("towards the end it is %q", tail)
		}
		if last := shown[len(shown)-1]; last != "· succeeded\n" {
			t.Errorf("the last frame is %q", last)
		}
		if !strings.Contains(all.text.String(), "· $0.50 so far · ends") {
			t.Error("it does not tell the spend")
		}
	})
}

// In a pipe nothing but the lines themselves is written, however long nothing comes.
func TestNoLiveLineInAPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all streams
		events := func(yield func(api.Event, error) bool) {
			yield(api.Event{Type: api.EventState, State: api.Queued, Time: time.Now()}, nil)
			time.Sleep(time.Hour) //nolint:forbidigo // the bubble's clock
			yield(api.Event{Type: api.EventState, State: api.Cancelled, Time: time.Now()}, nil)
		}
		ticker := time.NewTicker(liveEvery)
		defer ticker.Stop()
		if err := watch(t.Context(), events, newTranscript(terminalFor(&all, 0)), ticker.C); err != nil {
			t.Fatal(err)
		}
		if got, want := all.text.String(), "2|· queued\n2|· cancelled\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestWatchEndsWithTheEventsError(t *testing.T) {
	lost := errors.New("lost")
	events := iter.Seq2[api.Event, error](func(yield func(api.Event, error) bool) { yield(api.Event{}, lost) })
	var all streams
	if err := watch(t.Context(), events, newTranscript(terminalFor(&all, 0)), nil); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
}

// A reader that is gone ends it: nothing is shown to nobody.
func TestWatchEndsWhenNobodyReads(t *testing.T) {
	to := terminalFor(&streams{}, 0)
	to.out = brokenWriter{}
	endless := func(yield func(api.Event, error) bool) {
		for yield(api.Event{Type: api.EventMessage, Text: "hello"}, nil) {
		}
	}
	if err := watch(t.Context(), endless, newTranscript(to), nil); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteEvents(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	events := func(yield func(api.Event, error) bool) {
		yield(api.Event{ID: 7, Type: api.EventClaude, Time: at, Claude: json.RawMessage(`{"type":"x","n":1.10,"text":"<a> & \u001b[31m` + "\u009b" + `"}`)}, nil)
		yield(api.Event{ID: 8, Type: api.EventState, State: api.Failed, Time: at, Error: api.Errorf(api.CodeTimeout, "late")}, nil)
	}
	var text strings.Builder
	if err := writeEvents(&text, events); err != nil {
		t.Fatal(err)
	}
	want := `{"id":7,"type":"claude","time":"2026-11-23T01:02:03Z","claude":{"type":"x","n":1.10,"text":"<a> & \u001b[31m\u009b"}}
{"id":8,"type":"state","time":"2026-11-23T01:02:03Z","state":"failed","error":{"code":"timeout","message":"late"}}
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}

func TestSummary(t *testing.T) {
	session := api.Session{
		ID: "01a20627-df5e-7b97-99ab-b87a348bed5b", State: api.Succeeded, Turns: 5, DurationSeconds: 65, CostUSD: 0.0123,
		Tokens: api.Tokens{Input: 12, CacheRead: 12000, CacheWrite: 333, Output: 950}, WorkDir: "/w\x1b[2J/tree\n✗ failed", PullRequest: "https://example.com/1\r\nnext",
	}
	want := "✓ succeeded · 5 turns · 1 min 5 s · $0.01 · 12.3k tokens in, 950 out\n" +
		"  files  /w/tree ✗ failed\n" +
		"  pull request  https://example.com/1 next\n" +
		"  next   berth diff b87a348bed5b · berth send b87a348bed5b \"…\""
	if got := strings.Join(summary(&session, nil, "berth", "", false), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	session = api.Session{
		ID: session.ID, State: api.Failed, Turns: 1,
		Error: api.Errorf(api.CodeAPIError, "the model failed:\n\x1b[31mit is\r\noverloaded"),
	}
	want = "✗ failed · 1 turn · 0 s · $0.00 · 0 tokens in, 0 out\n" +
		"  why    api_error: the model failed: it is overloaded\n" +
		"  next   bin/berth resume b87a348bed5b · bin/berth show b87a348bed5b · bin/berth diff b87a348bed5b"
	if got := strings.Join(summary(&session, nil, "bin/berth", "", false), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestReadText(t *testing.T) {
	for input, want := range map[string]string{"": "", "a\n": "a", "a\n\n": "a\n", "a\r\n": "a\r"} {
		if got, err := readText(t.Context(), strings.NewReader(input)); got != want || err != nil {
			t.Errorf("%q: got %q, %v", input, got, err)
		}
	}
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	if got, err := readText(t.Context(), endless); err == nil || got != "" || !strings.Contains(err.Error(), "at most 524288 bytes") {
		t.Errorf("an endless text: %d bytes, %v", len(got), err)
	}
	longest := strings.Repeat("x", api.MaxPrompt)
	if got, err := readText(t.Context(), strings.NewReader(longest+"\n")); got != longest || err != nil {
		t.Errorf("the longest text: %d bytes, %v", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	block := make(chan struct{})
	defer close(block)
	if _, err := readText(ctx, readerFunc(func([]byte) (int, error) { <-block; return 0, errBroken })); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The live line is narrower than the terminal, however narrow that is: one that wraps cannot be rewritten.
func TestLiveLineDoesNotWrap(t *testing.T) {
	for width := 1; width < 80; width++ {
		var all streams
		to := terminalFor(&all, width)
		to.colourErr = false
		view := newTranscript(to)
		view.wait("Bash  漢字 ✅ ❤\ufe0f and more, which goes on and on and on and on and on and on", time.Time{})
		to.show(view.status(time.Time{}))
		for _, line := range frames(all.text.String()) {
			if columnsOf(line) >= width {
				t.Errorf("at %d columns it is %q", width, line)
			}
		}
	}
}
