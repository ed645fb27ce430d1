package ops

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/internal/api"
)

const (
	// A tool's result is shown so far; what failed is worth more.
	resultLines = 6
	errorLines  = 12

	// liveEvery is how often the live line moves.
	liveEvery = 100 * time.Millisecond
)

// transcript shows a session's events, one by one. Claude's words, the tools that it uses, their results and
// what people say to it are the transcript, and go to standard output. How the session fares (states, retries,
// notices) goes to standard error.
type transcript struct {
	to      *terminal
	summary bool // a summary follows, which tells how the session ended
	verbose bool // show what comes all the time and few want to know
	queue   *queueWatch
	zone    *time.Location // of the times that are shown

	cwd      string              // the session's work dir, once Claude Code has named it
	spoke    string              // Claude's last words, which a result repeats
	tools    map[string]toolCall // those that have given nothing back, by id
	running  []string            // the ids of those that run, the oldest first
	lastTool string              // the one whose line was written last
	gap      bool                // the next paragraph is parted from what is above it
	told     api.State           // the last state
	held     func()              // shows the end that the summary may tell instead; nil if there is none

	without   map[string]bool // MCP servers that were said not to be there
	delivered *api.Delivery   // what became of its work; nil if nothing was heard of that

	waits   string    // for what, in the live line
	since   time.Time // when that began
	cost    float64   // US dollars, as far as Claude Code has said, which it does at the end of a turn, or as metered
	metered float64   // US dollars of the requests that were heard of
}

// toolCall is a use of a tool.
type toolCall struct {
	name, argument string
	begun          time.Time
}

func newTranscript(to *terminal) *transcript {
	return &transcript{to: to, tools: map[string]toolCall{}, without: map[string]bool{}, zone: time.Local}
}

// event shows one event.
func (t *transcript) event(event *api.Event) {
	switch event.Type {
	case api.EventPrepared, api.EventRequest, api.EventCheckpoint, api.EventRestore, api.EventDelivery:
		t.moment(event) // even after an end: the session does not go on by these
		return
	default:
		t.release()
	}
	switch event.Type {
	case api.EventState:
		t.state(event)
	case api.EventMessage:
		t.paragraph(bold, quoted(event.Text))
		t.wait("waits for a place", event.Time)
	case api.EventStop:
		t.notice(yellow, "somebody asked for its end")
		t.wait("ends", event.Time)
	case api.EventNotice:
		t.notice(yellow, oneLine(event.Text, 1000))
	case api.EventClaude:
		line := parseClaude(event.Claude)
		t.claude(&line, event.Time)
	default: // from a newer agent
	}
}

// quoted marks what a person said. Of a long text the beginning will do: whoever wrote it knows it.
func quoted(text string) string {
	const most = 12
	lines := strings.Split(strings.Trim(printable(text), "\n"), "\n")
	if more := len(lines) - most; more > 1 {
		lines = append(lines[:most], fmt.Sprintf("… %d more lines", more))
	}
	return "> " + strings.Join(lines, "\n> ")
}

// state shows a change of the session's state. The first steps are on the live line, if there is one.
func (t *transcript) state(event *api.Event) {
	t.told = event.State
	t.running = nil // no tool outlives its Claude Code
	text, style := string(event.State), dim
	switch event.State {
	case api.Queued:
		t.wait("waits for a place", event.Time)
	case api.Preparing:
		t.wait("makes its work dir", event.Time)
	case api.Running:
		t.wait("starts Claude Code", event.Time)
		if event.Attempt > 1 {
			text = fmt.Sprintf("running again (start %d)", event.Attempt)
		}
	case api.Interrupted:
		style, text = yellow, "interrupted; goes on by itself"
		t.wait("interrupted; goes on by itself", event.Time)
		clear(t.tools)
	case api.Waiting:
		style = yellow
		what := "waits for the model's limits to allow more"
		if event.Until != nil {
			until := clock(*event.Until, event.Time, t.zone)
			text, what = "waiting until "+until, "waits until "+until+" for the model's limits to allow more"
		}
		t.wait(what, event.Time)
	case api.Succeeded:
		style = green
	case api.Failed, api.Cancelled:
		style = red
	}
	if event.Reason != "" {
		text += ": " + oneLine(event.Reason, 500)
	}
	if event.Error != nil {
		text += ": " + oneLine(event.Error.Message, 1000)
	}
	if t.summary && event.State.Ended() {
		t.held = func() { t.notice(style, text) }
		return
	}
	first := event.State == api.Queued || event.State == api.Preparing || event.State == api.Running && event.Attempt <= 1
	if first && t.to.canLive && event.Reason == "" {
		return
	}
	t.notice(style, text)
}

