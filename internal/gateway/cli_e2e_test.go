//go:build e2e

package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/gateway"
	"berth/internal/scripted"
)

// findCLI returns the pinned Claude Code CLI of this repository.
func findCLI(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		name := filepath.Join(dir, "node_modules", ".bin", "claude")
		if _, err := os.Stat(name); err == nil {
			return name
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("there is no node_modules/.bin/claude above this package: run `make setup`")
		}
		dir = parent
	}
}

// ran is what became of a run of the CLI.
type ran struct {
	exit    int
	took    time.Duration
	retries int // that it told of
	result  struct {
		Subtype string  `json:"subtype"`
		IsError bool    `json:"is_error"`
		Result  string  `json:"result"`
		Status  int     `json:"api_error_status"`
		Cost    float64 `json:"total_cost_usd"`
	}
	output string
}

// run lets the CLI do a task through a gateway.
func run(t *testing.T, address, token string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	home := t.TempDir()
	command := exec.CommandContext(ctx, findCLI(t), "-p", "go", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions", "--model", "claude-sonnet-4-6")
	command.Dir, command.WaitDelay = t.TempDir(), 5*time.Second
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CLAUDE_CONFIG_DIR=" + filepath.Join(home, "claude"), "IS_SANDBOX=1",
		"ANTHROPIC_API_KEY=" + token, "ANTHROPIC_BASE_URL=" + address, "DISABLE_AUTOUPDATER=1", "NO_PROXY=127.0.0.1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
	}
	command.Env = append(command.Env, gateway.Environment(0)...)
	var output bytes.Buffer
	command.Stdout = &output
	began := time.Now()
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := ran{exit: command.ProcessState.ExitCode(), took: time.Since(began), output: output.String()}
	r.retries = strings.Count(r.output, `"subtype":"api_retry"`)
	for line := range strings.Lines(r.output) {
		if strings.Contains(line, `"type":"result"`) {
			if err := json.Unmarshal([]byte(line), &r.result); err != nil {
				t.Error(err)
			}
		}
	}
	return r
}

// cliCase is a task for the real Claude Code, and what has to become of it.
type cliCase struct {
	steps    []scripted.Step
	key      string // "" is the right one
	budget   float64
	says     string // at its end; "" if it succeeds
	status   int
	requests int     // that reach the model
	retries  int     // that the CLI makes
	usd      float64 // at least
	unknown  float64 // at most, for a try whose price nobody told: what it may have cost counts
}

func (c cliCase) run(t *testing.T) {
	var lock sync.Mutex
	var reports []api.Request
	model, err := scripted.New(scripted.Options{Scripts: []scripted.Script{{Steps: c.steps}}, Key: "right"})
	if err != nil {
		t.Fatal(err)
	}
	address, stop, err := model.Listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	upstream, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	key := c.key
	if key == "" {
		key = "right"
	}
	ledger, err := gateway.OpenLedger(t.TempDir(), "test", gateway.Limits{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.New(gateway.Config{
		Upstream: upstream, Key: func() string { return key }, Ledger: ledger, Stall: 2 * time.Second,
		Report: func(_ string, r api.Request) {
			lock.Lock()
			defer lock.Unlock()
			reports = append(reports, r)
		},
	})
	defer g.Close()
	front := httptest.NewServer(g)
	defer front.Close()
	r := run(t, front.URL, g.Grant("one", gateway.Budget{LimitUSD: c.budget}))
	good := c.says == ""
	if (r.exit == 0) != good || r.result.IsError == good || !strings.HasPrefix(r.result.Result, c.says) || r.result.Status != c.status {
		t.Errorf("exit %d, %+v", r.exit, r.result)
	}
	if requests := len(model.Requests()); requests != c.requests || r.retries != c.retries {
		t.Errorf("%d requests, the CLI told of %d retries: %s", requests, r.retries, r.output)
	}
	lock.Lock()
	defer lock.Unlock()
	var sum float64
	for _, each := range reports {
		sum += each.CostUSD
	}
	if spent := ledger.Session("one"); !near(spent, sum) || spent < c.usd-1e-9 || spent > c.usd+c.unknown+0.001 || c.unknown > 0 && near(spent, c.usd) {
		t.Errorf("%g are spent, want %g; reports %+v", spent, c.usd, reports)
	}
	t.Logf("exit %d after %.1f s: %s", r.exit, r.took.Seconds(), r.result.Result)
}

// What the real Claude Code makes of what the gateway does.
func TestClaudeCode(t *testing.T) {
	usage := scripted.Usage{Input: 1000, Output: 100} // $0.0045
	step := func(faults ...scripted.Fault) scripted.Step {
		return scripted.Step{Text: "words, words, words", Chunk: 3, Usage: usage, Faults: faults}
	}
	again := func(s scripted.Step) scripted.Step {
		s.Tools = []scripted.Tool{scripted.Bash("true")}
		return s
	}
	for name, test := range map[string]cliCase{
		"well":                 {steps: []scripted.Step{again(step()), step()}, requests: 2, usd: 0.009},
		"529 three times":      {steps: []scripted.Step{step(scripted.Status(529).For(3))}, requests: 4, usd: 0.0045},
		"500 and a reset":      {steps: []scripted.Step{step(scripted.Status(500), scripted.ResetConnection())}, requests: 3, usd: 0.0045, unknown: 0.2},
		"a cut stream":         {steps: []scripted.Step{step(scripted.CutAfter(4))}, requests: 2, retries: 1, usd: 0.0075},
		"a stream that stalls": {steps: []scripted.Step{step(scripted.StallAfter(4))}, requests: 2, retries: 1, usd: 0.0075},
		"over its limit": {
			steps: []scripted.Step{again(step()), again(step()), step()}, budget: 0.008, requests: 2, usd: 0.009,
			says: "API Error: 402 the session has reached its limit: $0.009 of $0.008 are spent; resume it with a higher limit to go on", status: 402,
		},
		"a refused key": {steps: []scripted.Step{step()}, key: "wrong", requests: 1, says: "Invalid API key", status: 403},
		"a limit for hours": {
			steps: []scripted.Step{step(scripted.Fault{Kind: scripted.Refuse, Status: 429, RetryAfter: 3 * time.Hour})}, requests: 1,
			says: "API Error: Request rejected (429) · the model's API limits the rate of requests (429): the script says so; it names", status: 429,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}
