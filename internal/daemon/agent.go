package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

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
	status.Problems = []string{}
	for _, part := range slices.Sorted(maps.Keys(d.problems)) {
		status.Problems = append(status.Problems, d.problems[part])
	}
	d.mu.Unlock()
	status.Key = d.models.Key().State
	status.Spend = d.config.Models.Ledger.Spend()
	status.Volume = volumeRoom(d.config.Data)
	for _, broken := range d.store.Broken() {
		status.Problems = append(status.Problems, broken.Error())
	}
	return status
}

// Spend tells what was spent.
func (d *Daemon) Spend(context.Context) api.SpendReport { return d.config.Models.Ledger.Report() }

// volumeRoom is how much room a file system has; zero if nobody can tell.
func volumeRoom(dir string) api.Volume {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return api.Volume{}
	}
	return api.Volume{Total: int64(stat.Blocks) * int64(stat.Bsize), Free: int64(stat.Bavail) * int64(stat.Bsize)} //nolint:gosec,unconvert // sizes of disks; types differ between systems
}

// Create accepts a task. For an idempotency key that is not empty it does so once; created is false if it had done before.
func (d *Daemon) Create(_ context.Context, task api.NewSession, key string) (accepted api.Session, created bool, err error) {
	source := workspace.Source{Repo: task.Repo, Ref: task.Ref}
	if err := source.Check(d.config.Data, d.config.Work); err != nil {
		return api.Session{}, false, err
	}
	if err := d.open(); err != nil {
		return api.Session{}, false, err
	}
	s, found, err := d.store.Create(task, uuid.NewString(), key)
	switch {
	case errors.Is(err, session.ErrUnseen):
		return api.Session{}, false, api.Errorf(api.CodeBusy, "%v; send the request again in a moment, with the same key", err)
	case errors.Is(err, session.ErrOtherTask):
		return api.Session{}, false, api.Errorf(api.CodeConflict, "%v; use a new key for a new task", err)
	case err != nil:
		return api.Session{}, false, d.notWritten(err)
	case !found:
		d.enqueue(s)
	}
	return s.Record().Session, !found, nil
}

// Sessions lists sessions.
func (d *Daemon) Sessions(query api.ListQuery) api.SessionList {
	list := api.SessionList{Sessions: []api.Session{}}
	all := d.store.List()
	if query.Newest {
		slices.Reverse(all)
	}
	for _, s := range all {
		// Ids are in order of time.
		if id := s.ID(); query.After != "" && (!query.Newest && id <= query.After || query.Newest && id >= query.After) {
			continue
		}
		record := s.Record()
		if !query.Holds(&record.Session) {
			continue
		}
		if query.Limit > 0 && len(list.Sessions) == query.Limit {
			list.Next = list.Sessions[query.Limit-1].ID
			break
		}
		list.Sessions = append(list.Sessions, record.Session)
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
	if err := d.askHeld(s, message); err != nil {
		if err := d.handedOn(s, err, message, api.EventMessage); err != nil {
			return api.Session{}, err
		}
	}
	return s.Record().Session, nil
}

// askHeld gives a session a message. Another daemon may hold it: that is the error then.
func (d *Daemon) askHeld(s *session.Session, message api.Event) error {
	if err := s.Ask(message); err != nil {
		return err
	}
	if r := d.runOf(s.ID()); r != nil {
		r.tell(message)
	}
	if s.State() == api.Queued {
		d.enqueue(s)
	}
	return nil
}

// handedOn leaves an event for the daemon that has a session, if that is why it could not be written; nil if it did.
func (d *Daemon) handedOn(s *session.Session, err error, event api.Event, kind api.EventType) error {
	var leased *session.LeasedError
	if !errors.As(err, &leased) && !errors.Is(err, session.ErrLost) {
		return d.notWritten(err)
	}
	event.Type, event.Time = kind, time.Now().UTC()
	if err := d.store.Post(session.Mail{Session: s.ID(), Event: event, Asked: s.Record().AskedAt}); err != nil {
		return d.notWritten(err)
	}
	return nil
}

// Stop asks for a session's end, and lasts: a session that was asked to end does not come back after a crash.
func (d *Daemon) Stop(_ context.Context, id string) (api.Session, error) {
	s, err := d.find(id)
	if err != nil {
		return api.Session{}, err
	}
	if err := d.stopHeld(s); err != nil {
		if err := d.handedOn(s, err, api.Event{}, api.EventStop); err != nil {
			return api.Session{}, err
		}
	}
	return s.Record().Session, nil
}

func (d *Daemon) stopHeld(s *session.Session) error {
	if err := s.Stop(reasonStopped); err != nil {
		return err
	}
	r, record := d.runOf(s.ID()), s.Record()
	if r != nil && record.StopAsked && !record.State.Ended() {
		r.end(cancel)
	}
	if record.State == api.Cancelled {
		d.report(s, nil)
	}
	return nil
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
	place, err := d.placeOf(&record)
	if err != nil {
		return api.Diff{}, err
	}
	patch, err := d.mirrors.Diff(ctx, place, record.Base)
	return api.Diff{Base: record.Base, Patch: patch}, err
}

// placeOf is where a session's files are; its tree does not exist if they are on another disk.
func (d *Daemon) placeOf(record *session.Record) (workspace.Place, error) {
	if record.Disk != d.disk && record.Disk != "" {
		place := d.place(record, nil)
		place.Tree, place.Scratch = filepath.Join(d.config.Work, ".none"), filepath.Join(d.config.Work, ".none-scratch")
		return place, nil
	}
	user, err := d.config.Isolation.User(d.dirs(record.ID))
	return d.place(record, user), err
}

// Bundle writes a git bundle with the work of a session, as of its last checkpoint: with what its origin lacks, or all of it.
func (d *Daemon) Bundle(ctx context.Context, id string, full bool, w io.Writer) error {
	s, err := d.find(id)
	if err != nil {
		return err
	}
	record := s.Record()
	if record.Checkpoint == "" {
		return api.Errorf(api.CodeConflict, "session %s is %s, and nothing of its work is on the volume yet", id, record.State)
	}
	return d.mirrors.Bundle(ctx, id, workspace.Source{Repo: record.Repo, Ref: record.Ref}, branchName(&record), record.Base, full, w)
}

// branchName is what the branch with a session's work is called elsewhere.
func branchName(record *session.Record) string { return "berth/" + record.ID[len(record.ID)-12:] }

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
	var leased *session.LeasedError
	if errors.As(err, &leased) || errors.Is(err, session.ErrLost) {
		return api.Errorf(api.CodeConflict, "%v: try again in a moment", err)
	}
	d.volumeFailed(err)
	return api.Errorf(api.CodeVolume, "nothing was accepted: the volume cannot be written: %s", d.explain(err))
}
