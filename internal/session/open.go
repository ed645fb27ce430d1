package session

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"berth/internal/api"
)

// save writes the snapshot.
func (s *Session) save() error {
	text, err := json.MarshalIndent(s.Record(), "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(s.dir, snapshotFile), text)
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
	if lost {
		rebuilt, unread := s.rebuild()
		if unread != nil {
			return nil, unread
		}
		if rebuilt {
			err = nil
		}
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
	current, leftover, err := readLease(dir)
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
// does not say what the session was created with: those of older agents do not. The error is of a log that cannot be read.
func (s *Session) rebuild() (bool, error) {
	file, err := os.Open(s.log.path)
	if err != nil {
		return false, ignoreMissing(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	line, err := bufio.NewReader(file).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	first, err := unmarshal(line)
	if err != nil || first.Type != api.EventMessage || first.Task == nil {
		return false, nil //nolint:nilerr // which is no error of the volume's
	}
	task := first.Task
	s.record = Record{Version: Version, IdempotencyKey: task.IdempotencyKey, TaskSum: task.Sum, Session: api.Session{
		ID: s.ID(), Prompt: first.Text, Repo: task.Repo, Ref: task.Ref, Options: task.Options, CreatedAt: task.CreatedAt,
	}}
	return true, nil
}

func newSession(dir string, now func() time.Time, owner Owner) *Session {
	return &Session{
		dir: dir, now: now, owner: owner, log: newLog(filepath.Join(dir, logFile)), gone: make(chan struct{}),
		transcript: transcript{path: filepath.Join(dir, transcriptFile)},
	}
}

// Refresh adds up what another daemon has appended.
func (s *Session) Refresh() error {
	if s.held() != nil {
		return nil // and need not wait for whoever writes
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.held() != nil {
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

func (s *Session) setUntidy(untidy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untidy = untidy
}

// refresh adds up the lines of the log that are not in the record yet, all or none. With care it sees first that the record is
// of this log.
func (s *Session) refresh(care bool) error {
	file, err := os.Open(s.log.path) // by which an NFS client learns of what others have written
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	record := s.Record()
	same := info.Size() >= record.LogSize
	// What lies beyond is read on from there: so it has to be the right place.
	if same && (care || info.Size() > record.LogSize) {
		if same, err = record.matches(file); err != nil {
			return err
		}
	}
	if same && info.Size() == record.LogSize {
		return nil
	}
	if !same {
		// The disk lost events that it had promised to keep, or the snapshot is of an owner that was taken over. What the log
		// has is the truth.
		record = record.unheard()
	}
	_, torn, err := read(file, record.LogSize, func(line []byte) error {
		event, err := unmarshal(line)
		if err != nil {
			return fmt.Errorf("%w: event %d of session %s: %w", ErrDamaged, record.Events, s.ID(), err)
		}
		if err := record.apply(&event); err != nil {
			return fmt.Errorf("%w: event %d of session %s: %w", ErrDamaged, record.Events, s.ID(), err)
		}
		record.noteLine(append(line, '\n'))
		return nil
	})
	if err != nil {
		return err
	}
	if !same {
		s.setUntidy(true)
		s.log.restart()
	}
	s.publish(record, torn)
	return nil
}

// migrate brings a session of an older format to this one, for its new owner, and removes the marks of a crash.
func (s *Session) migrate() error {
	if before := s.Record(); before.Version < Version {
		if before.Version == 1 && before.Prepared {
			// Its snapshot alone had this.
			prepared := api.Event{Type: api.EventPrepared, Base: before.Base, Branch: before.Branch, WorkDir: before.WorkDir}
			if err := s.append(prepared); err != nil {
				return err
			}
		}
		s.mu.Lock()
		s.record.Version = Version
		s.mu.Unlock()
		s.setUntidy(true)
	}
	if s.Untidy() {
		if err := s.save(); err != nil {
			return err
		}
		s.setUntidy(false)
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
	s.setClaim(&claim{epoch: 1, lease: lease{Renewed: now()}, gone: make(chan struct{})})
	message.Type = api.EventMessage
	message.Task = &api.Task{
		Repo: record.Repo, Ref: record.Ref, Options: record.Options, CreatedAt: record.CreatedAt,
		IdempotencyKey: record.IdempotencyKey, Sum: record.TaskSum,
	}
	err := s.append(message, api.Event{Type: api.EventState, State: api.Queued})
	s.setClaim(nil)
	if err = errors.Join(err, s.log.rest()); err != nil {
		return nil, err
	}
	if s.unsaved {
		return s, s.save()
	}
	return s, nil
}

// moved says that the directory of a new session, which nobody else knows yet, has another name now.
func (s *Session) moved(dir string) {
	s.dir, s.log.path, s.transcript.path = dir, filepath.Join(dir, logFile), filepath.Join(dir, transcriptFile)
}
