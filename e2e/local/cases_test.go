//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/scripted"
)

// long is a command that goes on until somebody ends it, with a child that leaves its session and its process group.
const long = `touch began; (setsid nohup sh -c 'for i in $(seq 3000); do sleep 0.1; done' >/dev/null 2>&1 &); for i in $(seq 3000); do sleep 0.1; done`

// The rows of the table of how Claude Code ends, as one hands in a task and waits: each ends in the right state, with
// the right error, and with the right exit status of `berth run`.
func TestEndings(t *testing.T) {
	t.Parallel()
	// What a session has in its environment is looked through for the key at the end, as is everything on the volume.
	work := scripted.Use(scripted.Bash("env > environment; echo a >> file; cat file"))
	for name, c := range map[string]struct {
		script scripted.Script
		env    []string
		args   []string
		state  api.State
		code   api.Code
		exit   int
	}{
		"success": {
			script: scripted.Script{Steps: []scripted.Step{work, scripted.Text("Done.")}},
			state:  api.Succeeded, exit: 0,
		},
		"the API refuses": {
			script: scripted.Script{Steps: []scripted.Step{work, {Text: "never", Faults: []scripted.Fault{scripted.Status(400).For(scripted.Always)}}}},
			state:  api.Failed, code: api.CodeAPIError, exit: 1,
		},
		"turns": {
			script: scripted.Script{Endless: true, Steps: []scripted.Step{work}}, args: []string{"--max-turns", "3"},
			state: api.Failed, code: api.CodeMaxTurns, exit: 4,
		},
		"budget": {
			script: scripted.Script{Endless: true, Steps: []scripted.Step{{Tools: work.Tools, Usage: scripted.Usage{Input: 50_000, Output: 5_000}}}},
			args:   []string{"--max-budget-usd", "1"},
			state:  api.Failed, code: api.CodeMaxBudget, exit: 4,
		},
		"time": {
			script: scripted.Script{Steps: []scripted.Step{scripted.Use(scripted.Bash(long))}}, args: []string{"--timeout", "2s"},
			state: api.Failed, code: api.CodeTimeout, exit: 4,
		},
		"denied": {
			script: scripted.Script{Steps: []scripted.Step{scripted.Use(scripted.Bash("touch forbidden")), scripted.Text("I was not allowed to.")}},
			args:   []string{"--permission-mode", "default"},
			state:  api.Succeeded, exit: 0,
		},
		"background": {
			script: scripted.Script{Steps: []scripted.Step{
				scripted.Use(scripted.Tool{Name: "Bash", Input: map[string]any{"command": "for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; touch late", "run_in_background": true}}),
				scripted.Text("It runs."), scripted.Text("It has ended."),
			}},
			state: api.Succeeded, exit: 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, scripted.Options{Scripts: []scripted.Script{c.script}}, c.env...)
			stdout, stderr, exit := a.berth("", append([]string{"run", "do it"}, c.args...)...)
			id, _, _ := strings.Cut(stdout, "\n")
			session, err := a.client.Session(t.Context(), id)
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
			}
			var code api.Code
			if session.Error != nil {
				code = session.Error.Code
			}
			if session.State != c.state || code != c.code || exit != c.exit {
				t.Errorf("it is %s, error %+v, exit status %d; want %s, %q, %d\n%s", session.State, session.Error, exit, c.state, c.code, c.exit, stderr)
			}
			if left := a.processes(id); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			lookFurther(t, name, a, session)
		})
	}
}

// lookFurther checks what is particular to a case.
func lookFurther(t *testing.T, name string, a *agent, session *api.Session) {
	t.Helper()
	results, notices := 0, 0
	for _, event := range a.events(session.ID) {
		if event.Type == api.EventClaude && strings.Contains(string(event.Claude), `"type":"result"`) {
			results++
		}
		if event.Type == api.EventNotice {
			notices++
		}
	}
	exists := func(file string) bool {
		_, err := os.Stat(filepath.Join(session.WorkDir, file))
		return err == nil
	}
	switch name {
	case "success":
		if text, err := os.ReadFile(filepath.Join(session.WorkDir, "file")); err != nil || string(text) != "a\n" {
			t.Errorf("the file holds %q: %v", text, err)
		}
		if session.Result != "Done." || session.Turns != 2 || session.CostUSD <= 0 || session.Tokens.Output == 0 {
			t.Errorf("the session is %+v", session)
		}
	case "denied":
		if notices != 1 || exists("forbidden") {
			t.Errorf("%d notices, forbidden file exists: %v", notices, exists("forbidden"))
		}
	case "background":
		if results != 2 || session.Result != "It has ended." || !exists("late") {
			t.Errorf("%d results, the last words are %q, the command ended: %v", results, session.Result, exists("late"))
		}
	}
}

