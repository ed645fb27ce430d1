package claude

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Transcript is what the CLI wrote down of a session, as far as it has been read. It is where a resumed
// process goes on from.
type Transcript struct {
	config  string // the CLI's directory, which the session can write
	session string
	path    string // below config; empty before there is one
	read    int64
	lean    bool // entries are not kept

	uuids   map[string]bool
	entries []Entry
	stop    string // stop_reason of the last reply
	text    string // of the last reply
	prompts map[string]bool
	cost    json.RawMessage
}

// Ends of a turn that are no stop_reason of the Messages API.
const (
	stopInterrupted = "interrupted by the user"
	stopAPIError    = "API error"
	stopCommand     = "a command that needs no model"
	stopContinued   = "taken up again without a reply"
)

// ContinueText is what the CLI tells the model when it goes on with a turn that was cut off.
const ContinueText = "Continue from where you left off."

// Entry is a message of the transcript that the CLI also put out: a reply of the model, or a tool's result.
type Entry struct {
	UUID string
	JSON json.RawMessage // in the form of a line of output
}

func newTranscript(config, session string) *Transcript {
	return &Transcript{config: config, session: session, uuids: map[string]bool{}, prompts: map[string]bool{}}
}

// Exists reports whether the transcript holds a message to resume from.
func (t *Transcript) Exists() bool { return len(t.prompts) > 0 || len(t.entries) > 0 }

// Has reports whether a message with this UUID was handed to the model, or came from it.
func (t *Transcript) Has(uuid string) bool { return t.uuids[uuid] || t.prompts[uuid] }

// Entries returns the messages, the oldest first.
func (t *Transcript) Entries() []Entry { return t.entries }

// Cut reports whether the last turn is unfinished: a resumed process goes on with it by itself, unless it is Abandoned.
func (t *Transcript) Cut() bool {
	if !t.Exists() {
		return false
	}
	return t.stop == "" || t.stop == "tool_use" || t.Abandoned()
}

// Abandoned reports whether the last turn is unfinished, and was taken up again in vain: the process was cut off before
// the model's next reply. A resumed process takes such a turn up no second time: it waits for a message.
func (t *Transcript) Abandoned() bool { return t.stop == stopContinued }

// before says how many messages a resumed process gets before it has begun a turn, if the others are held until then: none
// if it goes on with the last turn by itself, and the one that has it do so if it does not.
func (t *Transcript) before() (first int, held bool) {
	if t.Abandoned() {
		return 1, true
	}
	return 0, t.Cut()
}

// Failed reports whether the last reply was none of the model's, but an error of its API. A resumed process
// takes such a turn for finished.
func (t *Transcript) Failed() bool { return t.stop == stopAPIError }

// Interrupted reports whether somebody cut the last turn off with SIGINT. A resumed process takes such a
// turn for finished.
func (t *Transcript) Interrupted() bool { return t.stop == stopInterrupted }

// Cost is what the CLI reckoned up of the session's cost when it last ended by itself, as a line of the transcript;
// nil if it never did.
func (t *Transcript) Cost() json.RawMessage { return t.cost }

// LastText is the text of the model's last reply.
func (t *Transcript) LastText() string { return t.text }

// maxTranscript bounds what is read of a transcript at once, in bytes: the session may have made it anything. A day of
// work is some tens of megabytes.
const maxTranscript = 256 << 20

// Refresh reads what has been added. A line without its end is left for the next time, and one that is longer than
// maxLine is passed over.
func (t *Transcript) Refresh() error {
	file, err := t.open()
	if file == nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	info, err := file.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("the transcript %s is no file", t.path)
	case info.Size()-t.read > maxTranscript:
		return fmt.Errorf("the transcript %s has %d bytes, which is too much", t.path, info.Size())
	case info.Size() == t.read:
		return nil
	}
	if _, err := file.Seek(t.read, io.SeekStart); err != nil {
		return err
	}
	reader := bufio.NewReaderSize(file, 64<<10)
	for {
		line, size, err := readLine(reader)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the transcript: %w", err)
		}
		t.read += size
		t.add(line)
	}
}

