package session

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	dir   string
	now   func() time.Time
	owner Owner // who we are

	mu         sync.Mutex
	record     Record
	log        *eventLog
	transcript transcript

	lease   *lease // nil if we are not the session's owner
	holders int
	gone    chan struct{} // closed when another daemon has taken the session over
	untidy  bool          // a crash has left something: the next owner removes it
	removed bool          // it is no more
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
// carry a message are on the disk when it returns. An error means that the event is not in the log: the session's state
// does not allow it (a *StateError), another daemon has the session (a *LeasedError, or ErrLost), or the volume cannot be
// written. So it is with all that write to a session; who does not hold it takes hold of it meanwhile.
func (s *Session) Append(event api.Event) error {
	return s.write(func() error { return s.append(event) })
}

// write does something that appends events, as the session's owner.
func (s *Session) write(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return &StateError{ID: s.ID(), Err: errors.New("it was removed")}
	}
	if err := s.take(); err != nil {
		return err
	}
	defer s.letGo()
	return do()
}

// Move takes the session to a state, and says with event's other fields why.
func (s *Session) Move(to api.State, event api.Event) error {
	event.Type, event.State = api.EventState, to
	return s.Append(event)
}

// End takes the session to a state in which it has ended, unless it was sent more messages than known: then it
// reports false, and nothing happened.
func (s *Session) End(to api.State, event api.Event, known int) (ended bool, err error) {
	err = s.write(func() error {
		if s.record.Messages != known {
			return nil
		}
		ended = true
		event.Type, event.State = api.EventState, to
		return s.append(event)
	})
	return ended, err
}

// Fail ends a session as failed, and takes it to the queue again for messages that came as it did, unless somebody asked
// for its end.
func (s *Session) Fail(event api.Event) error {
	return s.write(func() error {
		event.Type, event.State = api.EventState, api.Failed
		if s.record.StopAsked {
			return s.append(event)
		}
		event.Unheard = true // so that it is known even if the second line is not written
		return s.append(event, takenUp)
	})
}

// Ask adds a message and, if the session has ended, sends it to the queue again. A session that is about to end
// because somebody asked for that takes none (a *StateError): nobody would answer it.
func (s *Session) Ask(message api.Event) error {
	return s.write(func() error {
		message.Type = api.EventMessage
		if s.record.State.Ended() {
			return s.append(message, takenUp)
		}
		if s.record.StopAsked {
			return &StateError{ID: s.ID(), Err: errors.New("it was asked to stop; send the message again when it has ended")}
		}
		return s.append(message)
	})
}

var takenUp = api.Event{Type: api.EventState, State: api.Queued, Reason: "a message came"}

// Stop records that somebody asked for the session's end, and ends it for reason if nothing runs it: what is
// preparing or running is ended by whoever does that. A session that has ended takes none (a *StateError).
func (s *Session) Stop(reason string) error {
	return s.write(func() error {
		stop := api.Event{Type: api.EventStop}
		switch state := s.record.State; {
		case state.Ended():
			return &StateError{ID: s.ID(), Err: fmt.Errorf("it is %s already", state)}
		case state == api.Preparing || state == api.Running:
			return s.append(stop)
		}
		return s.append(stop, api.Event{Type: api.EventState, State: api.Cancelled, Reason: reason})
	})
}