// release shows an end that was held back. It was not the last word: the session went on after it.
func (t *transcript) release() {
	if t.held != nil {
		t.held()
		t.held = nil
	}
}

// claude shows a line of Claude Code's output.
func (t *transcript) claude(line *claudeLine, at time.Time) {
	switch line.Type {
	case "system":
		t.system(line, at)
	case "assistant":
		for _, part := range blocks(line.Message.Content) {
			t.said(&part, line, at)
		}
	case "user":
		for _, part := range blocks(line.Message.Content) {
			switch {
			case part.Type == "tool_result":
				t.toolEnded(&part, line.Parent != "", at)
			case part.Type == "text" && !line.Replay && strings.HasPrefix(part.Text, "[Request interrupted"):
				t.notice(yellow, oneLine(strings.Trim(part.Text, "[]"), 200))
			}
		}
	case "result":
		t.result(line, at)
	}
}

func (t *transcript) system(line *claudeLine, at time.Time) {
	switch line.Subtype {
	case "init":
		t.cwd = line.Cwd
		t.missing(line.Servers)
		t.wait("waits for the model", at)
	case "api_retry":
		what := fmt.Sprintf("the API answers %d", line.ErrorStatus)
		if line.ErrorStatus == 0 {
			what = "the API cannot be reached"
		}
		t.notice(yellow, fmt.Sprintf("%s; try %d of %d in %.1f s", what, line.Attempt, line.MaxRetries, line.RetryDelayMS/1000))
		t.wait("waits to ask the model again", at)
	case "permission_denied":
		t.notice(yellow, strings.TrimSpace("a tool was denied: "+oneLine(line.ToolName, 60)))
	}
}

// missing tells which MCP servers are not there, once each: Claude Code says how they are at the beginning of every turn, and
// goes on without those.
func (t *transcript) missing(said json.RawMessage) {
	var servers []mcpServer
	if json.Unmarshal(said, &servers) != nil {
		return
	}
	for _, server := range servers {
		if now := oneLine(server.Name, 60) + ": " + oneLine(server.Status, 60); server.Status != "connected" && server.Status != "pending" && !t.without[now] {
			t.without[now] = true
			t.notice(yellow, "goes on without the MCP server "+now)
		}
	}
}

// said shows a part of what Claude, or a subagent of it, says.
func (t *transcript) said(part *block, line *claudeLine, at time.Time) {
	sub := line.Parent != ""
	switch part.Type {
	case "text":
		if text := strings.Trim(printable(part.Text), "\n"); text != "" && !sub {
			t.paragraph("", unlike(text))
			t.spoke = strings.TrimSpace(part.Text)
		}
		t.works("Claude goes on", at)
	case "thinking", "redacted_thinking":
		t.works("Claude thinks", at)
	case "tool_use", "server_tool_use":
		call := toolCall{oneLine(part.Name, 60), argument(part.Input, t.cwd), at}
		if part.Type == "tool_use" && !slices.Contains(t.running, part.ID) {
			t.running = append(t.running, part.ID)
		}
		t.tools[part.ID] = call
		t.lastTool = part.ID
		t.to.say("", t.toolLine("●", call, sub))
		t.gap = true
		t.works(call.what(), at)
	}
}

