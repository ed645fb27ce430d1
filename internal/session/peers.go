package session

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// presence is the file by which others know that this daemon uses the volume.
func (s *Store) presence() string { return s.path(daemonsDir, s.owner.ID+".json") }

// beat renews the presence. It is written in place, so that a daemon that is killed leaves no other file; nobody else
// writes it.
func (s *Store) beat() error {
	text, err := json.Marshal(lease{Owner: s.owner, Renewed: s.now()})
	if err != nil {
		return err
	}
	file, err := os.OpenFile(s.presence(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(padded(text), 0)
	return errors.Join(err, file.Sync(), file.Close())
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
			info, err := entry.Info()
			if err != nil {
				continue
			}
			// One that is just being written is as old as its file.
			seen = lease{Owner: Owner{ID: id}, Renewed: info.ModTime()}
		}
		if id != s.owner.ID && (seen.Owner.dead(s.owner) || s.now().Sub(seen.Renewed) > forgetAfter) {
			_ = os.Remove(file)
			continue
		}
		if found && id != s.owner.ID {
			ids = append(ids, id)
		}
	}
	return append(ids, s.owner.ID), nil // whatever others think of us
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
			if !each.idle(left) {
				return nil
			}
			err := each.Refresh()
			if err == nil {
				idle[index] = each.idle(false)
			} else if errors.Is(err, fs.ErrNotExist) {
				s.dropIfGone(each)
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
	return s.claim == nil && (ended || !s.record.State.Ended() || s.record.Unheard)
}
