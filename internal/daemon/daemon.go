// Package daemon ties sessions, their work dirs, Claude Code and the model's gateway together: it takes
// sessions from the queue, runs so many of them at once, and takes up again what was interrupted.
//
// A session's run is one goroutine (run.go), which is the only one to move the session from preparing on
// until it has let go of it. How a run ended is decided in one place (outcome.go).
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/session"
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

	// A session that was started so often without a reply of the model is given up: after few times if Claude
	// Code ended by itself, after many if the daemon did, which is hardly the session's fault. On a busy machine
	// Claude Code takes a second or two to its first reply, and a daemon that is restarted faster than that for a
	// while must not cost a session.
	maxIdleStarts   = 3
	maxIdleRestarts = 25

	// maxCuts bounds how often a session is started whose Claude Code works and then ends before it is done, as when its
	// commands kill it: each start is paid for.
	maxCuts = 10
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
	failures map[string]int    // runs in a row that could not start Claude Code, by session
	stopping bool
	gone     chan struct{} // closed when stopping
	ended    sync.WaitGroup
}

// New makes a daemon of a volume. Nothing runs before Run.
func New(config Config, store *session.Store) *Daemon {
	return &Daemon{
		config: config, store: store, wake: make(chan struct{}, 1),
		runs: map[string]*run{}, problems: map[string]string{}, failures: map[string]int{}, gone: make(chan struct{}),
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
			d.readmitLater(s, lookAgain)
		}
	}
}

// readmit puts a session into the queue that belongs there, or ends it.
func (d *Daemon) readmit(s *session.Session) error {
	for {
		err := d.readmitOnce(s)
		if conflict := new(session.StateError); !errors.As(err, &conflict) {
			return err
		}
		// Somebody moved it meanwhile: look again.
	}
}

func (d *Daemon) readmitOnce(s *session.Session) error {
	record := s.Record()
	if record.State == api.Preparing || record.State == api.Running {
		if d.runOf(s.ID()) != nil {
			return nil
		}
		if err := s.Move(api.Interrupted, api.Event{Reason: "the agent stopped without warning"}); err != nil {
			return err
		}
		record = s.Record()
	}
	if record.State.Ended() {
		return nil
	}
	if record.State == api.Interrupted && record.IdleStarts >= maxIdleRestarts && !record.StopAsked {
		err := s.Move(api.Failed, api.Event{Error: noProgress(record.IdleStarts, "")})
		d.report(s, err)
		return err
	}
	if err := s.Requeue(reasonStopped); err != nil {
		return err
	}
	d.report(s, nil)
	if s.State() == api.Queued {
		d.enqueue(s)
	}
	return nil
}

// runOf returns the run that has a session; nil if none has.
func (d *Daemon) runOf(id string) *run {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[id]
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
	s := d.store.Get(first.id)
	if s == nil {
		return nil, true
	}
	if record := s.Record(); record.State != api.Queued || !record.AskedAt.Equal(first.asked) {
		return nil, true // it runs already, has ended, or was asked again and stands elsewhere in the queue
	}
	if d.runs[first.id] != nil {
		d.queue.push(first) // its last run is about to let go of it, and wakes us
		return nil, false
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
	close(d.gone)
	for _, r := range d.runs {
		r.end(shutdown)
	}
}

func (d *Daemon) dirs(id string) claude.Dirs {
	return claude.DirsBelow(filepath.Join(d.config.Work, id))
}
