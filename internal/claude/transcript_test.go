package claude

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// transcriptOf writes a transcript where the CLI would, and returns its reader and its file.
func transcriptOf(t testing.TB, text []byte) (*Transcript, string) {
	t.Helper()
	config := t.TempDir()
	file := filepath.Join(config, "projects", "p", testSession+".jsonl")
	must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	must(t, os.WriteFile(file, text, 0o600))
	return newTranscript(config, testSession), file
}

// The samples were written by Claude Code 2.1.330, and are trimmed.
func TestTranscriptsAreUnderstood(t *testing.T) {
	for name, want := range map[string]struct {
		entries                  int
		cut, failed, interrupted bool
		text                     string
		has                      []string
	}{
		"done":          {entries: 7, text: "done counting", has: []string{"0190d3a0-0000-4000-8000-603790788391"}},
		"interrupted":   {entries: 2, interrupted: true},
		"api_error":     {entries: 2, failed: true, text: "API Error: 400 the script says so"},
		"local_command": {entries: 3, text: "waited", has: []string{"0190d3a0-0000-4000-8000-614994679460"}},
		"compacted":     {has: []string{"0190d3a0-0000-4000-8000-636766702830"}},
		// Two messages that waited together are one line.
		"merged": {
			entries: 2, cut: true, text: "API Error: 400 the script says so",
			has: []string{"0190d3a0-0000-4000-8000-611817343548", "0190d3a0-0000-4000-8000-611817361197"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", name+".jsonl"))
			must(t, err)
			transcript, _ := transcriptOf(t, text)
			must(t, transcript.Refresh())
			if !transcript.Exists() || len(transcript.Entries()) != want.entries || transcript.Cut() != want.cut ||
				transcript.Failed() != want.failed || transcript.Interrupted() != want.interrupted || transcript.LastText() != want.text {
				t.Errorf("exists %v, %d entries, cut %v, failed %v, interrupted %v, text %q", transcript.Exists(), len(transcript.Entries()),
					transcript.Cut(), transcript.Failed(), transcript.Interrupted(), transcript.LastText())
			}
			for _, uuid := range want.has {
				if !transcript.Has(uuid) {
					t.Errorf("the message %s is missed", uuid)
				}
			}
			for _, entry := range transcript.Entries() {
				if line, ok := parseLine(entry.JSON); !ok || line.UUID != entry.UUID || !transcript.Has(entry.UUID) {
					t.Errorf("the entry %s is no line of output", entry.JSON)
				}
			}
		})
	}
}

// A turn that was taken up again, and cut off once more before the model's reply, is taken up by nobody.
func TestATurnThatWasTakenUpInVainIsAbandoned(t *testing.T) {
	const prompt, reply, result = `{"type":"user","uuid":"1","message":{"content":"do it"}}`,
		`{"type":"assistant","uuid":"2","message":{"content":[{"type":"tool_use"}],"stop_reason":"tool_use"}}`,
		`{"type":"user","uuid":"3","message":{"content":[{"type":"tool_result"}]}}`
	const taken = `{"type":"user","uuid":"4","isMeta":true,"message":{"content":[{"type":"text","text":"Continue from where you left off."}]}}`
	const asked = `{"type":"user","uuid":"5","message":{"content":[{"type":"text","text":"Continue from where you left off."}]}}`
	const failing = `{"type":"system","subtype":"api_error","uuid":"6"}`
	for lines, want := range map[[6]string]bool{
		{prompt, reply, result}:                        false,
		{prompt, reply, result, failing}:               false,
		{prompt, reply, result, taken}:                 true,
		{prompt, taken, failing, failing}:              true,
		{prompt, reply, result, taken, failing, asked}: false,
		{prompt, taken, reply, result, asked}:          false,
		{prompt, taken, reply, result}:                 false,
	} {
		transcript, _ := transcriptOf(t, []byte(strings.Join(lines[:], "\n")+"\n"))
		must(t, transcript.Refresh())
		if transcript.Abandoned() != want || !transcript.Cut() {
			t.Errorf("abandoned %v, cut %v:\n%s", transcript.Abandoned(), transcript.Cut(), strings.Join(lines[:], "\n"))
		}
	}
}

// However a transcript grows, by whole lines or by bytes, it comes to the same.
func TestATranscriptIsReadAsItGrows(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "done.jsonl"))
	must(t, err)
	transcript, file := transcriptOf(t, nil)
	must(t, os.Remove(file))
	must(t, transcript.Refresh())
	for size := 0; size <= len(text); size += 97 {
		must(t, os.WriteFile(file, text[:size], 0o600))
		must(t, transcript.Refresh())
		if want := int64(bytes.LastIndexByte(text[:size], '\n') + 1); transcript.read != want {
			t.Fatalf("of %d bytes %d are read, not %d", size, transcript.read, want)
		}
	}
	must(t, os.WriteFile(file, text, 0o600))
	must(t, transcript.Refresh())
	if len(transcript.Entries()) != 7 || transcript.Cut() {
		t.Errorf("%d entries, cut %v", len(transcript.Entries()), transcript.Cut())
	}
	transcript.slim()
	must(t, os.WriteFile(file, append(text, `{"type":"assistant","uuid":"new","message":{}}`+"\n"...), 0o600))
	must(t, transcript.Refresh())
	if len(transcript.Entries()) != 0 || !transcript.Has("new") {
		t.Error("a slim transcript keeps what it need not, or forgets what it must not")
	}
}

