package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/contract"
	"berth/internal/gateway"
	"berth/internal/session"
	"berth/internal/workspace"
)

// run is one session that has a place.
type run struct {
	daemon  *Daemon
	session *session.Session
	dirs    claude.Dirs
	log     *slog.Logger
	release func() // lets go of the session

	told  chan struct{} // there may be more in inbox
	ends  chan struct{} // closed when intent is no longer none
	endIt sync.Once

	mu     sync.Mutex
	inbox  []api.Event // messages that came since the run began
	intent intent
	until  time.Time // of parked
	reason string    // of parked and noKey
	heard  time.Time // when Claude Code last gave a sign of life; zero if it does not run

	// The run's own goroutine's.
	known   int             // messages of the session's log that the run has seen
	sent    map[string]bool // messages that were handed to this process, by id; true once answered
	unsent  []api.Event
	late    int          // how many of unsent, the last ones, came during the run
	result  *claude.Line // the last one of the turn that is going on or was the last
	started bool         // it came as far as Claude Code
	kept    int64        // bytes of the transcript that the volume had before

	user    *claude.User
	place   workspace.Place
	unsaved string // why the last checkpoint could not be made
	noRoom  error  // that a disk is full, if that is why

	saving  sync.Mutex // held while a checkpoint is made
	saved   *api.Checkpoint
	changed bool // a tool has ended since then; under mu
}

func newRun(d *Daemon, s *session.Session) *run {
	return &run{
		daemon: d, session: s, dirs: d.dirs(s.ID()),
		log:  d.config.Logger.With(contract.LogFieldSession, s.ID()),
		told: make(chan struct{}, 1), ends: make(chan struct{}), sent: map[string]bool{},
		known: s.Record().Messages,
	}
}

// end tells the run to end. Of several reasons the first one counts, but a request to stop always does, and so does the
// loss of the session.
func (r *run) end(why intent) { r.endWith(why, time.Time{}, "") }

// endFor is end with words for it.
func (r *run) endFor(why intent, reason string) { r.endWith(why, time.Time{}, reason) }

// endAt ends the run, and has the session go on at a time.
func (r *run) endAt(until time.Time, reason string) { r.endWith(parked, until, reason) }

func (r *run) endWith(why intent, until time.Time, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.intent == none || why == fenced || why == cancel && r.intent != fenced {
		r.intent, r.until, r.reason = why, until, reason
	}
	r.endIt.Do(func() { close(r.ends) })
}

// stuck reports whether Claude Code has been silent for so long that it will be started anew.
func (r *run) stuck() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.heard.IsZero() && time.Since(r.heard) > r.daemon.config.Stall
}

// begin takes hold of the session, and takes it from the queue.
func (r *run) begin() error {
	release, err := r.session.Hold()
	if err != nil {
		return err
	}
	if record := r.session.Record(); record.State != api.Queued {
		release()
		return &session.StateError{ID: record.ID, Err: fmt.Errorf("it is not in the queue, but %s", record.State)}
	}
	if err := r.session.Move(api.Preparing, api.Event{}); err != nil {
		release()
		return err
	}
	r.release, r.known = release, r.session.Record().Messages
	return nil
}

func (r *run) why() intent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.intent
}

// do runs the session until it lets go of it, in a state that is not preparing or running, unless the volume
// cannot be written: then the daemon readmits it later.
func (r *run) do() {
	state, event := r.guarded()
	err := r.settle(state, event)
	lost := errors.Is(err, session.ErrLost) || r.why() == fenced
	r.release()
	r.daemon.done(r)
	switch now := r.session.State(); {
	case lost:
		r.log.Warn("another agent has taken the session over")
	case err != nil:
		r.log.Error("the session could not be ended", contract.LogFieldError, err)
		r.daemon.volumeFailed(err)
		r.daemon.readmitLater(r.session, lookAgain)
	case now == api.Interrupted && r.why() != shutdown:
		r.daemon.retry(r)
	case now == api.Waiting, now == api.Queued:
		r.daemon.readmitLater(r.session, 0)
	}
}

