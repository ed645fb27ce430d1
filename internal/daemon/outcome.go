package daemon

import (
	"fmt"
	"strings"
	"time"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/gateway"
)

// intent is why a run was told to end.
type intent int

const (
	none     intent = iota
	stalled         // Claude Code said nothing for too long
	lingered        // background commands went on for too long after the last result
	timeout         // the session's time is up
	volume          // the volume cannot be written
	shutdown        // the daemon goes down
	parked          // a limit of the API resets at a time
	noKey           // the API refuses the key, or there is none
	wordy           // its log is as long as a log gets
	faulty          // a fault of the agent's own
	cancel          // somebody asked for it
	fenced          // another daemon has taken the session over
)

const reasonStopped = "it was stopped on request"

// ending is what a run saw.
type ending struct {
	intent  intent
	exit    claude.Exit
	result  *claude.Line   // the last one; nil if there was none
	open    int            // messages that were sent and not answered
	until   time.Time      // of parked
	reason  string         // of parked and noKey
	limit   *gateway.Limit // that its requests met with; nil if none
	options api.Options
	idle    int // starts in a row without a reply of the model
	cuts    int // earlier starts that ended before the work was done
}

// outcome decides what becomes of a session whose Claude Code has ended: the state, and with it the error of a
// failed one or the reason of an interrupted one. Success is an exit status of 0 and a last result that says
// so; neither alone is enough.
func outcome(e ending) (api.State, api.Event) {
	succeeded := e.result != nil && e.result.Subtype == "success" && !e.result.IsError &&
		(e.exit.Code == 0 || e.intent == lingered) && e.open == 0
	switch {
	case e.intent == volume:
		return api.Interrupted, api.Event{Reason: "the volume cannot be written"}
	case succeeded:
		return api.Succeeded, api.Event{}
	case e.intent == cancel:
		return api.Cancelled, api.Event{Reason: reasonStopped}
	case e.intent == timeout:
		return failed(api.CodeTimeout, "it took longer than its limit of %v s; allow more with `berth resume ID --timeout`", e.options.TimeoutSeconds)
	case e.intent == wordy:
		return failed(api.CodeLogFull, "it has said as much as the agent keeps of a session: its work so far is kept, and goes on in another session (`berth pull ID`, then `berth run`)")
	case e.intent == shutdown:
		return api.Interrupted, api.Event{Reason: "the agent went down"}
	case e.intent == fenced:
		return api.Interrupted, api.Event{Reason: "another agent has taken it over"}
	case e.intent == parked:
		return api.Waiting, api.Event{Until: &e.until, Reason: oneLine(e.reason)}
	case e.intent == noKey:
		return api.Interrupted, api.Event{Blameless: true, Reason: "the API key is not taken: " + oneLine(e.reason)}
	case e.limit != nil:
		return overspent(e.limit)
	case e.result != nil && e.result.IsError:
		if state, event, decided := refused(e); decided {
			return state, event
		}
	}
	reason := fmt.Sprintf("Claude Code ended without a result (exit status %d)", e.exit.Code)
	switch {
	case e.intent == stalled:
		reason = "Claude Code said nothing for too long"
	case e.open > 0 && e.result != nil:
		reason = "Claude Code ended before it had answered every message"
	case e.result != nil:
		reason = "Claude Code was interrupted from outside"
	}
	if e.idle >= maxIdleStarts {
		return api.Failed, api.Event{Error: noProgress(e.idle, firstOf(e.exit.Stderr, reason))}
	}
	if e.cuts+1 >= maxCuts {
		return failed(api.CodeClaudeFailed, "Claude Code ended %d times before its work was done, the last time so: %s; `berth resume ID` tries again", e.cuts+1, oneLine(firstOf(e.exit.Stderr, reason)))
	}
	return api.Interrupted, api.Event{Cut: true, Reason: strings.TrimSuffix(reason+": "+oneLine(e.exit.Stderr), ": ")}
}

// refused decides what a result that is an error means, as far as it is the end.
func refused(e ending) (api.State, api.Event, bool) {
	var state api.State
	var event api.Event
	switch {
	case e.result.Subtype == "error_max_turns":
		state, event = failed(api.CodeMaxTurns, "it reached its limit of turns (%d); allow more with `berth resume ID --max-turns`", e.options.MaxTurns)
	case e.result.Subtype == "success":
		state, event = failed(api.CodeAPIError, "the model's API failed: %s", oneLine(firstOf(e.result.Result, "it did not say why")))
	case e.intent == none && e.exit.Code > 0 && e.exit.Code < 128:
		// It ended by itself, whatever it calls that. Cut off by a signal, it goes on later.
		state, event = failed(api.CodeClaudeFailed, "Claude Code failed (exit status %d): %s", e.exit.Code, oneLine(firstOf(strings.Join(e.result.Errors, "; "), e.exit.Stderr, e.result.Subtype)))
	default:
		return state, event, false
	}
	return state, event, true
}

// overspent is how a session ends whose requests met with a limit.
func overspent(limit *gateway.Limit) (api.State, api.Event) {
	if limit.Scope == gateway.ScopeSession {
		return failed(api.CodeMaxBudget, "it reached its budget of $%.4g ($%.4f are spent); allow more with `berth resume ID --max-budget-usd`", limit.LimitUSD, limit.SpentUSD)
	}
	return failed(api.CodeSpendLimit, "the agent's limit of $%.4g a %s is reached ($%.4f are spent): `berth resume ID` when it begins anew, at %s UTC, or when whoever runs the agent has raised it",
		limit.LimitUSD, limit.Scope, limit.SpentUSD, limit.Resets.UTC().Format("2006-01-02 15:04"))
}

func failed(code api.Code, format string, args ...any) (api.State, api.Event) {
	return api.Failed, api.Event{Error: api.Errorf(code, format, args...)}
}

// noProgress is the error of a session that is given up.
func noProgress(starts int, cause string) *api.Error {
	code, text := api.CodeNoProgress, fmt.Sprintf("it was started %d times in a row without a reply of the model", starts)
	if cause != "" {
		code, text = api.CodeClaudeFailed, text+": "+oneLine(cause)
	}
	return api.Errorf(code, "%s; `berth resume ID` tries again", text)
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// oneLine makes a text of somebody else's fit for a message: one line, and not without end.
func oneLine(text string) string {
	const most = 500
	line := strings.Join(strings.Fields(text), " ")
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return line
}
