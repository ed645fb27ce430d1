//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/api"
	"berth/internal/scripted"
)

// waiting is a script that has a session wait for a file "gate" in its tree, do something then, and end.
func waiting(command string) scripted.Options {
	return scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{
		scripted.Use(scripted.Bash("touch waits; while ! test -e gate; do sleep 0.05; done; " + command)), scripted.Text("All done."),
	}}}}
}

// The volume has room for what a session says, and not for its files. On Fargate they would be gone with the task: it has not
// succeeded before they are saved.
func TestFilesThatFindNoRoomOnTheVolume(t *testing.T) {
	a := plannedAgent(t, waiting("head -c 3000000 /dev/urandom > work"))
	work := a.onDisk()
	a.startSmall(work)
	session := a.create(api.NewSession{Prompt: "take the steps"})
	tree := filepath.Join(work, session.ID, "tree")
	a.eventually("the session waits", func() bool {
		_, err := os.Stat(filepath.Join(tree, "waits"))
		return err == nil
	})
	filler := fill(t, a.data)
	if err := os.Truncate(filler, info(t, filler).Size()-1<<20); err != nil {
		t.Fatal(err)
	}
	must(t, os.WriteFile(filepath.Join(tree, "gate"), nil, 0o600))
	says := "the files of session " + session.ID + " cannot be saved: no space left on device: the volume "
	a.eventually("berth status names the problem: "+says, func() bool {
		// While a checkpoint takes all room, something else may find none, either, which is named first.
		_, stderr, exit := a.berth("", "status")
		return exit == 1 && strings.Contains(stderr, says)
	})
	if now, err := a.client.Session(t.Context(), session.ID); err != nil || now.State.Ended() {
		t.Errorf("its files are not saved, and it is %+v: %v", now, err)
	}
	a.eventually("what could not be saved takes no room", func() bool { // but while it is tried again
		left, err := filepath.Glob(filepath.Join(a.data, "repos", "*", "objects", "pack", "tmp_*"))
		return err == nil && len(left) == 0
	})
	must(t, os.Remove(filler))
	if ended := a.end(session.ID); ended.State != api.Succeeded || ended.Result != "All done." {
		t.Errorf("it is %s: %+v, %q", ended.State, ended.Error, ended.Result)
	}
	a.untroubled()
	if log := a.log.String(); strings.Contains(log, "graftFileDeprecated") {
		t.Error("the log has git's hints in the place of what it says is wrong")
	}
	if diff, err := a.client.Diff(t.Context(), session.ID); err != nil || !strings.Contains(diff.Patch, "b/work") {
		t.Errorf("its work is %.200q: %v", diff.Patch, err)
	}
	a.idle(work, session.ID)
}

// The work disk is full before a session starts: it waits, the agent says why, and it goes on when there is room.
func TestAFullWorkDisk(t *testing.T) {
	a := plannedAgent(t, scripted.Options{})
	work := a.onDisk()
	must(t, os.MkdirAll(work, 0o700))
	a.startMounted(`mount -t tmpfs -o size=16m,mode=0711 tmpfs "$BERTH_WORK"`)
	inside := filepath.Join("/proc", itoa(a.process.Process.Pid), "root", work)
	filler := fill(t, inside)
	session := a.create(api.NewSession{Prompt: "hello"})
	a.troubled("the work disk cannot be written: no space left on device: the work disk ")
	if now, err := a.client.Session(t.Context(), session.ID); err != nil || now.State.Ended() {
		t.Errorf("it is %+v: %v", now, err)
	}
	must(t, os.Remove(filler))
	if ended := a.end(session.ID); ended.State != api.Succeeded {
		t.Errorf("it is %s: %+v", ended.State, ended.Error)
	}
	a.untroubled()
	a.idle(work, session.ID)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func info(t *testing.T, path string) os.FileInfo {
	t.Helper()
	found, err := os.Stat(path)
	must(t, err)
	return found
}
