package scripted

import (
	"regexp"
	"strings"
)

// Texts that the CLI puts among the messages, and that are not prompts.
const (
	continueText    = "Continue from where you left off."
	interruptedText = "[Request interrupted by user"
	midTurnText     = "The user sent a new message while you were working:\n"
)

var reminder = regexp.MustCompile(`(?s)<system-reminder>.*?</system-reminder>`)

// position is where a conversation stands.
type position struct {
	script  *compiled // nil if none answers
	prompt  string
	prompts []string
	step    int
}

// locate finds out where a conversation stands, from nothing but its messages.
func locate(scripts []*compiled, messages []message) position {
	var p position
	inReply := false
	for index, m := range messages {
		if m.Role == "assistant" {
			if !inReply && !resumedAt(messages, index+1) {
				p.step++
			}
			inReply = true
			continue
		}
		fresh, late := promptsOf(m)
		if m.Role == "user" {
			inReply = false
		}
		p.prompts = append(append(p.prompts, fresh...), late...)
		if len(fresh) > 0 {
			p.begin(scripts, fresh)
		}
		p.takeUp(scripts, late)
	}
	return p
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
	for index := len(texts) - 1; index >= 0; index-- {
		for _, script := range scripts {
			if script.match != nil && script.match.MatchString(texts[index]) {
				p.script, p.prompt, p.step = script, texts[index], 0
				return true
			}
		}
	}
	return false
}

// resumedAt says whether the next user message is the CLI's own after a crash.
func resumedAt(messages []message, next int) bool {
	for _, m := range messages[next:] {
		switch m.Role {
		case "assistant":
			return false
		case "user":
			return !m.Content.has("tool_result") && len(m.Content) > 0 && strings.Contains(m.Content[len(m.Content)-1].Text, continueText)
		}
	}
	return false
}

// promptsOf returns what a user said in a message: as a turn began, or late, in the middle of one.
func promptsOf(m message) (fresh, late []string) {
	for _, b := range m.Content {
		if b.Type != "text" {
			continue
		}
		if _, after, found := strings.Cut(b.Text, midTurnText); found {
			text, _, _ := strings.Cut(after, "\n\n")
			late = append(late, strings.TrimSpace(text))
			continue
		}
		text := strings.TrimSpace(reminder.ReplaceAllString(b.Text, ""))
		if m.Role != "user" || text == "" || text == continueText || strings.HasPrefix(text, interruptedText) {
			continue
		}
		if m.Content.has("tool_result") {
			late = append(late, text)
		} else {
			fresh = append(fresh, text)
		}
	}
	return fresh, late
}
