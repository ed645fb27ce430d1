package scripted_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/scripted"
)

func TestFaultsOfAStepComeOncePerSession(t *testing.T) {
	server, url := serve(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{
		{Text: "fine", Faults: []scripted.Fault{
			{Kind: scripted.Refuse, Status: 529, RetryAfter: 3 * time.Second, Times: 2},
			scripted.Status(500),
		}},
		scripted.Text("second"),
	}}}})
	for _, session := range []string{"a", "b"} {
		for attempt, want := range []int{529, 529, 500, 200, 200} {
			got, err := call(t, http.MethodPost, url+"/v1/messages", ask("x", true), "x-claude-code-session-id", session)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != want {
				t.Errorf("session %s, attempt %d: status %d, want %d", session, attempt, got.status, want)
			}
			wait := got.header.Get("retry-after")
			if (wait == "3") != (want == 529) {
				t.Errorf("status %d with retry-after %q", want, wait)
			}
			if want == 529 && decode(t, got.data)["error"].(object)["type"] != "overloaded_error" {
				t.Errorf("error %s", got.data)
			}
		}
	}
	second := ask("x", true, object{"role": "assistant", "content": "fine"}, object{"role": "user", "content": []object{{"type": "tool_result"}}})
	if got := text(message(t, url, second, "x-claude-code-session-id", "c")); got != "second" {
		t.Errorf("a step without faults: %q", got)
	}
	if got := server.Total(); got.Refused != 6 || got.Steps != 5 {
		t.Errorf("total %+v", got)
	}
}

func TestFailIsForAllRequests(t *testing.T) {
	server, url := serve(t, scripted.Options{})
	status := func() int {
		got, err := call(t, http.MethodPost, url+"/v1/messages", ask("x", false))
		if err != nil {
			t.Fatal(err)
		}
		return got.status
	}
	expect := func(want ...int) {
		t.Helper()
		for _, w := range want {
			if got := status(); got != w {
				t.Errorf("status %d, want %d", got, w)
			}
		}
	}
	fail := func(faults ...scripted.Fault) {
		t.Helper()
		if err := server.Fail(faults...); err != nil {
			t.Fatal(err)
		}
	}
	expect(200)
	fail(scripted.Status(429).For(2), scripted.Status(401))
	expect(429, 429, 401, 200)
	fail(scripted.Status(503).For(scripted.Always))
	expect(503, 503, 503)
	fail()
	expect(200)
	if err := server.Fail(scripted.Status(200)); err == nil {
		t.Error("a status of 200 is no fault")
	}
}

func TestReset(t *testing.T) {
	server, url := serve(t, scripted.Options{})
	if err := server.Fail(scripted.ResetConnection()); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, http.MethodPost, url+"/v1/messages", ask("x", true)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset connection", err)
	}
	message(t, url, ask("x", true))
	if got := server.Total(); got.Broken != 1 || got.Replies != 1 {
		t.Errorf("total %+v", got)
	}
}

func TestCut(t *testing.T) {
	server, url := serve(t, scripted.Options{})
	for after := range 6 {
		if err := server.Fail(scripted.CutAfter(after)); err != nil {
			t.Fatal(err)
		}
		got, err := call(t, http.MethodPost, url+"/v1/messages", ask("x", true))
		if err == nil {
			t.Fatalf("cut after %d: the reply ended well", after)
		}
		if got := strings.Count(string(got.data), "\n\n"); got != after {
			t.Errorf("cut after %d: %d events", after, got)
		}
	}
	if err := server.Fail(scripted.CutAfter(0)); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t, http.MethodPost, url+"/v1/messages", ask("x", false)); !errors.Is(err, io.ErrUnexpectedEOF) || len(got.data) == 0 {
		t.Errorf("half a message: %q, %v", got.data, err)
	}
}

// A stalled reply has to end when the client goes, and when the server stops; nothing may stay behind.
func TestStall(t *testing.T) {
	before := runtime.NumGoroutine()
	stalled := make(chan scripted.Record, 10)
	server, err := scripted.New(scripted.Options{OnReply: func(r scripted.Record) { stalled <- r }})
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := server.Listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Fail(scripted.StallAfter(2).For(scripted.Always)); err != nil {
		t.Fatal(err)
	}
	begin := func(ctx context.Context) *http.Response {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/messages",
			strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: &http.Transport{}}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	leaving, leave := context.WithCancel(t.Context())
	first, second := begin(leaving), begin(t.Context())
	for range 2 {
		if r := <-stalled; r.Fault != scripted.Stall || r.Whole {
			t.Errorf("record %+v", r)
		}
	}
	leave()
	if err := first.Body.Close(); err != nil {
		t.Error(err)
	}
	stop()
	lines, scanner := 0, bufio.NewScanner(second.Body)
	for scanner.Scan() {
		lines++
	}
	if err := second.Body.Close(); err != nil {
		t.Error(err)
	}
	if lines != 6 {
		t.Errorf("%d lines came, want those of two events", lines)
	}
	stop() // again, which has to do no harm
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", after, before, stacks[:runtime.Stack(stacks, true)])
	}
}

func TestListenEndsWithItsContext(t *testing.T) {
	server, err := scripted.New(scripted.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	url, stop, err := server.Listen(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	message(t, url, ask("x", true))
	cancel()
	stop()
	if _, err := call(t, http.MethodPost, url+"/v1/messages", ask("x", true)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want a refused connection", err)
	}
	again, stop, err := server.Listen(t.Context(), strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	message(t, again, ask("x", true))
}

func TestComputedStepsAreSentAsTheyAre(t *testing.T) {
	_, url := serve(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{{
		Compute: func(r scripted.Request) scripted.Step {
			return scripted.Text(fmt.Sprint(r.Fill("{{prompt}}"), " {{step}} ", r.Step, r.Cwd, len(r.Body) > 0))
		},
	}}}}})
	if got := text(message(t, url, ask("{{session}}", true))); got != "{{session}} {{step}} 0true" {
		t.Errorf("got %q", got)
	}
}
