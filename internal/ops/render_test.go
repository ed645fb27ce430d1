package ops

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
)

var update = flag.Bool("update", false, "write what is shown to the golden files")

// readEvents reads a session's events, as berthd keeps them, from a file in testdata.
func readEvents(t *testing.T, name string) []api.Event {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var events []api.Event
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		event := api.Event{ID: len(events)}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("%s, line %d: %v", name, len(events)+1, err)
		}
		events = append(events, event)
	}
	return events
}

// streams keeps what was written to standard output and to standard error in one order, as a screen would.
type streams struct{ text strings.Builder }

type stream struct {
	all  *streams
	mark string
}

func (s stream) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		s.all.text.WriteString(s.mark + line)
	}
	return len(p), nil
}

// terminalFor is a terminal that writes to streams: a pipe (width 0) or a real one.
func terminalFor(all *streams, width int) *terminal {
	if width == 0 {
		return &terminal{out: stream{all, "1|"}, err: stream{all, "2|"}, width: func() int { return pipeWidth }}
	}
	return &terminal{
		out: stream{all, ""}, err: stream{all, ""}, colourOut: true, colourErr: true, canLive: true,
		width: func() int { return width },
	}
}

// The golden files have one line for each line shown: 1| is standard output, 2| standard error; in those of a
// terminal, escape sequences are written as ␛.
func TestTranscript(t *testing.T) {
	for _, name := range []string{"demo", "troubles", "hostile", "moments"} {
		for kind, width := range map[string]int{"pipe": 0, "terminal": 60} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				var all streams
				view := newTranscript(terminalFor(&all, width))
				view.zone, view.verbose = time.UTC, width == 0
				for _, event := range readEvents(t, name) {
					view.event(&event)
				}
				shown := all.text.String()
				checkHarmless(t, shown, width > 0)
				shown = strings.ReplaceAll(shown, "\x1b", "␛")
				golden := filepath.Join("testdata", name+"."+kind)
				if *update {
					if err := os.WriteFile(golden, []byte(shown), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if shown != string(want) {
					t.Errorf("it shows\n%s\nand %s has\n%s", shown, golden, want)
				}
			})
		}
	}
}

// checkHarmless looks for anything that a terminal acts on beside our own colours.
func checkHarmless(t *testing.T, shown string, colours bool) {
	t.Helper()
	if colours {
		for _, ours := range []string{dim, bold, red, green, yellow, cyan, plain} {
			shown = strings.ReplaceAll(shown, ours, "")
		}
	}
	for _, r := range shown {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r <= 0x9f || r >= 0x202a && r <= 0x202e || r >= 0xe0000 {
			t.Errorf("it shows %U: %q", r, shown)
			return
		}
	}
}

