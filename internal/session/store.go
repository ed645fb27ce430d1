package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"berth/internal/api"
)

// Store is the sessions of a volume. Several daemons may have one open on a volume.
type Store struct {
	dir   string
	now   func() time.Time
	owner Owner

	mu       sync.Mutex
	sessions map[string]*Session
	keys     map[string]string // sessions by the idempotency key of their request
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

	// opened is how many sessions are read at once: each takes a few operations of a volume that may be far away.
	opened = 32
)

// Open opens the volume in a directory, which it makes if it is not there, and reads its sessions. now is
// the clock that events are dated by.
func Open(dir string, now func() time.Time) (*Store, error) {
	s := &Store{
		dir: dir, now: now, owner: self(), sessions: map[string]*Session{}, keys: map[string]string{}, broken: map[string]error{},
		making: map[string]bool{}, stopped: make(chan struct{}),
	}
	for _, each := range []string{dir, s.path(sessionsDir), s.path(spoolDir), s.path(daemonsDir)} {
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
	if err := errors.Join(s.sweep(), s.load()); err != nil {
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

// ErrOtherTask is wrapped by the error of Create for an idempotency key that another task has.
var ErrOtherTask = errors.New("another task was handed in with this idempotency key")

// Create accepts a task: when it returns, the session is on the disk, and queued. messageID is the UUID of its
// first message. For a key that is not empty it makes one session only, and returns that one again; found reports that it
// was there.
func (s *Store) Create(task api.NewSession, messageID, key string) (session *Session, found bool, err error) {
	sum := taskSum(task)
	id, err := uuid.NewV7()
	if err != nil {
		return nil, false, fmt.Errorf("making a session's id: %w", err)
	}
	if key != "" {
		if session, err := s.reserve(key, id.String(), sum); session != nil || err != nil {
			return session, session != nil, err
		}
	}
	record := Record{Version: Version, IdempotencyKey: key, TaskSum: sum, Session: api.Session{
		ID: id.String(), Prompt: task.Prompt, Repo: task.Repo, Ref: task.Ref, Options: task.Options,
		CreatedAt: s.now().UTC().Truncate(time.Millisecond),
	}}
	s.make(record.ID, true)
	defer s.make(record.ID, false)
	spooled, accepted := s.path(spoolDir, newPrefix+s.owner.ID+"."+record.ID), s.path(sessionsDir, record.ID)
	session, err = create(spooled, record, api.Event{MessageID: messageID, Text: task.Prompt}, s.now, s.owner)
	if err == nil {
		err = syncDir(spooled)
	}
	if err == nil {
		err = os.Rename(spooled, accepted)
	}
	if err == nil {
		err = syncDir(s.path(sessionsDir))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.keys, key)
		return nil, false, fmt.Errorf("writing a new session: %w", errors.Join(err, os.RemoveAll(spooled), os.RemoveAll(accepted)))
	}
	session.moved(accepted)
	s.sessions[record.ID] = session
	return session, false, nil
}

// make notes that a session is about to be accepted: whoever finds its directory before that leaves it to Create.
func (s *Store) make(id string, begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begun {
		s.making[id] = true
	} else {
		delete(s.making, id)
	}
}

// reserve gives a key to a session that is about to be created, or returns the one that has it.
func (s *Store) reserve(key, id, sum string) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	has, known := s.keys[key]
	if !known {
		s.keys[key] = id
		return nil, nil
	}
	session := s.sessions[has]
	if session == nil {
		return nil, fmt.Errorf("%w just now, and is not accepted yet", ErrOtherTask)
	}
	if session.Record().TaskSum != sum {
		return nil, fmt.Errorf("%w: session %s", ErrOtherTask, has)
	}
	return session, nil
}

func taskSum(task api.NewSession) string {
	text, err := json.Marshal(task)
	if err != nil {
		return "" // a task that came as JSON can be written as JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
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
		_ = session.Refresh() // what cannot be read now is as it was
	}
	return session
}

// Gone reports whether there certainly is no session of an id, neither one that can be read nor one that cannot.
func (s *Store) Gone(id string) bool {
	return s.Get(id) == nil && missing(s.path(sessionsDir, id)) && !missing(s.path(sessionsDir))
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

// Remove removes a session that has ended, with all that is on the volume of it, if it may go as it is now. The error is a
// *StateError if it may not.
func (s *Store) Remove(session *Session, may func(*Record) bool) error {
	id, removed := session.ID(), s.path(spoolDir, oldPrefix+s.owner.ID+"."+session.ID())
	err := session.write(func() error {
		if !session.record.State.Ended() || !may(&session.record) {
			return &StateError{ID: id, Err: errors.New("it is not to be removed")}
		}
		err := os.Rename(s.path(sessionsDir, id), removed)
		session.removed = err == nil
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.sessions, id)
	delete(s.keys, session.Record().IdempotencyKey)
	s.mu.Unlock()
	return errors.Join(syncDir(s.path(sessionsDir)), os.RemoveAll(removed))
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

// load reads the sessions that are not known yet.
func (s *Store) load() error {
	info, err := os.Stat(s.path(sessionsDir))
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.path(sessionsDir))
	if err != nil {
		return err
	}
	var readers errgroup.Group
	readers.SetLimit(opened)
	for _, entry := range entries {
		if _, err := uuid.Parse(entry.Name()); err != nil || !entry.IsDir() {
			continue
		}
		s.mu.Lock()
		known := s.sessions[entry.Name()] != nil || s.broken[entry.Name()] != nil
		s.mu.Unlock()
		if !known {
			readers.Go(func() error { s.look(entry.Name()); return nil })
		}
	}
	err = readers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = info.ModTime()
	return err
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
		if !errors.Is(err, fs.ErrNotExist) || !missing(s.path(sessionsDir, id)) {
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

// ownerOf is the owner that is part of a name in the spool, between the prefix and the last dot.
func ownerOf(name, prefix string) (string, bool) {
	rest, found := strings.CutPrefix(name, prefix)
	dot := strings.LastIndexByte(rest, '.')
	if !found || dot < 0 {
		return "", false
	}
	return rest[:dot], true
}
