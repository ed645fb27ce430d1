package ops

import (
	"encoding/json"
	"strings"
)

// claudeLine is a line of Claude Code's stream-json output, as far as it is shown. All of it is somebody
// else's: a field of an unexpected type is as good as none.
type claudeLine struct {
	Type    string        `json:"type"`
	Subtype string        `json:"subtype"`
	Parent  string        `json:"parent_tool_use_id"` // set in what a subagent says
	Replay  bool          `json:"isReplay"`
	Message claudeMessage `json:"message"`

	// Of system.
	Cwd          string  `json:"cwd"`
	Model        string  `json:"model"`
	Attempt      int     `json:"attempt"`
	MaxRetries   int     `json:"max_retries"`
	RetryDelayMS float64 `json:"retry_delay_ms"`
	ErrorStatus  int     `json:"error_status"`
	ToolName     string  `json:"tool_name"`

	Servers json.RawMessage `json:"mcp_servers"` // of init

	// Of result.
	IsError      bool     `json:"is_error"`
	Result       string   `json:"result"`
	Errors       []string `json:"errors"`
	TotalCostUSD float64  `json:"total_cost_usd"`
}

type claudeMessage struct {
	Content json.RawMessage `json:"content"` // a text, or blocks
}

// block is a part of a message, or of a tool's result.
type block struct {
	Type      string                     `json:"type"`
	Text      string                     `json:"text"`
	ID        string                     `json:"id"`   // of tool_use
	Name      string                     `json:"name"` // of tool_use
	Input     map[string]json.RawMessage `json:"input"`
	ToolUseID string                     `json:"tool_use_id"` // of tool_result
	Content   json.RawMessage            `json:"content"`
	IsError   bool                       `json:"is_error"`
}

// mcpServer is a server that Claude Code was to start or to reach.
type mcpServer struct {
	Name   string `json:"name"`
	Status string `json:"status"`
}

// parseClaude reads a line. What cannot be read stays empty.
func parseClaude(text json.RawMessage) (line claudeLine) {
	_ = json.Unmarshal(text, &line)
	return line
}

// blocks returns a message's or a result's parts; a plain text is one.
func blocks(content json.RawMessage) (list []block) {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return []block{{Type: "text", Text: text}}
	}
	_ = json.Unmarshal(content, &list)
	return list
}

// resultText is what a tool gave back, as text.
func resultText(content json.RawMessage) string {
	var texts []string
	for _, part := range blocks(content) {
		switch part.Type {
		case "text":
			texts = append(texts, part.Text)
		case "":
		default:
			texts = append(texts, "["+part.Type+"]")
		}
	}
	text := strings.Join(texts, "\n")
	text = strings.TrimPrefix(text, "<tool_use_error>")
	return strings.Trim(strings.TrimSuffix(text, "</tool_use_error>"), "\n")
}

// telling are the arguments that say most about a tool's use, the best one first.
var telling = []string{
	"command", "file_path", "notebook_path", "pattern", "url", "query", "description", "skill", "subject", "path", "prompt",
}

// argument is the most telling argument of a tool's use. Files in the session's work dir are named from there.
func argument(input map[string]json.RawMessage, cwd string) string {
	for _, name := range telling {
		var value string
		if json.Unmarshal(input[name], &value) == nil && strings.TrimSpace(value) != "" {
			return inside(value, cwd)
		}
	}
	return ""
}

// inside takes the work dir off the front of a file's name.
func inside(file, cwd string) string {
	dir := strings.TrimRight(cwd, "/") // of the root nothing is left, and names stay as they are
	if rest, found := strings.CutPrefix(file, dir+"/"); found && dir != "" && rest != "" {
		return rest
	}
	return file
}
