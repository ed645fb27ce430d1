package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"os"
	"slices"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/session"
	"berth/internal/workspace"
)

// Status tells how the agent is.
func (d *Daemon) Status(context.Context) api.Status {
	status := d.config.Status
	status.Data, status.Work, status.Places = d.config.Data, d.config.Work, d.config.Places
	status.PID = os.Getpid()
	status.Sessions = map[api.State]int{}
	for _, state := range api.States {
		status.Sessions[state] = 0
	}
	for _, s := range d.store.List() {
		status.Sessions[s.State()]++
	}
	d.mu.Lock()
	status.Problems = append([]string{}, slices.Sorted(maps.Values(d.problems))...)
	d.mu.Unlock()
	for _, broken := range d.store.Broken() {
		status.Problems = append(status.Problems, broken.Error())
	}
	return status
}

// Create accepts a task.
func (d *Daemon) Create(_ context.Context, task api.NewSession) (api.Session, error) {
	source := workspace.Source{Repo: task.Repo, Ref: task.Ref}
	if err := source.Check(d.config.Data, d.config.Work); err != nil {
		return api.Session{}, err
	}
	if err := d.open(); err != nil {
		return api.Session{}, err
	}
	s, err := d.store.Create(task, uuid.NewString())
	if err != nil {
		return api.Session{}, d.notWritten(err)
	}
	d.enqueue(s)
	return s.Record().Session, nil
}

// Sessions lists sessions, the oldest first; with states, only those in one of them.
func (d *Daemon) Sessions(states ...api.State) []api.Session {
	list := []api.Session{}
	for _, s := range d.store.List() {
		if record := s.Record(); len(states) == 0 || slices.Contains(states, record.State) {
			list = append(list, record.Session)
		}
	}
	return list
}

// Session returns one session.
func (d *Daemon) Session(id string) (api.Session, error) {
	s, err := d.find(id)
	if err != nil {
		return api.Session{}, err
	}
	return s.Record().Session, nil
}

// Send gives a session a message. An ended one goes to the queue again.
func (d *Daemon) Send(_ context.Context, id string, message api.NewMessage) (api.Session, error) {
	return d.ask(id, api.Event{Text: message.Text})
}

// Resume takes up an ended session again.
func (d *Daemon) Resume(_ context.Context, id string, with api.Resumption) (api.Session, error) {
	s, err := d.find(id)
	if err != nil {
		return api.Session{}, err
	}
	if state := s.State(); !state.Ended() {
		return api.Session{}, api.Errorf(api.CodeConflict, "session %s is %s; there is nothing to resume", id, state)
	}
	return d.ask(id, api.Event{Text: claude.ContinueText, Options: &with.Options})
}

func (d *Daemon) ask(id string, message api.Event) (api.Session, error) {
	s, err := d.find(id)
	if err != nil {
		return api.Session{}, err
	}
	if err := d.open(); err != nil {
		return api.Session{}, err
	}
	message.MessageID = uuid.NewString()
	if err := s.Ask(message); err != nil {
		return api.Session{}, d.notWritten(err)
	}
	if r := d.runOf(id); r != nil {
		r.tell(message)
	}
	if s.State() == api.Queued {
		d.enqueue(s)
	}
	return s.Record().Session, nil
}

// Stop asks for a session's end, and lasts: a session that was asked to end does not come back after a crash.
func (d *Daemon) Stop(_ context.Context, id string) (api.Session, error) {
	s, err := d.find(id)
	if err != nil {
		return api.Session{}, err
	}
	if err := s.Stop(reasonStopped); err != nil {
		return api.Session{}, d.notWritten(err)
	}
	r, record := d.runOf(id), s.Record()
	if r != nil && record.StopAsked && !record.State.Ended() {
		r.end(cancel)
	}
	if record.State == api.Cancelled {
		d.report(s, nil)
	}
	return record.Session, nil
}

// Diff tells what a session changed.
func (d *Daemon) Diff(ctx context.Context, id string) (api.Diff, error) {
	s, err := d.find(id)
	if err != nil {
		return api.Diff{}, err
	}
	record := s.Record()
	if !record.Prepared {
		return api.Diff{}, api.Errorf(api.CodeConflict, "session %s is %s: it has no files yet", id, record.State)
	}
	patch, err := workspace.Diff(ctx, record.WorkDir, record.Base)
	return api.Diff{Base: record.Base, Patch: patch}, err
}

// Events returns the session's events from an index on, each as the JSON line of its log; with follow it goes
// on until the session has ended or ctx is done.
func (d *Daemon) Events(ctx context.Context, id string, from int, follow bool) (iter.Seq2[json.RawMessage, error], error) {
	s, err := d.find(id)
	if err != nil {
		return nil, err
	}
	return s.Events(ctx, from, follow), nil
}

func (d *Daemon) find(id string) (*session.Session, error) {
	if s := d.store.Get(id); s != nil {
		return s, nil
	}
	return nil, api.Errorf(api.CodeNotFound, "there is no session %s; `berth ps --all` lists those that there are", id)
}

// open reports an error if the daemon accepts nothing any more.
func (d *Daemon) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return api.Errorf(api.CodeStopping, "the agent is going down; try again when it is up")
	}
	return nil
}

func (d *Daemon) notWritten(err error) error {
	var conflict *session.StateError
	if errors.As(err, &conflict) {
		return api.Errorf(api.CodeConflict, "%v", conflict)
	}
	d.volumeFailed(err)
	return api.Errorf(api.CodeVolume, "nothing was accepted: the volume cannot be written: %v", err)
}