// toolLine is the line of a tool's use, with the part of its argument that fits.
func (t *transcript) toolLine(mark string, call toolCall, sub bool) string {
	indent := ""
	if sub {
		indent = "  "
	}
	used := len(indent) + 2 + columnsOf(call.name) + 2
	rest := oneLine(call.argument, max(t.to.room()-used, minWidth/2))
	text := indent + styled(t.to.colourOut, cyan, mark) + " " + styled(t.to.colourOut, bold, call.name)
	return strings.TrimRight(text+"  "+rest, " ")
}

// toolEnded shows what a tool gave back. A subagent's tools give it to the subagent: only errors are shown.
func (t *transcript) toolEnded(part *block, sub bool, at time.Time) {
	call, known := t.tools[part.ToolUseID]
	delete(t.tools, part.ToolUseID)
	t.running = slices.DeleteFunc(t.running, func(id string) bool { return id == part.ToolUseID })
	t.works("waits for the model", at)
	text, most, style := resultText(part.Content), resultLines, dim
	if part.IsError {
		most, style = errorLines, red
	}
	if sub && !part.IsError {
		return
	}
	if known && t.lastTool != part.ToolUseID { // several ran at once: say which one it was
		t.to.say("", t.toolLine("○", call, sub))
		t.lastTool = part.ToolUseID
	}
	if excerpt := t.excerpt(text, most, part.IsError); excerpt != "" {
		t.to.say(style, excerpt)
	}
	t.gap = true
}

// excerpt is the beginning of a tool's result, indented.
func (t *transcript) excerpt(text string, most int, failed bool) string {
	const indent = "  "
	text = strings.ReplaceAll(strings.Trim(printable(text), "\n"), "\t", "    ")
	if dir := strings.TrimRight(t.cwd, "/"); dir != "" { // the root would take every slash with it
		text = strings.ReplaceAll(text, dir+"/", "")
	}
	lines := strings.Split(text, "\n")
	if text == "" {
		lines = nil
	}
	more := len(lines) - most
	if more > 1 { // a mark in the place of one line would save nothing
		lines = lines[:most]
	}
	if failed {
		lines = append([]string{"failed:"}, lines...)
		if len(lines) == 2 {
			lines = []string{"failed: " + lines[1]}
		}
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(indent+cut(line, t.to.room()-len(indent)), " ")
	}
	if more > 1 {
		lines = append(lines, fmt.Sprintf("%s… %d more lines", indent, more))
	}
	return strings.Join(lines, "\n")
}

// result shows the end of a turn. Its text is Claude's last words, which are there already, unless nobody
// said them.
func (t *transcript) result(line *claudeLine, at time.Time) {
	t.cost = max(t.cost, line.TotalCostUSD)
	t.running = nil
	t.wait("ends", at)
	if text := strings.TrimSpace(line.Result); text != "" && text != t.spoke {
		style := ""
		if line.IsError {
			style = red
		}
		t.paragraph(style, unlike(strings.Trim(printable(line.Result), "\n")))
	}
	t.spoke = ""
}

// paragraph writes something to be read, with air above it.
func (t *transcript) paragraph(style, text string) {
	if t.gap {
		t.to.say("", "")
	}
	t.to.say(style, text)
	t.gap = true
}

func (t *transcript) notice(style, text string) { t.to.notice(style, "· "+text) }

// wait says what the session does, from now on.
func (t *transcript) wait(what string, since time.Time) { t.waits, t.since = what, since }

// works says what the session does: while tools run, that is the oldest of them, since it began.
func (t *transcript) works(otherwise string, at time.Time) {
	if len(t.running) > 0 {
		oldest := t.tools[t.running[0]]
		t.wait(oldest.what(), oldest.begun)
		return
	}
	t.wait(otherwise, at)
}

// what is a tool's use, on the live line.
func (c toolCall) what() string { return c.name + "  " + oneLine(c.argument, 200) }

// status is the live line: that it lives, what it does and for how long, and the spend so far.
func (t *transcript) status(now time.Time) string {
	passed := max(now.Sub(t.since), 0)
	spent := ""
	if t.cost > 0 {
		spent = " · " + money(t.cost) + " so far"
	}
	return spinner(passed) + " " + duration(passed.Seconds()) + spent + " · " + strings.TrimSpace(t.waits)
}