// settle writes down what became of the session. One that failed goes to the queue at once if there are messages that
// no process was given: they are no part of the failure.
func (r *run) settle(state api.State, event api.Event) error {
	if r.session.Record().StopAsked && state != api.Succeeded {
		state, event = api.Cancelled, api.Event{Reason: reasonStopped}
	}
	if state == api.Succeeded || state == api.Failed {
		ended, err := r.session.End(state, event, r.known-r.late)
		if ended || err != nil {
			r.daemon.report(r.session, err)
			return err
		}
		if state == api.Failed {
			return r.session.Fail(event)
		}
		state, event = api.Interrupted, api.Event{Reason: "a message came as it ended"}
	}
	err := r.session.Move(state, event)
	r.daemon.report(r.session, err)
	if err == nil && state == api.Interrupted {
		r.daemon.config.Metrics.Interrupted()
	}
	return err
}

// guarded is attempt, for a session that must not take all others with it: a fault of the agent's own cuts it off, as often as
// Claude Code may.
func (r *run) guarded() (state api.State, event api.Event) {
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		r.log.Error("the agent has met with a fault of its own", contract.LogFieldError, fmt.Sprint(fault), "stack", string(debug.Stack()))
		if cuts := r.session.Record().Cuts + 1; cuts >= maxCuts {
			state, event = failed(api.CodeInternal, "the agent met with a fault of its own %d times, the last time: %s", cuts, oneLine(fmt.Sprint(fault)))
			return
		}
		state, event = api.Interrupted, api.Event{Cut: true, Reason: "the agent met with a fault of its own: " + oneLine(fmt.Sprint(fault))}
	}()
	return r.attempt()
}

// attempt prepares the session and runs Claude Code once.
func (r *run) attempt() (api.State, api.Event) {
	ctx, cancelAll := context.WithCancel(context.Background())
	defer cancelAll()
	go r.watchEnd(ctx, cancelAll)
	claim, transcript, err := r.ready(ctx)
	if claim != nil {
		defer claim.Release()
	}
	if err != nil {
		return r.notStarted(err)
	}
	if len(r.unsent) == 0 && !transcript.Exists() {
		return r.notStarted(fmt.Errorf("%w: there is no message in it", session.ErrDamaged))
	}
	if len(r.unsent) == 0 && !transcript.Cut() {
		// The daemon went away between the model's last word and the end of the process.
		return r.alreadyDone(transcript)
	}
	if state, event, over := r.overLimit(); over {
		return state, event
	}
	if err := ctx.Err(); err != nil {
		return r.notStarted(err)
	}
	return r.runClaude(claim)
}

// watchEnd has ctx done when the run is to end, or another daemon has taken the session over.
func (r *run) watchEnd(ctx context.Context, cancelAll func()) {
	select {
	case <-r.session.Lost():
		r.end(fenced)
		cancelAll()
	case <-r.ends:
		cancelAll()
	case <-ctx.Done():
	}
}

// ready makes everything ready for Claude Code to start: no earlier process is left, work dir and transcript are there, and
// the log has all that the transcript has. The claim is to be released if there is one.
func (r *run) ready(ctx context.Context) (claim *claude.Claim, transcript *claude.Transcript, err error) {
	if r.user, err = r.daemon.config.Isolation.User(r.dirs); err != nil {
		return nil, nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, claimTime, errors.New("30 s have passed"))
	defer cancel()
	if claim, err = claude.Take(limited, r.session.ID(), r.dirs); err != nil {
		return nil, nil, err
	}
	if err = r.prepare(ctx); err != nil {
		return claim, nil, err
	}
	if _, err = claim.RestoreTranscript(r.session.TranscriptFile()); err != nil {
		return claim, nil, err
	}
	if transcript, err = claim.Transcript(); err != nil {
		return claim, nil, err
	}
	return claim, transcript, r.catchUp(transcript)
}

