//go:build e2e

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/doctest"
	"berth/internal/scripted"
)

const (
	// steps is the prompt of the session that meets a fault, and greeting that of another one.
	steps    = "take the steps"
	greeting = "say hello"

	// inner is what a stage's own server takes, behind its door.
	inner = "the key of the stage"
	// anotherKey takes the place of secret.
	anotherKey = "sk-ant-another-key"

	// outage is longer than the 2.3 s for which Claude Code itself tries again when the API is overloaded.
	outage = 8 * time.Second
	// bareTime is how long a bare Claude Code is watched that hangs.
	bareTime = 20 * time.Second
)

// faultRow is a fault that a session meets at its second step.
type faultRow struct {
	fault  string
	faults []scripted.Fault
	begins func(*stage)        // called as the first request comes
	play   func(*stage) string // plays the session, and tells how it ended; nil: `berth run` sees it to its end
	env    []string
	noKey  bool // from the beginning

	berth, bare string        // how it ends, and after how many requests for messages
	loose       bool          // how many requests berth makes depends on the clock
	bareTime    time.Duration // how long Claude Code alone is watched; see limit
}

var faultRows = []faultRow{
	{
		// First, as it takes the 90 s after which the gateway cuts a stream.
		fault: "a stream that stalls", faults: []scripted.Fault{scripted.StallAfter(4)},
		berth: "succeeded, 4 requests", bare: "hangs", bareTime: 95 * time.Second,
	},
	{
		fault: "429, `retry-after` 2 s", faults: []scripted.Fault{{Kind: scripted.Refuse, Status: 429, RetryAfter: 2 * time.Second}},
		berth: "succeeded, 4 requests", bare: "succeeded, 4 requests",
	},
	{
		fault: "429, `retry-after` 3 h", faults: []scripted.Fault{{Kind: scripted.Refuse, Status: 429, RetryAfter: 3 * time.Hour}},
		play: playParked, env: []string{contract.EnvMaxSessions + "=1"},
		berth: "waiting for 3 h, 2 requests", bare: "failed, 2 requests",
	},
	{
		fault: "529 for 8 s",
		begins: func(s *stage) {
			_ = s.Fail(scripted.Status(529).For(scripted.Always)) // it is a fault that can be
			time.AfterFunc(outage, func() { _ = s.Fail() })
		},
		berth: "succeeded", bare: "failed, 4 requests", loose: true,
	},
	{
		fault: "500, three times", faults: []scripted.Fault{scripted.Status(500).For(3)},
		berth: "succeeded, 6 requests", bare: "succeeded, 6 requests",
	},
	{
		fault: "connection reset, three times", faults: []scripted.Fault{scripted.ResetConnection().For(3)},
		berth: "succeeded, 6 requests", bare: "succeeded, 6 requests",
	},
	{
		fault: "a stream that is cut in the middle, twice", faults: []scripted.Fault{scripted.CutAfter(4).For(2)},
		berth: "succeeded, 5 requests", bare: "succeeded, 5 requests",
	},
	{
		fault: "401 in mid-session, then another key in the file", begins: func(s *stage) { s.takes(anotherKey) }, play: playNewKeyFile,
		berth: "waiting for a key, then succeeded, 4 requests", bare: "hangs",
	},
	{
		fault: "401 in mid-session, then a restart with another key", begins: func(s *stage) { s.takes(anotherKey) }, play: playNewKeyRestart,
		berth: "waiting for a key, then succeeded, 4 requests", bare: "hangs",
	},
	{
		fault: "the key's file goes in mid-session, and comes back", begins: func(s *stage) { _ = os.Remove(s.keyFile) }, play: playKeyGone,
		berth: "waiting for a key, then succeeded, 3 requests", bare: "succeeded, 3 requests",
	},
	{
		fault: "no key, then one in the file", play: playNoKey, noKey: true,
		berth: "waiting for a key, then succeeded, 3 requests", bare: "failed, 0 requests",
	},
	{
		fault: "403 for a request that the key may not make", faults: []scripted.Fault{scripted.Status(403).For(scripted.Always)},
		berth: "failed (api_error), 2 requests", bare: "failed, 2 requests",
	},
	{
		fault: "400", faults: []scripted.Fault{scripted.Status(400).For(scripted.Always)},
		berth: "failed (api_error), 7 requests", bare: "failed, 7 requests",
	},
}

