package session

import (
	"encoding/json"
	"fmt"
	"time"

	"berth/internal/api"
)

// Version is the version of the format of a session's files. A daemon reads no newer one.
const Version = 1

// Record is what the events of a session add up to, and what is known beside them: the task, and what Prepared was told.
// It is session.json.
type Record struct {
	Version int   `json:"version"`
	LogSize int64 `json:"log_size"` // how many bytes of the log are added up here

	api.Session

	// Base is the commit that the session started from, and Prepared that its work dir has been made.
	Base     string `json:"base"`
	Prepared bool   `json:"prepared"`

	Messages  int  `json:"messages"`   // how many messages it was sent
	StopAsked bool `json:"stop_asked"` // somebody asked for its end, since it was last queued

	AskedAt     time.Time `json:"asked_at"`     // when it last went to the queue because somebody asked
	AskTurns    int       `json:"ask_turns"`    // replies of the model since then
	AskSeconds  float64   `json:"ask_seconds"`  // seconds of work since then, up to the last start
	IdleStarts  int       `json:"idle_starts"`  // starts in a row that brought no reply of the model
	RunningFrom time.Time `json:"running_from"` // when it last started
	Cuts        int       `json:"cuts"`         // how often Claude Code ended before its work was done, since then
	LastEventAt time.Time `json:"last_event_at"`
	LastReply   string    `json:"last_reply"` // id of the model's last message, which comes in several events
}

// unheard is the record without what the events added up to.
func (r *Record) unheard() Record {
	return Record{
		Version: r.Version, Base: r.Base, Prepared: r.Prepared,
		Session: api.Session{
			ID: r.ID, Prompt: r.Prompt, Repo: r.Repo, Ref: r.Ref, Options: r.Options, CreatedAt: r.CreatedAt,
			WorkDir: r.WorkDir, Branch: r.Branch, PullRequest: r.PullRequest,
		},
	}
}

// apply adds an event up, or says why it cannot happen now.
func (r *Record) apply(event *api.Event) error {
	switch event.Type {
	case api.EventState:
		if err := r.move(event); err != nil {
			return err
		}
	case api.EventClaude:
		r.hear(event.Claude)
	case api.EventMessage:
		r.Messages++
		if event.Options != nil {
			r.Options = merged(r.Options, *event.Options)
		}
	case api.EventStop:
		r.StopAsked = true
	case api.EventNotice:
	default: // of a later version of berth
	}
	r.Events++
	r.LastEventAt = event.Time
	return nil
}

// move adds up a change of state. The first event of a session takes it from no state to queued.
func (r *Record) move(event *api.Event) error {
	from, to := r.State, event.State
	if !Allowed(from, to) && (from != "" || to != api.Queued) {
		return fmt.Errorf("a session that is %s cannot become %s", from, to)
	}
	if from == api.Running {
		// After a crash the event that says so comes late: the session worked until its last sign of life.
		until := event.Time
		if to == api.Interrupted {
			until = r.LastEventAt
		}
		worked := max(0, until.Sub(r.RunningFrom).Seconds())
		r.DurationSeconds += worked
		r.AskSeconds += worked
	}
	r.State = to
	switch to {
	case api.Queued:
		if from == "" || from.Ended() {
			r.AskedAt, r.AskTurns, r.AskSeconds, r.IdleStarts = event.Time, 0, 0, 0
			r.EndedAt, r.Error, r.Result, r.StopAsked, r.Cuts = nil, nil, "", false, 0
		}
	case api.Preparing:
		if r.StartedAt == nil {
			r.StartedAt = &event.Time
		}
	case api.Running:
		r.Attempts, r.RunningFrom = event.Attempt, event.Time
		r.IdleStarts++
	case api.Succeeded, api.Failed, api.Cancelled:
		r.EndedAt, r.Error = &event.Time, event.Error
		if event.Text != "" {
			r.Result = event.Text
		}
	case api.Interrupted:
		if event.Cut {
			r.Cuts++
		}
	case api.Waiting:
	}
	return nil
}

// hear adds up a line of Claude Code's output, as far as it concerns the record. A line is hostile input: one
// that cannot be read adds nothing.
func (r *Record) hear(line json.RawMessage) {
	var heard struct {
		Type    string `json:"type"`
		Parent  string `json:"parent_tool_use_id"`
		Message struct {
			ID    string `json:"id"`
			Model string `json:"model"`
		} `json:"message"`
		Result string              `json:"result"`
		Cost   float64             `json:"total_cost_usd"`
		Usage  map[string]modelUse `json:"modelUsage"`
		Spent  float64             `json:"totalCostUSD"` // the transcript's name for the cost
	}
	if json.Unmarshal(line, &heard) != nil {
		return
	}
	switch heard.Type {
	case "assistant":
		// "<synthetic>" is how Claude Code puts its own words into the model's mouth, such as an API error.
		if heard.Message.Model == "<synthetic>" {
			return
		}
		r.IdleStarts = 0
		if heard.Parent == "" && heard.Message.ID != r.LastReply {
			r.LastReply = heard.Message.ID
			r.Turns++
			r.AskTurns++
		}
	case "result":
		r.Result = heard.Result
		r.spend(heard.Cost, heard.Usage)
	case "cost-state":
		r.spend(heard.Spent, heard.Usage)
	}
}

// spend takes over what Claude Code reckons that the session has cost so far. Both figures go on across
// --resume, but a killed process loses its share: they never go back.
func (r *Record) spend(cost float64, usage map[string]modelUse) {
	r.CostUSD = max(r.CostUSD, cost)
	var sum api.Tokens
	for _, use := range usage {
		sum.Input += use.Input
		sum.Output += use.Output
		sum.CacheRead += use.CacheRead
		sum.CacheWrite += use.CacheWrite
	}
	r.Tokens = api.Tokens{
		Input: max(r.Tokens.Input, sum.Input), Output: max(r.Tokens.Output, sum.Output),
		CacheRead: max(r.Tokens.CacheRead, sum.CacheRead), CacheWrite: max(r.Tokens.CacheWrite, sum.CacheWrite),
	}
}

// modelUse is a model's share in a result of Claude Code.
type modelUse struct {
	Input      int64 `json:"inputTokens"`
	Output     int64 `json:"outputTokens"`
	CacheRead  int64 `json:"cacheReadInputTokens"`
	CacheWrite int64 `json:"cacheCreationInputTokens"`
}

// merged replaces those options that with has.
func merged(options, with api.Options) api.Options {
	if with.Model != "" {
		options.Model = with.Model
	}
	if with.PermissionMode != "" {
		options.PermissionMode = with.PermissionMode
	}
	if with.MaxTurns != 0 {
		options.MaxTurns = with.MaxTurns
	}
	if with.MaxBudgetUSD != 0 {
		options.MaxBudgetUSD = with.MaxBudgetUSD
	}
	if with.TimeoutSeconds != 0 {
		options.TimeoutSeconds = with.TimeoutSeconds
	}
	return options
}
