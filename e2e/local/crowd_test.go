//go:build e2e

package local

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/scripted"
)

// The daemon is killed while some sessions run and others wait: all succeed, those that wait in the order in which they
// came, and what somebody stopped stays stopped.
func TestKilledWithMany(t *testing.T) {
	t.Parallel()
	const count, places = 6, 2
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	var steps []scripted.Step
	for number := range 5 {
		steps = append(steps, scripted.Step{Delay: 200 * time.Millisecond, Tools: []scripted.Tool{scripted.Bash(fmt.Sprintf("echo did %d.", number))}})
	}
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: append(steps, scripted.Text("Done with {{prompt}}."))}}}, fmt.Sprintf("BERTH_MAX_SESSIONS=%d", places))
	var created []string
	for number := range count {
		created = append(created, a.create(api.NewSession{Prompt: fmt.Sprint(number)}).ID)
	}
	unwanted := a.create(api.NewSession{Prompt: "unwanted"}).ID
	if _, err := a.client.Stop(t.Context(), unwanted); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		<-time.After(time.Duration(300+random.IntN(1500)) * time.Millisecond) // between any two lines
		a.kill()
		a.start()
	}
	first := map[string]time.Time{}
	for number, id := range created {
		ended := a.end(id)
		if ended.State != api.Succeeded || ended.Result != fmt.Sprintf("Done with %d.", number) {
			t.Errorf("session %d is %s: %+v, %q", number, ended.State, ended.Error, ended.Result)
		}
		a.checkSteps(id, []string{"0", "1", "2", "3", "4"})
		first[id] = *ended.StartedAt
	}
	if !slices.IsSortedFunc(created, func(one, other string) int { return first[one].Compare(first[other]) }) {
		t.Errorf("they came as %v and started at %v", created, first)
	}
	if ended := a.end(unwanted); ended.State != api.Cancelled || ended.StartedAt != nil {
		t.Errorf("the one that was stopped is %s", ended.State)
	}
}

// The daemon is killed as soon as it has said that it will end a session: the session does not come back.
func TestKilledAfterAStop(t *testing.T) {
	t.Parallel()
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Use(scripted.Bash(long))}}}})
	session := a.create(api.NewSession{Prompt: "do it"})
	a.awaitBegan(session.ID)
	if _, err := a.client.Stop(t.Context(), session.ID); err != nil {
		t.Fatal(err)
	}
	a.kill()
	a.start()
	if ended := a.end(session.ID); ended.State != api.Cancelled || ended.Attempts != 1 {
		t.Errorf("it is %s after %d attempts: %+v", ended.State, ended.Attempts, ended.Error)
	}
	a.eventually("nothing of it is left", func() bool { return len(a.processes(session.ID)) == 0 })
}

// The daemon is killed as soon as it has accepted a message: the next one sees to it that it is answered.
func TestKilledAfterAMessage(t *testing.T) {
	t.Parallel()
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{
		scripted.Use(scripted.Bash("test -e began && exit; " + long)), scripted.Text("I was told: {{prompts}}"), scripted.Text("I was told: {{prompts}}"),
	}}}})
	session := a.create(api.NewSession{Prompt: "do it"})
	a.awaitBegan(session.ID)
	if _, err := a.client.Send(t.Context(), session.ID, api.NewMessage{Text: "and this"}); err != nil {
		t.Fatal(err)
	}
	a.kill()
	a.start()
	if ended := a.end(session.ID); ended.State != api.Succeeded || !strings.Contains(ended.Result, "and this") {
		t.Errorf("it is %s: %+v, %q", ended.State, ended.Error, ended.Result)
	}
	messages := 0
	for _, event := range a.events(session.ID) {
		if event.Type == api.EventMessage && event.Text == "and this" {
			messages++
		}
	}
	if messages != 1 {
		t.Errorf("the log has the message %d times", messages)
	}
}