// A tool's result does not grow with what the tool gave back, and no line is wider than the terminal.
func TestExcerptIsBounded(t *testing.T) {
	var all streams
	view := newTranscript(terminalFor(&all, 60))
	view.to.colourOut = false
	text := strings.Repeat(strings.Repeat("漢字 and more ", 50)+"\n", 1000)
	shown := view.excerpt(text, resultLines, false)
	lines := strings.Split(shown, "\n")
	if len(lines) != resultLines+1 || lines[resultLines] != "  … 994 more lines" {
		t.Errorf("it has %d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	for _, line := range lines {
		if width := columnsOf(line); width > 60 {
			t.Errorf("%q is %d columns wide", line, width)
		}
	}
}

func TestOnlyTheEndThatTheSummaryTellsIsLeftOut(t *testing.T) {
	failed := func(why string) *api.Event {
		return &api.Event{Type: api.EventState, State: api.Failed, Error: api.Errorf(api.CodeClaudeFailed, "%s", why)}
	}
	begin := func() (*transcript, *streams) {
		all := new(streams)
		view := newTranscript(terminalFor(all, 0))
		view.summary = true
		view.event(failed("first"))
		view.event(&api.Event{Type: api.EventMessage, Text: "go on"})
		view.event(failed("second"))
		return view, all
	}
	const before = "2|· failed: first\n1|> go on\n"
	session := api.Session{State: api.Failed, Error: api.Errorf(api.CodeClaudeFailed, "second")}
	told := func() string {
		var all streams
		newTranscript(terminalFor(&all, 0)).summarise(&session, "berth", "")
		return all.text.String()
	}

	view, all := begin()
	view.summarise(&session, "berth", "")
	view.release()
	if got, want := all.text.String(), before+told(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	view, all = begin() // no summary comes, because the agent went away
	view.release()
	if got, want := all.text.String(), before+"2|· failed: second\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	view, all = begin()
	session = api.Session{State: api.Queued}
	view.summarise(&session, "berth", "")
	if got, want := all.text.String(), before+"2|· failed: second\n"+told(); got != want {
		t.Errorf("resumed in between: got\n%s\nwant\n%s", got, want)
	}
}

func TestNamesFromTheWorkDir(t *testing.T) {
	for _, test := range []struct{ cwd, file, text string }{
		{"", "/etc/hosts", "  /etc/hosts and/or /w/a"},
		{"/", "/etc/hosts", "  /etc/hosts and/or /w/a"},
		{"//", "/etc/hosts", "  /etc/hosts and/or /w/a"},
		{"/etc", "hosts", "  hosts and/or /w/a"},
		{"/w/", "/etc/hosts", "  /etc/hosts and/or a"},
	} {
		view := newTranscript(terminalFor(&streams{}, 0))
		view.cwd = test.cwd
		if got := inside("/etc/hosts", test.cwd); got != test.file {
			t.Errorf("in %q the file is %q, want %q", test.cwd, got, test.file)
		}
		if got := view.excerpt("/etc/hosts and/or /w/a", resultLines, false); got != test.text {
			t.Errorf("in %q the text is %q, want %q", test.cwd, got, test.text)
		}
	}
}

// Of several tools the live line has the oldest, since it began, whatever else happens meanwhile.
func TestLiveLineOfSeveralTools(t *testing.T) {
	start := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	var all streams
	view := newTranscript(terminalFor(&all, 60))
	const uses = `{"type":"assistant","message":{"content":[{"type":"%s","id":"%s","name":"%[2]s","input":{}}]}}`
	const gives = `{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"%s","content":"x"}]}}`
	for i, step := range []struct{ line, shows string }{
		{fmt.Sprintf(uses, "tool_use", "a"), "0 s · a"},
		{fmt.Sprintf(uses, "tool_use", "b"), "1 s · a"},
		{fmt.Sprintf(uses, "tool_use", "c"), "2 s · a"},
		{fmt.Sprintf(uses, "tool_use", "d"), "3 s · a"},
		{fmt.Sprintf(gives, "c"), "4 s · a"},
		{`{"type":"assistant","parent_tool_use_id":"a","message":{"content":[{"type":"thinking"},{"type":"text","text":"so"}]}}`, "5 s · a"},
		{fmt.Sprintf(gives, "a"), "5 s · b"},
		{fmt.Sprintf(gives, "unknown"), "6 s · b"},
		{fmt.Sprintf(gives, "b"), "5 s · d"},
		{fmt.Sprintf(gives, "d"), "0 s · waits for the model"},
		{fmt.Sprintf(uses, "server_tool_use", "e"), "0 s · e"}, // its result is none of those that Claude Code gives
		{`{"type":"assistant","message":{"content":[{"type":"thinking"}]}}`, "0 s · Claude thinks"},
		{fmt.Sprintf(uses, "tool_use", "f"), "0 s · f"},
		{`{"type":"result"}`, "0 s · ends"},
		{`{"type":"assistant","message":{"content":[{"type":"thinking"}]}}`, "0 s · Claude thinks"},
	} {
		now := start.Add(time.Duration(i) * time.Second)
		view.event(&api.Event{Type: api.EventClaude, Time: now, Claude: json.RawMessage(step.line)})
		if _, shown, _ := strings.Cut(view.status(now), " "); shown != step.shows {
			t.Errorf("step %d: it shows %q, want %q", i, shown, step.shows)
		}
	}
}
