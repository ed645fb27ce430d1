package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"berth/internal/api"
)

// The time of a session is up, and its last files could not be saved: they are before it ends.
func TestFilesAreSavedWhenTheTimeWasUp(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	gate := filepath.Join(a.dir, "gate")
	a.start()
	id := a.create("wait " + gate)
	until(t, func() bool { return strings.Contains(a.events(id), "init") }, func() string { return "no turn begins" })
	a.stop()
	a.open(1)
	s := a.store.Get(id)
	before := s.Record()
	if before.State != api.Interrupted || before.Checkpoint == "" || before.AskSeconds <= 0 {
		t.Fatalf("it is %+v", before)
	}
	must(t, os.WriteFile(filepath.Join(a.dirs(id).Tree, "late"), []byte("text"), 0o600))
	must(t, s.Ask(api.Event{MessageID: "late", Text: "reply late", Options: &api.Options{TimeoutSeconds: 1e-6}}))
	a.start()
	after := a.await(id, api.Failed)
	if after.Error.Code != api.CodeTimeout || after.Checkpoint == before.Checkpoint {
		t.Errorf("its checkpoint is %s, as it was %s: %+v", after.Checkpoint, before.Checkpoint, after.Error)
	}
}

// What could not be saved is a problem until it is, or the session has ended: not until it is tried again.
func TestUnsavedFilesStayAProblem(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	id := a.create("reply 1")
	r, _ := a.next()
	must(t, r.begin())
	r.noRoom = syscall.ENOSPC
	if state, event := r.delivered(api.Succeeded, api.Event{}); state != api.Interrupted || !event.Blameless {
		t.Errorf("it is %s: %+v", state, event)
	}
	must(t, r.settle(api.Interrupted, api.Event{}))
	r.release()
	a.done(r)
	must(t, a.store.Get(id).Requeue(""))
	a.enqueue(a.store.Get(id))

	r, _ = a.next()
	must(t, r.begin())
	must(t, os.MkdirAll(a.config.Work, 0o700))
	must(t, os.WriteFile(a.dirs(id).Root, nil, 0o600)) // it does not come as far as its files
	r.end(shutdown)
	r.do()
	if problems := a.Status(t.Context()).Problems; !strings.Contains(strings.Join(problems, "\n"), "the files of session "+id+" cannot be saved") {
		t.Errorf("the problems are %q", problems)
	}
	must(t, a.store.Get(id).Stop("enough"))
	a.able()
	if problems := a.Status(t.Context()).Problems; strings.Contains(strings.Join(problems, "\n"), id) {
		t.Errorf("it has ended, and the problems are %q", problems)
	}
}
