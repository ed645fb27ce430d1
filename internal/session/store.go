package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// Store is the sessions of a volume. Several daemons may have one open on a volume.
type Store struct {
	dir   string
	now   func() time.Time
	owner Owner

	mu       sync.Mutex
	sessions map[string]*Session
	keys     map[string]string        // sessions by the idempotency key of their request
	asked    map[string]chan struct{} // keys that a request is just made with; closed when it has been
	broken   map[string]error
	making   map[string]bool // sessions that this daemon is about to accept, by id
	peers    bool            // another daemon uses the volume
	listed   time.Time       // how old the directory of sessions was when it was last read
	seen     []string        // daemons that used it when it was last looked at
	left     bool            // one of them does no more

	stop    context.CancelFunc // of the renewal of leases
	stopped chan struct{}
}

const (
	sessionsDir = "sessions"
	spoolDir    = "spool"
	daemonsDir  = "daemons"
	keysDir     = "keys"

	// opened is how many sessions are read at once: each takes a few operations of a volume that may be far away.
	opened = 32
)

// Open opens the volume in a directory, which it makes if it is not there, and reads its sessions. now is
// the clock that events are dated by.
func Open(dir string, now func() time.Time) (*Store, error) {
	s := &Store{
		dir: dir, now: now, owner: self(), sessions: map[string]*Session{}, keys: map[string]string{}, asked: map[string]chan struct{}{},
		broken: map[string]error{}, making: map[string]bool{}, stopped: make(chan struct{}),
	}
	for _, each := range []string{dir, s.path(sessionsDir), s.path(spoolDir), s.path(daemonsDir), s.path(keysDir)} {
		if err := os.MkdirAll(each, 0o700); err != nil {
			return nil, fmt.Errorf("the volume cannot be used: %w", err)
		}
	}
	if err := s.checkFormat(); err != nil {
		return nil, err
	}
	if err := s.beat(); err != nil {
		return nil, fmt.Errorf("the volume cannot be written: %w", err)
	}
	if err := errors.Join(s.Sweep(), s.load(), s.sweepKeys()); err != nil {
		return nil, errors.Join(err, os.Remove(s.presence()))
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.renew(ctx)
	return s, nil
}

// Owner is the id of this daemon among those that use the volume.
func (s *Store) Owner() string { return s.owner.ID }

// Close lets go of the volume. Sessions must be held by nobody any more.
func (s *Store) Close() error {
	s.stop()
	<-s.stopped
	return ignoreMissing(os.Remove(s.presence()))
}

// Get returns a session by its id, or nil.
func (s *Store) Get(id string) *Session {
	s.mu.Lock()
	session, peers := s.sessions[id], s.peers
	s.mu.Unlock()
	if session == nil && peers {
		session = s.look(id)
	}
	if session != nil && peers {
		// What cannot be read now is as it was, unless it is no more.
		if err := session.Refresh(); errors.Is(err, fs.ErrNotExist) && s.dropIfGone(session) {
			return nil
		}
	}
	return session
}

// Gone reports whether there certainly is no session of an id, neither one that can be read nor one that cannot.
func (s *Store) Gone(id string) bool {
	session := s.Get(id)
	return (session == nil || s.dropIfGone(session)) && missing(s.path(sessionsDir, id)) && !missing(s.path(sessionsDir))
}

// List returns all sessions, the oldest first.
func (s *Store) List() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Session, 0, len(s.sessions))
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) { // ids are in order of time
		list = append(list, s.sessions[id])
	}
	return list
}

// Broken says which directories of the volume could not be read as sessions. They are left as they are.
func (s *Store) Broken() (list []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, err := range s.broken {
		list = append(list, err)
	}
	return list
}

// Break puts a session among those that cannot be read. It is left as it is.
func (s *Store) Break(session *Session, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session.ID())
	s.broken[session.ID()] = why
}

// Probe writes to the volume and syncs, and returns what is wrong with that.
func (s *Store) Probe() error {
	name := s.path(spoolDir, newPrefix+s.owner.ID+".probe")
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = file.Write(make([]byte, 4096))
		err = errors.Join(err, file.Sync(), file.Close())
	}
	return errors.Join(err, ignoreMissing(os.Remove(name)))
}

