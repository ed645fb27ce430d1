//go:build e2e

package local

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"berth/internal/api"
	"berth/internal/scripted"
)

// The disk is full that holds everything, as on a laptop: the volume, and where sessions work. Claude Code goes on
// then, and writes nothing down: what it did is done again when there is room, and may be in the log twice, as it was
// done twice. The session is not taken for done before.
func TestFullDiskUnderEverything(t *testing.T) {
	const count, gated = 12, 5
	var steps []scripted.Step
	for number := range count {
		command := fmt.Sprintf("echo did %d.", number)
		if number == gated {
			command = "touch waits; while ! test -e gate; do sleep 0.05; done; " + command
		}
		if number >= gated {
			command += " $(head -c 20000 /dev/zero | tr '\\0' x)"
		}
		steps = append(steps, scripted.Use(scripted.Bash(command)))
	}
	a := plannedAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: append(steps, scripted.Text("All done."))}}})
	inside := a.data
	a.startSmall(inside)
	session := a.create(api.NewSession{Prompt: "take the steps"})
	a.eventually("the session waits", func() bool {
		_, err := os.Stat(filepath.Join(a.data, "work", session.ID, "tree", "waits"))
		return err == nil
	})
	filler := fill(t, a.data)
	if err := os.WriteFile(filepath.Join(a.data, "work", session.ID, "tree", "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.idle(inside, session.ID)
	for range 3 {
		now, err := a.client.Session(t.Context(), session.ID)
		if err != nil || now.State.Ended() {
			t.Fatalf("on a full disk it is %+v: %v", now, err)
		}
		a.troubled("cannot be written") // the volume, or the work disk: they are one
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	ended := a.end(session.ID)
	if ended.State != api.Succeeded || ended.Result != "All done." {
		t.Errorf("it is %s: %+v, %q", ended.State, ended.Error, ended.Result)
	}
	if took := a.steps(session.ID); len(took) < count-1 || took[len(took)-1] != itoa(count-1) {
		t.Errorf("the log has the steps %v", took)
	}
	a.untroubled()
	a.idle(inside, session.ID)
}
