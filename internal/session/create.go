package session

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
)

// ErrOtherTask is wrapped by the error of Create for an idempotency key that another task has.
var ErrOtherTask = errors.New("another task was handed in with this idempotency key")

// ErrUnseen is wrapped by the error of Create for an idempotency key, or its session, that another daemon has just made, and that the
// volume does not show here yet: an NFS client may remember for a minute that a name is not there.
var ErrUnseen = errors.New("another agent is just making the session with this idempotency key")

// Create accepts a task: when it returns, the session is on the disk, and queued. messageID is the UUID of its
// first message. For a key that is not empty it makes one session only, whichever daemons of the volume are asked at the same time, and returns
// that one again; found reports that it was there.
func (s *Store) Create(task api.NewSession, messageID, key string) (session *Session, found bool, err error) {
	made, err := uuid.NewV7()
	if err != nil {
		return nil, false, fmt.Errorf("making a session's id: %w", err)
	}
	id, sum := made.String(), taskSum(task)
	if key != "" {
		defer s.ask(key)()
		if session, id, err = s.keyed(key, id, sum); session != nil || err != nil {
			return session, session != nil, err
		}
	}
	session, err = s.accept(Record{Version: Version, IdempotencyKey: key, TaskSum: sum, Session: api.Session{
		ID: id, Prompt: task.Prompt, Repo: task.Repo, Ref: task.Ref, Options: task.Options,
		CreatedAt: s.now().UTC().Truncate(time.Millisecond),
	}}, api.Event{MessageID: messageID, Text: task.Prompt})
	if key != "" && errors.Is(err, fs.ErrExist) {
		// Another daemon was faster.
		s.lookAnew(sessionsDir)
		if session, _, err = s.keyed(key, id, sum); session == nil && err == nil {
			err = fmt.Errorf("%w: %s", ErrUnseen, id)
		}
		return session, session != nil, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("writing a new session: %w", err)
	}
	return session, false, nil
}

// accept makes a session, at once or not at all. The error is fs.ErrExist if there is one with its id.
func (s *Store) accept(record Record, message api.Event) (*Session, error) {
	s.make(record.ID, true)
	defer s.make(record.ID, false)
	spooled, accepted := s.path(spoolDir, newPrefix+s.owner.ID+"."+record.ID), s.path(sessionsDir, record.ID)
	session, err := create(spooled, record, message, s.now, s.owner)
	if err == nil {
		err = syncDir(spooled)
	}
	if err == nil {
		err = os.Rename(spooled, accepted) // which never replaces a session: a directory that is not empty stays
	}
	if err == nil {
		if err = syncDir(s.path(sessionsDir)); err != nil {
			err = errors.Join(err, os.Rename(accepted, spooled))
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(spooled))
	}
	session.moved(accepted)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[record.ID] = session
	if record.IdempotencyKey != "" {
		s.keys[record.IdempotencyKey] = record.ID
	}
	return session, nil
}

// make notes that a session is about to be accepted: whoever finds its directory before that leaves it to accept.
func (s *Store) make(id string, begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begun {
		s.making[id] = true
	} else {
		delete(s.making, id)
	}
}

// ask has requests with the same key follow each other; done ends this one.
func (s *Store) ask(key string) (done func()) {
	mine := make(chan struct{})
	for {
		s.mu.Lock()
		other := s.asked[key]
		if other == nil {
			s.asked[key] = mine
		}
		s.mu.Unlock()
		if other == nil {
			break
		}
		<-other
	}
	return func() {
		s.mu.Lock()
		delete(s.asked, key)
		s.mu.Unlock()
		close(mine)
	}
}

