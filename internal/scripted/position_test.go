package scripted

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The shapes of messages as the CLI sends them, see the package's comment.

func user(texts ...string) message {
	m := message{Role: "user"}
	for _, text := range texts {
		m.Content = append(m.Content, block{Type: "text", Text: text})
	}
	return m
}

func results(texts ...string) message {
	m := user(texts...)
	m.Content = append(content{{Type: "tool_result"}, {Type: "tool_result"}}, m.Content...)
	return m
}

func says(text string) message {
	return message{Role: "assistant", Content: content{{Type: "text", Text: text}}}
}

func uses() message {
	return message{Role: "assistant", Content: content{{Type: "thinking"}, {Type: "text", Text: "a"}, {Type: "tool_use"}}}
}

func system(text string) message {
	return message{Role: "system", Content: content{{Type: "text", Text: text}}}
}

func midTurn(text string) string {
	return midTurnText + text + midTurnEnd + " the user sends mid-turn. Address the message above."
}

const (
	remind      = "<system-reminder>\nAttribution for git commits\n</system-reminder>"
	environment = "# Environment\nYou have been invoked in: \n - Primary working directory: /w\n - Is a git repository: true\n"
)

// testScripts are three scripts, of which the last one is the default.
func testScripts(t interface{ Fatal(...any) }, fallback bool) []*compiled {
	scripts := []Script{
		{Name: "count", Match: "count", Steps: []Step{Text("a")}},
		{Name: "list", Match: "list|count", Steps: []Step{Text("a")}},
	}
	if fallback {
		scripts = append(scripts, Script{Name: "default", Steps: []Step{Text("a")}})
	}
	list, err := compile(scripts)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPosition(t *testing.T) {
	for name, c := range map[string]struct {
		messages []message
		script   string
		step     int
		prompt   string
		prompts  []string
	}{
		"first request":       {[]message{user(remind, "count"), system(environment)}, "count", 0, "count", []string{"count"}},
		"prompt as a string":  {[]message{user("count\n"), uses(), results()}, "count", 1, "count", []string{"count"}},
		"first match wins":    {[]message{user("list and count")}, "count", 0, "list and count", []string{"list and count"}},
		"the default":         {[]message{user("other"), uses(), results(), uses(), results()}, "default", 2, "other", []string{"other"}},
		"several tools":       {[]message{user(remind, "count"), system(environment), uses(), results()}, "count", 1, "count", []string{"count"}},
		"reply in parts":      {[]message{user("count"), says("a"), uses(), results()}, "count", 1, "count", []string{"count"}},
		"next turn":           {[]message{user("count"), uses(), results(), says("done"), user("list"), uses(), results()}, "list", 1, "list", []string{"count", "list"}},
		"same script again":   {[]message{user("count"), says("done"), user("count")}, "count", 0, "count", []string{"count", "count"}},
		"next turn's default": {[]message{user("count"), says("done"), user("other")}, "default", 0, "other", []string{"count", "other"}},

		"resumed after tools": {[]message{user("count"), uses(), results(continueText)}, "count", 1, "count", []string{"count"}},
		"resumed, went on":    {[]message{user("count"), uses(), results(continueText), uses(), results()}, "count", 2, "count", []string{"count"}},
		"resumed at start":    {[]message{user(remind, "count\n", continueText), system(environment)}, "count", 0, "count", []string{"count"}},
		"resumed twice":       {[]message{user("count", continueText), uses(), results(continueText, continueText), uses(), results()}, "count", 2, "count", []string{"count"}},
		"partial reply kept":  {[]message{user("count"), uses(), results(), says("par"), system("note"), user(continueText)}, "count", 1, "count", []string{"count"}},
		"made-up reply":       {[]message{user("count"), uses(), results(), says(silentText), user("list")}, "list", 0, "list", []string{"count", "list"}},
		"made-up, went on":    {[]message{user("count"), uses(), results(), says(silentText), user(continueText)}, "count", 1, "count", []string{"count"}},
		"interrupted":         {[]message{user("count"), uses(), results(interruptedText+" for tool use]\n", "other")}, "default", 0, "other", []string{"count", "other"}},
		"interrupted in text": {[]message{user("count"), says("par"), user(interruptedText+"]\n", "list")}, "list", 0, "list", []string{"count", "list"}},

		"mid-turn":                {[]message{user("count"), uses(), results(), system(midTurn("hurry\n\nup"))}, "count", 1, "count", []string{"count", "hurry\n\nup"}},
		"mid-turn, two":           {[]message{user("count"), uses(), results(), system(midTurn("a") + "\n\n" + midTurn("b")), uses(), results()}, "count", 2, "count", []string{"count", "a", "b"}},
		"mid-turn that matches":   {[]message{user("count"), uses(), results(), system(midTurn("list")), uses(), results()}, "list", 1, "list", []string{"count", "list"}},
		"mid-turn in a reminder":  {[]message{user("count"), uses(), results("<system-reminder>" + midTurn("a") + "</system-reminder>")}, "count", 1, "count", []string{"count", "a"}},
		"mid-turn, resumed":       {[]message{user("count"), uses(), results(continueText), system(midTurn("a"))}, "count", 1, "count", []string{"count", "a"}},
		"text beside a result":    {[]message{user("count"), uses(), results("Base directory for this skill")}, "count", 1, "count", []string{"count", "Base directory for this skill"}},
		"background notification": {[]message{user("count"), says("done"), user("<system-reminder>\n[SYSTEM NOTIFICATION] ended</system-reminder>")}, "count", 1, "count", []string{"count"}},

		"after a summary": {[]message{
			user(compactedText + " that ran out of context. count"), says("done"),
			user(remind, "<local-command-caveat>The command below</local-command-caveat>\n",
				"<command-name>/compact</command-name>\n  <command-message>compact</command-message>\n <command-args></command-args>\n",
				"<local-command-stdout>Compacted </local-command-stdout>\n", "list"),
		}, "list", 0, "list", []string{"list"}},
		"summary in mid-turn": {[]message{user(compactedText + "."), uses(), results()}, "", 1, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := locate(testScripts(t, true), c.messages)
			script := ""
			if p.script != nil {
				script = p.script.Name
			}
			if script != c.script || p.step != c.step || p.prompt != c.prompt {
				t.Errorf("script %q step %d prompt %q, want %q %d %q", script, p.step, p.prompt, c.script, c.step, c.prompt)
			}
			if diff := cmp.Diff(c.prompts, p.prompts); diff != "" {
				t.Errorf("prompts: %s", diff)
			}
		})
	}
}

