package scripted_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/scripted"
)

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "scripts.yaml")
	if err := os.WriteFile(name, []byte(`
scripts:
  - name: count
    match: (?i)count
    endless: true
    steps:
      - thinking: hm
        text: I count.
        tools:
          - name: Bash
            input: {command: echo 1 >> f, delay: 3}
        delay: 300ms
        pause: 10ms
        chunk: 8
        stop_reason: tool_use
        model: claude-other
        usage: {input: 1, output: 2, cache_read: 3, cache_write: 4}
        faults:
          - {kind: refuse, status: 529, times: 2, retry_after: 1s}
          - {kind: stall, after: 3, times: -1}
  - steps:
      - text: anything
`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := scripted.LoadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want := []scripted.Script{
		{Name: "count", Match: "(?i)count", Endless: true, Steps: []scripted.Step{{
			Thinking: "hm", Text: "I count.",
			Tools: []scripted.Tool{{Name: "Bash", Input: map[string]any{"command": "echo 1 >> f", "delay": 3}}},
			Delay: 300 * time.Millisecond, Pause: 10 * time.Millisecond, Chunk: 8,
			Stop: "tool_use", Model: "claude-other",
			Usage: scripted.Usage{Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4},
			Faults: []scripted.Fault{
				{Kind: scripted.Refuse, Status: 529, Times: 2, RetryAfter: time.Second},
				{Kind: scripted.Stall, After: 3, Times: scripted.Always},
			},
		}}},
		{Steps: []scripted.Step{{Text: "anything"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := scripted.New(scripted.Options{Scripts: got}); err != nil {
		t.Error(err)
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"nothing":          {"", `no scripts: list them under "scripts"`},
		"no list":          {"scripts: []", `no scripts: list them under "scripts"`},
		"unknown field":    {"scripts:\n- steps:\n  - txt: a", "line 3: field txt not found"},
		"unknown top":      {"script: []", "line 1: field script not found"},
		"two documents":    {"scripts: [{steps: [{text: a}]}]\n---\nscripts: []", "two documents"},
		"bare number":      {"scripts:\n- steps:\n  - text: a\n    delay: 300", "line 4: cannot unmarshal !!int `300` into time.Duration"},
		"no duration":      {"scripts:\n- steps:\n  - text: a\n    delay: soon", "line 4: cannot unmarshal !!str `soon` into time.Duration"},
		"bad expression":   {"scripts: [{name: n, match: (, steps: [{text: a}]}]", "script n: match: error parsing regexp"},
		"no steps":         {"scripts: [{name: n}]", "script n: has no steps"},
		"empty step":       {"scripts: [{steps: [{text: a}, {}]}]", "script 1: step 2: is empty"},
		"nameless tool":    {"scripts: [{steps: [{tools: [{input: {}}]}]}]", "script 1: step 1: tool 1 has no name"},
		"two defaults":     {"scripts: [{steps: [{text: a}]}, {steps: [{text: a}]}]", "script 2: has no match, and script 1 is the default already"},
		"two of a name":    {"scripts: [{name: n, match: a, steps: [{text: a}]}, {name: n, match: b, steps: [{text: a}]}]", "script n: there are two"},
		"unknown kind":     {"scripts: [{steps: [{text: a, faults: [{kind: explode}]}]}]", `fault 1: kind "explode" is none of`},
		"odd status":       {"scripts: [{steps: [{text: a, faults: [{kind: refuse, status: 200}]}]}]", "status 200 is not one from"},
		"odd time":         {"scripts: [{steps: [{text: a, faults: [{kind: refuse, status: 429, retry_after: 1500ms}]}]}]", "not in whole seconds"},
		"negative":         {"scripts: [{steps: [{text: a, delay: -1s}]}]", "cannot be negative"},
		"negative usage":   {"scripts: [{steps: [{text: a, usage: {input: -1}}]}]", "usage cannot be negative"},
		"status of a cut":  {"scripts: [{steps: [{text: a, faults: [{kind: cut, status: 500}]}]}]", "do not go with"},
		"after of a reset": {"scripts: [{steps: [{text: a, faults: [{kind: reset, after: 1}]}]}]", "after does not go with"},
		"times":            {"scripts: [{steps: [{text: a, faults: [{kind: reset, times: -2}]}]}]", "times is -1 or more"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := scripted.Load(strings.NewReader(c.yaml))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
	if _, err := scripted.LoadFile(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a missing file: %v", err)
	}
}
