//go:build e2e

package local

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/scripted"
)

// Somebody else ends Claude Code while the model thinks, twice in a row, so that the process that took the turn up again
// has had no reply. What it exits with, and what the transcript ends with, differs; the session succeeds all the same.
func TestEndedFromOutsideInAModelWait(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			a := newAgent(t, scripted.Options{
				Scripts: []scripted.Script{{Steps: []scripted.Step{
					scripted.Use(scripted.Bash("echo did 0.")), {Delay: time.Second, Tools: []scripted.Tool{scripted.Bash("echo did 1.")}}, scripted.Text("Done."),
				}}},
				OnRequest: func(record scripted.Record) {
					if record.Step == 1 {
						asked <- struct{}{}
					}
				},
			})
			session := a.create(api.NewSession{Prompt: "do it"})
			for range 2 {
				receive(t, asked)
				if err := syscall.Kill(a.claude(session.ID, false), signal); err != nil {
					t.Fatal(err)
				}
			}
			ended := a.end(session.ID)
			if ended.State != api.Succeeded || ended.Attempts != 3 || !strings.HasPrefix(ended.Result, "Done") {
				t.Errorf("it is %s after %d attempts: %+v, %q", ended.State, ended.Attempts, ended.Error, ended.Result)
			}
			if left := a.processes(session.ID); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			// SIGINT tells the model that its turn was interrupted. After SIGKILL, Claude Code was seen once to go on from
			// before a step that its transcript held, and to take it again: it is in the log twice then.
			took := a.steps(session.ID)
			if signal != syscall.SIGINT && !slices.Equal(slices.Compact(slices.Clone(took)), []string{"0", "1"}) || signal == syscall.SIGTERM && len(took) != 2 {
				t.Errorf("the log has the steps %v", took)
			}
		})
	}
}

// Somebody ends Claude Code as it starts, before it has written anything down.
func TestEndedAsItStarts(t *testing.T) {
	t.Parallel()
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Text("Done.")}}}})
	session := a.create(api.NewSession{Prompt: "do it"})
	a.until(session.ID, func(event api.Event) bool { return event.State == api.Running })
	a.eventually("Claude Code starts", func() bool { return len(a.processes(session.ID)) >= 2 })
	if err := syscall.Kill(a.claude(session.ID, false), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended := a.end(session.ID)
	if ended.State != api.Succeeded || ended.Result != "Done." || ended.Attempts != 2 {
		t.Errorf("it is %s after %d attempts: %+v, %q", ended.State, ended.Attempts, ended.Error, ended.Result)
	}
}

// receive waits for something that happens.
func receive(t *testing.T, happens <-chan struct{}) {
	t.Helper()
	select {
	case <-happens:
	case <-time.After(patience):
		t.Fatal("it never happens")
	}
}
