package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/contract"
	"berth/internal/session"
	"berth/internal/workspace"
)

// run is one session that has a place.
type run struct {
	daemon  *Daemon
	session *session.Session
	dirs    claude.Dirs
	log     *slog.Logger

	told  chan struct{} // there may be more in inbox
	ends  chan struct{} // closed when intent is no longer none
	endIt sync.Once

	mu     sync.Mutex
	inbox  []api.Event // messages that came since the run began
	intent intent

	// The run's own goroutine's.
	known   int             // messages of the session's log that the run has seen
	sent    map[string]bool // messages that were handed to this process, by id; true once answered
	unsent  []api.Event
	late    int          // how many of unsent, the last ones, came during the run
	result  *claude.Line // the last one of the turn that is going on or was the last
	started bool         // it came as far as Claude Code
}

func newRun(d *Daemon, s *session.Session) *run {
	return &run{
		daemon: d, session: s, dirs: d.dirs(s.ID()),
		log:  d.config.Logger.With(contract.LogFieldSession, s.ID()),
		told: make(chan struct{}, 1), ends: make(chan struct{}), sent: map[string]bool{},
		known: s.Record().Messages,
	}
}

// tell hands the run a message that is in the log.
func (r *run) tell(message api.Event) {
	r.mu.Lock()
	r.inbox = append(r.inbox, message)
	r.mu.Unlock()
	select {
	case r.told <- struct{}{}:
	default:
	}
}

// end tells the run to end. Of several reasons the first one counts, but a request to stop always does.
func (r *run) end(why intent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.intent == none || why == cancel {
		r.intent = why
	}
	r.endIt.Do(func() { close(r.ends) })
}

func (r *run) why() intent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.intent
}

// do runs the session until it lets go of it, in a state that is not preparing or running, unless the volume
// cannot be written: then the daemon readmits it later.
func (r *run) do() {
	state, event := r.attempt()
	err := r.settle(state, event)
	r.daemon.done(r)
	switch now := r.session.State(); {
	case err != nil:
		r.log.Error("the session could not be ended", contract.LogFieldError, err)
		r.daemon.volumeFailed(err)
		r.daemon.readmitLater(r.session, lookAgain)
	case now == api.Interrupted && r.why() != shutdown:
		r.daemon.retry(r)
	case now == api.Queued:
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
	return err
}

// attempt prepares the session and runs Claude Code once.
func (r *run) attempt() (api.State, api.Event) {
	ctx, cancelAll := context.WithCancel(context.Background())
	defer cancelAll()
	go func() {
		select {
		case <-r.ends:
			cancelAll()
		case <-ctx.Done():
		}
	}()
	if err := r.prepare(ctx); err != nil {
		return r.notStarted(err)
	}
	claimCtx, cancelClaim := context.WithTimeoutCause(ctx, claimTime, errors.New("30 s have passed"))
	defer cancelClaim()
	claim, err := claude.Take(claimCtx, r.session.ID(), r.dirs)
	if err != nil {
		return r.notStarted(err)
	}
	defer claim.Release()
	transcript, err := claim.Transcript()
	if err == nil {
		err = r.catchUp(transcript)
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
	return api.Interrupted, api.Event{Reason: oneLine(err.Error())}
}

// prepare makes the session's work dir, once.
func (r *run) prepare(ctx context.Context) error {
	record := r.session.Record()
	if record.Prepared {
		_, err := os.Stat(r.dirs.Tree)
		if errors.Is(err, fs.ErrNotExist) {
			return api.Errorf(api.CodeWorkspaceLost, "its work dir %s is gone: %v", r.dirs.Tree, err)
		}
		return err
	}
	// An attempt that was cut off may have left something, beside the tree too.
	if err := os.RemoveAll(r.dirs.Root); err != nil {
		return err
	}
	if err := r.dirs.Make(); err != nil {
		return err
	}
	branch := "main"
	if record.Repo != "" {
		branch = "berth/" + record.ID[len(record.ID)-12:]
	}
	base, err := workspace.Prepare(ctx, r.dirs.Tree, workspace.Source{Repo: record.Repo, Ref: record.Ref}, branch)
	if err != nil {
		if full := writable(r.dirs.Root); full != nil {
			return fmt.Errorf("the work disk cannot be written: %w", full) // which is no fault of the session's
		}
		return err
	}
	if err := r.session.Prepared(base, branch, r.dirs.Tree); err != nil {
		r.daemon.volumeFailed(err)
		return err
	}
	return nil
}

// writable returns what is wrong with writing to a directory.
func writable(dir string) error {
	file, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, 64<<10))
	return errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name()))
}

