//go:build e2e

package local

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/scripted"
)

// Twenty sessions at once with four places: all succeed, never more than four run, they start in the order in which
// they came, and none touches another's files.
func TestManyAtOnce(t *testing.T) {
	const count, places = 20, 4
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{
		scripted.Use(scripted.Bash("found=$(ls -A | grep -v '^.git$'); echo \"[$found]\" > found; pwd > where; echo $CLAUDE_CONFIG_DIR >> where; touch mine-{{prompt}}")),
		scripted.Use(scripted.Bash("cat where")), scripted.Text("Done with {{prompt}}."),
	}}}}, fmt.Sprintf("BERTH_MAX_SESSIONS=%d", places))
	var created []string
	for number := range count {
		created = append(created, a.create(api.NewSession{Prompt: fmt.Sprint(number)}).ID)
	}
	type moment struct {
		at    time.Time
		id    string
		delta int
	}
	var moments []moment
	where := map[string]bool{}
	for number, id := range created {
		ended := a.end(id)
		if ended.State != api.Succeeded || ended.Result != fmt.Sprintf("Done with %d.", number) {
			t.Errorf("session %d is %s: %+v, %q", number, ended.State, ended.Error, ended.Result)
		}
		for _, event := range a.events(id) {
			switch {
			case event.State == api.Preparing:
				moments = append(moments, moment{event.Time, id, 1})
			case event.State.Ended():
				moments = append(moments, moment{event.Time, id, -1})
			}
		}
		files, err := filepath.Glob(filepath.Join(ended.WorkDir, "mine-*"))
		if err != nil || len(files) != 1 || filepath.Base(files[0]) != fmt.Sprintf("mine-%d", number) {
			t.Errorf("session %d has %v: %v", number, files, err)
		}
		found, err := os.ReadFile(filepath.Join(ended.WorkDir, "found"))
		if err != nil || string(found) != "[]\n" {
			t.Errorf("session %d began with %q: %v", number, found, err)
		}
		text, err := os.ReadFile(filepath.Join(ended.WorkDir, "where"))
		if err != nil || where[string(text)] {
			t.Errorf("session %d ran where another one did: %s %v", number, text, err)
		}
		where[string(text)] = true
	}
	slices.SortStableFunc(moments, func(a, b moment) int {
		if order := a.at.Compare(b.at); order != 0 {
			return order
		}
		return a.delta - b.delta // a place is free before it is given
	})
	var started []string
	running := 0
	for _, each := range moments {
		if running += each.delta; running > places {
			t.Errorf("%d run at %v", running, each.at)
		}
		if each.delta > 0 {
			started = append(started, each.id)
		}
	}
	if !slices.Equal(started, created) {
		t.Errorf("they came as %v\nand started as %v", created, started)
	}
}
