package scripted

import (
	"regexp"
	"slices"
	"strings"
)

// Texts that the CLI puts among the messages (2.1.330).
const (
	// continueText goes on with a turn that a crash cut off.
	continueText = "Continue from where you left off."
	// interruptedText begins the note of an interrupt; the rest says of what.
	interruptedText = "[Request interrupted by user"
	// silentText is a reply that the CLI makes up where the model's was lost.
	silentText = "No response requested."
	// midTurnText and midTurnEnd are around a prompt that came while a turn was under way.
	midTurnText = "The user sent a new message while you were working:\n"
	midTurnEnd  = "\n\nThis is how Claude Code surfaces messages"
	// compactText begins the request for a summary, and compactedText the summary, as it is used.
	compactText   = "CRITICAL: Respond with TEXT ONLY."
	compactedText = "This session is being continued from a previous conversation"
)

var (
	reminder = regexp.MustCompile(`(?s)<system-reminder>.*?</system-reminder>`)
	// command is what the CLI notes of a command such as /compact, and of its output.
	command = regexp.MustCompile(`(?s)<(local-command-caveat|local-command-stdout|command-name|command-message|command-args)>.*?</(local-command-caveat|local-command-stdout|command-name|command-message|command-args)>`)
)

// said is what a message of the user or of the CLI says, told apart.
type said struct {
	fresh     []string // prompts that begin a turn
	late      []string // prompts that came in the middle of one
	notes     []string // what the CLI says of itself
	continues bool     // goes on with a turn that was cut off
}

// listen tells apart what a message says.
func listen(m message) said {
	var s said
	results := m.Content.has("tool_result")
	for _, b := range m.Content {
		if b.Type != "text" {
			continue
		}
		if m.Role == "system" {
			s.note(b.Text)
			continue
		}
		for _, text := range reminder.FindAllString(b.Text, -1) {
			s.note(strings.TrimSuffix(strings.TrimPrefix(text, "<system-reminder>"), "</system-reminder>"))
		}
		text := strings.TrimSpace(command.ReplaceAllString(reminder.ReplaceAllString(b.Text, ""), ""))
		switch {
		case text == "" || strings.HasPrefix(text, compactText) || strings.HasPrefix(text, compactedText):
		case text == continueText:
			s.continues = true
		case strings.HasPrefix(text, interruptedText):
			results = false // the turn is over, so that what follows begins one
		case results:
			s.late = append(s.late, text)
		default:
			s.fresh = append(s.fresh, text)
		}
	}
	return s
}

// note takes a text of the CLI's own, in which there may be prompts.
func (s *said) note(text string) {
	parts := strings.Split(text, midTurnText)
	s.notes = append(s.notes, parts[0])
	for _, part := range parts[1:] {
		if end := strings.LastIndex(part, midTurnEnd); end >= 0 {
			part = part[:end]
		}
		s.late = append(s.late, strings.TrimSpace(part))
	}
}

// position is where a conversation stands.
type position struct {
	script  *compiled // nil if none answers
	prompt  string
	prompts []string
	step    int
	cwd     string
}

// locate finds out where a conversation stands, from nothing but its messages: the latest prompt that
// belongs to a script, and the number of replies after it.
func locate(scripts []*compiled, messages []message) position {
	var p position
	heard := make([]said, len(messages))
	for index, m := range messages {
		if m.Role != "assistant" {
			heard[index] = listen(m)
		}
	}
	for index, m := range messages {
		if m.Role == "assistant" {
			if isReply(messages, heard, index) {
				p.step++
			}
			continue
		}
		s := heard[index]
		p.prompts = slices.Concat(p.prompts, s.fresh, s.late)
		if len(s.fresh) > 0 {
			p.begin(scripts, s.fresh)
		}
		p.takeUp(scripts, s.late)
		if m.Role == "system" {
			p.note(s.notes)
		}
	}
	return p
}

// isReply says whether the message at an index ends a reply that was given whole.
func isReply(messages []message, heard []said, index int) bool {
	content := messages[index].Content
	if len(content) == 1 && content[0].Text == silentText {
		return false
	}
	for next := index + 1; next < len(messages); next++ {
		switch messages[next].Role {
		case "assistant":
			return false // the blocks of one reply may come in several messages
		case "user":
			// A reply whose tools were never run, and that the CLI asks to go on with, was cut off.
			return !heard[next].continues || messages[next].Content.has("tool_result")
		}
	}
	return true
}

// begin starts the script for a new turn's prompts.
func (p *position) begin(scripts []*compiled, texts []string) {
	p.script, p.prompt, p.step = nil, strings.Join(texts, "\n"), 0
	if p.takeUp(scripts, texts) {
		return
	}
	for _, script := range scripts {
		if script.match == nil {
			p.script = script
		}
	}
}

// takeUp starts the script that the latest of the prompts matches, if there is one.
func (p *position) takeUp(scripts []*compiled, texts []string) bool {
	for _, text := range slices.Backward(texts) {
		for _, script := range scripts {
			if script.match != nil && script.match.MatchString(text) {
				p.script, p.prompt, p.step = script, text, 0
				return true
			}
		}
	}
	return false
}

// cwdMark comes before the working directory in the CLI's notes. After a resumption elsewhere there is
// another one, which ends " (was …)".
const cwdMark = "Primary working directory: "

// note looks for the working directory.
func (p *position) note(notes []string) {
	for _, note := range notes {
		_, after, found := strings.Cut(note, cwdMark)
		if !found {
			continue
		}
		line := firstLine(after)
		if at := strings.LastIndex(line, " (was "); at >= 0 {
			line = line[:at]
		}
		p.cwd = line
	}
}
