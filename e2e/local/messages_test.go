//go:build e2e

package local

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/scripted"
)

// A message in the middle of a turn is answered by the process that runs; one after the end starts another, which knows
// everything.
func TestSend(t *testing.T) {
	t.Parallel()
	seen := make(chan scripted.Request, 100)
	step := func(text string) func(scripted.Request) scripted.Step {
		return func(r scripted.Request) scripted.Step {
			seen <- r
			return scripted.Text(text + r.Fill(" {{prompts}}"))
		}
	}
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{
		{Name: "later", Match: "^later", Steps: []scripted.Step{{Compute: step("Later:")}}},
		{Name: "first", Match: "^first", Steps: []scripted.Step{
			scripted.Use(scripted.Bash("touch began; while ! test -e go; do sleep 0.05; done; echo went on")), {Compute: step("First:")},
		}},
	}})
	session := a.create(api.NewSession{Prompt: "first, do it"})
	a.until(session.ID, func(event api.Event) bool { return strings.Contains(string(event.Claude), `"tool_use"`) })
	if _, stderr, code := a.berth("", "send", session.ID, "second, do it otherwise"); code != 0 {
		t.Fatalf("berth send: exit %d: %s", code, stderr)
	}
	a.until(session.ID, func(event api.Event) bool { return event.Text == "second, do it otherwise" })
	a.until(session.ID, func(event api.Event) bool {
		return strings.Contains(string(event.Claude), `"command_lifecycle"`) && strings.Count(fmt.Sprint(a.lifecycles(session.ID)), "queued") == 2
	})
	a.touch(session.ID, "go")
	ended := a.end(session.ID)
	if ended.State != api.Succeeded || ended.Attempts != 1 || !strings.Contains(ended.Result, "second, do it otherwise") {
		t.Errorf("it is %s after %d attempts: %q", ended.State, ended.Attempts, ended.Result)
	}
	<-seen
	if _, err := a.client.Send(t.Context(), session.ID, api.NewMessage{Text: "later, do more"}); err != nil {
		t.Fatal(err)
	}
	ended = a.end(session.ID)
	if ended.State != api.Succeeded || ended.Attempts != 2 || !strings.HasPrefix(ended.Result, "Later:") {
		t.Errorf("it is %s after %d attempts: %q", ended.State, ended.Attempts, ended.Result)
	}
	last := string((<-seen).Body)
	for _, text := range []string{"first, do it", "second, do it otherwise", "went on", "First:", "later, do more"} {
		if !strings.Contains(last, text) {
			t.Errorf("the model was not told %q", text)
		}
	}
}

// Messages that come at about the moment of the end are answered all the same, each once.
func TestSendAtTheEnd(t *testing.T) {
	t.Parallel()
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Text("I was told: {{prompts}}")}}}})
	session := a.create(api.NewSession{Prompt: "message 0"})
	for number := 1; number <= 10; number++ {
		wanted := func(event api.Event) bool { return strings.Contains(string(event.Claude), `"type":"result"`) }
		if number%2 == 0 {
			wanted = func(event api.Event) bool { return strings.Contains(string(event.Claude), `I was told`) }
		}
		from := session.Events
		for event, err := range a.client.Events(t.Context(), session.ID, from, true) {
			if err != nil {
				t.Fatal(err)
			}
			if wanted(event) {
				break
			}
		}
		<-time.After(time.Duration(number) * 10 * time.Millisecond) // the end takes some 100 ms
		now, err := a.client.Send(t.Context(), session.ID, api.NewMessage{Text: fmt.Sprintf("message %d", number)})
		if err != nil {
			t.Fatal(err)
		}
		session = now
	}
	ended := a.end(session.ID)
	if ended.State != api.Succeeded || !strings.Contains(ended.Result, "message 10") {
		t.Errorf("it is %s: %q", ended.State, ended.Result)
	}
	answers := 0
	for _, event := range a.events(session.ID) {
		if strings.Contains(string(event.Claude), `"type":"assistant"`) {
			answers++
		}
	}
	if answers < 2 || answers > 11 {
		t.Errorf("%d answers to 11 messages", answers)
	}
}

// lifecycles lists what Claude Code said of the messages that it was given.
func (a *agent) lifecycles(id string) (list []string) {
	for _, event := range a.events(id) {
		if text := string(event.Claude); strings.Contains(text, `"command_lifecycle"`) {
			list = append(list, text)
		}
	}
	return list
}
