package api

import (
	"encoding/json"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxPrompt is the size in bytes of the longest prompt or message.
	MaxPrompt = 512 << 10

	// MaxRef is the length in bytes of the longest name of a branch, a tag or a commit. File systems
	// end names at 255.
	MaxRef = 250

	// maxSeconds bounds a session's time limit, at ten years: more would overflow a time.Duration.
	maxSeconds = 10 * 366 * 24 * 3600
)

// CheckPrompt says what is wrong with a prompt, as an *Error: bad_request if it is empty, not UTF-8, or
// has control characters other than newline, carriage return and tab; prompt_too_large over MaxPrompt.
func CheckPrompt(text string) error { return checkText("prompt", text) }

// CheckMessage says what is wrong with a further message. The rules are those of CheckPrompt.
func CheckMessage(text string) error { return checkText("message", text) }

func checkText(what, text string) error {
	if len(text) > MaxPrompt {
		return Errorf(CodePromptTooLarge, "the %s has %d bytes, and at most %d are allowed: put long material into a file of the repository, and name the file", what, len(text), MaxPrompt)
	}
	if strings.TrimSpace(text) == "" {
		return Errorf(CodeBadRequest, "the %s is empty: say what Claude Code is to do", what)
	}
	line := 1
	for i, r := range text {
		switch {
		case r == '\n':
			line++
		case r == '\r', r == '\t':
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			return Errorf(CodeBadRequest, "the %s is not valid UTF-8: byte %d, on line %d, is 0x%02x; convert it first", what, i+1, line, text[i])
		case unicode.IsControl(r):
			return Errorf(CodeBadRequest, "the %s has the control character %U at byte %d, on line %d: of these only newline, carriage return and tab are allowed", what, r, i+1, line)
		}
	}
	return nil
}

// CheckRef says what is wrong with the name of a branch, a tag or a commit, as a bad_request *Error. An
// empty one is right: it means the default branch. The rules are those of git-check-ref-format(1), as
// far as a name could be taken for something else.
func CheckRef(ref string) error {
	problem := ""
	switch {
	case ref == "":
		return nil
	case len(ref) > MaxRef:
		return Errorf(CodeBadRequest, "the ref has %d bytes, and at most %d are allowed: name a branch, a tag or a commit", len(ref), MaxRef)
	case !utf8.ValidString(ref):
		problem = "is not valid UTF-8"
	case ref[0] == '-':
		problem = "begins with '-'"
	case strings.Contains(ref, ".."):
		problem = "has '..' in it"
	case strings.Contains(ref, "@{"):
		problem = "has '@{' in it"
	case strings.ContainsFunc(ref, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		problem = "has a space or a control character in it"
	case strings.ContainsAny(ref, `~^:?*[\`):
		problem = `has one of ~^:?*[\ in it`
	default:
		return nil
	}
	return Errorf(CodeBadRequest, "the ref %.80q %s: name a branch, a tag or a commit", ref, problem)
}

// Check says what is wrong with a task's prompt, ref or options, as an *Error. Its repository is checked by
// the agent, which alone knows its own directories.
func (n NewSession) Check() error {
	if err := CheckPrompt(n.Prompt); err != nil {
		return err
	}
	if err := CheckRef(n.Ref); err != nil {
		return err
	}
	return n.Options.Check()
}

// modelName is what a model may be called. The name becomes an argument of Claude Code, so that it must
// not look like a flag; Bedrock's names have colons and slashes, and [1m] asks for a long context.
var modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,199}$`)

// permissionModes are those of Claude Code that need nobody to answer questions.
var permissionModes = []string{"bypassPermissions", "acceptEdits", "dontAsk", "default", "plan"}

// Check says what is wrong with options, as a bad_request *Error. A zero is always right.
func (o Options) Check() error {
	if o.Model != "" && !modelName.MatchString(o.Model) {
		return Errorf(CodeBadRequest, "the model %.80q is not a model's name: it begins with a letter or a digit, and goes on with at most 199 letters, digits and . _ : / @ [ ] -", o.Model)
	}
	if o.PermissionMode != "" && !slices.Contains(permissionModes, o.PermissionMode) {
		return Errorf(CodeBadRequest, "the permission mode %.80q is not one of %s", o.PermissionMode, strings.Join(permissionModes, ", "))
	}
	for _, limit := range []struct {
		name               string
		value, least, most float64
	}{
		{"max_turns", float64(o.MaxTurns), 1, 100_000},
		{"max_budget_usd", o.MaxBudgetUSD, 1e-6, 1e9},
		{"timeout_seconds", o.TimeoutSeconds, 1e-3, maxSeconds},
	} {
		if limit.value > 0 && limit.value < limit.least { // it would be rounded to nothing, which is no limit
			return Errorf(CodeBadRequest, "%s is %v: it has to be %v or more, or 0 (no limit)", limit.name, limit.value, limit.least)
		}
		if math.IsNaN(limit.value) || limit.value < 0 || limit.value > limit.most {
			return Errorf(CodeBadRequest, "%s is %v: it has to be a number from 0 (no limit) to %.0f", limit.name, limit.value, limit.most)
		}
	}
	return o.checkLists()
}

const (
	maxTools  = 200      // entries in a list of tools, each with at most maxRule bytes
	maxRule   = 1000     // bytes
	maxObject = 64 << 10 // bytes of JSON of servers or settings
)

// checkLists checks the options that become files or longer arguments of Claude Code.
func (o Options) checkLists() error {
	for name, tools := range map[string][]string{"allowed_tools": o.AllowedTools, "disallowed_tools": o.DisallowedTools} {
		if len(tools) > maxTools {
			return Errorf(CodeBadRequest, "%s has %d entries, and at most %d are allowed", name, len(tools), maxTools)
		}
		for _, tool := range tools {
			if tool == "" || tool[0] == '-' || len(tool) > maxRule || !utf8.ValidString(tool) || strings.ContainsFunc(tool, unicode.IsControl) {
				return Errorf(CodeBadRequest, "%s: %.80q is not the name of a tool, or a rule like Bash(git log:*)", name, tool)
			}
		}
	}
	if o.AppendSystemPrompt != "" {
		if err := checkText("appended system prompt", o.AppendSystemPrompt); err != nil {
			return err
		}
		if len(o.AppendSystemPrompt) > maxObject {
			return Errorf(CodeBadRequest, "the appended system prompt has %d bytes, and at most %d are allowed", len(o.AppendSystemPrompt), maxObject)
		}
	}
	for name, object := range map[string]json.RawMessage{"mcp_servers": o.MCPServers, "settings": o.Settings} {
		if len(object) == 0 {
			continue
		}
		var fields map[string]json.RawMessage
		if len(object) > maxObject || json.Unmarshal(object, &fields) != nil || fields == nil {
			return Errorf(CodeBadRequest, "%s has to be a JSON object of at most %d bytes", name, maxObject)
		}
	}
	return nil
}

// LoopbackHost reports whether a Host header, with or without a port, names this machine's loopback
// interface: localhost, 127.0.0.0/8 or ::1. A browser that a hostile page has tricked into talking to
// loopback (DNS rebinding) sends that page's host name.
func LoopbackHost(header string) bool {
	host := header
	if name, _, err := net.SplitHostPort(header); err == nil {
		host = name
	} else if inner, found := strings.CutPrefix(header, "["); found && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Zone() == "" && address.IsLoopback()
}
