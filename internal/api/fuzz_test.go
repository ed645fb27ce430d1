package api_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"berth/internal/api"
)

// FuzzNewSession checks a task that is anything. What is accepted is safe to be made into arguments and files, and stays
// accepted when it has been written down; what is not is refused in one line.
func FuzzNewSession(f *testing.F) {
	for _, seed := range []string{
		`{"prompt":"x"}`, `{"prompt":"x","ref":"main","model":"opus[1m]","permission_mode":"plan","max_turns":3,"max_budget_usd":0.5,"timeout_seconds":60}`,
		`{"prompt":"x","allowed_tools":["Bash(git log:*)","-x"],"disallowed_tools":["\u0000"],"append_system_prompt":"y","mcp_servers":{"a":{}},"settings":{}}`,
		`{"prompt":"x","model":"-p"}`, `{"prompt":"x","ref":"--upload-pack=x"}`, `{"prompt":"x","max_turns":-1}`, `{"prompt":"x","settings":null}`,
		`{"prompt":"x","settings":{"a":1,"a":2}}`, `{"prompt":"x","mcp_servers":[1]}`, `{"prompt":"\u0085"}`, `{"prompt":"x","timeout_seconds":1e308}`,
		`{"prompt":" "}`, `{"prompt":"x","ref":"a b"}`, `{"prompt":"x","ref":"\u2028"}`, `{"prompt":"x","allowed_tools":["` + strings.Repeat("x", 1001) + `"]}`,
		`{"prompt":"x","model":"` + strings.Repeat("x", 201) + `"}`, `{"prompt":"x","max_budget_usd":-0.0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var task api.NewSession
		if json.Unmarshal(text, &task) != nil {
			return
		}
		if err := task.Check(); err != nil {
			coded := new(api.Error)
			if !errors.As(err, &coded) || coded.Code != api.CodeBadRequest && coded.Code != api.CodePromptTooLarge {
				t.Fatalf("the error is %v", err)
			}
			if len(coded.Message) > 1000 || strings.ContainsAny(coded.Message, "\n\r\x00\x1b") || !utf8.ValidString(coded.Message) {
				t.Fatalf("the message is %q", coded.Message)
			}
			return
		}
		safe(t, task)
		written, err := json.Marshal(task)
		if err != nil {
			t.Fatal(err)
		}
		var again api.NewSession
		if err := json.Unmarshal(written, &again); err != nil || again.Check() != nil {
			t.Fatalf("%s is accepted, and %s is not: %v, %v", text, written, err, again.Check())
		}
	})
}

// safe sees that a task that was accepted can do no harm as arguments of git and Claude Code.
func safe(t *testing.T, task api.NewSession) {
	t.Helper()
	for _, word := range append(append([]string{task.Ref, task.Model, task.PermissionMode}, task.AllowedTools...), task.DisallowedTools...) {
		if strings.HasPrefix(word, "-") || strings.ContainsFunc(word, unicode.IsControl) || !utf8.ValidString(word) || len(word) > 1000 {
			t.Fatalf("%q is accepted", word)
		}
	}
	for _, number := range []float64{float64(task.MaxTurns), task.MaxBudgetUSD, task.TimeoutSeconds} {
		if math.IsNaN(number) || number < 0 || number > 1e9 {
			t.Fatalf("%v is accepted", number)
		}
	}
	if strings.ContainsAny(task.Prompt+task.AppendSystemPrompt, "\x00\x1b") || strings.TrimSpace(task.Prompt) == "" || len(task.Prompt) > api.MaxPrompt {
		t.Fatalf("the prompt %q is accepted", task.Prompt)
	}
	for _, object := range []json.RawMessage{task.MCPServers, task.Settings} {
		if len(object) > 0 && (!json.Valid(object) || strings.TrimSpace(string(object))[0] != '{') {
			t.Fatalf("%s is accepted", object)
		}
	}
}
