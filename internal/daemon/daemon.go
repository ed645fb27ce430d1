// Package daemon ties sessions, their work dirs, Claude Code and the model's gateway together: it takes
// sessions from the queue, runs so many of them at once, and takes up again what was interrupted.
//
// A session's run is one goroutine (run.go), which is the only one to move the session from preparing on
// until it has let go of it. How a run ended is decided in one place (outcome.go).
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/session"
	"berth/internal/workspace"
)

// Config is how a daemon is set up. All of it is needed.
type Config struct {
	Data    string        // the volume
	Work    string        // where sessions work: local disk
	CLI     string        // the Claude Code CLI
	Reaper  []string      // a command that calls claude.Reap with the arguments after it
	Places  int           // how many sessions run at once
	Gateway Gateway       // where sessions reach the model
	Status  api.Status    // what of the status does not change
	Stall   time.Duration // how long Claude Code may say nothing before it is started anew
	Linger  time.Duration // how long background commands may go on after the last result
	Logger  *slog.Logger
}

// Gateway lets sessions reach the model's API.
type Gateway struct {
	URL    string                      // its address
	Grant  func(session string) string // makes a session's token
	Revoke func(session string)
	Keyed  bool // there is a key, or none is needed
}

const (
	// StallTime is the usual Config.Stall: a command may run for ten minutes without a word
	// (https://docs.anthropic.com/en/docs/claude-code/settings, BASH_MAX_TIMEOUT_MS).
	StallTime = 20 * time.Minute
	// LingerTime is the usual Config.Linger.
	LingerTime = 10 * time.Minute

	// interruptGrace is how long Claude Code may take to end when it is asked to.
	interruptGrace = 10 * time.Second
	// claimTime bounds the wait for an earlier process of a session to be gone.
	claimTime = 30 * time.Second
	// lookAgain is how often something that keeps sessions from running is looked at again.
	lookAgain = 5 * time.Second

	// A session that was started so often without a reply of the model is given up: fewer times if Claude
	// Code ended by itself than if the daemon did, which is no fault of the session's.
	maxIdleStarts   = 3
	maxIdleRestarts = 10
)

// Daemon runs the sessions of a volume.
type Daemon struct {
	config Config
	store  *session.Store
	wake   chan struct{} // there may be something to start

	mu       sync.Mutex
	queue    queue
	runs     map[string]*run
	problems map[string]string // what keeps sessions from running, by the part that has it
	stopping bool
	ended    sync.WaitGroup
}

// New makes a daemon of a volume. Nothing runs before Run.
func New(config Config, store *session.Store) *Daemon {
	return &Daemon{
		config: config, store: store, wake: make(chan struct{}, 1),
		runs: map[string]*run{}, problems: map[string]string{},
	}
}

// Run runs sessions until ctx is done. Then it interrupts those that run, and returns when all have let go.
func (d *Daemon) Run(ctx context.Context) {
	d.recover()
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		d.start()
		select {
		case <-d.wake:
		case <-ticker.C:
		case <-ctx.Done():
			d.interruptAll()
			d.ended.Wait()
			return
		}
	}
}

// recover takes up what an earlier daemon left on the volume.
func (d *Daemon) recover() {
	for _, broken := range d.store.Broken() {
		d.config.Logger.Error("a session cannot be read and is left alone", "error", broken)
	}
	for _, s := range d.store.List() {
		if err := d.readmit(s); err != nil {
			d.volumeFailed(err)
			go d.readmitLater(s)
		}
	}
}

// readmit puts a session into the queue that belongs there, or ends it.
func (d *Daemon) readmit(s *session.Session) error {
	record := s.Record()
	if (record.State == api.Preparing || record.State == api.Running) && !d.running(s.ID()) {
		if err := s.Move(api.Interrupted, api.Event{Reason: "the agent stopped without warning"}); err != nil {
			return err
		}
		record = s.Record()
	}
	switch {
	case record.State.Ended(), record.State == api.Preparing, record.State == api.Running:
		return nil
	case record.StopAsked:
		return s.Move(api.Cancelled, api.Event{Reason: reasonStopped})
	case record.State == api.Interrupted && record.IdleStarts >= maxIdleRestarts:
		return s.Move(api.Failed, api.Event{Error: noProgress(record.IdleStarts, "")})
	case record.State == api.Interrupted || record.State == api.Waiting:
		if err := s.Move(api.Queued, api.Event{}); err != nil {
			return err
		}
	}
	d.enqueue(s)
	return nil
}