// The session owns the directory, and may put anything there.
func TestATranscriptMayBeAnything(t *testing.T) {
	for name, make := range map[string]func(file string) error{
		"a pipe":       func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"a directory":  func(file string) error { return os.Mkdir(file, 0o700) },
		"a way out":    func(file string) error { return os.Symlink("/etc/passwd", file) },
		"endless":      func(file string) error { return os.Symlink("/dev/zero", file) },
		"very large":   func(file string) error { return errorsJoin(os.WriteFile(file, nil, 0o600), os.Truncate(file, 1<<40)) },
		"a loop":       func(file string) error { return os.Symlink(file, file) },
		"out of reach": func(file string) error { return os.Symlink("../../../x", file) },
	} {
		t.Run(name, func(t *testing.T) {
			transcript, file := transcriptOf(t, nil)
			must(t, os.Remove(file))
			must(t, make(file))
			if err := transcript.Refresh(); err == nil || transcript.Exists() {
				t.Errorf("it is taken for a transcript: %v", err)
			}
		})
	}
}

func errorsJoin(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// hostile lines are none that the CLI writes.
var hostile = []string{
	``, `{`, `[]`, `null`, `7`, `"x"`, `{}`, `{"type":7}`, `{"type":"user"}`, `{"type":"user","uuid":{"a":1}}`,
	`{"type":"assistant","uuid":"u","message":"text"}`, `{"type":"assistant","uuid":"u","message":{"content":7}}`,
	`{"type":"user","uuid":"u","message":{"content":[7,{"type":[]},{"type":"tool_result"}]}}`,
	`{"type":"user","uuid":"u","attachment":"x","message":{"content":"hello"}}`,
	`{"type":"user","uuid":"u","mergedSendUuids":{"a":1},"message":{"content":"hello"}}`,
	`{"type":"result","errors":"x","api_error_status":"y","message":7}`,
	strings.Repeat(`{"type":`, 20000), `{"type":"user","uuid":"u","message":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`,
	"\xff\xfe\x00",
}

func FuzzTranscript(f *testing.F) {
	found, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(found) == 0 {
		f.Fatal(found, err)
	}
	for _, name := range found {
		text, err := os.ReadFile(name)
		must(f, err)
		f.Add(text)
	}
	f.Add([]byte(strings.Join(hostile, "\n")))
	f.Fuzz(func(t *testing.T, text []byte) {
		transcript := newTranscript("", "")
		for line := range bytes.Lines(text) {
			transcript.add(line)
		}
		if transcript.Has("") {
			t.Error("it has a message without a UUID")
		}
		for _, entry := range transcript.Entries() {
			if !json.Valid(entry.JSON) || bytes.ContainsAny(entry.JSON, "\n") || !transcript.Has(entry.UUID) {
				t.Errorf("an entry is %s", entry.JSON)
			}
		}
		if len(transcript.Entries()) > 0 && !transcript.Exists() || transcript.Cut() && (transcript.Failed() || transcript.Interrupted()) {
			t.Error("it contradicts itself")
		}
	})
}

func FuzzParseLine(f *testing.F) {
	for _, line := range hostile {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"type":"result","subtype":"success","is_error":false,"result":"done","permission_denials":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		line, ok := parseLine(text)
		if ok && (!json.Valid(line.JSON) || line.Type == "" || !bytes.Equal(line.JSON, text)) {
			t.Errorf("%q is taken for a line", text)
		}
		if UUID(text) != "" && !json.Valid(text) {
			t.Errorf("%q has a UUID", text)
		}
	})
}

func TestLinesThatAreTooLongArePassedOver(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	reader := bufio.NewReaderSize(strings.NewReader("a\n"+long+"\nb \r\n"+long+"y\n\n"+long[:maxLine-1]+"\nend"), 64<<10)
	var sizes []int
	var total int64
	for {
		line, size, err := readLine(reader)
		sizes, total = append(sizes, len(line)), total+size
		if err == io.EOF { //nolint:errorlint // bufio returns it as it is
			break
		}
		must(t, err)
	}
	if got := len(sizes); got != 7 || sizes[0] != 1 || sizes[1] != 0 || sizes[2] != 1 || sizes[3] != 0 || sizes[4] != 0 || sizes[5] != maxLine-1 || sizes[6] != 3 {
		t.Errorf("the lines have %v bytes", sizes)
	}
	if want := int64(2 + maxLine + 1 + 4 + maxLine + 2 + 1 + maxLine + 3); total != want {
		t.Errorf("%d bytes are counted, not %d", total, want)
	}
}
