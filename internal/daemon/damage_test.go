package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
)

// While the volume cannot be written, sessions wait; then they go on.
func TestSessionsWaitForTheVolume(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	id := a.create("reply at last")
	log := filepath.Join(a.dir, "sessions", id, "events.jsonl")
	must(t, os.Rename(log, log+".away"))
	must(t, os.Mkdir(log, 0o700))
	a.start()
	until(t, func() bool { return len(a.Status(t.Context()).Problems) > 0 }, func() string { return "no problem is told" })
	if _, err := a.Send(t.Context(), id, api.NewMessage{Text: "more"}); err == nil {
		t.Error("a message was accepted")
	}
	if got := a.get(id).State; got != api.Queued {
		t.Errorf("it is %s", got)
	}
	must(t, os.Remove(log))
	must(t, os.Rename(log+".away", log))
	a.rouse()
	a.await(id, api.Succeeded)
	if problems := a.Status(t.Context()).Problems; len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
}

// A work dir that is gone is made anew, and what only cannot be started is tried again, not in a hurry.
func TestWhatCannotBeStarted(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	id := a.create("reply 1")
	a.await(id, api.Succeeded)
	config := filepath.Join(a.dir, "work", id, "config")
	must(t, os.Rename(config, config+".away"))
	must(t, os.WriteFile(config, nil, 0o600))
	a.send(id, "reply 2")
	until(t, func() bool { return strings.Count(a.states(id), "interrupted") >= 2 }, func() string { return a.states(id) })
	before := a.get(id).Events
	brief := time.NewTimer(500 * time.Millisecond)
	<-brief.C
	if after := a.get(id).Events; after > before+6 {
		t.Errorf("it is in a hurry: %d events in half a second", after-before)
	}
	must(t, os.Remove(config))
	must(t, os.Rename(config+".away", config))
	a.await(id, api.Succeeded)
	must(t, os.RemoveAll(filepath.Join(a.dir, "work", id, "tree")))
	a.send(id, "reply 3")
	a.await(id, api.Succeeded)
	if all := a.events(id); !strings.Contains(all, `"type":"restore"`) {
		t.Errorf("it was not restored:\n%s", all)
	}
}

// A session whose checkpoint is gone with its work dir does not begin anew as though nothing had been.
func TestASessionWithoutItsCheckpointIsLost(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	id := a.saved()
	must(t, os.RemoveAll(filepath.Join(a.dir, "work", id, "tree")))
	must(t, os.RemoveAll(a.mirrors.Dir()))
	a.send(id, "reply 2")
	if record := a.await(id, api.Failed); record.Error.Code != api.CodeWorkspaceLost || !strings.Contains(record.Error.Message, "backup") {
		t.Errorf("the error is %v", record.Error)
	}
	if _, err := os.Stat(filepath.Join(a.dir, "work", id, "tree")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has begun anew: %v", err)
	}
}

// An agent that finds another one's checkpoint has lost its session, and stores nothing.
func TestARunEndsWhenItsCheckpointIsOvertaken(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	gate := filepath.Join(t.TempDir(), "gate")
	id := a.create("wait " + gate)
	a.await(id, api.Running)
	ref, later := a.overtake(id)
	must(t, os.WriteFile(gate, nil, 0o600))
	a.await(id, api.Interrupted)
	if text, err := os.ReadFile(ref); err != nil || string(text) != later {
		t.Errorf("the checkpoint is %q, %v", text, err)
	}
}

func TestASessionWithADamagedLogHoldsUpNobody(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	id := a.create("reply 1")
	log := filepath.Join(a.dir, "sessions", id, "events.jsonl")
	text, err := os.ReadFile(log)
	must(t, err)
	text[3] ^= 0x40
	must(t, os.WriteFile(log, text, 0o600))
	other := a.create("reply 2")
	a.start()
	a.await(other, api.Succeeded)
	problems := a.Status(t.Context()).Problems
	if len(problems) != 1 || !strings.Contains(problems[0], id) || !strings.Contains(problems[0], "damaged") {
		t.Errorf("the problems are %q", problems)
	}
}

// The work dir of a session that cannot be read may hold what nothing else does: it stays. That of one that is no more goes.
func TestTheWorkOfASessionThatCannotBeReadIsKept(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	broken := a.create("reply 1")
	must(t, os.WriteFile(filepath.Join(a.dir, "sessions", broken, "events.jsonl"), []byte("no event\n"), 0o600))
	gone := "0190d3a0-0000-7000-8000-0000000000aa"
	for _, id := range []string{broken, gone} {
		must(t, os.MkdirAll(filepath.Join(a.dir, "work", id, "tree"), 0o700))
	}
	a.stop()
	a.open(1)
	if len(a.store.Broken()) != 1 {
		t.Fatalf("broken are %v", a.store.Broken())
	}
	a.sweepWork()
	if _, err := os.Stat(filepath.Join(a.dir, "work", broken, "tree")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(a.dir, "work", gone)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the work of a session that is no more is still there: %v", err)
	}
}

// A session that another agent has removed is no fault of the volume, and holds up nobody.
func TestASessionThatAnotherAgentRemovedHoldsUpNobody(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	id, other := a.create("reply 1"), a.create("reply 2")
	s := a.store.Get(id)
	must(t, os.Rename(filepath.Join(a.dir, "sessions", id), filepath.Join(t.TempDir(), id)))
	a.start()
	a.await(other, api.Succeeded)
	must(t, a.readmit(s))
	if problems := a.Status(t.Context()).Problems; len(problems) > 0 || a.store.Get(id) != nil {
		t.Errorf("problems: %v", problems)
	}
}
