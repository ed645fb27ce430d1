// Package daemon ties sessions, their work dirs, Claude Code and the model's gateway together: it takes
// sessions from the queue, runs so many of them at once, and takes up again what was interrupted.
//
// A session's run is one goroutine (run.go), which is the only one to move the session from preparing on
// until it has let go of it. How a run ended is decided in one place (outcome.go).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/contract"
	"berth/internal/gateway"
	"berth/internal/metrics"
	"berth/internal/session"
	"berth/internal/workspace"
)

// Config is how a daemon is set up. All of it is needed but what is said to be optional.
type Config struct {
	Data    string        // the volume
	Work    string        // where sessions work: local disk
	CLI     string        // the Claude Code CLI
	Reaper  []string      // a command that calls claude.Helper with the arguments after it
	Places  int           // how many sessions run at once
	Status  api.Status    // what of the status does not change
	Stall   time.Duration // how long Claude Code may say nothing before it is started anew
	Linger  time.Duration // how long background commands may go on after the last result
	Logger  *slog.Logger
	Metrics *metrics.Recorder

	// CheckpointEvery is how long a session's changes may be on the work disk alone, beside the end of each turn.
	CheckpointEvery time.Duration
	// LogSize is how many bytes a session's log gets: what it says is up to the session, and the volume is everybody's. Without
	// bound if 0.
	LogSize int64
	// Retention is how long ended sessions are kept; 0 is for ever.
	Retention time.Duration

	Isolation *claude.Isolation
	Mirrors   workspace.MirrorConfig // Closed and Logger are filled in
	Models    gateway.Config         // what the daemon is told of is filled in
	ModelsURL string                 // where the gateway's requests arrive
}

const (
	// StallTime is the usual Config.Stall: a command may run for ten minutes without a word
	// (https://docs.anthropic.com/en/docs/claude-code/settings, BASH_MAX_TIMEOUT_MS).
	StallTime = 20 * time.Minute
	// LingerTime is the usual Config.Linger.
	LingerTime = 10 * time.Minute

	// LogSize is the usual Config.LogSize: the log of a turn has some 10 KB.
	LogSize = 256 << 20

	// CheckpointTime is the usual Config.CheckpointEvery.
	CheckpointTime = 30 * time.Second

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
	config  Config
	store   *session.Store
	models  *gateway.Gateway
	mirrors *workspace.Mirrors
	disk    string // the work disk's id
	// temporary keeps the directory of that name ours.
	temporary *os.File
	wake      chan struct{} // there may be something to start

	alone bool // nobody else used the volume when it was last looked at; of sharing

	mu       sync.Mutex
	queue    queue
	runs     map[string]*run
	later    map[string]time.Time        // when sessions are to be readmitted
	problems map[string]string           // what keeps sessions from running, by the part that has it
	failures map[string]int              // runs in a row that could not start Claude Code, by session
	foreign  map[string]*session.Session // sessions that another daemon has
	stopping bool
	gone     chan struct{} // closed when stopping
	ended    sync.WaitGroup
}

// New makes a daemon of a volume. Nothing runs before Run.
func New(config Config, store *session.Store) (*Daemon, error) {
	d := &Daemon{
		config: config, store: store, wake: make(chan struct{}, 1), gone: make(chan struct{}),
		runs: map[string]*run{}, later: map[string]time.Time{}, problems: map[string]string{}, failures: map[string]int{},
		foreign: map[string]*session.Session{},
	}
	var err error
	if d.disk, err = diskID(config.Work); err != nil {
		return nil, fmt.Errorf("the work disk cannot be used: %w", err)
	}
	config.Mirrors.Closed, config.Mirrors.Logger = append(config.Mirrors.Closed, config.Data, config.Work), config.Logger
	if config.Mirrors.Temporary, d.temporary, err = temporary(config.Work); err != nil {
		return nil, fmt.Errorf("the work disk cannot be used: %w", err)
	}
	d.mirrors = workspace.NewMirrors(filepath.Join(config.Data, "repos"), config.Mirrors)
	config.Models.Leave, config.Models.Report, config.Models.Notice = d.mayAsk, d.requested, d.noticed
	config.Models.Park, config.Models.Refused = d.park, d.keyRefused
	d.models = gateway.New(config.Models)
	return d, nil
}

// Models is the gateway to the model's API, to be served at Config.ModelsURL.
func (d *Daemon) Models() http.Handler { return d.models }

