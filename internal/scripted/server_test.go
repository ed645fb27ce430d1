package scripted_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/internal/scripted"
)

// everything is a step with each kind of block, in small chunks.
var everything = scripted.Step{
	Thinking: "hm, “{{prompt}}”", Text: "I look at step {{step}} of {{session}}.",
	Tools: []scripted.Tool{
		scripted.Bash("ls"),
		scripted.Write("/w/ä", `say "{{prompt}}"`),
		{Name: "Nothing"},
	},
	Usage: scripted.Usage{Input: 11, Output: 12, CacheRead: 13, CacheWrite: 14},
}

func TestStreamAndMessageAreTheSame(t *testing.T) {
	for _, chunk := range []int{0, 1, 2, 7, 1000} {
		step := everything
		step.Chunk = chunk
		_, url := serve(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{step}}}})
		for _, stream := range []bool{true, false} {
			got := message(t, url, ask("größe", stream), "x-claude-code-session-id", "S")
			if !strings.HasPrefix(got["id"].(string), "msg_01") {
				t.Errorf("id %v", got["id"])
			}
			delete(got, "id")
			for _, b := range got["content"].([]any) {
				for _, name := range []string{"id", "signature"} {
					if value, has := b.(object)[name]; has {
						if value == "" {
							t.Errorf("an empty %s", name)
						}
						delete(b.(object), name)
					}
				}
			}
			want := object{
				"type": "message", "role": "assistant", "model": "claude-test",
				"stop_reason": "tool_use", "stop_sequence": nil,
				"content": []any{
					object{"type": "thinking", "thinking": "hm, “größe”"},
					object{"type": "text", "text": "I look at step 1 of S."},
					object{"type": "tool_use", "name": "Bash", "input": object{"command": "ls"}},
					object{"type": "tool_use", "name": "Write", "input": object{"file_path": "/w/ä", "content": `say "größe"`}},
					object{"type": "tool_use", "name": "Nothing", "input": object{}},
				},
				"usage": object{
					"input_tokens": 11., "output_tokens": 12., "cache_read_input_tokens": 13.,
					"cache_creation_input_tokens": 14., "service_tier": "standard",
				},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("chunk %d, stream %t: %s", chunk, stream, diff)
			}
		}
	}
}

func TestStreamOnTheWire(t *testing.T) {
	_, url := serve(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{{Text: "abc", Chunk: 2, Stop: "max_tokens", Model: "m"}}}}})
	got, err := call(t, http.MethodPost, url+"/v1/messages?beta=true", ask("x", true))
	if err != nil {
		t.Fatal(err)
	}
	if kind := got.header.Get("content-type"); kind != "text/event-stream; charset=utf-8" {
		t.Errorf("content-type %q", kind)
	}
	if id := got.header.Get("request-id"); !strings.HasPrefix(id, "req_01") {
		t.Errorf("request-id %q", id)
	}
	var types []string
	for _, event := range events(t, got.data) {
		types = append(types, event["type"].(string))
	}
	want := []string{
		"message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta",
		"content_block_stop", "message_delta", "message_stop",
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Error(diff)
	}
	m := assemble(t, events(t, got.data))
	if m["stop_reason"] != "max_tokens" || m["model"] != "m" || text(m) != "abc" {
		t.Errorf("got %v", m)
	}
}

func TestAnyTextSurvivesTheStream(t *testing.T) {
	_, url := serve(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{{
		Compute: func(r scripted.Request) scripted.Step {
			size := 0
			_, _ = fmt.Sscanf(r.Session, "%d", &size)
			return scripted.Step{Text: r.Prompt, Chunk: size}
		},
	}}}}})
	rapid.Check(t, func(rt *rapid.T) {
		prompt := rapid.StringMatching(`[a-zé€😀{}"\\]{1,40}`).Draw(rt, "prompt")
		size := rapid.IntRange(0, 9).Draw(rt, "size")
		if got := text(message(t, url, ask(prompt, true), "x-claude-code-session-id", fmt.Sprint(size))); got != prompt {
			rt.Errorf("%q came as %q", prompt, got)
		}
	})
}

