package claude

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// output are lines as the CLI puts them out.
var output = []string{
	`{"type":"system","subtype":"init","session_id":"s","uuid":"a"}`,
	`{"type":"command_lifecycle","command_uuid":"m0","state":"started"}`,
	`{"type":"assistant","uuid":"b","parent_tool_use_id":null,"message":{"model":"x","content":[{"type":"tool_use","id":"t","name":"Bash","input":{}}]}}`,
	`{"type":"user","uuid":"c","isReplay":false,"message":{"content":[{"type":"tool_result"}]}}`,
	`{"type":"command_lifecycle","command_uuid":"m0","state":"completed"}`,
	`{"type":"result","subtype":"success","is_error":false,"result":"done","uuid":"d","permission_denials":[{}]}`,
}

// FuzzReader reads output that is anything, in parts of any size. Each line is found once, whole, and none that is not
// JSON is taken for one; and the input ends only when the turn is over and every message answered.
func FuzzReader(f *testing.F) {
	f.Add([]byte(strings.Join(output, "\n")+"\n"), uint8(7))
	f.Add([]byte(strings.Join(output, "\r\n")), uint8(0))
	f.Add([]byte(output[0]+"\n"+output[5]+output[5]+"\n"+output[4]+"\n\n\x00\n"+output[5]), uint8(1))
	f.Add([]byte(strings.Join(hostile, "\n")), uint8(200))
	f.Add([]byte(strings.Repeat("x", 70<<10)+"\n"+output[5]), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var from io.Reader = bytes.NewReader(text)
		switch size % 4 {
		case 0:
			from = iotest.OneByteReader(from)
		case 1:
			from = iotest.HalfReader(from)
		case 2:
			from = iotest.DataErrReader(from)
		}
		reader := bufio.NewReaderSize(from, 16+int(size))
		p := &Process{told: make(chan struct{}, 1), open: map[string]bool{"m0": true}}
		var found [][]byte
		var total int64
		for {
			line, size, err := readLine(reader)
			total += size
			if len(line) > 0 {
				found = append(found, line)
			}
			if parsed, ok := parseLine(line); ok {
				if !json.Valid(parsed.JSON) || parsed.Type == "" || bytes.ContainsAny(parsed.JSON, "\n") {
					t.Fatalf("%q is taken for a line", line)
				}
				p.note(&parsed)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var want [][]byte
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				want = append(want, line)
			}
		}
		if total != int64(len(text)) || !slices.EqualFunc(found, want, bytes.Equal) {
			t.Fatalf("%d of %d bytes are read, %d of %d lines", total, len(text), len(found), len(want))
		}
		if p.closed && (p.open["m0"] || !bytes.Contains(text, []byte("result"))) {
			t.Fatal("the input has ended before the message was answered")
		}
	})
}

// FuzzTranscriptGrows reads a transcript that is anything as it grows. It comes to the same as in one go, and never to more
// than whole lines.
func FuzzTranscriptGrows(f *testing.F) {
	for _, name := range []string{"done", "interrupted", "api_error", "merged"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".jsonl"))
		must(f, err)
		f.Add(text, uint16(len(text)/2))
	}
	f.Add([]byte(strings.Join(hostile, "\n")), uint16(100))
	f.Add([]byte("\n\x00\n{}"), uint16(1))
	f.Fuzz(func(t *testing.T, text []byte, cut uint16) {
		part := text[:min(int(cut), len(text))]
		grown, file := transcriptOf(t, part)
		must(t, grown.Refresh())
		if want := int64(bytes.LastIndexByte(part, '\n') + 1); grown.Size() != want {
			t.Fatalf("%d bytes are read, not %d", grown.Size(), want)
		}
		must(t, os.WriteFile(file, text, 0o600))
		must(t, grown.Refresh())
		whole, _ := transcriptOf(t, text)
		must(t, whole.Refresh())
		if whole.Size() != grown.Size() || whole.Size() != int64(bytes.LastIndexByte(text, '\n')+1) || whole.Cut() != grown.Cut() || whole.Failed() != grown.Failed() ||
			whole.LastText() != grown.LastText() || !bytes.Equal(whole.Cost(), grown.Cost()) ||
			!slices.EqualFunc(whole.Entries(), grown.Entries(), func(a, b Entry) bool { return a.UUID == b.UUID && bytes.Equal(a.JSON, b.JSON) }) {
			t.Fatal("it depends on how it grows")
		}
	})
}