// keyed returns the session that a key has, or nil and the id that its session gets.
//
// A key is bound to an id before there is a session, by a link whose target is made of the id and the task's sum: whoever is asked with the key
// makes a session of this id, and the name of its directory decides which daemon did. Nothing is to be cleaned up after a crash in between: the next
// request goes on.
func (s *Store) keyed(key, id, sum string) (*Session, string, error) {
	has, of, made := s.known(key), sum, false
	if has == "" {
		var err error
		if has, of, made, err = s.bind(s.keyFile(key), id, sum); err == nil && made {
			err = syncDir(s.path(keysDir))
		}
		if err != nil {
			return nil, "", fmt.Errorf("keeping an idempotency key: %w", err)
		}
	}
	if made {
		return nil, id, nil
	}
	session := s.Get(has)
	if session == nil {
		session = s.look(has)
	}
	if session != nil {
		of = session.Record().TaskSum
	}
	if of != sum {
		return nil, "", fmt.Errorf("%w: session %s", ErrOtherTask, has)
	}
	if session == nil {
		return nil, has, s.whyBroken(has)
	}
	return session, has, nil
}

// known returns the session that is known to have a key; "" if none is. One that another daemon has removed has it no more.
func (s *Store) known(key string) string {
	s.mu.Lock()
	id := s.keys[key]
	session := s.sessions[id]
	s.mu.Unlock()
	if session != nil && s.dropIfGone(session) {
		return ""
	}
	return id
}

// whyBroken says why a session cannot be read; nil if there is none.
func (s *Store) whyBroken(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken[id]; err != nil {
		return fmt.Errorf("session %s has this idempotency key, and cannot be read: %w", id, err)
	}
	return nil
}

// bind makes a key's link, if there is none, and returns what it leads to.
func (s *Store) bind(link, id, sum string) (has, of string, made bool, err error) {
	for range 3 {
		if err = os.Symlink(id+"."+sum, link); err == nil {
			return id, sum, true, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", "", false, err
		}
		var target string
		if target, err = os.Readlink(link); errors.Is(err, fs.ErrNotExist) {
			// Its session was removed just now, or another daemon made it just now.
			s.lookAnew(keysDir)
			err = fmt.Errorf("%w: %s", ErrUnseen, link)
			continue
		}
		if err != nil {
			return "", "", false, err
		}
		has, of, _ = strings.Cut(target, ".")
		if uuid.Validate(has) != nil {
			return "", "", false, fmt.Errorf("%s leads to %q, which is no session: remove it", link, target)
		}
		return has, of, false, nil
	}
	return "", "", false, err
}

// lookPrefix begins the names of what lookAnew makes.
const lookPrefix = ".look."

// lookAnew has the system forget what it remembers of a directory, above all which names are not in it: an NFS client does so when it has
// changed it, others when they list it.
func (s *Store) lookAnew(dir string) {
	name := s.path(dir, lookPrefix+uuid.NewString())
	_ = os.Mkdir(name, 0o700)
	_ = os.Remove(name) // or load and sweepKeys do
	_, _ = os.ReadDir(s.path(dir))
}

func (s *Store) keyFile(key string) string { return s.path(keysDir, keyName(key)) }

func keyName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// keepKeys is how long a key is kept for which no session was made: nobody tries for so long.
const keepKeys = 24 * time.Hour

// sweepKeys removes keys whose session never came to be, or is no more.
func (s *Store) sweepKeys() error {
	entries, err := os.ReadDir(s.path(keysDir))
	if err != nil {
		return err
	}
	s.mu.Lock()
	known := make(map[string]bool, len(s.keys))
	for key := range s.keys {
		known[keyName(key)] = true
	}
	s.mu.Unlock()
	for _, entry := range entries {
		if known[entry.Name()] {
			continue
		}
		if strings.HasPrefix(entry.Name(), lookPrefix) {
			_ = os.Remove(s.path(keysDir, entry.Name())) // it is tried again at the next start
			continue
		}
		info, err := entry.Info()
		if err != nil || s.now().Sub(info.ModTime()) < keepKeys {
			continue
		}
		target, err := os.Readlink(s.path(keysDir, entry.Name()))
		if id, _, _ := strings.Cut(target, "."); err == nil && missing(s.path(sessionsDir, id)) {
			_ = os.Remove(s.path(keysDir, entry.Name())) // it is tried again at the next start
		}
	}
	return nil
}

func taskSum(task api.NewSession) string {
	text, err := json.Marshal(task)
	if err != nil {
		return "" // a task that came as JSON can be written as JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
