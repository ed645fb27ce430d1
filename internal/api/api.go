// Package api is what berthd and its clients say to each other: JSON over HTTP on loopback. It holds the
// types on the wire, the codes of errors, the file through which a local agent is found, and the client.
package api

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// State says where a session is in its life. The table of transitions is in package session.
type State string

// The states. A session in one of the last three has ended, until a message takes it up again.
const (
	Queued      State = "queued"      // waits for a place, in order of arrival
	Preparing   State = "preparing"   // its work dir is being made: the repository is cloned
	Running     State = "running"     // Claude Code works on it
	Interrupted State = "interrupted" // cut off by a stop, a crash or a reclaimed task; goes back to the queue by itself
	Waiting     State = "waiting"     // a rate or usage limit names a time at which it goes on
	Succeeded   State = "succeeded"
	Failed      State = "failed"
	Cancelled   State = "cancelled" // somebody stopped it
)

// States lists every state, in the order of a session's life.
var States = []State{Queued, Preparing, Running, Interrupted, Waiting, Succeeded, Failed, Cancelled}

// Ended reports whether nothing more happens to a session in this state unless somebody asks for it.
func (s State) Ended() bool { return s == Succeeded || s == Failed || s == Cancelled }

// NewSession is a task, as it is handed in. All but the prompt may be left out.
type NewSession struct {
	Prompt string `json:"prompt" doc:"What Claude Code is asked to do"`
	Repo   string `json:"repo,omitempty" doc:"The repository to clone: an https, http or ssh URL, or the absolute path of one on the agent's machine. Without one the session starts in an empty repository"`
	Ref    string `json:"ref,omitempty" doc:"The branch, tag or commit to start from; the repository's default branch if left out"`
	Options
}

// Options say how a session is run. A zero means the agent's default.
type Options struct {
	Model          string  `json:"model,omitempty" doc:"The model, as Claude Code names it"`
	PermissionMode string  `json:"permission_mode,omitempty" enum:"bypassPermissions,acceptEdits,dontAsk,default,plan" doc:"What Claude Code may do without asking; there is nobody to ask, so what it would ask for is denied. bypassPermissions if left out"`
	MaxTurns       int     `json:"max_turns,omitempty" minimum:"0" maximum:"100000" doc:"The most replies of the model to one message; 0 is no limit"`
	MaxBudgetUSD   float64 `json:"max_budget_usd,omitempty" minimum:"0" doc:"The most US dollars that the session may spend on the model, in all; 0 is no limit"`
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty" minimum:"0" doc:"The most seconds of work on one message, time in the queue not counted; 0 is no limit"`

	AllowedTools       []string        `json:"allowed_tools,omitempty" doc:"Tools that Claude Code may use without asking, as its --allowedTools names them"`
	DisallowedTools    []string        `json:"disallowed_tools,omitempty" doc:"Tools that it may not use at all, as its --disallowedTools names them"`
	AppendSystemPrompt string          `json:"append_system_prompt,omitempty" doc:"Text that is added to Claude Code's system prompt"`
	MCPServers         json.RawMessage `json:"mcp_servers,omitempty" doc:"MCP servers by name, as in mcpServers of Claude Code's --mcp-config"`
	Settings           json.RawMessage `json:"settings,omitempty" doc:"Settings of Claude Code, an object as its --settings takes it"`
}

// Session is a session as the agent knows it.
type Session struct {
	ID    string `json:"id" doc:"A UUIDv7; Claude Code's own session id is the same"`
	State State  `json:"state" enum:"queued,preparing,running,interrupted,waiting,succeeded,failed,cancelled"`

	Prompt string `json:"prompt" doc:"The first message"`
	Repo   string `json:"repo"`
	Ref    string `json:"ref"`
	Options

	CreatedAt       time.Time  `json:"created_at"`
	StartedAt       *time.Time `json:"started_at" doc:"When it first got a place"`
	EndedAt         *time.Time `json:"ended_at" doc:"When it last ended; null while it has not"`
	WaitingUntil    *time.Time `json:"waiting_until" doc:"When a session that waits goes on by itself; null if it does not wait"`
	DurationSeconds float64    `json:"duration_seconds" doc:"Seconds of work, time in the queue not counted"`
	Attempts        int        `json:"attempts" doc:"How often Claude Code was started for it"`
	Turns           int        `json:"turns" doc:"Replies of the model so far"`

	CostUSD float64 `json:"cost_usd" doc:"US dollars spent on the model, as the agent's gateway meters them"`
	Tokens  Tokens  `json:"tokens"`

	WorkDir     string `json:"work_dir" doc:"Where its files are on the agent's machine, once it has been prepared"`
	Branch      string `json:"branch" doc:"The branch that its work is on; delivered under this name"`
	PullRequest string `json:"pull_request" doc:"The address of the pull request with its work"`

	Nested []string `json:"nested,omitempty" doc:"Repositories within its files: they are kept and restored with it, and are on no branch and in no diff"`

	Error  *Error `json:"error" doc:"Why it failed; null if it did not"`
	Result string `json:"result" doc:"The model's last words"`

	Events int `json:"events" doc:"How many events it has; the next one has this id"`
}

