package session

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"berth/internal/api"
)

// Store is all the sessions of a volume. At most one Store is open on a volume at a time.
type Store struct {
	dir  string
	now  func() time.Time
	lock *os.File

	mu       sync.Mutex
	sessions map[string]*Session
	broken   []error
}

// ErrInUse is wrapped by the error of Open when another daemon has the volume.
var ErrInUse = errors.New("another berthd uses this volume")

// Open opens the volume in a directory, which it makes if it is not there, and reads its sessions. now is
// the clock that events are dated by.
func Open(dir string, now func() time.Time) (*Store, error) {
	s := &Store{dir: dir, now: now, sessions: map[string]*Session{}}
	for _, each := range []string{dir, s.path("sessions"), s.path("spool")} {
		if err := os.MkdirAll(each, 0o700); err != nil {
			return nil, fmt.Errorf("the volume cannot be used: %w", err)
		}
	}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close lets go of the volume. Its sessions take no more events.
func (s *Store) Close() error {
	var errs []error
	for _, each := range s.List() {
		errs = append(errs, each.log.close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Create accepts a task: when it returns, the session is on the disk, and queued. messageID is the UUID of its
// first message.
func (s *Store) Create(task api.NewSession, messageID string) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("making a session's id: %w", err)
	}
	record := Record{Version: Version, Session: api.Session{
		ID: id.String(), Prompt: task.Prompt, Repo: task.Repo, Ref: task.Ref, Options: task.Options,
		CreatedAt: s.now().UTC().Truncate(time.Millisecond),
	}}
	spooled, accepted := s.path("spool", record.ID), s.path("sessions", record.ID)
	session, err := create(spooled, record, api.Event{MessageID: messageID, Text: task.Prompt}, s.now)
	if err == nil {
		err = syncDir(spooled)
	}
	if err == nil {
		err = os.Rename(spooled, accepted)
	}
	if err == nil {
		err = syncDir(s.path("sessions"))
	}
	if err != nil {
		return nil, fmt.Errorf("writing a new session: %w", errors.Join(err, os.RemoveAll(spooled), os.RemoveAll(accepted)))
	}
	session.moved(accepted)
	s.sessions[record.ID] = session
	return session, nil
}

// Get returns a session by its id, or nil.
func (s *Store) Get(id string) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// List returns all sessions, the oldest first.
func (s *Store) List() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Session, 0, len(s.sessions))
	for _, each := range s.sessions {
		list = append(list, each)
	}
	slices.SortFunc(list, func(a, b *Session) int { return cmp.Compare(a.ID(), b.ID()) })
	return list
}

// Broken says which directories of the volume could not be read as sessions. They are left as they are.
func (s *Store) Broken() []error { return s.broken }

// Probe writes to the volume and syncs, and returns what is wrong with that.
func (s *Store) Probe() error {
	name := s.path("spool", ".probe")
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = file.Write(make([]byte, 4096))
		err = errors.Join(err, file.Sync(), file.Close())
	}
	return errors.Join(err, ignoreMissing(os.Remove(name)))
}

func (s *Store) load() error {
	if err := os.RemoveAll(s.path("spool")); err != nil {
		return fmt.Errorf("removing what was not accepted: %w", err)
	}
	if err := os.Mkdir(s.path("spool"), 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.path("sessions"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if _, err := uuid.Parse(entry.Name()); err != nil || !entry.IsDir() {
			continue
		}
		session, err := open(s.path("sessions", entry.Name()), s.now)
		if err != nil {
			s.broken = append(s.broken, err)
			continue
		}
		s.sessions[entry.Name()] = session
	}
	return nil
}

// takeLock makes sure that no other process uses the volume. The system lets go of it when the process ends,
// however it ends.
func (s *Store) takeLock() error {
	file, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("the volume cannot be used: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(file.Name())
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s is held by process %s", ErrInUse, s.dir, strings.TrimSpace(string(owner)))
		}
		return fmt.Errorf("locking %s: %w", file.Name(), err)
	}
	s.lock = file
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return fmt.Errorf("the volume cannot be written: %w", errors.Join(err, file.Close()))
	}
	return nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// syncDir makes the names in a directory last.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