// open opens the transcript; it is nil while there is none. The session can put anything into its place: nothing
// outside of the CLI's directory is opened, and nothing that blocks.
func (t *Transcript) open() (*os.File, error) {
	root, err := os.OpenRoot(t.config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // nothing was written
	if t.path == "" {
		found, err := fs.Glob(root.FS(), "projects/*/"+t.session+".jsonl")
		if err != nil || len(found) == 0 {
			return nil, err
		}
		t.path = found[0]
	}
	return root.OpenFile(t.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// Keep hands on what the transcript has from a byte on, as far as it has been read, in parts. It returns how far it came.
func (t *Transcript) Keep(from int64, keep func(at int64, part []byte) error) (int64, error) {
	for from < t.read {
		part, err := t.part(from)
		if err == nil {
			err = keep(from, part)
		}
		if err != nil {
			return from, err
		}
		from += int64(len(part))
	}
	return from, nil
}

// keptAtOnce bounds a part of the transcript, in bytes.
const keptAtOnce = 8 << 20

// part reads the transcript from a byte on, as far as it has been read, or some of that.
func (t *Transcript) part(from int64) ([]byte, error) {
	file, err := t.open()
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, fmt.Errorf("the transcript is gone: %w", fs.ErrNotExist)
	}
	defer file.Close() //nolint:errcheck // it was only read
	part := make([]byte, min(t.read-from, keptAtOnce))
	if _, err := file.ReadAt(part, from); err != nil {
		return nil, fmt.Errorf("reading the transcript: %w", err)
	}
	return part, nil
}

// Size is how many bytes of the transcript have been read.
func (t *Transcript) Size() int64 { return t.read }

// slim has the transcript keep only what Has needs of what comes, and forget the entries.
func (t *Transcript) slim() { t.lean, t.entries = true, nil }

// discard removes a transcript unless it is to be resumed: the CLI refuses to resume one without a message, and to
// start anew beside it.
func (t *Transcript) discard(resume bool) error {
	if t.path == "" || resume {
		return nil
	}
	err := os.Remove(filepath.Join(t.config, t.path))
	t.path, t.read = "", 0
	return err
}

// transcriptLine has the fields of a transcript's lines that are read here.
type transcriptLine struct {
	Type      string          `json:"type"`
	UUID      string          `json:"uuid"`
	Session   string          `json:"sessionId"`
	Time      string          `json:"timestamp"`
	Sidechain bool            `json:"isSidechain"`
	Meta      bool            `json:"isMeta"` // the CLI said it, not a person
	Message   json.RawMessage `json:"message"`
	Subtype   string          `json:"subtype"`
	// Messages that were waiting together are one line, with the UUID of the last: these are the others'.
	Merged []string `json:"mergedSendUuids"`
	// A message that came in the middle of a turn.
	Attachment struct {
		Type   string `json:"type"`
		Source string `json:"source_uuid"`
	} `json:"attachment"`
}

// message has the fields of the Messages API's messages that are read here.
type message struct {
	Model      string          `json:"model"`
	StopReason string          `json:"stop_reason"`
	Content    json.RawMessage `json:"content"`
}

type block struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// add reads a line. It is hostile input: one that cannot be read adds nothing.
func (t *Transcript) add(text []byte) {
	var line transcriptLine
	// A field of an unexpected type must not cost the whole line.
	if err := json.Unmarshal(text, &line); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) || line.Sidechain {
		return
	}
	if line.Attachment.Type == "queued_command" && line.Attachment.Source != "" {
		t.prompts[line.Attachment.Source] = true
	}
	if line.Type == "cost-state" {
		t.cost = bytes.TrimSpace(text)
	}
	if line.Type == "system" && line.Subtype == "local_command" {
		t.stop = stopCommand
	}
	if line.Type != "assistant" && line.Type != "user" || line.UUID == "" {
		return
	}
	t.uuids[line.UUID] = true
	var body message
	if json.Unmarshal(line.Message, &body) != nil {
		return
	}
	var blocks []block
	if json.Unmarshal(body.Content, &blocks) != nil {
		var only string
		_ = json.Unmarshal(body.Content, &only)
		blocks = []block{{Type: "text", Text: only}}
	}
	if line.Type == "assistant" {
		if body.Model == synthetic {
			body.StopReason = stopAPIError
		}
		t.reply(&line, body.StopReason, blocks)
		return
	}
	for _, each := range blocks {
		switch {
		case each.Type == "tool_result":
			t.keep(&line)
			t.stop = ""
			return
		case strings.HasPrefix(each.Text, "[Request interrupted by user"):
			t.stop = stopInterrupted
			return
		case strings.HasPrefix(each.Text, "<local-command-stdout>"):
			t.stop = stopCommand
			return
		}
	}
	t.prompts[line.UUID] = true
	for _, merged := range line.Merged {
		t.prompts[merged] = true
	}
	t.stop = ""
	if line.Meta && len(blocks) == 1 && strings.TrimSpace(blocks[0].Text) == ContinueText {
		t.stop = stopContinued
	}
}

func (t *Transcript) reply(line *transcriptLine, stop string, blocks []block) {
	t.keep(line)
	t.stop = stop
	for _, each := range blocks {
		switch each.Type {
		case "text":
			t.text = each.Text
		case "tool_use":
			t.stop = "tool_use"
		}
	}
}

// keep adds the line to the entries, in the form of a line of output.
func (t *Transcript) keep(line *transcriptLine) {
	if t.lean {
		return
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(map[string]any{
		"type": line.Type, "uuid": line.UUID, "session_id": line.Session, "timestamp": line.Time,
		"message": line.Message, "parent_tool_use_id": nil,
	})
	if err == nil {
		t.entries = append(t.entries, Entry{UUID: line.UUID, JSON: bytes.TrimSpace(buffer.Bytes())})
	}
}
