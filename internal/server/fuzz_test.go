package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"berth/internal/api"
)

// FuzzBodies sends any bytes as the body of any request that takes one. The answer is JSON: the session, and the agent was
// asked for what the checks allow; or a code and a message of one line, and it was asked for nothing.
func FuzzBodies(f *testing.F) {
	paths := []string{"/v1/sessions", "/v1/sessions/" + id + "/messages", "/v1/sessions/" + id + "/resume", "/v1/sessions/" + id + "/stop"}
	for index := range paths {
		for _, seed := range []string{
			"", "{}", "null", "[]", "7", `"x"`, `{"prompt":"x"}`, `{"text":"x"}`, `{"prompt":`, `{"prompt":null}`, "{\"prompt\":\"\xff\"}", `{"prompt":"\ud800"}`,
			`{"prompt":"x","prompt":7}`, `{"PROMPT":"x"}`, `{"prompt":"x","max_turns":1e400}`, `{"prompt":"x","max_turns":1.5}`, `{"max_budget_usd":-0}`,
			`{"prompt":"x","repo":"https://h/x","ref":"main","model":"opus[1m]","permission_mode":"plan","max_turns":3,"max_budget_usd":0.5,"timeout_seconds":60}`,
			`{"prompt":"x","allowed_tools":["Bash(git log:*)"],"disallowed_tools":[""],"append_system_prompt":"y","mcp_servers":{"a":{}},"settings":{"b":[1]}}`,
			`{"mcp_servers":[]}`, `{"settings":"x"}`, `{"settings":null,"allowed_tools":null}`, `{"model":"-p"}`, `{"text":"a\u0000b"}`, `{"text":"` + "\u2028\u0085" + `"}`,
			strings.Repeat("[", 20_000), `{"settings":` + strings.Repeat(`{"a":`, 9990) + "1" + strings.Repeat("}", 9991), "\x00", "\xef\xbb\xbf{}", "{}{}",
			`{"prompt":"x","` + strings.Repeat("k", 5000) + `":1}`, `{"prompt":{"a":["` + strings.Repeat("v", 5000) + `"]}}`,
		} {
			f.Add(uint8(index), []byte(seed), "application/json")
		}
	}
	f.Add(uint8(0), []byte(`{"prompt":"x"}`), "")
	f.Add(uint8(0), []byte("prompt: x"), "application/yaml")
	f.Add(uint8(2), []byte("\xa1eprompt\x61x"), "application/cbor; a=b")
	agent := &fakeAgent{}
	h, logged := handler(agent) // once: the API's description takes longer than a request
	f.Fuzz(func(t *testing.T, which uint8, body []byte, contentType string) {
		agent.calls, agent.task, agent.key = nil, api.NewSession{}, ""
		logged.Reset()
		r := request(http.MethodPost, paths[int(which)%len(paths)], string(body))
		r.Header.Set("Content-Type", contentType)
		w := answer(h, r)
		if w.Code/100 == 2 {
			var session api.Session
			if err := json.Unmarshal(w.Body.Bytes(), &session); err != nil || session.ID != id || len(agent.calls) != 1 {
				t.Fatalf("%d for %.200q, %q: %s: %v", w.Code, body, agent.calls, w.Body, err)
			}
			if err := agent.task.Check(); agent.calls[0] == "create" && err != nil {
				t.Fatalf("the agent was given %+v: %v", agent.task, err)
			}
			return
		}
		got := refusal(t, w)
		if w.Code < 400 || w.Code >= 500 || got.Code == "" || got.Code == api.CodeInternal {
			t.Fatalf("%d, %+v for %.200q", w.Code, got, body)
		}
		if len(got.Message) > 2100 || strings.ContainsAny(got.Message, "\n\r\x00\x1b") || got.Message == "" {
			t.Fatalf("the message is %q", got.Message)
		}
		if len(agent.calls) > 0 || logged.Len() > 0 {
			t.Fatalf("the agent was asked %q, and the log says %s", agent.calls, logged)
		}
	})
}