// Run runs sessions until ctx is done. Then it interrupts those that run, and returns when all have let go.
func (d *Daemon) Run(ctx context.Context) {
	defer d.models.Close()
	defer func() { _ = errors.Join(os.RemoveAll(d.temporary.Name()), d.temporary.Close()) }()
	d.takeUp()
	d.ended.Go(func() { d.housekeeping(ctx) })
	d.ended.Go(func() { d.sharing(ctx) })
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

// takeUp takes up what an earlier daemon left on the volume.
func (d *Daemon) takeUp() {
	for _, broken := range d.store.Broken() {
		d.config.Logger.Error("a session cannot be read and is left alone", contract.LogFieldError, broken)
	}
	for _, s := range d.store.List() {
		record := s.Record()
		if !record.State.Ended() || record.Unheard || s.Untidy() {
			d.admit(s)
		}
	}
}

// admit readmits a session, now or when the volume can be written.
func (d *Daemon) admit(s *session.Session) {
	if err := d.readmit(s); err != nil {
		d.volumeFailed(err)
		d.readmitLater(s, lookAgain)
	}
}

// readmit puts a session into the queue that belongs there, or ends it, unless another daemon has it.
func (d *Daemon) readmit(s *session.Session) error {
	for {
		err := d.readmitOnce(s)
		var leased *session.LeasedError
		var conflict *session.StateError
		switch {
		case errors.As(err, &leased), errors.Is(err, session.ErrLost):
			d.isElsewhere(s)
			return nil
		case errors.Is(err, session.ErrDamaged):
			d.broke(s, err)
			return nil
		case !errors.As(err, &conflict):
			return err
		}
		// Somebody moved it meanwhile: look again.
	}
}

func (d *Daemon) readmitOnce(s *session.Session) error {
	if d.runOf(s.ID()) != nil {
		if state := s.State(); state == api.Preparing || state == api.Running {
			return nil
		}
	}
	release, err := s.Hold()
	if err != nil {
		return err
	}
	defer release()
	record := s.Record()
	if record.State == api.Preparing || record.State == api.Running {
		if d.runOf(s.ID()) != nil {
			return nil
		}
		if err := s.Move(api.Interrupted, api.Event{Reason: "the agent stopped without warning"}); err != nil {
			return err
		}
		d.config.Metrics.Interrupted()
		record = s.Record()
	}
	switch {
	case record.State.Ended() && !record.Unheard:
		return nil
	case record.State == api.Interrupted && record.IdleStarts >= maxIdleRestarts && !record.StopAsked:
		err := s.Move(api.Failed, api.Event{Error: noProgress(record.IdleStarts, "")})
		d.report(s, err)
		return err
	case record.State == api.Waiting && record.WaitingUntil != nil && !record.StopAsked:
		if pause := time.Until(*record.WaitingUntil); pause > 0 {
			d.readmitLater(s, pause)
			return nil
		}
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

// broke puts a session aside that cannot be read any more.
func (d *Daemon) broke(s *session.Session, err error) {
	d.config.Logger.Error("a session cannot be read and is left alone", contract.LogFieldSession, s.ID(), contract.LogFieldError, err)
	d.store.Break(s, err)
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
		err := r.begin()
		var conflict *session.StateError
		var leased *session.LeasedError
		switch {
		case err == nil:
			go r.do()
			continue
		case errors.As(err, &leased), errors.Is(err, session.ErrLost):
			d.done(r)
			d.isElsewhere(r.session)
			continue
		case errors.As(err, &conflict):
			d.done(r) // somebody stopped it at this moment
			continue
		case errors.Is(err, session.ErrDamaged):
			d.broke(r.session, err)
			d.done(r)
			continue
		}
		d.volumeFailed(err)
		d.requeue(r.session)
		d.forget(r)
		return
	}
}

// next takes the session that has waited longest and gives it a place. There is no more if there is no place,
// or nobody waits; the run is nil if the session does not wait any more. It is for the dispatcher alone, which is the only one to give places.
func (d *Daemon) next() (r *run, more bool) {
	first, more := d.first()
	if !more {
		return nil, false
	}
	s := d.store.Get(first.id) // which may ask the volume
	if s == nil {
		return nil, true
	}
	if record := s.Record(); record.State != api.Queued || !record.AskedAt.Equal(first.asked) {
		return nil, true // it runs already, has ended, or was asked again and stands elsewhere in the queue
	}
	r = newRun(d, s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs[first.id] != nil {
		d.queue.push(first) // its last run is about to let go of it, and wakes us
		return nil, false
	}
	d.runs[first.id] = r
	d.ended.Add(1)
	return r, true
}

// first takes the first one out of the queue, if there is a place for it.
func (d *Daemon) first() (first waiting, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.runs) >= d.config.Places || d.queue.len() == 0 {
		return waiting{}, false
	}
	return d.queue.pop(), true
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
// pay for what is wrong with the machine, the key or the agent's limits.
func (d *Daemon) able() bool {
	_, err := exec.LookPath(d.config.CLI)
	able := d.hold("claude", err, "the Claude Code CLI cannot be run: %v; sessions wait until it is there")
	able = d.hold("isolation", d.isolationProblem(), "%v; sessions wait: as root they could read every key") && able
	able = d.hold("git", workspace.Able(), "git cannot be run: %v; sessions wait until it can") && able
	able = d.hold("key", d.keyProblem(), "%v; sessions wait until there is a key that is taken") && able
	able = d.hold("spend", d.spendProblem(), "%v; sessions wait") && able
	d.mu.Lock()
	failed := d.problems["volume"] != ""
	d.mu.Unlock()
	if failed {
		if err := d.store.Probe(); err != nil {
			return false
		}
		d.solved("volume")
	}
	return able
}

// isolationProblem says why sessions would run as root; nil if they do not.
func (d *Daemon) isolationProblem() error {
	if problem := d.config.Isolation.Problem(); problem != "" {
		return errors.New(problem)
	}
	return nil
}

// hold notes what a part's state is, and reports whether sessions can run with it.
func (d *Daemon) hold(part string, err error, text string) bool {
	if err != nil {
		d.problem(part, fmt.Sprintf(text, err))
		return false
	}
	d.solved(part)
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

// volumeFailed notes that the volume cannot be written. That another daemon has a session is no fault of the volume.
func (d *Daemon) volumeFailed(err error) {
	var leased *session.LeasedError
	if errors.As(err, &leased) || errors.Is(err, session.ErrLost) {
		return
	}
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
