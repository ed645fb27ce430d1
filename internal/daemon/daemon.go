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
	"path/filepath"
	"sync"
	"time"

	"berth/internal/api"
	"berth/internal/claude"
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

// runOf returns the run that has a session; nil if none has.
func (d *Daemon) runOf(id string) *run {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[id]
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
