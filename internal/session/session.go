package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"sync"
	"time"

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

	writing    sync.Mutex // held by whoever writes to the session or reads on, while the volume takes its time; before mu
	log        *eventLog
	transcript transcript
	holders    int
	removed    bool // it is no more
	unsaved    bool // the snapshot could not be written when it was to be
	unmarked   bool // no event tells of the epoch that this daemon has claimed, and somebody may come back who had the one before

	mu     sync.Mutex // held for moments: who asks how a session stands waits for no disk
	record Record
	claim  *claim        // nil if we are not the session's owner
	gone   chan struct{} // closed when another daemon has taken the session over
	untidy bool          // a crash has left something: the next owner removes it
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
	s.writing.Lock()
	defer s.writing.Unlock()
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
		if s.Record().Messages != known {
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
		if s.Record().StopAsked {
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
		record := s.Record()
		if record.State.Ended() {
			return s.append(message, takenUp)
		}
		if record.StopAsked {
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
		switch state := s.State(); {
		case state.Ended():
			return &StateError{ID: s.ID(), Err: fmt.Errorf("it has ended already (%s)", state)}
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
		record := s.Record()
		switch state := record.State; {
		case state.Ended() && record.Unheard:
			return s.append(takenUp)
		case state != api.Queued && state != api.Interrupted && state != api.Waiting:
			return nil
		case record.StopAsked:
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
	after, held := s.Record(), s.held()
	if err := held.fence(s.now()); err != nil {
		return fmt.Errorf("writing an event of session %s: %w", s.ID(), err)
	}
	var lines []byte
	promise, moved := false, false
	for _, event := range events {
		// A log whose clock never goes back is easier to read, and to reckon durations from.
		event.Time = latest(s.now().UTC().Truncate(time.Millisecond), after.LastEventAt)
		event.Epoch = held.epoch
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
		if err := held.verify(); err != nil {
			// It was taken over as we wrote: the line may count nowhere.
			return fmt.Errorf("writing an event of session %s: %w", s.ID(), err)
		}
	}
	after.noteLine(lines)
	s.publish(after, false)
	s.unmarked = false
	if moved {
		// The log has it; a snapshot that cannot be written now is only older.
		s.unsaved = s.save() != nil
	}
	return nil
}

// publish makes known how the session stands, and with it how far its log goes: a follower that sees its end has seen its last event.
func (s *Session) publish(record Record, torn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = record
	s.log.grow(record.LogSize, torn)
}

// lasting reports whether events of a type are on the disk before their writer is told that they are written.
func lasting(event api.EventType) bool {
	return event == api.EventState || event == api.EventMessage || event == api.EventStop || event == api.EventPrepared || event == api.EventRestore
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
