package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"berth/internal/api"
)

const (
	snapshotFile = "session.json"
	logFile      = "events.jsonl"
)

// Session is a session on the volume. Its methods may be called at the same time.
type Session struct {
	dir string
	now func() time.Time

	mu     sync.Mutex
	record Record
	log    *eventLog
}

// ID is the session's id, a UUIDv7.
func (s *Session) ID() string { return filepath.Base(s.dir) }

// Record returns how the session stands.
func (s *Session) Record() Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record
}

// State returns the session's state.
func (s *Session) State() api.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.State
}

// Append adds an event to the log, and gives it its index and its time. Events that change the state or
// carry a message are on the disk when it returns. An error means that the event is not in the log: either
// the session's state does not allow it (a *StateError), or the volume cannot be written.
func (s *Session) Append(event api.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.append(event)
}

// Move takes the session to a state, and says with event's other fields why.
func (s *Session) Move(to api.State, event api.Event) error {
	event.Type, event.State = api.EventState, to
	return s.Append(event)
}

// End takes the session to a state in which it has ended, unless it was sent more messages than known: then it
// reports false, and nothing happened.
func (s *Session) End(to api.State, event api.Event, known int) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Messages != known {
		return false, nil
	}
	event.Type, event.State = api.EventState, to
	return true, s.append(event)
}

// Fail takes a session that failed to the queue again, for messages that came as it did.
func (s *Session) Fail(event api.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	event.Type, event.State = api.EventState, api.Failed
	return s.append(event, takenUp)
}

// Ask adds a message and, if the session has ended, sends it to the queue again. A session that is about to end
// because somebody asked for that takes none (a *StateError): nobody would answer it.
func (s *Session) Ask(message api.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	message.Type = api.EventMessage
	if s.record.State.Ended() {
		return s.append(message, takenUp)
	}
	if s.record.StopAsked {
		return &StateError{ID: s.ID(), Err: errors.New("it was asked to stop; send the message again when it has ended")}
	}
	return s.append(message)
}

var takenUp = api.Event{Type: api.EventState, State: api.Queued, Reason: "a message came"}

// Stop records that somebody asked for the session's end, and ends it for reason if nothing runs it: what is
// preparing or running is ended by whoever does that. A session that has ended takes none (a *StateError).
func (s *Session) Stop(reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stop := api.Event{Type: api.EventStop}
	switch state := s.record.State; {
	case state.Ended():
		return &StateError{ID: s.ID(), Err: fmt.Errorf("it is %s already", state)}
	case state == api.Preparing || state == api.Running:
		return s.append(stop)
	}
	return s.append(stop, api.Event{Type: api.EventState, State: api.Cancelled, Reason: reason})
}

// Requeue sends a session that is interrupted or waits to the queue, or ends it for reason if it was asked to stop. It
// does nothing to one in another state but queued, which it ends likewise.
func (s *Session) Requeue(reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := api.Event{Type: api.EventState, State: api.Queued}
	switch state := s.record.State; {
	case state != api.Queued && state != api.Interrupted && state != api.Waiting:
		return nil
	case s.record.StopAsked:
		next.State, next.Reason = api.Cancelled, reason
	case state == api.Queued:
		return nil
	}
	return s.append(next)
}

// Prepared records that the session's work dir has been made from a commit.
func (s *Session) Prepared(base, branch, workDir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.record
	s.record.Prepared, s.record.Base, s.record.Branch, s.record.WorkDir = true, base, branch, workDir
	err := s.save()
	if err == nil {
		// No event says so: the snapshot itself has to last.
		err = syncDir(s.dir)
	}
	if err != nil {
		s.record = before
	}
	return err
}

// Events returns the lines of the log from an index on, each the JSON of an api.Event. With follow it goes
// on until the session has ended; an error of the sequence is its last element.
func (s *Session) Events(ctx context.Context, from int, follow bool) iter.Seq2[json.RawMessage, error] {
	return s.log.lines(ctx, from, func() bool { return follow && !s.State().Ended() })
}

// Each reads the events that there are now.
func (s *Session) Each(visit func(api.Event)) error {
	index := 0
	for line, err := range s.log.lines(context.Background(), 0, func() bool { return false }) {
		if err != nil {
			return err
		}
		event, err := unmarshal(line)
		if err != nil {
			return fmt.Errorf("%w: event %d of session %s: %w", ErrDamaged, index, s.ID(), err)
		}
		event.ID = index
		visit(event)
		index++
	}
	return nil
}

// ErrNotJSON is wrapped by the error of Append for an event that cannot be written as JSON. Nothing is wrong with
// the volume.
var ErrNotJSON = errors.New("it is no JSON that can be written down")