func TestPromptThatNoScriptTakes(t *testing.T) {
	p := locate(testScripts(t, false), []message{user("count"), says("done"), user("other")})
	if p.script != nil || p.prompt != "other" {
		t.Errorf("got %+v", p)
	}
}

func TestWorkingDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		messages []message
		want     string
	}{
		"named":              {[]message{user("count"), system(environment)}, "/w"},
		"not named":          {[]message{user("count")}, ""},
		"moved":              {[]message{user("a"), system(environment), says("b"), user("c"), system("# Environment update\n - " + cwdMark + "/new dir (was /w)")}, "/new dir"},
		"claimed by a user":  {[]message{user("a " + cwdMark + "/etc"), system(environment)}, "/w"},
		"claimed in between": {[]message{user("a"), system(environment), uses(), results(), system(midTurn(cwdMark + "/etc"))}, "/w"},
		"claimed by tools":   {[]message{user("a"), system(environment), uses(), results("<system-reminder>" + cwdMark + "/etc</system-reminder>")}, "/w"},
	} {
		if got := locate(nil, c.messages).cwd; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// However a conversation comes about, its step is the number of whole replies since its prompt, and no
// crash in between changes it.
func TestStepDependsOnMessagesOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			scripts  = testScripts(t, true)
			messages []message
			prompts  = []string{"count", "list it", "other", "a\n\nb"}
			want     position
		)
		for range rapid.IntRange(1, 4).Draw(t, "turns") {
			want.prompt, want.step = rapid.SampledFrom(prompts).Draw(t, "prompt"), 0
			want.prompts = append(want.prompts, want.prompt)
			first := []string{remind, want.prompt}
			if rapid.Bool().Draw(t, "crashed at start") {
				first = append(first, continueText)
			}
			messages = append(messages, user(first...))
			for range rapid.IntRange(0, 5).Draw(t, "steps") {
				want.step++
				if rapid.Bool().Draw(t, "in parts") {
					messages = append(messages, says("part"))
				}
				messages = append(messages, uses())
				switch rapid.IntRange(0, 3).Draw(t, "event") {
				case 0:
					messages = append(messages, results(continueText))
				case 1:
					messages = append(messages, results(), says("partial"), user(continueText))
				case 2:
					messages = append(messages, results(), system(midTurn("hurry")))
					want.prompts = append(want.prompts, "hurry")
				default:
					messages = append(messages, results(remind))
				}
			}
		}
		// The history is answered from the middle first, by the same scripts, as another process would.
		cut := rapid.IntRange(0, len(messages)).Draw(t, "cut")
		locate(scripts, messages[:cut])
		for range 2 {
			got := locate(scripts, messages)
			if got.step != want.step || got.prompt != want.prompt || strings.Join(got.prompts, "|") != strings.Join(want.prompts, "|") {
				t.Fatalf("got step %d of %q, want step %d of %q", got.step, got.prompts, want.step, want.prompts)
			}
		}
	})
}