// load reads the sessions that are not known yet, and forgets those that another daemon has removed.
func (s *Store) load() error {
	info, err := os.Stat(s.path(sessionsDir))
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.path(sessionsDir))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	var readers errgroup.Group
	readers.SetLimit(opened)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), lookPrefix) {
			_ = os.Remove(s.path(sessionsDir, entry.Name())) // whoever made it has done with it, or is killed
		}
		if _, err := uuid.Parse(entry.Name()); err != nil || !entry.IsDir() {
			continue
		}
		there[entry.Name()] = true
		s.mu.Lock()
		known := s.sessions[entry.Name()] != nil || s.broken[entry.Name()] != nil
		s.mu.Unlock()
		if !known {
			readers.Go(func() error { s.look(entry.Name()); return nil })
		}
	}
	err = readers.Wait()
	for _, each := range s.List() {
		if !there[each.ID()] {
			s.dropIfGone(each)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = info.ModTime()
	return err
}

// dropIfGone forgets a session that is no more, and reports whether it did.
func (s *Store) dropIfGone(session *Session) bool {
	id := session.ID()
	if session.held() != nil || !missing(s.path(sessionsDir, id)) || missing(s.path(sessionsDir)) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, id)
	if key := session.Record().IdempotencyKey; s.keys[key] == id {
		delete(s.keys, key)
	}
	return true
}

// Reread reads those sessions again that the volume failed to give, and returns those that it gives now.
func (s *Store) Reread() (list []*Session) {
	s.mu.Lock()
	var ids []string
	for id, err := range s.broken {
		if unread(err) {
			ids = append(ids, id)
		}
	}
	s.mu.Unlock()
	slices.Sort(ids)
	for _, id := range ids {
		if session := s.look(id); session != nil {
			list = append(list, session)
		}
	}
	return list
}

// unread reports whether an error is of the reading, which may go well the next time, and not of what was read.
func unread(err error) bool {
	var number syscall.Errno
	return errors.As(err, &number) && !errors.Is(err, fs.ErrNotExist)
}

// look reads a session that is not known yet.
func (s *Store) look(id string) *Session {
	s.mu.Lock()
	making := s.making[id]
	s.mu.Unlock()
	if making {
		return nil
	}
	session, err := open(s.path(sessionsDir, id), s.now, s.owner)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.sessions[id]; known != nil {
		return known // somebody was faster
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && missing(s.path(sessionsDir, id)) {
			delete(s.broken, id)
		} else {
			s.broken[id] = err
		}
		return nil
	}
	delete(s.broken, id)
	s.sessions[id] = session
	if key := session.record.IdempotencyKey; key != "" {
		s.keys[key] = id
	}
	return session
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// formatFile says which format the volume has, as a whole.
const formatFile = "format.json"

// checkFormat refuses a volume of a later berth, and marks one that has no format yet.
func (s *Store) checkFormat() error {
	var format struct {
		Version int `json:"version"`
	}
	text, err := os.ReadFile(s.path(formatFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the volume cannot be read: %w", err)
	}
	if err == nil {
		if err := json.Unmarshal(text, &format); err != nil {
			return fmt.Errorf("the volume cannot be used: %s is not JSON: %w", s.path(formatFile), err)
		}
	}
	switch {
	case format.Version > Version:
		return fmt.Errorf("the volume %s has the format %d, and this berthd knows %d: use a newer one", s.dir, format.Version, Version)
	case format.Version == Version:
		return nil
	}
	format.Version = Version
	if text, err = json.Marshal(format); err == nil {
		err = writeFile(s.path(formatFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("the volume cannot be written: %w", err)
	}
	return errors.Join(ignoreMissing(os.Remove(s.path("lock"))), syncDir(s.dir)) // format 1 had a lock
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// writeFile replaces a file, so that a crash leaves the old one or the new one.
func writeFile(path string, text []byte) error {
	return renameio.WriteFile(path, text, 0o600, renameio.WithTempDir(filepath.Dir(path)))
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