// ErrDamaged is wrapped by the error of Each for a log that cannot be understood.
var ErrDamaged = errors.New("the event log is damaged")

// StateError says that a session's state does not allow what was asked.
type StateError struct {
	ID  string
	Err error
}

func (e *StateError) Error() string { return "session " + e.ID + ": " + e.Err.Error() }
func (e *StateError) Unwrap() error { return e.Err }

// append adds events, all or none.
func (s *Session) append(events ...api.Event) error {
	after := s.record
	var lines []byte
	promise, moved := false, false
	for _, event := range events {
		// A log whose clock never goes back is easier to read, and to reckon durations from.
		event.Time = latest(s.now().UTC().Truncate(time.Millisecond), after.LastEventAt)
		if err := after.apply(&event); err != nil {
			return &StateError{ID: s.ID(), Err: err}
		}
		line, err := marshal(event)
		if err == nil && event.Type == api.EventClaude && !json.Valid(line) {
			err = errors.New("it nests too deep") // for an event; it may have been just right by itself
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotJSON, err)
		}
		lines = append(lines, line...)
		promise, moved = promise || lasting(event.Type), moved || event.Type == api.EventState
	}
	if err := s.log.append(lines, promise); err != nil {
		return fmt.Errorf("writing an event of session %s: %w", s.ID(), err)
	}
	after.LogSize += int64(len(lines))
	s.record = after
	if moved {
		// The log has it; a snapshot that cannot be written now is only older.
		_ = s.save()
	}
	if s.record.State != api.Preparing && s.record.State != api.Running {
		_ = s.log.rest() // thousands may wait: they must not keep their files open
	}
	return nil
}

// lasting reports whether events of a type are on the disk before their writer is told that they are written.
func lasting(event api.EventType) bool {
	return event == api.EventState || event == api.EventMessage || event == api.EventStop
}

// save writes the snapshot, so that a crash leaves the old one or the new one.
func (s *Session) save() error {
	text, err := json.MarshalIndent(s.record, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(s.dir, snapshotFile), text, 0o600, renameio.WithTempDir(s.dir))
}

// open reads a session from its directory.
func open(dir string, now func() time.Time) (*Session, error) {
	s := &Session{dir: dir, now: now}
	text, err := os.ReadFile(filepath.Join(dir, snapshotFile))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &s.record); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, snapshotFile), err)
	}
	if s.record.Version > Version {
		return nil, fmt.Errorf("%s has the format %d, and this berthd knows %d: use a newer one", dir, s.record.Version, Version)
	}
	if s.record.ID != s.ID() {
		return nil, fmt.Errorf("%s holds the session %q", dir, s.record.ID)
	}
	file := filepath.Join(dir, logFile)
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() < s.record.LogSize {
		// The disk lost events that it had promised to keep. What it has is the truth.
		s.record = s.record.unheard()
	}
	var last api.EventType
	s.log, err = openLog(file, s.record.LogSize, func(line []byte) error {
		event, err := unmarshal(line)
		if err != nil {
			return fmt.Errorf("%w: event %d of session %s: %w", ErrDamaged, s.record.Events, s.ID(), err)
		}
		s.record.LogSize += int64(len(line)) + 1
		last = event.Type
		return s.record.apply(&event)
	})
	if err == nil && s.record.State == "" {
		err = fmt.Errorf("%w: session %s has no events", ErrDamaged, s.ID())
	}
	if err != nil || last != api.EventMessage || !s.record.State.Ended() {
		return s, err
	}
	// A crash between the message and what it brings about.
	return s, s.append(takenUp)
}

// create makes a new session's directory. Nothing in it counts before the directory is where it belongs.
func create(dir string, record Record, message api.Event, now func() time.Time) (*Session, error) {
	s := &Session{dir: dir, now: now, record: record}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, logFile)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return nil, err
	}
	var err error
	if s.log, err = openLog(file, 0, nil); err != nil {
		return nil, err
	}
	message.Type = api.EventMessage
	if err := s.append(message, api.Event{Type: api.EventState, State: api.Queued}); err != nil {
		return nil, err
	}
	return s, s.save() // which append may have failed to do
}

// moved says that the session's directory has another name now.
func (s *Session) moved(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dir, s.log.path = dir, filepath.Join(dir, logFile)
}

// marshal encodes an event as a line, without changing <, > and & in what Claude Code wrote.
func marshal(event api.Event) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(event); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

func unmarshal(line []byte) (event api.Event, err error) {
	if err = json.Unmarshal(line, &event); err == nil && event.Type == "" {
		err = errors.New("it has no type")
	}
	return event, err
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
