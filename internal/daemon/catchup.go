package daemon

import (
	"bytes"
	"context"
	"errors"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/gateway"
	"berth/internal/session"
)

// catchUp brings the log and the transcript together: messages of the transcript that the log lacks are
// added to it, and messages to the session that the transcript lacks are to be sent.
func (r *run) catchUp(transcript *claude.Transcript) error {
	past := past{logged: map[string]bool{}}
	err := r.session.Each(func(event api.Event) {
		past.note(&event)
		if event.Type == api.EventMessage {
			has := transcript.Has(event.MessageID)
			if r.sent[event.MessageID] = has; !has {
				r.unsent = append(r.unsent, event)
			}
		}
	})
	if err != nil {
		return err
	}
	r.known = past.messages
	// Before the log has them: else they would be taken again, were this run to end with its disk.
	if r.kept, err = r.keepAll(transcript); err != nil {
		return err
	}
	for _, entry := range transcript.Entries() {
		if past.logged[entry.UUID] {
			continue
		}
		err := r.session.Append(api.Event{Type: api.EventClaude, Claude: entry.JSON, Recovered: true})
		if err != nil && !errors.Is(err, session.ErrNotJSON) {
			return err
		}
		past.heard(entry.JSON)
	}
	if err := r.makeUp(transcript); err != nil {
		return err
	}
	if past.restored && past.results > 0 {
		if err := r.tellClaude(restoredText); err != nil {
			return err
		}
	}
	switch {
	case len(r.unsent) == 0 && (transcript.Failed() || transcript.Interrupted()):
		// A resumed process would take the turn for finished.
		return r.tellClaude(claude.ContinueText)
	case transcript.Abandoned() && (len(r.unsent) == 0 || r.unsent[0].Text != claude.ContinueText):
		// It would wait, or take whatever it is told for the next thing to do.
		return r.tellClaude(claude.ContinueText)
	}
	return nil
}

// keepAll keeps on the volume what it lacks of the transcript, and returns how much it has then.
func (r *run) keepAll(transcript *claude.Transcript) (int64, error) {
	kept, err := r.session.TranscriptSize()
	if err != nil {
		return 0, err
	}
	return transcript.Keep(kept, r.keep)
}

// past is what a session's log says of what was before this run.
type past struct {
	logged   map[string]bool // what of Claude Code's is in it, by UUID
	messages int
	restored bool // the files were made anew since the last checkpoint, and nobody was told
	results  int  // of tools that ended after that checkpoint, and before the files were made anew
}

func (p *past) note(event *api.Event) {
	switch event.Type {
	case api.EventMessage:
		p.messages++
		if event.Text == restoredText {
			p.restored, p.results = false, 0
		}
	case api.EventClaude:
		p.logged[claude.UUID(event.Claude)] = true
		if !p.restored {
			p.heard(event.Claude)
		}
	case api.EventCheckpoint, api.EventPrepared:
		p.restored, p.results = false, 0
	case api.EventRestore:
		p.restored = true
	default:
	}
}

func (p *past) heard(line []byte) {
	if isResult(line) {
		p.results++
	}
}

// isResult reports whether a line is the result of a tool, which may have changed files.
func isResult(line []byte) bool { return bytes.Contains(line, []byte(`"tool_result"`)) }

// restoredText tells Claude Code that its machine is another one.
const restoredText = "The machine that you worked on is gone, and your work dir was made anew from its last checkpoint. Some of the latest changes to files may be missing, and whatever was outside of the work dir is. Look at the state of the files before you go on, and do again what is missing."

// tellClaude adds a message of our own to those that are to be sent, as the first.
func (r *run) tellClaude(text string) error {
	message := api.Event{Type: api.EventMessage, MessageID: uuid.NewString(), Text: text}
	if err := r.session.Append(message); err != nil {
		return err
	}
	r.known++
	r.sent[message.MessageID] = false
	r.unsent = append([]api.Event{message}, r.unsent...)
	return nil
}

// makeUp adds to the log what was spent and is not in it, because the agent was killed. What Claude Code reckoned counts
// only for a session whose requests were never metered.
func (r *run) makeUp(transcript *claude.Transcript) error {
	record := r.session.Record()
	if missing := r.daemon.config.Models.Ledger.Session(record.ID) - record.CostUSD; missing > 1e-9 {
		return r.session.Append(api.Event{Type: api.EventRequest, Request: &api.Request{CostUSD: missing, Cut: true}})
	}
	if cost := transcript.Cost(); cost != nil && !record.Metered {
		return r.session.Append(api.Event{Type: api.EventClaude, Claude: cost, Recovered: true})
	}
	return nil
}

// alreadyDone ends a session whose transcript shows that nothing is left to do.
func (r *run) alreadyDone(transcript *claude.Transcript) (api.State, api.Event) {
	if err := r.session.Move(api.Running, api.Event{Attempt: r.session.Record().Attempts}); err != nil {
		return api.Interrupted, api.Event{Reason: "the volume cannot be written"}
	}
	r.checkpoint(context.Background())
	return r.delivered(api.Succeeded, api.Event{Text: transcript.LastText()})
}

// overLimit ends a session that has used up a limit before it even starts again.
func (r *run) overLimit() (api.State, api.Event, bool) {
	record := r.session.Record()
	e := ending{result: &claude.Line{IsError: true}, options: record.Options}
	switch options := record.Options; {
	case options.MaxTurns > 0 && record.AskTurns >= options.MaxTurns:
		e.result.Subtype = "error_max_turns"
	case options.MaxBudgetUSD > 0 && record.CostUSD >= options.MaxBudgetUSD:
		e.limit = &gateway.Limit{Scope: gateway.ScopeSession, LimitUSD: options.MaxBudgetUSD, SpentUSD: record.CostUSD}
	case options.TimeoutSeconds > 0 && record.AskSeconds >= options.TimeoutSeconds:
		e.intent = timeout
	default:
		return "", api.Event{}, false
	}
	r.checkpoint(context.Background()) // there may have been no room for the last one
	state, event := r.delivered(outcome(e))
	return state, event, true
}

// remaining is what is left of the session's limits.
func remaining(record session.Record) api.Options {
	left := record.Options
	if left.MaxTurns > 0 {
		left.MaxTurns -= record.AskTurns
	}
	left.MaxBudgetUSD = 0 // the gateway sees to it
	if left.TimeoutSeconds > 0 {
		left.TimeoutSeconds -= record.AskSeconds
	}
	return left
}
