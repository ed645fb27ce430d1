//go:build e2e

package local

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/scripted"
)

const crashes = 12

// The daemon is killed at random moments of one session, again and again, and started on the same volume each time. The
// session succeeds, every step of it is in the log once, and nothing is left over.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	var steps []scripted.Step
	const count = 60
	for number := range count {
		steps = append(steps, scripted.Step{
			Delay: 150 * time.Millisecond, Tools: []scripted.Tool{scripted.Bash(fmt.Sprintf("echo step-%d >> steps.log; echo did %d.", number, number))},
		})
	}
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: append(steps, scripted.Text("All done."))}}})
	session := a.create(api.NewSession{Prompt: "take the steps"})
	for range crashes {
		// Between two looks, and between any two lines.
		<-time.After(time.Duration(200+random.IntN(1500)) * time.Millisecond)
		a.kill()
		a.start()
	}
	ended := a.end(session.ID)
	if ended.State != api.Succeeded || ended.Result != "All done." {
		t.Errorf("it is %s: %+v, %q", ended.State, ended.Error, ended.Result)
	}
	var wanted []string
	for number := range count {
		wanted = append(wanted, fmt.Sprint(number))
	}
	a.checkSteps(session.ID, wanted)
	text, err := os.ReadFile(filepath.Join(ended.WorkDir, "steps.log"))
	if err != nil {
		t.Fatal(err)
	}
	if took := strings.Fields(strings.ReplaceAll(string(text), "step-", "")); !slices.Equal(took, wanted) {
		t.Errorf("the steps that were taken are %v", took)
	}
	t.Logf("%d attempts, %d events", ended.Attempts, ended.Events)
}

// checkSteps checks that the log has each step's result once, in order.
func (a *agent) checkSteps(id string, wanted []string) {
	a.t.Helper()
	if took := a.steps(id); !slices.Equal(took, wanted) {
		a.t.Errorf("the log has the steps %v", took)
	}
}

// steps returns the steps whose results a log has, and checks that it has each use of a tool with one result at most. Claude Code
// that is ended in the middle of a step may write down that the step was cut off: that is its result, and the model knows.
func (a *agent) steps(id string) (took []string) {
	a.t.Helper()
	uses, results, numbers := map[string]int{}, map[string]int{}, map[string]string{}
	did := regexp.MustCompile(`did (\d+)\.`)
	for _, event := range a.events(id) {
		if event.Type != api.EventClaude {
			continue
		}
		var line struct {
			Type    string `json:"type"`
			Message struct {
				Content json.RawMessage `json:"content"`
			} `json:"message"`
		}
		if err := json.Unmarshal(event.Claude, &line); err != nil {
			a.t.Errorf("event %d: %v", event.ID, err)
		}
		var blocks []struct {
			Type    string          `json:"type"`
			ID      string          `json:"id"`
			Input   json.RawMessage `json:"input"`
			Use     string          `json:"tool_use_id"`
			Content json.RawMessage `json:"content"`
			IsError bool            `json:"is_error"`
		}
		if json.Unmarshal(line.Message.Content, &blocks) != nil {
			continue
		}
		for _, block := range blocks {
			switch block.Type {
			case "tool_use":
				uses[block.ID]++
				if found := did.FindSubmatch(block.Input); found != nil {
					numbers[block.ID] = string(found[1])
				}
			case "tool_result":
				results[block.Use]++
				if found := did.FindSubmatch(block.Content); found != nil {
					took = append(took, string(found[1]))
				} else if number := numbers[block.Use]; number != "" && block.IsError {
					a.t.Logf("step %s was cut off: %s", number, block.Content)
					took = append(took, number)
				}
			}
		}
	}
	// A use that a crash cut off has no result: the model is asked for that step again.
	for use, times := range uses {
		if times != 1 || results[use] > 1 {
			a.t.Errorf("the log has use %s %d times, and %d results of it", use, times, results[use])
		}
	}
	for use := range results {
		if uses[use] != 1 {
			a.t.Errorf("the log has a result of %s, and no use", use)
		}
	}
	return took
}

// An orderly stop interrupts a session, and the next daemon goes on with it.
func TestStoppedAndStartedAgain(t *testing.T) {
	t.Parallel()
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{
		scripted.Use(scripted.Bash("echo did 0.")), scripted.Use(scripted.Bash("test -e began && echo did 1. && exit; " + long)),
		scripted.Use(scripted.Bash("echo did 2.")), scripted.Text("Done."),
	}}}})
	session := a.create(api.NewSession{Prompt: "do it"})
	queued := a.create(api.NewSession{Prompt: "do it too"})
	for _, id := range []string{session.ID, queued.ID} {
		a.awaitBegan(id)
	}
	if err := a.stop(); err != nil {
		t.Errorf("berthd: %v", err)
	}
	if left := a.processes(""); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(a.data, api.EndpointFile)); err == nil {
		t.Error("endpoint.json names an agent that has gone")
	}
	text, err := os.ReadFile(filepath.Join(a.data, "sessions", session.ID, "session.json"))
	if err != nil || !strings.Contains(string(text), `"state": "interrupted"`) {
		t.Errorf("%v: %s", err, text)
	}
	a.start()
	for _, id := range []string{session.ID, queued.ID} {
		if ended := a.end(id); ended.State != api.Succeeded || ended.Attempts != 2 {
			t.Errorf("it is %s after %d attempts: %+v", ended.State, ended.Attempts, ended.Error)
		}
	}
}

// The daemon is killed twice in a row before the model has replied to the process that took the turn up again. Claude
// Code by itself would wait for a message then, for ever.
func TestKilledBeforeTheNextReply(t *testing.T) {
	t.Parallel()
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
	for range 3 {
		<-asked
		a.kill()
		for len(asked) > 0 {
			<-asked
		}
		a.start()
	}
	ended := a.end(session.ID)
	if ended.State != api.Succeeded || ended.Result != "Done." {
		t.Errorf("it is %s: %+v, %q", ended.State, ended.Error, ended.Result)
	}
	a.checkSteps(session.ID, []string{"0", "1"})
}