// runClaude starts Claude Code and sees it to its end.
func (r *run) runClaude(claim *claude.Claim) (api.State, api.Event) {
	gateway := r.daemon.config.Gateway
	token := gateway.Grant(r.session.ID())
	defer gateway.Revoke(r.session.ID())
	record := r.session.Record()
	options := remaining(record)
	process, err := claim.Start(&claude.Config{
		CLI: r.daemon.config.CLI, Reaper: r.daemon.config.Reaper, Options: options, BaseURL: gateway.URL, Token: token,
	})
	if err != nil {
		return r.notStarted(err)
	}
	r.started = true
	if err := r.session.Move(api.Running, api.Event{Attempt: record.Attempts + 1}); err != nil {
		r.end(volume)
	}
	r.attend(process, options)
	return outcome(ending{
		intent: r.why(), exit: process.Exit(), result: r.result, open: r.open(claim), keyed: gateway.Keyed,
		options: record.Options, idle: r.session.Record().IdleStarts, cuts: record.Cuts,
	})
}

// open counts the messages that were not answered: neither said to be completed, nor in a transcript whose last turn has
// ended.
func (r *run) open(claim *claude.Claim) (count int) {
	r.take()
	transcript, err := claim.Transcript()
	for id, answered := range r.sent {
		if !answered && (err != nil || !transcript.Has(id) || transcript.Cut()) {
			count++
		}
	}
	return count
}

// take takes messages out of the inbox that are new to the run.
func (r *run) take() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, message := range r.inbox {
		if _, seen := r.sent[message.MessageID]; !seen {
			r.known++
			r.late++
			r.sent[message.MessageID] = false
			r.unsent = append(r.unsent, message)
		}
	}
	r.inbox = nil
}

// attend sees Claude Code through its turns: it writes down what it says, hands it messages, and ends it
// when its input, its time or the agent's does.
func (r *run) attend(process *claude.Process, options api.Options) {
	watch := newWatch(r.daemon.config, options.TimeoutSeconds)
	defer watch.stop()
	r.sendAll(process)
	ends := r.ends
	for {
		select {
		case line, more := <-process.Lines():
			if !more {
				return
			}
			watch.heard(&line)
			r.hear(&line)
		case <-r.told:
			r.take()
			r.sendAll(process)
		case <-ends:
			ends = nil
			r.stop(process)
		case <-watch.timeout.C:
			r.end(timeout)
		case <-watch.stall.C:
			r.end(stalled)
		case <-watch.linger.C:
			r.end(lingered)
		}
	}
}

// stop asks Claude Code to end: with a result if its turn is to end here, at once if it is to go on later.
func (r *run) stop(process *claude.Process) {
	signal := syscall.SIGTERM
	if why := r.why(); why == cancel || why == timeout {
		signal = syscall.SIGINT
	}
	process.Stop(signal, interruptGrace)
}

// sendAll hands over what was not yet. A process that is told to end gets nothing more; the next one gets the rest.
func (r *run) sendAll(process *claude.Process) {
	for len(r.unsent) > 0 && r.why() == none && process.Send(r.unsent[0].MessageID, r.unsent[0].Text) {
		r.unsent = r.unsent[1:]
		r.late = min(r.late, len(r.unsent))
	}
}

// hear writes a line down and learns from it.
func (r *run) hear(line *claude.Line) {
	if r.why() != volume {
		err := r.session.Append(api.Event{Type: api.EventClaude, Claude: line.JSON})
		switch {
		case errors.Is(err, session.ErrNotJSON):
			r.notice("a line of Claude Code's output is left out: " + oneLine(err.Error()))
		case err != nil:
			// The transcript has what matters; it is caught up with later.
			r.daemon.volumeFailed(err)
			r.end(volume)
		}
	}
	switch line.Type {
	case "command_lifecycle":
		if _, ours := r.sent[line.Command]; ours && line.Answers() {
			r.sent[line.Command] = true
		}
	case "system":
		if line.Begins() {
			r.result = nil
		}
	case "result":
		r.result = line
		if len(line.Denials) > 0 {
			r.notice(fmt.Sprintf("Claude Code was denied %d uses of tools, which the session's permission mode does not allow", len(line.Denials)))
		}
	}
}

func (r *run) notice(text string) {
	if err := r.session.Append(api.Event{Type: api.EventNotice, Text: text}); err != nil {
		r.log.Warn("a notice is not in the session's events", contract.LogFieldError, err, "notice", text)
	}
}