// Somebody stops a session in the middle of a command, or while the model thinks: what Claude Code exits with says
// nothing then.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string][]scripted.Step{
		"in a tool":  {scripted.Use(scripted.Bash(long))},
		"in a model": {{Text: "never", Delay: 5 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: steps}}, OnRequest: func(scripted.Record) { asked <- struct{}{} }})
			followed := make(chan int, 1)
			session := a.create(api.NewSession{Prompt: "do it"})
			go func() {
				_, _, code := a.berth("", "send", "--follow", session.ID, "and this")
				followed <- code
			}()
			<-asked
			if name == "in a tool" {
				a.awaitBegan(session.ID)
			}
			if _, stderr, code := a.berth("", "stop", session.ID); code != 0 {
				t.Errorf("berth stop: exit %d: %s", code, stderr)
			}
			if ended := a.end(session.ID); ended.State != api.Cancelled {
				t.Errorf("it is %s: %+v", ended.State, ended.Error)
			}
			if code := <-followed; code != 1 {
				t.Errorf("who followed it exits with %d", code)
			}
			if left := a.processes(session.ID); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			if _, stderr, code := a.berth("", "stop", session.ID); code != 1 || strings.Count(stderr, "\n") != 1 {
				t.Errorf("stopped again: exit %d: %s", code, stderr)
			}
		})
	}
}

// Somebody else ends Claude Code, or its reaper: the session goes on by itself.
func TestEndedFromOutside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signal syscall.Signal
		reaper bool
	}{
		"SIGTERM": {syscall.SIGTERM, false}, "SIGINT": {syscall.SIGINT, false},
		"SIGKILL": {syscall.SIGKILL, false}, "SIGKILL of the reaper": {syscall.SIGKILL, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{
				scripted.Use(scripted.Bash("echo one")),
				scripted.Use(scripted.Bash("test -e began && exit; " + long)),
				scripted.Use(scripted.Bash("echo three")), scripted.Text("Done."), scripted.Text("Done after all."), scripted.Text("Done in the end."),
			}}}})
			session := a.create(api.NewSession{Prompt: "do it"})
			a.awaitBegan(session.ID)
			if err := syscall.Kill(a.claude(session.ID, c.reaper), c.signal); err != nil {
				t.Fatal(err)
			}
			ended := a.end(session.ID)
			if ended.State != api.Succeeded || ended.Attempts < 2 {
				t.Errorf("it is %s after %d attempts: %+v", ended.State, ended.Attempts, ended.Error)
			}
			if left := a.processes(session.ID); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
		})
	}
}

// claude finds a session's Claude Code, or the reaper that it runs below.
func (a *agent) claude(id string, reaper bool) int {
	a.t.Helper()
	for _, pid := range a.processes(id) {
		if args := arguments(pid); len(args) > 3 && (args[1] == "reap") == reaper && slices.Contains(args, "stream-json") {
			return pid
		}
	}
	a.t.Fatalf("no such process of session %s", id)
	return 0
}

// claudes returns the processes of Claude Code itself that there are.
func (a *agent) claudes(id string) (pids []int) {
	a.t.Helper()
	for _, pid := range a.processes(id) {
		if args := arguments(pid); len(args) > 3 && args[1] != "reap" && slices.Contains(args, "stream-json") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func arguments(pid int) []string {
	text, _ := os.ReadFile(filepath.Join("/proc", itoa(pid), "cmdline")) // empty if it has ended
	return strings.Split(string(text), "\x00")
}
