package daemon

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/contract"
	"berth/internal/session"
)

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
func (r *run) attend(process *claude.Process, saved *checkpointing, options api.Options) {
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
			if line.Type == "result" {
				saved.now()
			}
		case <-r.told:
			r.take()
			r.sendAll(process)
		case <-ends:
			ends = nil
			r.stop(process)
		case <-watch.timeout.C:
			r.end(timeout)
		case <-watch.stall.C:
			if !watch.forgive(r.daemon.models.Active(r.session.ID())) {
				r.end(stalled)
			}
		case <-watch.linger.C:
			r.log.Warn("Claude Code does not end", "unanswered", r.unanswered())
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
	if why := r.why(); why != volume && why != wordy {
		err := r.session.Append(api.Event{Type: api.EventClaude, Claude: line.JSON})
		switch {
		case errors.Is(err, session.ErrNotJSON):
			r.notice("a line of Claude Code's output is left out: " + oneLine(err.Error()))
		case err != nil:
			// The transcript has what matters; it is caught up with later.
			r.daemon.volumeFailed(err)
			r.end(volume)
		case r.daemon.config.LogSize > 0 && r.session.Record().LogSize > r.daemon.config.LogSize:
			r.end(wordy)
		}
	}
	r.mu.Lock()
	r.heard = time.Now()
	r.changed = r.changed || isResult(line.JSON)
	r.mu.Unlock()
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
		r.log.Info("Claude Code has ended a turn", "unanswered", r.unanswered())
		if len(line.Denials) > 0 {
			r.notice(denied(len(line.Denials)))
		}
	}
}

// unanswered counts the messages that this process was given and has not said to have answered.
func (r *run) unanswered() (count int) {
	for _, answered := range r.sent {
		if !answered {
			count++
		}
	}
	return count
}

func (r *run) notice(text string) {
	if err := r.session.Append(api.Event{Type: api.EventNotice, Text: text}); err != nil {
		r.log.Warn("a notice is not in the session's events", contract.LogFieldError, err, "notice", text)
	}
}

// denied says how often the session's permissions kept Claude Code from a tool.
func denied(times int) string {
	uses := fmt.Sprintf("%d uses of tools", times)
	if times == 1 {
		uses = "the use of a tool"
	}
	return "Claude Code was denied " + uses + ", which the session's permission mode does not allow"
}

// open counts the messages that were not answered: neither said to be completed, nor in a transcript whose last turn has
// ended. Those that came when no more could be given to the process are not its fault.
func (r *run) open(claim *claude.Claim) (count int) {
	r.take()
	late := map[string]bool{}
	for _, message := range r.unsent[len(r.unsent)-r.late:] {
		late[message.MessageID] = true
	}
	transcript, err := claim.Transcript()
	for id, answered := range r.sent {
		if !answered && !late[id] && (err != nil || !transcript.Has(id) || transcript.Cut()) {
			count++
		}
	}
	return count
}