func TestOtherCalls(t *testing.T) {
	server, url := serve(t, scripted.Options{Key: "right"})
	for _, c := range []struct {
		name, method, path string
		header             []string
		body               any
		status             int
		kind               string
	}{
		{"head", "HEAD", "/", nil, nil, 200, ""},
		{"models", "GET", "/v1/models?limit=1", []string{"x-api-key", "right"}, nil, 200, ""},
		{"models, wrong key", "GET", "/v1/models", []string{"x-api-key", "wrong"}, nil, 401, "authentication_error"},
		{"a model", "GET", "/v1/models/m", []string{"x-api-key", "right"}, nil, 404, "not_found_error"},
		{"messages by GET", "GET", "/v1/messages", nil, nil, 404, "not_found_error"},
		{"no key", "POST", "/v1/messages", nil, ask("x", true), 401, "authentication_error"},
		{"wrong key", "POST", "/v1/messages", []string{"x-api-key", "wrong"}, ask("x", true), 401, "authentication_error"},
		{"wrong token", "POST", "/v1/messages/count_tokens", []string{"authorization", "Bearer wrong"}, ask("x", true), 401, "authentication_error"},
		{"key", "POST", "/v1/messages", []string{"x-api-key", "right"}, ask("x", true), 200, ""},
		{"token", "POST", "/v1/messages/", []string{"authorization", "bearer right"}, ask("x", false), 200, ""},
		{"count", "POST", "/v1/messages/count_tokens?beta=true", []string{"x-api-key", "right"}, ask("x", false), 200, ""},
		{"no JSON object", "POST", "/v1/messages", []string{"x-api-key", "right"}, "x", 400, "invalid_request_error"},
		{"no messages", "POST", "/v1/messages", []string{"x-api-key", "right"}, object{"model": "m"}, 400, "invalid_request_error"},
		{"no model", "POST", "/v1/messages", []string{"x-api-key", "right"}, object{"messages": ask("x", false)["messages"]}, 400, "invalid_request_error"},
		{"odd role", "POST", "/v1/messages", []string{"x-api-key", "right"}, ask("x", false, object{"role": "tool", "content": "x"}), 400, "invalid_request_error"},
		{"odd content", "POST", "/v1/messages", []string{"x-api-key", "right"}, ask("x", false, object{"role": "user", "content": 1}), 400, "invalid_request_error"},
		{"too large", "POST", "/v1/messages", []string{"x-api-key", "right"}, ask(strings.Repeat("x", 32<<20), false), 413, "request_too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := call(t, c.method, url+c.path, c.body, c.header...)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != c.status {
				t.Fatalf("status %d, want %d: %s", got.status, c.status, got.data)
			}
			if c.kind == "" {
				return
			}
			told := decode(t, got.data)
			failure, _ := told["error"].(object)
			if told["type"] != "error" || failure["type"] != c.kind || failure["message"] == "" || told["request_id"] != got.header.Get("request-id") {
				t.Errorf("error %s", got.data)
			}
			if got.header.Get("content-type") != "application/json" {
				t.Errorf("content-type %q", got.header.Get("content-type"))
			}
		})
	}
	for _, r := range server.Requests() {
		if fmt.Sprintf("%+v", r) == "" || strings.Contains(fmt.Sprintf("%+v", r), "wrong") {
			t.Errorf("a key is in the record %+v", r)
		}
		if r.Status == 401 && r.KeyRight || r.Status == 200 && r.Method == "POST" && !r.KeyRight {
			t.Errorf("record %+v", r)
		}
	}
}

func TestSideRequestsAreNoSteps(t *testing.T) {
	server, url := serve(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Text("step")}}}})
	cli := []string{"user-agent", "claude-cli/2.1.330 (external, sdk-cli)"}
	where := object{"role": "system", "content": "# Environment\n - Primary working directory: /w\n"}
	probe, tools, compact := ask("x", false), ask("x", false), ask("x", false)
	probe["max_tokens"] = 1
	tools["tools"] = []object{{"name": "Bash"}}
	compact["messages"] = append(compact["messages"].([]object),
		object{"role": "assistant", "content": "a"},
		object{"role": "user", "content": "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools.\n"})
	for _, c := range []struct {
		name   string
		body   object
		header []string
		side   bool
	}{
		{"a probe", probe, nil, true},
		{"a title", ask("x", false), cli, true},
		{"a summary", compact, cli, true},
		{"the CLI with tools", tools, cli, false},
		{"the CLI without tools", ask("x", false, where), cli, false},
		{"another client", ask("x", false), nil, false},
	} {
		got := text(message(t, url, c.body, c.header...))
		last := server.Requests()[len(server.Requests())-1]
		if last.Side != c.side || (got == "step") == c.side || (last.Script == "") != c.side {
			t.Errorf("%s: said %q, record %+v", c.name, got, last)
		}
	}
	if got := server.Total(); got.Requests != 6 || got.Replies != 6 || got.Steps != 3 {
		t.Errorf("total %+v", got)
	}
}

