package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"berth/internal/api"
)

// Names in the spool.
const (
	newPrefix  = "new."  // what is about to be accepted, by the daemon that does it
	oldPrefix  = "old."  // what is about to be removed
	mailPrefix = "mail." // a message, or a request to stop, for a session that another daemon holds
)

// presence is the file by which others know that this daemon uses the volume.
func (s *Store) presence() string { return s.path(daemonsDir, s.owner.ID+".json") }

// beat renews the presence.
func (s *Store) beat() error {
	text, err := json.Marshal(lease{Owner: s.owner, Renewed: s.now()})
	if err != nil {
		return err
	}
	return writeFile(s.presence(), text)
}

func writeFile(path string, text []byte) error {
	return renameio.WriteFile(path, text, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

// renew renews presence and leases until ctx is done.
func (s *Store) renew(ctx context.Context) {
	defer close(s.stopped)
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		_ = s.beat() // a volume that cannot be written is found out by whoever has something to write
		for _, each := range s.List() {
			_ = each.renewHeld() // whoever holds it learns of it by Lost, or at the next event
		}
	}
}

// Peers reports whether another daemon uses the volume, and removes the traces of those that do no more.
func (s *Store) Peers() bool {
	living, err := s.living()
	peers := err == nil && len(living) > 1
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = peers
	if err == nil {
		s.left = s.left || slices.ContainsFunc(s.seen, func(id string) bool { return !slices.Contains(living, id) })
		s.seen = living
	}
	return peers
}

// forgetAfter is how long a daemon that cannot be told to be dead keeps its place without a sign of life.
const forgetAfter = 20 * LeaseTime

// living lists the daemons that use the volume, this one too.
func (s *Store) living() (ids []string, err error) {
	entries, err := os.ReadDir(s.path(daemonsDir))
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		file := s.path(daemonsDir, entry.Name())
		id, found := strings.CutSuffix(entry.Name(), ".json")
		text, err := os.ReadFile(file)
		var seen lease
		if err != nil || !found || json.Unmarshal(text, &seen) != nil || seen.Owner.ID != id {
			if info, err := entry.Info(); err == nil && s.now().Sub(info.ModTime()) > forgetAfter {
				_ = os.Remove(file) // a crash left it half written
			}
			continue
		}
		if id != s.owner.ID && (seen.Owner.dead(s.owner) || s.now().Sub(seen.Renewed) > forgetAfter) {
			_ = os.Remove(file)
			continue
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// sweep removes what daemons that are gone were about to accept or to remove.
func (s *Store) sweep() error {
	living, err := s.living()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.path(spoolDir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, mailPrefix) || strings.HasPrefix(name, ".") && s.fresh(entry) {
			continue
		}
		owner, found := ownerOf(name, newPrefix)
		if !found {
			owner, found = ownerOf(name, oldPrefix)
		}
		if found && slices.Contains(living, owner) {
			continue
		}
		if err := os.RemoveAll(s.path(spoolDir, name)); err != nil {
			return fmt.Errorf("removing what was not accepted: %w", err)
		}
	}
	// What a crash left of files that were being written.
	left, err := filepath.Glob(s.path(".*"))
	if err != nil {
		return err
	}
	for _, file := range left {
		if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() && s.now().Sub(info.ModTime()) > LeaseTime {
			_ = os.Remove(file)
		}
	}
	return nil
}

// fresh reports whether a file may be one that another daemon is just writing.
func (s *Store) fresh(entry fs.DirEntry) bool {
	info, err := entry.Info()
	return err == nil && s.now().Sub(info.ModTime()) <= LeaseTime
}

// Changed reads what other daemons have written, and returns the sessions that this daemon might care for: those that are
// new, and those that have not ended and that it does not hold. When a daemon has left, it reads those that had ended too: it may
// have taken one up again.
func (s *Store) Changed() ([]*Session, error) {
	info, err := os.Stat(s.path(sessionsDir))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	listed, left := s.listed, s.left
	s.left = false
	s.mu.Unlock()
	if !info.ModTime().Equal(listed) {
		if err := s.load(); err != nil {
			return nil, err
		}
	}
	all := s.List()
	idle := make([]bool, len(all))
	var readers errgroup.Group
	readers.SetLimit(opened)
	for index, each := range all {
		readers.Go(func() error {
			if each.idle(left) && each.Refresh() == nil { // else it may be gone; who holds it knows
				idle[index] = each.idle(false)
			}
			return nil
		})
	}
	err = readers.Wait()
	var changed []*Session
	for index, each := range all {
		if idle[index] {
			changed = append(changed, each)
		}
	}
	return changed, err
}

// idle reports whether this daemon does not hold the session, and it has not ended, as far as is known, unless that does not
// matter.
func (s *Session) idle(ended bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease == nil && (ended || !s.record.State.Ended() || s.record.Unheard)
}

// Mail is a message, or a request to stop, that another daemon accepted for a session.
type Mail struct {
	Session string    `json:"session"`
	Event   api.Event `json:"event"`

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
