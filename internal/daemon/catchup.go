package daemon

import (
	"errors"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/session"
)

// catchUp brings the log and the transcript together: messages of the transcript that the log lacks are
// added to it, and messages to the session that the transcript lacks are to be sent.
func (r *run) catchUp(transcript *claude.Transcript) error {
	logged, known := map[string]bool{}, 0
	err := r.session.Each(func(event api.Event) {
		switch event.Type {
		case api.EventMessage:
			known++
			if !transcript.Has(event.MessageID) {
				r.unsent = append(r.unsent, event)
			}
			r.sent[event.MessageID] = transcript.Has(event.MessageID)
		case api.EventClaude:
			logged[claude.UUID(event.Claude)] = true
		default:
		}
	})
	if err != nil {
		return err
	}
	r.known = known
	for _, entry := range transcript.Entries() {
		if logged[entry.UUID] {
			continue
		}
		err := r.session.Append(api.Event{Type: api.EventClaude, Claude: entry.JSON, Recovered: true})
		if err != nil && !errors.Is(err, session.ErrNotJSON) {
			return err
		}
	}
	if cost := transcript.Cost(); cost != nil && r.session.Record().CostUSD == 0 {
		if err := r.session.Append(api.Event{Type: api.EventClaude, Claude: cost, Recovered: true}); err != nil {
			return err
		}
	}
	if len(r.unsent) == 0 && (transcript.Failed() || transcript.Interrupted() || transcript.Abandoned()) {
		// A resumed process would take the turn for finished, or wait.
		message := api.Event{Type: api.EventMessage, MessageID: uuid.NewString(), Text: claude.ContinueText}
		if err := r.session.Append(message); err != nil {
			return err
		}
		r.known++
		r.sent[message.MessageID] = false
		r.unsent = append(r.unsent, message)
	}
	return nil
}

// alreadyDone ends a session whose transcript shows that nothing is left to do.
func (r *run) alreadyDone(transcript *claude.Transcript) (api.State, api.Event) {
	if err := r.session.Move(api.Running, api.Event{Attempt: r.session.Record().Attempts}); err != nil {
		return api.Interrupted, api.Event{Reason: "the volume cannot be written"}
	}
	return api.Succeeded, api.Event{Text: transcript.LastText()}
}

// overLimit ends a session that has used up a limit before it even starts again.
func (r *run) overLimit() (api.State, api.Event, bool) {
	record := r.session.Record()
	e := ending{result: &claude.Line{IsError: true}, options: record.Options}
	switch options := record.Options; {
	case options.MaxTurns > 0 && record.AskTurns >= options.MaxTurns:
		e.result.Subtype = "error_max_turns"
	case options.MaxBudgetUSD > 0 && record.CostUSD >= options.MaxBudgetUSD:
		e.result.Subtype = "error_max_budget_usd"
	case options.TimeoutSeconds > 0 && record.AskSeconds >= options.TimeoutSeconds:
		e.intent = timeout
	default:
		return "", api.Event{}, false
	}
	state, event := outcome(e)
	return state, event, true
}

// remaining is what is left of the session's limits.
func remaining(record session.Record) api.Options {
	left := record.Options
	if left.MaxTurns > 0 {
		left.MaxTurns -= record.AskTurns
	}
	if left.MaxBudgetUSD > 0 {
		left.MaxBudgetUSD -= record.CostUSD
	}
	if left.TimeoutSeconds > 0 {
		left.TimeoutSeconds -= record.AskSeconds
	}
	return left
}
