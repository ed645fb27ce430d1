package daemon

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/session"
)

// post leaves mail as another agent does.
func (a *agent) post(id string, event api.Event, asked time.Time) {
	a.t.Helper()
	event.Time = time.Now()
	must(a.t, a.store.Post(session.Mail{Session: id, Event: event, Asked: asked}))
}

func (a *agent) noMail() {
	a.t.Helper()
	if mails, err := a.store.Mails(); err != nil || len(mails) > 0 {
		a.t.Errorf("mail is left: %v, %v", mails, err)
	}
}

// A request to stop that comes late, or twice because an agent was killed when it had just taken it, stops nothing that was asked for
// since.
func TestAStopByMailIsForWhatWasAskedThen(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	id := a.create("reply 1")
	asked := a.get(id).AskedAt
	stop := api.Event{Type: api.EventStop}
	a.post(id, stop, asked)
	a.takeMail()
	if a.get(id).State != api.Cancelled {
		t.Fatalf("it is %s", a.get(id).State)
	}
	a.noMail()
	until(t, func() bool { return time.Since(asked) > 2*time.Millisecond }, func() string { return "time stands still" })
	a.send(id, "reply 2")
	a.post(id, stop, asked)
	a.takeMail()
	if record := a.get(id); record.State != api.Queued || record.StopAsked {
		t.Errorf("it is %s", record.State)
	}
	a.noMail()
	a.post(id, stop, time.Time{}) // of an agent of before
	a.takeMail()
	if record := a.get(id); record.State != api.Cancelled {
		t.Errorf("it is %s", record.State)
	}
	a.noMail()
}

// A running session is asked once to stop, however often the mail comes, and a message is told once.
func TestMailCountsOnce(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	id := a.create("wait " + filepath.Join(t.TempDir(), "never"))
	a.await(id, api.Running)
	message := api.Event{Type: api.EventMessage, MessageID: uuid.NewString(), Text: "reply late"}
	for range 2 {
		a.post(id, message, a.get(id).AskedAt)
		a.takeMail()
	}
	for range 2 {
		a.post(id, api.Event{Type: api.EventStop}, a.get(id).AskedAt)
		a.takeMail()
	}
	a.await(id, api.Cancelled)
	counts := map[api.EventType]int{}
	must(t, a.store.Get(id).Each(func(event api.Event) { counts[event.Type]++ }))
	if counts[api.EventStop] != 1 || counts[api.EventMessage] != 2 {
		t.Errorf("it was told %v", counts)
	}
	a.noMail()
}

// Mail to a session that is no more is thrown away.
func TestMailToNobodyIsThrownAway(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1)
	a.post(uuid.NewString(), api.Event{Type: api.EventStop}, time.Time{})
	a.takeMail()
	a.noMail()
}