// notStarted decides what becomes of a session whose Claude Code could not be started.
func (r *run) notStarted(err error) (api.State, api.Event) {
	var said *api.Error
	switch why := r.why(); {
	case why == cancel:
		return api.Cancelled, api.Event{Reason: reasonStopped}
	case why != none:
		return outcome(ending{intent: why})
	case errors.As(err, &said):
		return api.Failed, api.Event{Error: said}
	case errors.Is(err, session.ErrDamaged):
		return failed(api.CodeInternal, "its events on the volume cannot be read: %v", err)
	}
	r.log.Error("the session cannot be started", contract.LogFieldError, err)
	if workspace.Full(err) {
		if full := writable(r.daemon.config.Work); full != nil {
			r.daemon.workFailed(full)
		} else {
			r.daemon.volumeFailed(err)
		}
		return api.Interrupted, api.Event{Blameless: true, Reason: oneLine(err.Error())}
	}
	return api.Interrupted, api.Event{Reason: oneLine(err.Error())}
}

// runClaude starts Claude Code and sees it to its end.
func (r *run) runClaude(claim *claude.Claim) (api.State, api.Event) {
	record := r.session.Record()
	options := remaining(record)
	token := r.daemon.models.Grant(r.session.ID(), gateway.Budget{LimitUSD: record.MaxBudgetUSD})
	defer r.daemon.models.Revoke(r.session.ID())
	process, err := claim.Start(&claude.Config{
		CLI: r.daemon.config.CLI, Reaper: r.daemon.config.Reaper, Options: options, User: r.user,
		Env:     gateway.Environment(r.daemon.config.Models.Patience),
		BaseURL: r.daemon.config.ModelsURL, Token: token, Keep: r.keep, Kept: r.kept,
	})
	if err != nil {
		return r.notStarted(err)
	}
	r.started = true
	if err := r.session.Move(api.Running, api.Event{Attempt: record.Attempts + 1}); err != nil {
		r.end(volume)
	}
	if record.Attempts > 0 && record.Turns > 0 {
		r.daemon.config.Metrics.Resumed()
	}
	saved, over := r.keepCheckpoints(), false
	defer func() {
		if !over { // the agent has met with a fault of its own, which goes on
			saved.stop(true)
			process.Stop(syscall.SIGTERM, interruptGrace)
			for range process.Lines() { // until it has ended: it runs under the claim
			}
			process.Exit()
		}
	}()
	r.log.Info("Claude Code runs", "attempt", record.Attempts+1)
	r.attend(process, saved, options)
	exit := process.Exit()
	over = true
	r.log.Info("Claude Code has ended", "exit", exit.Code)
	why := r.why()
	saved.end(why == shutdown || why == fenced)
	if why != fenced {
		r.checkpoint(context.Background())
	}
	return r.delivered(outcome(r.ending(exit, record, r.open(claim))))
}

// delivered delivers the work of a session that has ended well, or at a limit. If the agent goes down meanwhile, the next one
// sees to it, and then the session has ended.
func (r *run) delivered(state api.State, event api.Event) (api.State, api.Event) {
	if state != api.Succeeded && (state != api.Failed || !event.Error.Code.Limit()) {
		return state, event
	}
	if r.noRoom != nil {
		// What is on the work disk alone goes with it: its work is not done before it is saved.
		r.daemon.problem(unsavedPart+r.session.ID(), "the files of session "+r.session.ID()+" cannot be saved: "+r.daemon.explain(r.noRoom)+"; it ends when they are")
		return api.Interrupted, api.Event{Blameless: true, Reason: "there is no room to save its files: " + oneLine(r.noRoom.Error())}
	}
	if why := r.why(); why == fenced || why == shutdown && r.session.Record().Repo != "" {
		return outcome(ending{intent: why})
	}
	if !r.deliver() {
		return outcome(ending{intent: shutdown})
	}
	return state, event
}

// ending is what the run saw.
func (r *run) ending(exit claude.Exit, before session.Record, open int) ending {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := ending{
		intent: r.intent, until: r.until, reason: r.reason, exit: exit, result: r.result, open: open,
		options: before.Options, idle: r.session.Record().IdleStarts, cuts: before.Cuts,
	}
	if limit, exceeded := r.daemon.models.Exceeded(r.session.ID()); exceeded {
		e.limit = &limit
	}
	return e
}

// keep keeps a part of the transcript on the volume.
func (r *run) keep(at int64, part []byte) error {
	err := r.session.KeepTranscript(at, part)
	if err != nil {
		// Without it on the volume a step is not done.
		r.daemon.volumeFailed(err)
		r.end(volume)
	}
	return err
}
