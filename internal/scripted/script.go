package scripted

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Script is what the model says and does in answer to one prompt.
type Script struct {
	// Name is for records and error messages. Without one it is the script's number, from 1.
	Name string `yaml:"name"`

	// Match is a regular expression (RE2) that a prompt has to match for this script; the first script
	// that matches wins. An empty one makes the script the default, which answers the prompts that no
	// other script matches. There can be one default.
	Match string `yaml:"match"`

	// Steps are the replies, in order. A request beyond the last one gets a short text that ends the
	// turn, as when the last step uses a tool.
	Steps []Step `yaml:"steps"`

	// Endless repeats the last step for ever. With a tool in it, the turn never ends by itself.
	Endless bool `yaml:"endless"`
}

// Step is one reply: the thinking, the text and the uses of tools in it, in this order, and how it is
// sent. The zero Step is an empty reply, which New refuses.
//
// Text, Thinking and the strings in the inputs of tools may hold placeholders, see Request.Fill.
type Step struct {
	Thinking string `yaml:"thinking"`
	Text     string `yaml:"text"`
	Tools    []Tool `yaml:"tools"`

	// Delay passes before anything of the reply is sent, and Pause between two events of the stream.
	Delay time.Duration `yaml:"delay"`
	Pause time.Duration `yaml:"pause"`

	// Chunk is how many bytes of text, thinking or JSON an event carries; a character is not cut in two,
	// so that it may be up to three more. 0 sends each block in one event.
	Chunk int `yaml:"chunk"`

	// Stop is the stop_reason. "" is tool_use if there is a tool, and end_turn otherwise.
	Stop string `yaml:"stop_reason"`

	// Model is the model that the reply names. "" is the one that was asked for.
	Model string `yaml:"model"`

	// Usage is what the reply says it took. Zero is an estimate, see Usage.
	Usage Usage `yaml:"usage"`

	// Faults come before the reply: the first requests for this step, in each session, get them in order.
	Faults []Fault `yaml:"faults"`

	// Compute makes the reply from the request, in place of this step, of which only Faults count. It may
	// be called at the same time from several requests, and again for a request that is made again. The
	// reply's own Compute and Faults are not looked at, and its texts are sent as they are: Request.Fill
	// fills placeholders.
	Compute func(Request) Step `yaml:"-"`
}

// Tool is a use of a tool: its name, and the input, which has to be JSON's kinds of values.
type Tool struct {
	Name  string         `yaml:"name"`
	Input map[string]any `yaml:"input"`
}

// Usage is what a reply costs, in tokens. Where all are zero, the reply claims a quarter of the bytes of
// the request as Input, and a quarter of its own as Output, but at least one of each.
type Usage struct {
	Input      int `yaml:"input"`
	Output     int `yaml:"output"`
	CacheRead  int `yaml:"cache_read"`
	CacheWrite int `yaml:"cache_write"`
}

// Text is a step that says something.
func Text(text string) Step { return Step{Text: text} }

// Use is a step that uses tools, all in one reply.
func Use(tools ...Tool) Step { return Step{Tools: tools} }

// Bash runs a command in the CLI's shell.
func Bash(command string) Tool {
	return Tool{Name: "Bash", Input: map[string]any{"command": command}}
}

// Write makes a file. The CLI wants the path to be absolute: "{{cwd}}/name" is one.
func Write(path, content string) Tool {
	return Tool{Name: "Write", Input: map[string]any{"file_path": path, "content": content}}
}

// Read reads a file, by its absolute path.
func Read(path string) Tool {
	return Tool{Name: "Read", Input: map[string]any{"file_path": path}}
}

// compiled is a script that was checked.
type compiled struct {
	Script
	match *regexp.Regexp // nil in the default script
}

// compile checks scripts. The error names every mistake, by script and step.
func compile(scripts []Script) ([]*compiled, error) {
	var (
		list     []*compiled
		problems []error
		fallback string
	)
	names := map[string]bool{}
	for number, script := range scripts {
		if script.Name == "" {
			script.Name = fmt.Sprint(number + 1)
		}
		c := &compiled{Script: script}
		complain := func(err error) { problems = append(problems, fmt.Errorf("script %s: %w", script.Name, err)) }
		if names[script.Name] {
			complain(errors.New("there are two of this name"))
		}
		names[script.Name] = true
		switch {
		case script.Match == "" && fallback != "":
			complain(fmt.Errorf("has no match, and script %s is the default already", fallback))
		case script.Match == "":
			fallback = script.Name
		default:
			match, err := regexp.Compile(script.Match)
			if err != nil {
				complain(fmt.Errorf("match: %w", err))
			}
			c.match = match
		}
		if len(script.Steps) == 0 {
			complain(errors.New("has no steps"))
		}
		for index, step := range script.Steps {
			if err := step.check(); err != nil {
				complain(fmt.Errorf("step %d: %w", index+1, err))
			}
		}
		list = append(list, c)
	}
	return list, errors.Join(problems...)
}

func (s Step) check() error {
	var problems []error
	if s.Compute == nil && s.Text == "" && s.Thinking == "" && len(s.Tools) == 0 {
		problems = append(problems, errors.New("is empty: give it text, thinking or tools"))
	}
	for number, tool := range s.Tools {
		if tool.Name == "" {
			problems = append(problems, fmt.Errorf("tool %d has no name", number+1))
		}
	}
	if s.Delay < 0 || s.Pause < 0 || s.Chunk < 0 {
		problems = append(problems, errors.New("delay, pause and chunk cannot be negative"))
	}
	if s.Usage.Input < 0 || s.Usage.Output < 0 || s.Usage.CacheRead < 0 || s.Usage.CacheWrite < 0 {
		problems = append(problems, errors.New("usage cannot be negative"))
	}
	for number, fault := range s.Faults {
		if err := fault.check(); err != nil {
			problems = append(problems, fmt.Errorf("fault %d: %w", number+1, err))
		}
	}
	return errors.Join(problems...)
}

// step returns the step of a number from 0, and whether there is one.
func (c *compiled) step(number int) (Step, bool) {
	last := len(c.Steps) - 1
	switch {
	case number <= last:
		return c.Steps[number], true
	case c.Endless:
		return c.Steps[last], true
	default:
		return Step{}, false
	}
}
