package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"berth/internal/api"
)

// Limits are the options of a session that `berth run` and `berth resume` share.
type Limits struct {
	Model          string        `name:"model" placeholder:"NAME" help:"The model, as Claude Code names it."`
	MaxTurns       int           `name:"max-turns" placeholder:"N" help:"End it after so many replies of the model."`
	MaxBudgetUSD   float64       `name:"max-budget-usd" placeholder:"X" help:"End it when it has spent so many US dollars on the model."`
	Timeout        time.Duration `name:"timeout" placeholder:"D" help:"End it after so much time of work, such as 90s or 2h; the queue does not count."`
	PermissionMode string        `name:"permission-mode" placeholder:"MODE" help:"bypassPermissions (the default), acceptEdits, dontAsk, default or plan. There is nobody to ask: what Claude Code would ask for is denied."`

	AllowedTools       []string `name:"allowed-tools" sep:"none" placeholder:"RULES" help:"Tools that need no permission, such as Edit or Bash(git log:*); with commas, or repeated, for more."`
	DisallowedTools    []string `name:"disallowed-tools" sep:"none" placeholder:"RULES" help:"Tools that may not be used at all; with commas, or repeated, for more."`
	AppendSystemPrompt string   `name:"append-system-prompt" placeholder:"TEXT" help:"Add a text to Claude Code's system prompt."`
	MCPConfig          *string  `name:"mcp-config" placeholder:"FILE|JSON" help:"MCP servers: a file like Claude Code's .mcp.json, or the JSON itself."`
	Settings           *string  `name:"settings" placeholder:"FILE|JSON" help:"Settings of Claude Code: a file, or the JSON itself."`
}

// options are the limits as the agent takes them. What is wrong with one is told with the name of its flag.
func (l *Limits) options() (api.Options, error) {
	options := api.Options{
		Model: l.Model, PermissionMode: l.PermissionMode,
		MaxTurns: l.MaxTurns, MaxBudgetUSD: l.MaxBudgetUSD, TimeoutSeconds: l.Timeout.Seconds(),
		AllowedTools: splitRules(l.AllowedTools), DisallowedTools: splitRules(l.DisallowedTools),
		AppendSystemPrompt: l.AppendSystemPrompt,
	}
	for _, limit := range []struct {
		flag, unit string
		given      any
		alone      api.Options
	}{
		{"--max-turns", "", l.MaxTurns, api.Options{MaxTurns: options.MaxTurns}},
		{"--max-budget-usd", "", l.MaxBudgetUSD, api.Options{MaxBudgetUSD: options.MaxBudgetUSD}},
		{"--timeout", " seconds", l.Timeout, api.Options{TimeoutSeconds: options.TimeoutSeconds}},
	} {
		if err := limit.alone.Check(); err != nil {
			_, rule, _ := strings.Cut(err.Error(), ": ")
			return options, fmt.Errorf("%s is %v: %s%s", limit.flag, limit.given, rule, limit.unit)
		}
	}
	var err error
	if options.MCPServers, err = readObject("--mcp-config", l.MCPConfig); err != nil {
		return options, err
	}
	if options.MCPServers, err = unwrapServers(options.MCPServers); err != nil {
		return options, fmt.Errorf("--mcp-config: %w", err)
	}
	if options.Settings, err = readObject("--settings", l.Settings); err != nil {
		return options, err
	}
	return options, checkLong(&options)
}

// checkLong checks the options that are longer texts. What is wrong with one is told with the name of its flag.
func checkLong(options *api.Options) error {
	for _, each := range []struct {
		flag, name string
		alone      api.Options
	}{
		{"--allowed-tools", "allowed_tools", api.Options{AllowedTools: options.AllowedTools}},
		{"--disallowed-tools", "disallowed_tools", api.Options{DisallowedTools: options.DisallowedTools}},
		{"--append-system-prompt", "the appended system prompt", api.Options{AppendSystemPrompt: options.AppendSystemPrompt}},
		{"--mcp-config", "mcp_servers", api.Options{MCPServers: options.MCPServers}},
		{"--settings", "settings", api.Options{Settings: options.Settings}},
	} {
		if err := each.alone.Check(); err != nil {
			return errors.New(each.flag + ":" + strings.TrimPrefix(strings.TrimPrefix(err.Error(), each.name), ":"))
		}
	}
	return options.Check()
}

// splitRules takes values of several rules apart: at commas, but not at those inside parentheses.
func splitRules(values []string) (rules []string) {
	for _, value := range values {
		depth, from := 0, 0
		for i, r := range value {
			switch {
			case r == '(':
				depth++
			case r == ')':
				depth--
			case r == ',' && depth <= 0:
				rules, from = append(rules, strings.TrimSpace(value[from:i])), i+1
			}
		}
		rules = append(rules, strings.TrimSpace(value[from:]))
	}
	return rules
}

// readObject reads a JSON object that a flag has or names the file of. It is nothing if the flag was not given.
func readObject(flag string, given *string) (json.RawMessage, error) {
	if given == nil {
		return nil, nil
	}
	text, where := []byte(strings.TrimSpace(*given)), "it"
	if len(text) == 0 {
		return nil, fmt.Errorf("%s: it is empty; give a JSON object, or the name of a file with one", flag)
	}
	if text[0] != '{' {
		opened, err := os.Open(*given)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; give a JSON object, or the name of a file with one", flag, err)
		}
		defer opened.Close() //nolint:errcheck // it was only read
		const most = 1 << 20 // far more than is taken in the end, white space included
		if text, err = io.ReadAll(io.LimitReader(opened, most+1)); err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		if where = *given; len(text) > most {
			return nil, fmt.Errorf("%s: %s has over %d bytes", flag, where, most)
		}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
			return nil, fmt.Errorf("%s: %s is not JSON: %w, after %d bytes", flag, where, err, syntax.Offset)
		}
		return nil, fmt.Errorf("%s: %s is JSON, but not an object in braces", flag, where)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return compact.Bytes(), nil
}

// unwrapServers takes MCP servers out of the form that Claude Code's own files have: {"mcpServers": {…}}.
func unwrapServers(object json.RawMessage) (json.RawMessage, error) {
	if object == nil {
		return nil, nil
	}
	var file struct {
		Servers json.RawMessage `json:"mcpServers"`
	}
	if json.Unmarshal(object, &file) == nil && file.Servers != nil {
		object = file.Servers
	}
	var servers map[string]json.RawMessage
	if err := json.Unmarshal(object, &servers); err != nil || servers == nil {
		return nil, errors.New("mcpServers is not a JSON object of servers by name")
	}
	for name, server := range servers {
		if server[0] != '{' {
			return nil, fmt.Errorf("the server %.80q is not a JSON object; an example is {\"docs\": {\"command\": \"docs-mcp\"}}", name)
		}
	}
	return object, nil
}
