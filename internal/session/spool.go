package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
)

// Names in the spool.
const (
	newPrefix  = "new."  // what is about to be accepted, by the daemon that does it
	oldPrefix  = "old."  // what is about to be removed
	mailPrefix = "mail." // a message, or a request to stop, for a session that another daemon holds
)

// Remove removes a session that has ended, with all that is on the volume of it, if it may go as it is now. forget then removes what
// is elsewhere of it; as long as it fails, and after a crash, FinishRemovals has it done again. The error is a *StateError if
// the session may not go. Remove and FinishRemovals are not for use at the same time.
func (s *Store) Remove(session *Session, may func(*Record) bool, forget func(*Record) error) error {
	id, removed := session.ID(), s.path(spoolDir, oldPrefix+s.owner.ID+"."+session.ID())
	err := session.write(func() error {
		record := session.Record()
		if !record.State.Ended() || !may(&record) {
			return &StateError{ID: id, Err: errors.New("it is not to be removed")}
		}
		// The key first: bound to a session that is no more, it would make one with the same id.
		if record.IdempotencyKey != "" {
			if err := ignoreMissing(os.Remove(s.keyFile(record.IdempotencyKey))); err != nil {
				return err
			}
		}
		err := os.Rename(s.path(sessionsDir, id), removed)
		session.removed = err == nil
		return err
	})
	if errors.Is(err, fs.ErrNotExist) && s.dropIfGone(session) {
		return nil // another daemon was faster
	}
	if err != nil {
		return err
	}
	record := session.Record()
	s.mu.Lock()
	delete(s.sessions, id)
	delete(s.keys, record.IdempotencyKey)
	s.mu.Unlock()
	return errors.Join(syncDir(s.path(sessionsDir)), finish(removed, &record, forget))
}

// FinishRemovals finishes what Remove could not, here or in daemons that are gone.
func (s *Store) FinishRemovals(forget func(*Record) error) error {
	entries, living, err := s.spooled()
	if err != nil {
		return err
	}
	var failed error
	for _, entry := range entries {
		owner, found := ownerOf(entry.Name(), oldPrefix)
		if !found || owner != s.owner.ID && slices.Contains(living, owner) {
			continue
		}
		dir := s.path(spoolDir, entry.Name())
		text, err := os.ReadFile(filepath.Join(dir, snapshotFile))
		var record Record
		if err == nil && json.Unmarshal(text, &record) == nil {
			failed = errors.Join(failed, finish(dir, &record, forget))
			continue
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.RemoveAll(dir) // it had come as far as the files
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// spooled lists the spool, and the daemons whose work in it goes on.
func (s *Store) spooled() (entries []fs.DirEntry, living []string, err error) {
	if living, err = s.living(); err == nil {
		entries, err = os.ReadDir(s.path(spoolDir))
	}
	return entries, living, err
}

// finish has what is elsewhere of a session removed, and then what says that there is something.
func finish(dir string, record *Record, forget func(*Record) error) error {
	if err := forget(record); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Sweep removes what daemons that are gone were about to accept, and files that they were writing.
func (s *Store) Sweep() error {
	entries, living, err := s.spooled()
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, mailPrefix) || strings.HasPrefix(name, oldPrefix) || strings.HasPrefix(name, ".") && s.fresh(entry) {
			continue
		}
		if owner, found := ownerOf(name, newPrefix); found && slices.Contains(living, owner) {
			continue
		}
		if err := os.RemoveAll(s.path(spoolDir, name)); err != nil {
			return fmt.Errorf("removing what was not accepted: %w", err)
		}
	}
	if entries, err = os.ReadDir(s.dir); err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && entry.Type().IsRegular() && !s.fresh(entry) {
			_ = os.Remove(s.path(entry.Name())) // it is tried again
		}
	}
	return nil
}

// fresh reports whether a file may be one that another daemon is just writing.
func (s *Store) fresh(entry fs.DirEntry) bool {
	info, err := entry.Info()
	return err == nil && s.now().Sub(info.ModTime()) <= LeaseTime
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

// Mail is a message, or a request to stop, that another daemon accepted for a session.
type Mail struct {
	Session string    `json:"session"`
	Event   api.Event `json:"event"`
	// Asked is when the session had last been asked for something, as its poster saw it: a request to stop is for that and nothing later. Agents of
	// before did not say.
	Asked time.Time `json:"asked,omitzero"`

	file string
}

// Post leaves an event for the daemon that holds a session. It is on the disk when Post returns.
func (s *Store) Post(mail Mail) error {
	text, err := json.Marshal(mail)
	if err != nil {
		return err
	}
	name := mailPrefix + mail.Session + "." + uuid.NewString() + ".json"
	if err := writeFile(s.path(spoolDir, name), text); err != nil {
		return err
	}
	return syncDir(s.path(spoolDir))
}

// Mails returns what was left, the oldest first. The error is of what cannot be read, beside the rest.
func (s *Store) Mails() (list []Mail, unread error) {
	entries, err := os.ReadDir(s.path(spoolDir))
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), mailPrefix) {
			continue
		}
		mail := Mail{file: s.path(spoolDir, entry.Name())}
		text, err := os.ReadFile(mail.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody was faster
		}
		if err == nil {
			err = json.Unmarshal(text, &mail)
		}
		if err != nil {
			unread = errors.Join(unread, fmt.Errorf("reading %s: %w", mail.file, err))
			continue
		}
		list = append(list, mail)
	}
	slices.SortFunc(list, func(a, b Mail) int { return a.Event.Time.Compare(b.Event.Time) })
	return list, unread
}

// Delivered removes mail that has reached its session.
func (s *Store) Delivered(mail Mail) error { return ignoreMissing(os.Remove(mail.file)) }