// readmitLater readmits a session as soon as the volume can be written again.
func (d *Daemon) readmitLater(s *session.Session) {
	for {
		<-time.After(lookAgain)
		d.mu.Lock()
		stopping := d.stopping
		d.mu.Unlock()
		if stopping || d.readmit(s) == nil {
			return
		}
	}
}

func (d *Daemon) running(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[id] != nil
}

// enqueue puts a session into the queue.
func (d *Daemon) enqueue(s *session.Session) {
	d.requeue(s)
	d.rouse()
}

// start gives free places to those who have waited longest.
func (d *Daemon) start() {
	for d.able() {
		r, more := d.next()
		if !more {
			return
		}
		if r == nil {
			continue
		}
		err := r.session.Move(api.Preparing, api.Event{})
		var conflict *session.StateError
		switch {
		case err == nil:
			go r.do()
			continue
		case errors.As(err, &conflict):
			d.done(r) // somebody stopped it at this moment
			continue
		}
		d.volumeFailed(err)
		d.requeue(r.session)
		d.forget(r)
		return
	}
}

// next takes the session that has waited longest and gives it a place. There is no more if there is no place,
// or nobody waits; the run is nil if the session does not wait any more.
func (d *Daemon) next() (r *run, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.runs) >= d.config.Places || d.queue.len() == 0 {
		return nil, false
	}
	first := d.queue.pop()
	if d.runs[first.id] != nil {
		d.queue.push(first) // its last run is about to let go of it, and wakes us
		return nil, false
	}
	s := d.store.Get(first.id)
	if s == nil || s.State() != api.Queued {
		return nil, true
	}
	r = newRun(d, s)
	d.runs[first.id] = r
	d.ended.Add(1)
	return r, true
}

// requeue puts a session into the queue without waking anybody: the next look is soon enough.
func (d *Daemon) requeue(s *session.Session) {
	record := s.Record()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.push(waiting{asked: record.AskedAt, id: record.ID})
}

// done is called by a run that has let go of its session.
func (d *Daemon) done(r *run) {
	d.forget(r)
	d.rouse()
}

func (d *Daemon) forget(r *run) {
	d.mu.Lock()
	delete(d.runs, r.session.ID())
	d.mu.Unlock()
	d.ended.Done()
}

// rouse has the dispatcher look at the queue.
func (d *Daemon) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// able looks at what every session needs, and holds the queue while it is not there: a session must not
// pay for what is wrong with the machine.
func (d *Daemon) able() bool {
	if _, err := exec.LookPath(d.config.CLI); err != nil {
		d.problem("claude", "the Claude Code CLI cannot be run: "+err.Error()+"; sessions wait until it is there")
		return false
	}
	d.solved("claude")
	d.mu.Lock()
	failed := d.problems["volume"] != ""
	d.mu.Unlock()
	if failed {
		if err := d.store.Probe(); err != nil {
			return false
		}
		d.solved("volume")
	}
	return true
}

func (d *Daemon) problem(part, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.problems[part] != text {
		d.config.Logger.Error(text)
	}
	d.problems[part] = text
}

func (d *Daemon) solved(part string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.problems[part] != "" {
		d.config.Logger.Info("no longer: " + d.problems[part])
		delete(d.problems, part)
	}
}

func (d *Daemon) volumeFailed(err error) {
	d.problem("volume", "the volume cannot be written: "+err.Error()+"; sessions wait until it can")
}

func (d *Daemon) interruptAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping = true
	for _, r := range d.runs {
		r.end(shutdown)
	}
}

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
	return d.ask(id, api.Event{Text: "Continue from where you left off.", Options: &with.Options})
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
	d.mu.Lock()
	r := d.runs[id]
	d.mu.Unlock()
	if r != nil {
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
	if state := s.State(); state.Ended() {
		return api.Session{}, api.Errorf(api.CodeConflict, "session %s is %s already", id, state)
	}
	if err := s.Append(api.Event{Type: api.EventStop}); err != nil {
		return api.Session{}, d.notWritten(err)
	}
	d.mu.Lock()
	r := d.runs[id]
	d.mu.Unlock()
	if r != nil {
		r.end(cancel)
		return s.Record().Session, nil
	}
	// It may get a place at this moment; then the run sees that it was asked to end.
	err = s.Move(api.Cancelled, api.Event{Reason: reasonStopped})
	var conflict *session.StateError
	if err != nil && !errors.As(err, &conflict) {
		return api.Session{}, d.notWritten(err)
	}
	return s.Record().Session, nil
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

func (d *Daemon) dirs(id string) claude.Dirs {
	return claude.DirsBelow(filepath.Join(d.config.Work, id))
}