func TestRecordsAreBoundedAndCountsAreNot(t *testing.T) {
	var mu sync.Mutex
	var hooks []string
	server, url := serve(t, scripted.Options{
		Keep:    3,
		Scripts: []scripted.Script{{Name: "s", Steps: []scripted.Step{{Text: "a", Usage: scripted.Usage{Input: 5, Output: 2}}}}},
		OnRequest: func(r scripted.Record) {
			mu.Lock()
			defer mu.Unlock()
			hooks = append(hooks, fmt.Sprint("request ", r.Number, r.Answered))
		},
		OnReply: func(r scripted.Record) {
			mu.Lock()
			defer mu.Unlock()
			hooks = append(hooks, fmt.Sprint("reply ", r.Number, r.Answered))
		},
	})
	for number := range 5 {
		message(t, url, ask("x", true), "x-claude-code-session-id", fmt.Sprint("s", number%2))
	}
	var numbers []int
	for _, r := range server.Requests() {
		numbers = append(numbers, r.Number)
		if !r.Answered || !r.Whole || r.Status != 200 || r.Script != "s" || r.Messages != 1 || !r.Stream || r.Usage.Input != 5 || r.Model != "claude-test" || r.Path != "/v1/messages" {
			t.Errorf("record %+v", r)
		}
	}
	if !slices.Equal(numbers, []int{3, 4, 5}) {
		t.Errorf("kept %v", numbers)
	}
	total, sessions := server.Total(), server.Sessions()
	if total.Requests != 5 || total.Steps != 5 || total.Usage.Input != 25 || sessions["s0"].Steps != 3 || sessions["s1"].Usage.Output != 4 {
		t.Errorf("total %+v, sessions %+v", total, sessions)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(hooks) != 10 || hooks[0] != "request 1 false" || hooks[1] != "reply 1 true" {
		t.Errorf("hooks %q", hooks)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	server, url := serve(t, scripted.Options{Scripts: []scripted.Script{{
		Endless: true,
		Steps:   []scripted.Step{{Text: "{{session}} {{step}}", Chunk: 1, Pause: time.Millisecond, Delay: time.Millisecond}},
	}}})
	var group sync.WaitGroup
	for number := range 12 {
		group.Go(func() {
			session := fmt.Sprint("session", number)
			var more []object
			for step := 1; step <= 5; step++ {
				want := fmt.Sprint(session, " ", step)
				got, err := call(t, http.MethodPost, url+"/v1/messages", ask("x", true, more...), "x-claude-code-session-id", session)
				if err != nil {
					t.Error(err)
					return
				}
				if got := text(assemble(t, events(t, got.data))); got != want {
					t.Errorf("%q, want %q", got, want)
				}
				more = append(more, object{"role": "assistant", "content": "a"},
					object{"role": "user", "content": []object{{"type": "tool_result"}}})
			}
		})
	}
	group.Wait()
	if got := server.Total(); got.Steps != 60 || len(server.Sessions()) != 12 {
		t.Errorf("total %+v", got)
	}
}

func TestUsageIsEstimated(t *testing.T) {
	_, url := serve(t, scripted.Options{})
	body := ask("how much?", false)
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	m := message(t, url, body)
	if got := m["usage"].(object); got["input_tokens"] != float64(len(encoded)/4) || got["output_tokens"] != float64(len(text(m))/4) {
		t.Errorf("usage %v of %d bytes and %d", got, len(encoded), len(text(m)))
	}
}

func TestListenIsForThisMachine(t *testing.T) {
	server, err := scripted.New(scripted.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "nonsense"} {
		if url, stop, err := server.Listen(t.Context(), address); err == nil {
			stop()
			t.Errorf("%s was served as %s", address, url)
		}
	}
}