// Tokens counts what a session sent to the model and got from it.
type Tokens struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
}

// SessionList is an answer to a question for sessions.
type SessionList struct {
	Sessions []Session `json:"sessions"`
	Next     string    `json:"next" doc:"Where the next page begins, to be given as 'after'; empty if there is none"`
}

// ListQuery says which sessions are asked for. Zeros ask for all, the oldest first.
type ListQuery struct {
	States        []State   // those in one of them; all if empty
	IDPart        string    // those whose id begins or ends with it
	Repo          string    // those with this repository
	CreatedAfter  time.Time // those made after it
	CreatedBefore time.Time // those made before it
	Newest        bool      // the newest first
	After         string    // those that come after this session in the order
	Limit         int       // so many at most; 0 is all
}

// Holds reports whether a session is asked for, wherever it is in the order.
func (q *ListQuery) Holds(session *Session) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, session.State)) &&
		(strings.HasPrefix(session.ID, q.IDPart) || strings.HasSuffix(session.ID, q.IDPart)) &&
		(q.Repo == "" || q.Repo == session.Repo) &&
		(q.CreatedAfter.IsZero() || session.CreatedAt.After(q.CreatedAfter)) &&
		(q.CreatedBefore.IsZero() || session.CreatedAt.Before(q.CreatedBefore))
}

// NewMessage is a further message to a session: to Claude Code as it works, or to an ended session, which
// then goes on from where it ended.
type NewMessage struct {
	Text string `json:"text" doc:"The message"`
}

// Resumption takes up an ended session again. Options that are not zero replace the session's.
type Resumption struct {
	Options
}

// EventType says what an event tells.
type EventType string

// The types of events. A reader passes over those that it does not know.
const (
	EventState   EventType = "state"   // the session changed its state
	EventMessage EventType = "message" // somebody sent it a message; the prompt is the first
	EventStop    EventType = "stop"    // somebody asked for its end
	EventClaude  EventType = "claude"  // a line of Claude Code's stream-json output, unchanged
	EventNotice  EventType = "notice"  // something a person may want to know

	EventPrepared   EventType = "prepared"   // the session's work dir has been made
	EventRequest    EventType = "request"    // a request to the model has ended, and cost something
	EventCheckpoint EventType = "checkpoint" // the session's files are on the volume
	EventRestore    EventType = "restore"    // they were taken from there
	EventDelivery   EventType = "delivery"   // the session's work went to its origin, or could not
)

// Event is one thing that happened to a session. Its id is its index: the first is 0, and none is left out.
type Event struct {
	ID   int       `json:"-"`
	Type EventType `json:"type"`
	Time time.Time `json:"time"`

	// Epoch counts how often a daemon took hold of the session; only its latest holder writes events.
	Epoch int `json:"epoch,omitempty"`

	// Of state.
	State     State      `json:"state,omitempty"`
	Error     *Error     `json:"error,omitempty"`     // why it failed
	Reason    string     `json:"reason,omitempty"`    // why it was interrupted, queued again or cancelled
	Attempt   int        `json:"attempt,omitempty"`   // which start of Claude Code this is, from 1
	Cut       bool       `json:"cut,omitempty"`       // Claude Code ended by itself, or had to be ended, before its work was done
	Until     *time.Time `json:"until,omitempty"`     // when a waiting session goes on
	Unheard   bool       `json:"unheard,omitempty"`   // a message came as it ended, and takes it up again
	Blameless bool       `json:"blameless,omitempty"` // it was interrupted for nothing that it did: that start does not count

	// Of message.
	MessageID string   `json:"message_id,omitempty"` // a UUID, which Claude Code is given too
	Options   *Options `json:"options,omitempty"`    // those that the message changed
	Text      string   `json:"text,omitempty"`       // of message and notice
	Task      *Task    `json:"task,omitempty"`       // of the first message: what else the session was created with

	// Of claude. Recovered marks an event that was read from Claude Code's transcript, because the agent
	// was gone when it happened: it has the transcript's fields, not those of the output.
	Claude    json.RawMessage `json:"claude,omitempty"`
	Recovered bool            `json:"recovered,omitempty"`

	// Of prepared, and of restore, which has only the last two.
	Base    string `json:"base,omitempty"`     // the commit that the session starts from; none if it starts from nothing
	Branch  string `json:"branch,omitempty"`   // the branch that it works on
	WorkDir string `json:"work_dir,omitempty"` // where its files are
	Disk    string `json:"disk,omitempty"`     // the id of the work disk that they are on

	Request    *Request    `json:"request,omitempty"`
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"` // of checkpoint and restore
	Delivery   *Delivery   `json:"delivery,omitempty"`
}

