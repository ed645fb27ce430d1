package scripted

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Request is what a step can be computed from.
type Request struct {
	Session string   // the header x-claude-code-session-id
	Model   string   // the model that was asked for
	Script  string   // the name of the script that answers; "" if none does
	Step    int      // the number of the step in it, from 0
	Prompt  string   // the prompt that the script answers
	Prompts []string // all prompts of the conversation, the oldest first, with those that came in mid-turn
	Cwd     string   // the CLI's working directory; "" if the request does not say
	Stream  bool
	Body    json.RawMessage // all of it; not to be changed
}

// Fill puts the request's values into a text, in place of the placeholders:
//
//	{{prompt}}       the prompt that the script answers
//	{{prompt.line}}  its first line
//	{{prompts}}      all prompts of the conversation, one after another in quotes, with commas
//	{{step}}         the number of the step, from 1
//	{{session}}      the session's id
//	{{model}}        the model that was asked for
//	{{cwd}}          the CLI's working directory
//
// What is put in is not looked at for placeholders again, nor quoted: do not put a prompt into a command.
func (r Request) Fill(text string) string {
	quoted := make([]string, len(r.Prompts))
	for index, prompt := range r.Prompts {
		quoted[index] = strconv.Quote(prompt)
	}
	return strings.NewReplacer(
		"{{prompt}}", r.Prompt,
		"{{prompt.line}}", firstLine(r.Prompt),
		"{{prompts}}", strings.Join(quoted, ", "),
		"{{step}}", strconv.Itoa(r.Step+1),
		"{{session}}", r.Session,
		"{{model}}", r.Model,
		"{{cwd}}", r.Cwd,
	).Replace(text)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}

// fillValue fills the strings in a JSON value, without changing the value that it is given.
func (r Request) fillValue(value any) any {
	switch value := value.(type) {
	case string:
		return r.Fill(value)
	case []any:
		list := make([]any, len(value))
		for index, element := range value {
			list[index] = r.fillValue(element)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(value))
		for key, element := range value {
			object[key] = r.fillValue(element)
		}
		return object
	default:
		return value
	}
}

// call is the part of a request's body that is looked at.
type call struct {
	Model     string            `json:"model"`
	MaxTokens int               `json:"max_tokens"`
	Stream    bool              `json:"stream"`
	System    content           `json:"system"`
	Messages  []message         `json:"messages"`
	Tools     []json.RawMessage `json:"tools"`

	fromCLI bool // by the header user-agent
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a list of blocks; a string stands for one block of text.
type content []block

type block struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (c *content) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*c = content{{Type: "text", Text: text}}
		return nil
	}
	var blocks []block
	if err := json.Unmarshal(data, &blocks); err != nil {
		return errors.New("content is neither a string nor a list of blocks")
	}
	*c = blocks
	return nil
}

// parse reads a request's body, and refuses what the API would refuse of it.
func parse(body []byte) (call, error) {
	var c call
	if err := json.Unmarshal(body, &c); err != nil {
		return call{}, fmt.Errorf("the body is not a request: %w", err)
	}
	if c.Model == "" {
		return call{}, errors.New("model: Field required")
	}
	if len(c.Messages) == 0 {
		return call{}, errors.New("messages: at least one message is required")
	}
	for index, m := range c.Messages {
		if m.Role != "user" && m.Role != "assistant" && m.Role != "system" {
			return call{}, fmt.Errorf("messages.%d.role: unexpected %q", index, m.Role)
		}
	}
	return c, nil
}

// has says whether there is a block of a type.
func (c content) has(kind string) bool {
	for _, b := range c {
		if b.Type == kind {
			return true
		}
	}
	return false
}

// key is the API key of a request, in either of the headers that the API takes.
func key(header http.Header) string {
	if key := header.Get("x-api-key"); key != "" {
		return key
	}
	scheme, token, _ := strings.Cut(header.Get("authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return token
	}
	return ""
}

// side tells the requests that the CLI makes beside the conversation, and what to answer: a probe of one
// token, a summary, and whatever has no tools and does not name the working directory, such as a title.
func (c call) side(p position) (text string, is bool) {
	last := c.Messages[len(c.Messages)-1].Content
	if len(last) > 0 && strings.HasPrefix(last[len(last)-1].Text, compactText) {
		return "<summary>The model is scripted, and has nothing to sum up.</summary>", true
	}
	fromCLI := c.fromCLI && len(c.Tools) == 0 && p.cwd == ""
	return "OK", c.MaxTokens == 1 || fromCLI
}