// What becomes of a session that meets a fault of the API, and of Claude Code alone under the same one.
func TestFaults(t *testing.T) {
	t.Run("rows", func(t *testing.T) {
		for _, row := range faultRows {
			t.Run(row.fault, func(t *testing.T) {
				t.Parallel()
				var bare string
				var both sync.WaitGroup
				alone := newStage(t, &row)
				both.Go(func() { bare = alone.bare(&row) })
				s := newStage(t, &row)
				berth := s.berth(&row)
				both.Wait()
				if berth != row.berth {
					t.Errorf("through berth: %s, not %s", berth, row.berth)
				}
				if bare != row.bare {
					t.Errorf("alone: %s, not %s", bare, row.bare)
				}
			})
		}
	})
	var table strings.Builder
	table.WriteString("| at the second request | berth | `claude -p` alone |\n|---|---|---|\n")
	for _, row := range faultRows {
		bare := row.bare
		if bare == "hangs" {
			bare = fmt.Sprintf("no end within %.0f s", row.limit().Seconds())
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", row.fault, row.berth, bare)
	}
	doctest.Section(t, "../../docs/faults.md", "faults", table.String())
}

// limit is how long Claude Code alone may take: not long where it would hang, else as long as a busy machine needs.
func (row *faultRow) limit() time.Duration {
	switch {
	case row.bareTime > 0:
		return row.bareTime
	case row.bare == "hangs":
		return bareTime
	default:
		return patience
	}
}

// stage is a model with a fault, behind a door that takes one key at a time, and a session that meets it.
type stage struct {
	*scripted.Server
	*agent  // nil for Claude Code alone
	t       *testing.T
	url     string
	key     atomic.Value // the key that is taken
	keyFile string       // where the agent's is
	first   sync.Once
}

func newStage(t *testing.T, row *faultRow) *stage {
	t.Helper()
	s := &stage{t: t, keyFile: filepath.Join(t.TempDir(), "key")}
	s.takes(secret)
	var err error
	s.Server, err = scripted.New(scripted.Options{
		Key: inner, Scripts: []scripted.Script{
			{Name: greeting, Match: greeting, Steps: []scripted.Step{scripted.Text("Hello.")}},
			{Match: steps, Steps: []scripted.Step{
				scripted.Use(scripted.Bash("echo one >> steps")),
				{Tools: []scripted.Tool{scripted.Bash("echo two >> steps; cat steps")}, Faults: row.faults},
				scripted.Text("Done."),
			}},
		},
		OnRequest: func(r scripted.Record) {
			if row.begins != nil && r.Script != "" && r.Step == 0 {
				s.first.Do(func() { row.begins(s) }) // the request itself is past the door
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(s)
	s.url = front.URL
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	return s
}

func (s *stage) takes(key string) { s.key.Store(key) }

// ServeHTTP is the door.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if key := r.Header.Get("X-Api-Key"); key != "" && key == s.key.Load() {
		r.Header.Set("X-Api-Key", inner)
	}
	s.Server.ServeHTTP(w, r)
}

// asked counts requests for messages, but for those of another session. Those that try a key out cost nothing.
func (s *stage) asked() (count int) {
	for _, request := range s.Requests() {
		if request.Path == "/v1/messages" && request.Script != greeting {
			count++
		}
	}
	return count
}

func (s *stage) writeKey(key string) {
	s.t.Helper()
	if err := os.WriteFile(s.keyFile, []byte(key+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// berth lets a session of berth meet the fault, and tells how it ended.
func (s *stage) berth(row *faultRow) string {
	s.t.Helper()
	if !row.noKey {
		s.writeKey(secret)
	}
	env := append([]string{contract.EnvAnthropicBaseURL + "=" + s.url, contract.EnvAnthropicAPIKey + "=", contract.EnvAnthropicAPIKeyFile + "=" + s.keyFile}, row.env...)
	s.agent = newAgent(s.t, scripted.Options{}, env...)
	s.model = s.Server // what a failure shows
	play := row.play
	if play == nil {
		play = func(s *stage) string { return s.wait(s.run()) }
	}
	began := time.Now()
	how := play(s)
	s.t.Logf("through berth: %s, %d requests, after %.1f s", how, s.asked(), time.Since(began).Seconds())
	if row.loose {
		return how
	}
	return fmt.Sprintf("%s, %d requests", how, s.asked())
}

// ran is a `berth run` that has ended.
type ran struct {
	stdout, stderr string
	exit           int
}

// run starts `berth run`.
func (s *stage) run() <-chan ran {
	ended := make(chan ran, 1)
	go func() {
		var r ran
		r.stdout, r.stderr, r.exit = s.agent.berth("", "run", steps)
		ended <- r
	}()
	return ended
}

// wait waits for the end of `berth run`, and tells how the session ended.
func (s *stage) wait(running <-chan ran) string {
	s.t.Helper()
	r := <-running
	id, _, _ := strings.Cut(r.stdout, "\n")
	return s.tell(id, r.exit, r.stderr)
}

// tell tells how a session ended. A session that succeeded has taken each step once.
func (s *stage) tell(id string, exit int, stderr string) string {
	s.t.Helper()
	session, err := s.client.Session(s.t.Context(), id)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, stderr)
	}
	how := string(session.State)
	if session.Error != nil {
		how += " (" + string(session.Error.Code) + ")"
	}
	if good := session.State == api.Succeeded; good != (exit == 0) || exit > 1 {
		s.t.Errorf("it is %s, and the exit status is %d: %s", how, exit, stderr)
	} else if text, err := os.ReadFile(filepath.Join(session.WorkDir, "steps")); good && string(text) != "one\ntwo\n" {
		s.t.Errorf("the steps taken are %q: %v", text, err)
	}
	s.t.Logf("%d attempts, %d turns, $%.4f, %+v, exit %d: %s", session.Attempts, session.Turns, session.CostUSD, session.Error, exit, stderr)
	return how
}

// the returns the session that takes the steps.
func (s *stage) the() *api.Session {
	s.t.Helper()
	list, err := s.client.Sessions(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for index := range list {
		if list[index].Prompt == steps {
			return &list[index]
		}
	}
	return &api.Session{}
}

// bare lets Claude Code meet the fault by itself, and tells how it ended.
func (s *stage) bare(row *faultRow) string {
	ctx, cancel := context.WithTimeout(s.t.Context(), row.limit())
	defer cancel()
	home := s.t.TempDir()
	command := exec.CommandContext(ctx, programs.cli, "-p", steps, "--allowedTools", "Bash")
	command.Dir, command.WaitDelay = home, 5*time.Second
	// As people use it: without IS_SANDBOX, which has it try 529 more often.
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CLAUDE_CONFIG_DIR=" + filepath.Join(home, "config"), "NO_PROXY=127.0.0.1",
		"ANTHROPIC_BASE_URL=" + s.url, "DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
	}
	if !row.noKey {
		command.Env = append(command.Env, "ANTHROPIC_API_KEY="+secret)
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	began := time.Now()
	err := command.Run()
	how := "succeeded"
	exit := (*exec.ExitError)(nil)
	switch {
	case ctx.Err() != nil:
		how = "hangs"
	case errors.As(err, &exit):
		how = "failed"
	case err != nil:
		how = err.Error()
	}
	s.t.Logf("alone: %s, %d requests, after %.1f s: %s", how, s.asked(), time.Since(began).Seconds(), output.String())
	if how == "hangs" {
		return how
	}
	return fmt.Sprintf("%s, %d requests", how, s.asked())
}