// Task is what a session was created with, beside its prompt.
type Task struct {
	Repo           string    `json:"repo,omitempty"`
	Ref            string    `json:"ref,omitempty"`
	Options        Options   `json:"options,omitzero"`
	CreatedAt      time.Time `json:"created_at"`
	IdempotencyKey string    `json:"idempotency_key,omitempty"`
	Sum            string    `json:"sum,omitempty"` // a hash of the request that created it
}

// Request is what became of a request to the model, and what it cost.
type Request struct {
	Model    string  `json:"model"`
	PricedAs string  `json:"priced_as,omitempty"` // the model whose price was taken, if its own is not known
	Status   int     `json:"status"`              // of the reply; 0 if there was none
	Tries    int     `json:"tries"`               // how often it was sent, until there was an answer to pass on
	Seconds  float64 `json:"seconds"`             // from its arrival to the end of the reply
	Tokens   Tokens  `json:"tokens"`
	Searches int     `json:"searches,omitempty"` // uses of the API's own web search
	CostUSD  float64 `json:"cost_usd"`
	Cut      bool    `json:"cut,omitempty"` // the reply did not come to its end: the cost is reckoned from what came
}

// Checkpoint is a state of a session's files.
type Checkpoint struct {
	Commit  string   `json:"commit"`             // in the repository on the volume, as refs/berth/<id>
	Tree    string   `json:"tree"`               // git's id of the files
	Head    string   `json:"head,omitempty"`     // the commit that the session's branch was at
	Seconds float64  `json:"seconds"`            // how long it took
	LeftOut []string `json:"left_out,omitempty"` // what is not in it, a line each, with the reason
	Nested  []string `json:"nested,omitempty"`   // repositories within the files: they are in it, and on no branch
}

// Delivery is what became of an attempt to bring a session's work to its origin.
type Delivery struct {
	Branch      string `json:"branch"`
	Commit      string `json:"commit"`
	PullRequest string `json:"pull_request,omitempty"`
	Problem     string `json:"problem,omitempty"` // why it, or the pull request, could not be made, and how to get the work
	Note        string `json:"note,omitempty"`    // what of the work is not on the branch, and where it is
}

// Diff is what a session changed.
type Diff struct {
	Base  string `json:"base" doc:"The commit that the session started from; empty if it started from nothing"`
	Patch string `json:"patch" doc:"Everything that differs from it, committed or not, ignored files left out, as git diff prints it"`
}

// Status is how the agent is.
type Status struct {
	Version       string    `json:"version" doc:"berthd's"`
	ClaudeVersion string    `json:"claude_version" doc:"Claude Code's"`
	PID           int       `json:"pid"`
	StartedAt     time.Time `json:"started_at"`
	Data          string    `json:"data" doc:"Where its volume is"`
	Work          string    `json:"work" doc:"Where sessions work"`

	Model     string `json:"model" doc:"Which Messages API sessions talk to: its URL, or 'scripted' for the stand-in that needs no key"`
	Key       string `json:"key" enum:"set,missing,refused,not needed" doc:"Whether there is a key for it, and the API takes it"`
	Isolation string `json:"isolation" doc:"What keeps sessions from each other and from the agent's own files"`

	Places   int           `json:"places" doc:"How many sessions run at once"`
	Sessions map[State]int `json:"sessions" doc:"How many sessions are in each state"`
	Problems []string      `json:"problems" doc:"What keeps sessions from running, a line each; empty if nothing does"`

	Spend  Spend  `json:"spend"`
	Volume Volume `json:"volume"`
}

// Spend is what the agent's sessions have spent on the model, in US dollars. Days and months are those of UTC. A
// limit of 0 is none.
type Spend struct {
	Day           string  `json:"day" doc:"Which day it is, as 2006-01-02"`
	DayUSD        float64 `json:"day_usd"`
	DayLimitUSD   float64 `json:"day_limit_usd" doc:"0 is no limit"`
	MonthUSD      float64 `json:"month_usd"`
	MonthLimitUSD float64 `json:"month_limit_usd" doc:"0 is no limit"`
	PricesDated   string  `json:"prices_dated" doc:"The day of the price table"`
}

// SpendReport is the answer to a question for spend.
type SpendReport struct {
	Spend
	Days   map[string]float64 `json:"days" doc:"US dollars by day, of this month and the last"`
	Models map[string]float64 `json:"models" doc:"US dollars by model, of this month"`

	EstimatedUSD float64 `json:"estimated_usd,omitempty" doc:"What of this month's is estimated: requests that a crash of the agent cut off, or that another agent has under way"`
}

// Volume is the room on the volume, in bytes.
type Volume struct {
	Total int64 `json:"total"`
	Free  int64 `json:"free"`
}
