//go:build e2e

package local

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// Two agents on one volume share forty sessions, each of which is handed in to both at once under one key. One of them is stopped, so that the
// other one takes over what it held, and woken again: every session is there once and succeeds, each of its steps is in the log once, what the first one
// goes on to do counts nowhere, and the model is not asked for it.
func TestTwoAgentsOnOneVolume(t *testing.T) {
	t.Parallel()
	const sessions, steps = 40, 4
	var script []scripted.Step
	var wanted []string
	for number := range steps {
		script = append(script, scripted.Step{
			Delay: 400 * time.Millisecond, Tools: []scripted.Tool{scripted.Bash(fmt.Sprintf("echo step-%d >> steps; echo did %d.", number, number))},
		})
		wanted = append(wanted, strconv.Itoa(number))
	}
	options := scripted.Options{Scripts: []scripted.Script{{Steps: append(script, scripted.Text("All done."))}}}
	first := newAgent(t, options, contract.EnvWork+"="+t.TempDir())
	second := plannedAgent(t, options) // with a model of its own, so that it is known who asks
	second.join(first)
	var ids []string
	for number := range sessions {
		ids = append(ids, createByBoth(first, second, fmt.Sprint("session ", number)))
	}
	if list, err := second.client.Sessions(t.Context()); err != nil || len(list) != sessions {
		t.Errorf("there are %d sessions, %v", len(list), err)
	}
	var held []string
	first.eventually("the first agent works on several sessions", func() bool {
		held = first.holds(ids)
		return len(held) >= 3
	})
	if err := first.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	held = first.holds(ids)
	second.eventually("the second agent has taken over what the first one held", func() bool {
		return len(first.holds(held)) == 0
	})
	before := first.model.Sessions()
	if err := first.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		ended := second.end(id)
		if ended.State != api.Succeeded || ended.Result != "All done." {
			t.Errorf("session %s is %s: %+v, %q", id, ended.State, ended.Error, ended.Result)
		}
		second.checkSteps(id, wanted)
		if other, err := first.client.Session(t.Context(), id); err != nil || other.State != api.Succeeded || other.Events != ended.Events {
			t.Errorf("the first agent sees %+v, %v", other, err)
		}
	}
	after, late := first.model.Sessions(), 0
	for _, id := range held {
		asked := after[id].Requests - before[id].Requests
		if asked > 1 { // one may have been on its way out when the agent was stopped
			t.Errorf("the first agent asked the model %d times for session %s, which it had lost", asked, id)
		}
		late += asked
	}
	t.Logf("%d sessions were taken over, and the model was asked %d times for them by who had lost them", len(held), late)
	for _, a := range []*agent{first, second} {
		if err := a.stop(); err != nil {
			t.Errorf("berthd: %v", err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(first.data, "sessions", "*", "lease*")); err != nil || len(left) > 0 {
		t.Errorf("leases are left: %v, %v", left, err)
	}
}

// createByBoth hands a task in to two agents at the same time, under one key, and returns the one session that comes of it.
func createByBoth(first, second *agent, key string) string {
	first.t.Helper()
	var ids [2]string
	var both sync.WaitGroup
	for index, by := range []*agent{first, second} {
		both.Go(func() {
			created, err := by.client.CreateOnce(by.t.Context(), api.NewSession{Prompt: "take the steps"}, key)
			if err != nil {
				by.t.Error(err)
				return
			}
			ids[index] = created.ID
		})
	}
	both.Wait()
	if ids[0] != ids[1] || ids[0] == "" {
		first.t.Fatalf("%s: one key has the sessions %q", key, ids)
	}
	return ids[0]
}

// beside starts a second agent on the volume of another one, with a work disk of its own and the same model.
func beside(t *testing.T, first *agent) *agent {
	t.Helper()
	second := plannedAgent(t, scripted.Options{})
	second.model = first.model
	second.env[contract.EnvAnthropicBaseURL] = first.env[contract.EnvAnthropicBaseURL]
	second.join(first)
	return second
}

// join starts an agent on the volume of another one, with a work disk of its own.
func (a *agent) join(first *agent) {
	a.t.Helper()
	a.data, a.env[contract.EnvData], a.env[contract.EnvWork] = first.data, first.data, a.t.TempDir()
	a.start()
}

// holds returns those of some sessions that an agent has a lease of.
func (a *agent) holds(ids []string) (held []string) {
	a.t.Helper()
	for _, id := range ids {
		text, err := os.ReadFile(filepath.Join(a.data, "sessions", id, "lease.json"))
		var lease struct {
			Owner struct {
				PID int `json:"pid"`
			} `json:"owner"`
		}
		if err == nil && json.Unmarshal(text, &lease) == nil && lease.Owner.PID == a.process.Process.Pid {
			held = append(held, id)
		}
	}
	return held
}

// A message, and a request to stop, reach a session that another agent holds.
func TestMessagesReachTheOtherAgent(t *testing.T) {
	t.Parallel()
	first := newAgent(t, scripted.Options{Scripts: []scripted.Script{
		{Name: "wait", Match: "wait", Steps: []scripted.Step{scripted.Use(scripted.Bash("touch began; until test -e enough; do sleep 0.1; done")), scripted.Text("Done.")}},
		{Name: "more", Match: "more please", Steps: []scripted.Step{scripted.Text("Here is more.")}},
	}}, contract.EnvWork+"="+t.TempDir())
	second := beside(t, first)
	told, stopped := first.create(api.NewSession{Prompt: "wait"}), first.create(api.NewSession{Prompt: "wait"})
	for _, each := range []*api.Session{told, stopped} {
		second.awaitBegan(each.ID)
	}
	if _, err := second.client.Send(t.Context(), told.ID, api.NewMessage{Text: "more please"}); err != nil {
		t.Fatal(err)
	}
	if _, err := second.client.Stop(t.Context(), stopped.ID); err != nil {
		t.Fatal(err)
	}
	if ended := second.end(stopped.ID); ended.State != api.Cancelled {
		t.Errorf("it is %s", ended.State)
	}
	second.until(told.ID, func(event api.Event) bool { return event.Type == api.EventMessage && event.Text == "more please" })
	now, err := second.client.Session(t.Context(), told.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(now.WorkDir, "enough"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ended := second.end(told.ID); ended.State != api.Succeeded || !strings.Contains(ended.Result, "more") {
		t.Errorf("it is %s: %q", ended.State, ended.Result)
	}
}

// An agent that is killed, or ends, leaves its sessions to the other one.
func TestTheOtherAgentGoesOn(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*agent){
		"killed":  (*agent).kill,
		"stopped": func(a *agent) { _ = a.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			first := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{
				scripted.Use(scripted.Bash("echo did 0.")), scripted.Use(scripted.Bash("test -e began && echo did 1. && exit; " + long)), scripted.Text("Done."),
			}}}}, contract.EnvWork+"="+t.TempDir())
			session := first.create(api.NewSession{Prompt: "do it"})
			first.awaitBegan(session.ID)
			second := beside(t, first)
			second.env[contract.EnvCheckpoint] = "1"
			end(first)
			// The second one has a work disk of its own, on which nothing began unless a checkpoint says so.
			second.eventually("the second agent has taken the session over", func() bool {
				now, err := second.client.Session(t.Context(), session.ID)
				if err != nil {
					t.Fatal(err)
				}
				if now.Attempts > 1 && now.WorkDir != "" {
					_ = os.WriteFile(filepath.Join(now.WorkDir, "began"), nil, 0o644) // it is made by the command else
				}
				return now.Attempts > 1
			})
			if _, err := second.client.Stop(t.Context(), session.ID); err != nil {
				t.Fatal(err)
			}
			if ended := second.end(session.ID); !ended.State.Ended() || ended.Attempts < 2 {
				t.Errorf("it is %s after %d attempts", ended.State, ended.Attempts)
			}
		})
	}
}
