//go:build e2e

package scripted_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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

// world is where CLI processes run: a server, and directories that outlive a process.
type world struct {
	t        *testing.T
	cli, url string
	home     string
	work     string
	session  string
	requests chan scripted.Record // as they come
	replies  chan scripted.Record // as they are answered
	server   *scripted.Server
}

func newWorld(t *testing.T, o scripted.Options) *world {
	t.Helper()
	w := &world{
		t: t, cli: findCLI(t), home: t.TempDir(), work: t.TempDir(),
		session:  fmt.Sprintf("00000000-0000-4000-8000-%012x", time.Now().UnixNano()&0xffffffffffff),
		requests: make(chan scripted.Record, 1000),
		replies:  make(chan scripted.Record, 1000),
	}
	o.OnRequest = func(r scripted.Record) { w.requests <- r }
	o.OnReply = func(r scripted.Record) { w.replies <- r }
	server, err := scripted.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.server = server
	url, stop, err := server.Listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	w.url = url
	return w
}

// process is one run of the CLI.
type process struct {
	w      *world
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan event // closed when stdout ends
	stderr bytes.Buffer
	all    []event
}

// event is a line of the CLI's output.
type event struct {
	Type      string `json:"type"`
	Subtype   string `json:"subtype"`
	IsError   bool   `json:"is_error"`
	Result    string `json:"result"`
	SessionID string `json:"session_id"`
	Status    int    `json:"error_status"`
	Message   struct {
		Content json.RawMessage `json:"content"`
	} `json:"message"`
	line string
}

// start runs the CLI. Its first prompt is given when prompt is not "".
func (w *world) start(env []string, args ...string) *process {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 90*time.Second)
	w.t.Cleanup(cancel)
	args = append([]string{
		"-p", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose",
		"--dangerously-skip-permissions",
	}, args...)
	p := &process{w: w, cmd: exec.CommandContext(ctx, w.cli, args...), events: make(chan event, 1000)}
	p.cmd.Dir = w.work
	cache, err := exec.Command("go", "env", "GOCACHE").Output() // building all anew would take a minute
	if err != nil {
		w.t.Fatal(err)
	}
	p.cmd.Env = append([]string{
		"GOCACHE=" + strings.TrimSpace(string(cache)),
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "CLAUDE_CONFIG_DIR=" + filepath.Join(w.home, "claude"),
		"ANTHROPIC_API_KEY=any", "ANTHROPIC_BASE_URL=" + w.url, "DISABLE_AUTOUPDATER=1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "IS_SANDBOX=1", "NO_PROXY=127.0.0.1",
	}, env...)
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(p.events)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			e := event{line: lines.Text()}
			_ = json.Unmarshal(lines.Bytes(), &e) // a line that is no JSON has no type, and the tests see it
			p.events <- e
		}
	}()
	return p
}

// first starts the session with a prompt.
func (w *world) first(prompt string, env ...string) *process {
	p := w.start(env, "--session-id", w.session)
	p.say(prompt)
	return p
}

// resume carries a session on that was cut off.
func (w *world) resume(env ...string) *process {
	return w.start(append(env, "CLAUDE_CODE_RESUME_INTERRUPTED_TURN=1"), "--resume", w.session)
}

func (p *process) say(prompt string) {
	p.w.t.Helper()
	line, err := json.Marshal(map[string]any{
		"type": "user", "message": map[string]any{"role": "user", "content": prompt},
	})
	if err == nil {
		_, err = p.stdin.Write(append(line, '\n'))
	}
	if err != nil {
		p.w.t.Fatal(err)
	}
}

// finish closes the input, and returns the last result and how the process ended.
func (p *process) finish() (event, int) {
	p.w.t.Helper()
	if err := p.stdin.Close(); err != nil {
		p.w.t.Fatal(err)
	}
	return p.drain()
}

func (p *process) drain() (event, int) {
	p.w.t.Helper()
	var result event
	for e := range p.events {
		p.all = append(p.all, e)
		if e.Type == "result" {
			result = e
		}
	}
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.w.t.Fatal(err)
	}
	if p.w.t.Failed() || testing.Verbose() {
		p.w.t.Logf("stderr: %s", p.stderr.String())
	}
	return result, p.cmd.ProcessState.ExitCode()
}

// kill ends the CLI with SIGKILL.
func (p *process) kill() {
	p.w.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		p.w.t.Fatal(err)
	}
	p.drain()
}

// await returns the first record that is as wanted.
func await(t *testing.T, records <-chan scripted.Record, want func(scripted.Record) bool) scripted.Record {
	t.Helper()
	timeout := time.After(60 * time.Second)
	for {
		select {
		case r := <-records:
			if want(r) {
				return r
			}
		case <-timeout:
			t.Fatal("no such request within a minute")
		}
	}
}

// logged says what was asked, for the messages of failing tests.
func (w *world) logged() string {
	var b strings.Builder
	for _, r := range w.server.Requests() {
		fmt.Fprintf(&b, "\n%+v", r)
	}
	return b.String()
}

// until waits for what no request tells of, such as a file.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	timeout, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-timeout:
			w.t.Fatalf("no %s after half a minute", what)
		}
	}
}

// transcribed waits for the transcript to hold a text: the CLI writes it some time after it makes the
// request that follows.
func (w *world) transcribed(text string) {
	w.t.Helper()
	w.until("transcript with "+text, func() bool {
		found, err := filepath.Glob(filepath.Join(w.home, "claude", "projects", "*", w.session+".jsonl"))
		if err != nil || len(found) == 0 {
			return false
		}
		data, err := os.ReadFile(found[0])
		return err == nil && strings.Contains(string(data), text)
	})
}
