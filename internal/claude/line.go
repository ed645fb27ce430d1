package claude

import "encoding/json"

// Line is a line of the CLI's output. JSON is the whole of it; the fields are those that somebody needs, empty in
// lines of another type.
type Line struct {
	JSON json.RawMessage `json:"-"`

	Type    string `json:"type"`
	Subtype string `json:"subtype"`
	UUID    string `json:"uuid"`
	Parent  string `json:"parent_tool_use_id"` // set in what a subagent says
	Replay  bool   `json:"isReplay"`
	Message struct {
		Model string `json:"model"`
	} `json:"message"`

	// Of command_lifecycle.
	Command string `json:"command_uuid"` // the UUID that Send was given
	State   string `json:"state"`        // queued, started, completed, cancelled

	// Of result.
	IsError   bool              `json:"is_error"`
	Result    string            `json:"result"`
	Errors    []string          `json:"errors"`
	APIStatus int               `json:"api_error_status"`
	Denials   []json.RawMessage `json:"permission_denials"`
}

// Begins reports whether the line is the first of a turn.
func (l *Line) Begins() bool { return l.Type == "system" && l.Subtype == "init" }

// Answers reports whether the line says that a message needs no answer any more. One that was cut off says so too: it is
// answered as far as it ever will be.
func (l *Line) Answers() bool {
	return l.Type == "command_lifecycle" && (l.State == "completed" || l.State == "cancelled")
}

// message reports whether the transcript will have the line too. What the CLI says in the model's place is no step that
// could be taken twice, and not all of it is there.
func (l *Line) message() bool {
	return (l.Type == "assistant" || l.Type == "user") && l.UUID != "" && l.Parent == "" && !l.Replay && l.Message.Model != synthetic
}

// synthetic is the name of the model in what the CLI says in its place.
const synthetic = "<synthetic>"

// parseLine reads a line of output; ok is false for one that is not a JSON object with a type.
func parseLine(text []byte) (line Line, ok bool) {
	// A field of an unexpected type must not cost the whole line, which is hostile input.
	err := json.Unmarshal(text, &line)
	line.JSON = text
	return line, line.Type != "" && (err == nil || json.Valid(text))
}

// UUID returns the uuid of a line of output; empty if it has none.
func UUID(line json.RawMessage) string {
	var parsed struct {
		UUID string `json:"uuid"`
	}
	_ = json.Unmarshal(line, &parsed) // what cannot be read has none
	return parsed.UUID
}