// Requeue sends a session to the queue that is interrupted, waits, or has ended with a message that nobody has heard. One
// that was asked to stop it ends for reason instead, also if it is queued. It does nothing to any other one.
func (s *Session) Requeue(reason string) error {
	return s.write(func() error {
		next := api.Event{Type: api.EventState, State: api.Queued}
		switch state := s.record.State; {
		case state.Ended() && s.record.Unheard:
			return s.append(takenUp)
		case state != api.Queued && state != api.Interrupted && state != api.Waiting:
			return nil
		case s.record.StopAsked:
			next.State, next.Reason = api.Cancelled, reason
		case state == api.Queued:
			return nil
		}
		return s.append(next)
	})
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
	if err := s.fence(); err != nil {
		return fmt.Errorf("writing an event of session %s: %w", s.ID(), err)
	}
	var lines []byte
	promise, moved := false, false
	for _, event := range events {
		// A log whose clock never goes back is easier to read, and to reckon durations from.
		event.Time = latest(s.now().UTC().Truncate(time.Millisecond), after.LastEventAt)
		event.Epoch = s.lease.Epoch
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
	if promise {
		if err := s.verify(); err != nil {
			// It was taken over as we wrote: the line may count nowhere.
			s.log.grow(s.record.LogSize, true)
			return fmt.Errorf("writing an event of session %s: %w", s.ID(), err)
		}
	}
	after.noteLine(lines)
	s.record = after
	if moved {
		// The log has it; a snapshot that cannot be written now is only older.
		_ = s.save()
	}
	return nil
}

// lasting reports whether events of a type are on the disk before their writer is told that they are written.
func lasting(event api.EventType) bool {
	return event == api.EventState || event == api.EventMessage || event == api.EventStop || event == api.EventPrepared || event == api.EventRestore
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
func open(dir string, now func() time.Time, owner Owner) (*Session, error) {
	s := newSession(dir, now, owner)
	text, err := os.ReadFile(filepath.Join(dir, snapshotFile))
	if err == nil {
		if err = json.Unmarshal(text, &s.record); err != nil {
			err = fmt.Errorf("%w: reading %s: %w", ErrDamaged, filepath.Join(dir, snapshotFile), err)
		}
	}
	lost := errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged)
	if lost && s.rebuild() {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if s.record.Version > Version {
		return nil, fmt.Errorf("%s has the format %d, and this berthd knows %d: use a newer one", dir, s.record.Version, Version)
	}
	if s.record.ID != s.ID() {
		return nil, fmt.Errorf("%s holds the session %q", dir, s.record.ID)
	}
	s.log.size = s.record.LogSize
	current, leftover, err := s.readLease()
	if err != nil {
		return nil, err
	}
	s.untidy = leftover || current != nil || lost
	known := s.record.Events
	if err := s.refresh(false); err != nil {
		return nil, err
	}
	s.untidy = s.untidy || s.record.Events != known || s.log.torn
	if s.record.State == "" {
		return nil, fmt.Errorf("%w: session %s has no events", ErrDamaged, s.ID())
	}
	return s, nil
}

// rebuild makes the record from the log's first event, as it was when the session was created. It reports false if that event
// does not say what the session was created with: those of older agents do not.
func (s *Session) rebuild() bool {
	file, err := os.Open(s.log.path)
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // it was only read
	line, err := bufio.NewReader(file).ReadBytes('\n')
	if err != nil {
		return false
	}
	first, err := unmarshal(line)
	if err != nil || first.Type != api.EventMessage || first.Task == nil {
		return false
	}
	task := first.Task
	s.record = Record{Version: Version, IdempotencyKey: task.IdempotencyKey, TaskSum: task.Sum, Session: api.Session{
		ID: s.ID(), Prompt: first.Text, Repo: task.Repo, Ref: task.Ref, Options: task.Options, CreatedAt: task.CreatedAt,
	}}
	return true
}

func newSession(dir string, now func() time.Time, owner Owner) *Session {
	return &Session{
		dir: dir, now: now, owner: owner, log: newLog(filepath.Join(dir, logFile)), gone: make(chan struct{}),
		transcript: transcript{path: filepath.Join(dir, transcriptFile)},
	}
}

// Refresh adds up what another daemon has appended.
func (s *Session) Refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != nil {
		return nil
	}
	return s.refresh(false)
}

// Untidy reports whether a crash has left something that the session's next holder removes.
func (s *Session) Untidy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.untidy
}

// refresh adds up the lines of the log that are not in the record yet. With care it sees first that the record is of this
// log.
func (s *Session) refresh(care bool) error {
	info, err := os.Stat(s.log.path)
	if err != nil {
		return err
	}
	same := info.Size() >= s.record.LogSize
	// What lies beyond is read on from there: so it has to be the right place.
	if same && (care || info.Size() > s.record.LogSize) {
		if same, err = s.record.matches(s.log.path); err != nil {
			return err
		}
	}
	if !same {
		// The disk lost events that it had promised to keep, or the snapshot is of an owner that was taken over. What the log
		// has is the truth.
		s.record, s.untidy = s.record.unheard(), true
		s.log.grow(0, false)
	}
	return s.log.read(func(line []byte) error {
		event, err := unmarshal(line)
		if err != nil {
			return fmt.Errorf("%w: event %d of session %s: %w", ErrDamaged, s.record.Events, s.ID(), err)
		}
		if err := s.record.apply(&event); err != nil {
			return err
		}
		s.record.noteLine(append(line, '\n'))
		return nil
	})
}

// migrate brings a session of an older format to this one, for its new owner, and removes the marks of a crash.
func (s *Session) migrate() error {
	if s.record.Version < Version {
		before := s.record.Version
		s.record.Version = Version
		if before == 1 && s.record.Prepared {
			// Its snapshot alone had this.
			prepared := api.Event{Type: api.EventPrepared, Base: s.record.Base, Branch: s.record.Branch, WorkDir: s.record.WorkDir}
			if err := s.append(prepared); err != nil {
				s.record.Version = before
				return err
			}
		}
		s.untidy = true
	}
	if s.untidy {
		if err := s.save(); err != nil {
			return err
		}
		s.untidy = false
	}
	return nil
}

// create makes a new session's directory. Nothing in it counts before the directory is where it belongs.
func create(dir string, record Record, message api.Event, now func() time.Time, owner Owner) (*Session, error) {
	s := newSession(dir, now, owner)
	s.record = record
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.log.path, nil, 0o600); err != nil {
		return nil, err
	}
	if err := s.log.take(); err != nil {
		return nil, err
	}
	// Nobody else knows of it: it needs no files to be ours.
	s.lease = &lease{Owner: owner, Epoch: 1, Renewed: now()}
	message.Type = api.EventMessage
	message.Task = &api.Task{
		Repo: record.Repo, Ref: record.Ref, Options: record.Options, CreatedAt: record.CreatedAt,
		IdempotencyKey: record.IdempotencyKey, Sum: record.TaskSum,
	}
	err := s.append(message, api.Event{Type: api.EventState, State: api.Queued})
	s.lease = nil
	if err = errors.Join(err, s.log.rest()); err != nil {
		return nil, err
	}
	return s, s.save() // which append may have failed to do
}

// moved says that the session's directory has another name now.
func (s *Session) moved(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dir, s.log.path, s.transcript.path = dir, filepath.Join(dir, logFile), filepath.Join(dir, transcriptFile)
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
	if err == nil && event.Epoch > maxEpoch {
		err = fmt.Errorf("it is of the epoch %d", event.Epoch)
	}
	return event, err
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
