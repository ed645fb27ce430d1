package session

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"berth/internal/api"
)

// Version is the version of the format of a session's files. A daemon reads no newer one.
//
//	1  the work dir, its base and its branch were in the snapshot alone
//	2  they are in events; events have epochs, and costs come from requests
const Version = 2

// Record is what the events of a session add up to, and what is known beside them: the task, and what Prepared was told.
// It is session.json.
type Record struct {
	Version  int    `json:"version"`
	LogSize  int64  `json:"log_size"`  // how many bytes of the log are added up here
	LastLine int64  `json:"last_line"` // how many of them are the last write's
	LastSum  uint32 `json:"last_sum"`  // CRC-32C of those
	Epoch    int    `json:"epoch"`     // the last owner's that wrote

	api.Session

	// IdempotencyKey is what the client called its request to create the session; TaskSum is a hash of that request.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	TaskSum        string `json:"task_sum,omitempty"`

	// Base is the commit that the session started from, Prepared that its work dir has been made, and Disk where.
	Base       string `json:"base"`
	Prepared   bool   `json:"prepared"`
	Disk       string `json:"disk"`
	Checkpoint string `json:"checkpoint"` // the last one's commit
	Metered    bool   `json:"metered"`    // its cost is that of its requests, and not what Claude Code reckons

	Messages  int  `json:"messages"`   // how many messages it was sent
	Unheard   bool `json:"unheard"`    // it has ended with a message that nobody has heard
	StopAsked bool `json:"stop_asked"` // somebody asked for its end, since it was last queued

	AskedAt     time.Time `json:"asked_at"`     // when it last went to the queue because somebody asked
	AskTurns    int       `json:"ask_turns"`    // replies of the model since then
	AskSeconds  float64   `json:"ask_seconds"`  // seconds of work since then, up to the last start
	IdleStarts  int       `json:"idle_starts"`  // starts in a row that brought no reply of the model
	RunningFrom time.Time `json:"running_from"` // when it last started
	Cuts        int       `json:"cuts"`         // how often Claude Code ended before its work was done, since then
	LastEventAt time.Time `json:"last_event_at"`
	LastReply   string    `json:"last_reply"` // id of the model's last message, which comes in several events

	Before Totals `json:"before"` // what it had come to when it was last taken up again
}

// unheard is the record without what the events added up to.
func (r *Record) unheard() Record {
	known := Record{
		Version: r.Version, IdempotencyKey: r.IdempotencyKey, TaskSum: r.TaskSum,
		Session: api.Session{ID: r.ID, Prompt: r.Prompt, Repo: r.Repo, Ref: r.Ref, Options: r.Options, CreatedAt: r.CreatedAt},
	}
	if r.Version == 1 {
		known.Base, known.Prepared, known.WorkDir, known.Branch = r.Base, r.Prepared, r.WorkDir, r.Branch
	}
	return known
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// noteLine adds a write to what is known of the log's extent.
func (r *Record) noteLine(lines []byte) {
	r.LogSize += int64(len(lines))
	r.LastLine, r.LastSum = int64(len(lines)), crc32.Checksum(lines, castagnoli)
}

// matches reports whether the record is of this log: its last write is where it should be.
func (r *Record) matches(file io.ReaderAt) (bool, error) {
	if r.LastLine == 0 { // of format 1, or empty
		return true, nil
	}
	last := make([]byte, r.LastLine)
	if _, err := file.ReadAt(last, r.LogSize-r.LastLine); err != nil {
		return false, err
	}
	return crc32.Checksum(last, castagnoli) == r.LastSum, nil
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
		r.Unheard = r.State.Ended()
		if event.Options != nil {
			r.Options = merged(r.Options, *event.Options)
		}
	case api.EventStop:
		r.StopAsked = true
	case api.EventPrepared:
		r.Prepared, r.Base, r.Branch = true, event.Base, event.Branch
		r.WorkDir, r.Disk = event.WorkDir, event.Disk
	case api.EventRestore:
		r.WorkDir, r.Disk = event.WorkDir, event.Disk
	case api.EventCheckpoint:
		if event.Checkpoint != nil {
			r.Checkpoint, r.Nested = event.Checkpoint.Commit, event.Checkpoint.Nested
		}
	case api.EventDelivery:
		if event.Delivery != nil && event.Delivery.PullRequest != "" {
			r.PullRequest = event.Delivery.PullRequest
		}
	case api.EventRequest:
		if event.Request != nil {
			r.charge(event.Request)
		}
	case api.EventNotice:
	default: // of a later version of berth
	}
	r.Events++
	r.LastEventAt = event.Time
	r.Epoch = max(r.Epoch, event.Epoch)
	return nil
}

// Totals are what a session has come to.
type Totals struct {
	Seconds float64 `json:"seconds"`
	CostUSD float64 `json:"cost_usd"`
	Tokens  int64   `json:"tokens"`
}

func (r *Record) totals() Totals {
	return Totals{r.DurationSeconds, r.CostUSD, r.Tokens.Input + r.Tokens.Output + r.Tokens.CacheRead + r.Tokens.CacheWrite}
}

// Since returns what a session has come to since it was last asked for something.
func (r *Record) Since() Totals {
	now := r.totals()
	return Totals{now.Seconds - r.Before.Seconds, now.CostUSD - r.Before.CostUSD, now.Tokens - r.Before.Tokens}
}

// charge adds up what a request to the model has cost. From the first one on, what Claude Code reckons does not count.
func (r *Record) charge(request *api.Request) {
	r.Metered = true
	r.CostUSD += request.CostUSD
	r.Tokens.Input += request.Tokens.Input
	r.Tokens.Output += request.Tokens.Output
	r.Tokens.CacheRead += request.Tokens.CacheRead
	r.Tokens.CacheWrite += request.Tokens.CacheWrite
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
	r.State, r.WaitingUntil, r.Unheard = to, nil, event.Unheard && to.Ended()
	switch to {
	case api.Queued:
		if from == "" || from.Ended() {
			r.Before = r.totals()
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
		if event.Blameless && r.IdleStarts > 0 {
			r.IdleStarts--
		}
	case api.Waiting:
		r.WaitingUntil, r.IdleStarts = event.Until, 0
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
	if r.Metered {
		return
	}
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
	if len(with.AllowedTools) > 0 {
		options.AllowedTools = with.AllowedTools
	}
	if len(with.DisallowedTools) > 0 {
		options.DisallowedTools = with.DisallowedTools
	}
	if with.AppendSystemPrompt != "" {
		options.AppendSystemPrompt = with.AppendSystemPrompt
	}
	if len(with.MCPServers) > 0 {
		options.MCPServers = with.MCPServers
	}
	if len(with.Settings) > 0 {
		options.Settings = with.Settings
	}
	return options
}
