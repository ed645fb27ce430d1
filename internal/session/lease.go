package session

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/api"
)

const (
	// LeaseTime is how long a lease that is not renewed keeps others out. An owner that could not renew it for
	// half of that looks whether it still has it before it writes anything.
	LeaseTime = 30 * time.Second
	// renewEvery is how often an owner renews its leases.
	renewEvery = LeaseTime / 3

	swapPrefix = ".swap-"
)

// The lease of a session is a file of its directory, lease.<epoch>: the claim of that epoch. It is made with O_EXCL, so that only one daemon
// can be the owner of an epoch, and renewed in place by that daemon alone: a renewal that comes late, by one that was
// followed meanwhile, changes nobody else's. lease.json is another name of the same file.
//
// Whoever follows another owner, in this order:
//
//  1. claims the next epoch, and sees that there is no later one;
//  2. removes the claims of earlier ones, by which those find out, and then their files that are to be renamed into place;
//  3. puts copies in the places of the session's log and transcript;
//  4. opens those, and sees that its own claim is still there: so nobody has come in between.
//
// No epoch has two claims, one after the other: an owner may have been stopped when it was about to remove its own, which it does by
// name. So who has followed one that may be alive and lets go without an event of its own, by which the next one would know the epoch,
// writes one.
//
// An owner that comes back from the dead has the old files open, and never opens them by name again: what it writes counts
// nowhere, whenever it wakes, and it finds out as soon as it looks. What it wrote and synced while its claim was there is in
// the copies.

// LeasedError says that another daemon has the session.
type LeasedError struct {
	ID    string
	Owner string
}

func (e *LeasedError) Error() string {
	return fmt.Sprintf("session %s is held by the agent %s", e.ID, e.Owner)
}

// ErrLost is wrapped by the errors of a session that another daemon has taken over meanwhile.
var ErrLost = errors.New("another agent has taken the session over")

// Hold takes hold of the session for this daemon, so that no other one writes to it, until release is called. It counts:
// a session is let go of with its last holder. The error is a *LeasedError while another daemon has it.
func (s *Session) Hold() (release func(), err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.take(); err != nil {
		return nil, err
	}
	released := false
	return func() {
		s.writing.Lock()
		defer s.writing.Unlock()
		if !released {
			released = true
			s.letGo()
		}
	}, nil
}

// Lost is closed when another daemon has taken the session over. It is for a holder of the session.
func (s *Session) Lost() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// Verify sees that this daemon still has the session. It asks the volume only if the lease was not renewed for a while. It is
// for a holder of the session.
func (s *Session) Verify() error {
	held := s.held()
	if held == nil {
		return ErrLost
	}
	return held.fence(s.now())
}

// held is this daemon's claim to the session; nil if it has none.
func (s *Session) held() *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claim
}

func (s *Session) setClaim(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claim = c; c != nil {
		s.gone = c.gone
	}
}

// renewHeld renews the lease if this daemon has it. It waits for nobody who writes to the session.
func (s *Session) renewHeld() error {
	if held := s.held(); held != nil {
		return held.renew(s.now())
	}
	return nil
}

// take is Hold, for whoever writes.
func (s *Session) take() error {
	if s.holders == 0 {
		if err := s.acquire(); err != nil {
			return err
		}
	}
	s.holders++
	return nil
}

func (s *Session) letGo() {
	if s.holders--; s.holders > 0 {
		return
	}
	held := s.held()
	marked := s.mark()
	_ = s.log.rest() // what was promised is on the disk already
	s.transcript.close()
	s.setClaim(nil)
	if marked != nil {
		held.giveUp()
		return
	}
	if held.verify() != nil {
		held.leave()
		return
	}
	_ = os.Remove(filepath.Join(s.dir, leaseFile)) // what stays is found stale
	_ = held.remove()                              // last: until then nobody else writes
}

// mark sees that the log has the epoch of an owner that is about to let go, if another one might claim it a second time.
func (s *Session) mark() error {
	if !s.unmarked || s.removed {
		return nil
	}
	return s.append(api.Event{Type: api.EventNotice, Text: "this agent has taken the session over from one that did not answer, and let go of it"})
}

// acquire makes this daemon the session's owner.
func (s *Session) acquire() error {
	for range 10 {
		if done, err := s.tryAcquire(); done || err != nil {
			return err
		}
	}
	return &LeasedError{ID: s.ID(), Owner: "that is faster each time"}
}

// tryAcquire is one attempt. It reports false if somebody was faster.
func (s *Session) tryAcquire() (done bool, err error) {
	// First the log, then the lease: who became the owner in between has claimed the epoch that we try to claim.
	if err := s.refresh(false); err != nil {
		return false, err
	}
	current, _, err := readLease(s.dir)
	if err != nil {
		return false, err
	}
	next := s.Record().Epoch + 1
	if current != nil {
		if current.holds(s.owner, s.now()) {
			return false, &LeasedError{ID: s.ID(), Owner: current.Owner.ID}
		}
		next = max(next, current.Epoch+1)
	}
	claimed, err := makeClaim(s.dir, lease{Owner: s.owner, Epoch: next, Renewed: s.now()})
	if errors.Is(err, fs.ErrExist) {
		return false, nil // somebody was faster
	}
	if err != nil {
		return false, err
	}
	// An epoch that is in the log has had its owner, who let go of it since we looked.
	if err := s.refresh(false); err != nil || s.Record().Epoch >= next {
		if err := errors.Join(err, claimed.remove()); err != nil {
			return false, err
		}
		return false, nil
	}
	if newest, err := s.follow(claimed); err != nil {
		claimed.giveUp()
		return false, err
	} else if !newest {
		if err := claimed.remove(); err != nil {
			return false, err
		}
		return false, nil
	}
	s.unmarked = current != nil && !current.Owner.dead(s.owner)
	return true, s.enter(claimed, current != nil)
}

// holds reports whether the lease keeps others out: its owner is not known to have ended, and has renewed it lately. A time far ahead is
// no more to be believed than one long ago: it must not keep everybody out until it comes.
func (l *lease) holds(others Owner, now time.Time) bool {
	age := now.Sub(l.Renewed)
	return !l.Owner.dead(others) && age < LeaseTime && age > -LeaseTime
}

// follow cuts earlier owners off from the session. It reports false, and has done nothing, if there is a later claim than this one:
// what an NFS client remembers of a directory may be old, but not after it has made a file there.
func (s *Session) follow(claimed *claim) (newest bool, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return false, err
	}
	var earlier []string
	for _, entry := range entries {
		switch epoch, isClaim := claimEpoch(entry.Name()); {
		case isClaim && epoch > claimed.epoch:
			return false, nil
		case isClaim && epoch < claimed.epoch:
			earlier = append(earlier, entry.Name())
		}
	}
	if len(earlier) > 0 {
		if err := s.removeAll(earlier); err != nil {
			return false, err
		}
		// Until now they may have begun to write files.
		if entries, err = os.ReadDir(s.dir); err != nil {
			return false, err
		}
	}
	var unfinished []string
	for _, entry := range entries {
		if slices.ContainsFunc(temporaries, func(prefix string) bool { return strings.HasPrefix(entry.Name(), prefix) }) {
			unfinished = append(unfinished, entry.Name())
		}
	}
	return true, s.removeAll(unfinished)
}

// temporaries begin the names of files that are not whole yet.
var temporaries = []string{"." + snapshotFile, "." + leaseFile, swapPrefix}

func (s *Session) removeAll(names []string) (err error) {
	for _, name := range names {
		err = errors.Join(err, ignoreMissing(os.Remove(filepath.Join(s.dir, name))))
	}
	return err
}

// enter makes the files the owner's, who has claimed an epoch. followed says that there was an owner before, who may still have them open. The
// claim is renewed meanwhile, as it may take long.
func (s *Session) enter(claimed *claim, followed bool) error {
	s.setClaim(claimed)
	err := s.makeOurs(claimed, followed)
	if err != nil {
		_ = s.log.rest()
		s.transcript.close()
		s.setClaim(nil)
		claimed.giveUp()
	}
	return err
}

func (s *Session) makeOurs(claimed *claim, followed bool) error {
	if followed {
		for _, name := range []string{logFile, transcriptFile} {
			if err := s.swap(name, claimed); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(s.log.take(), s.transcript.take()); err != nil {
		return err
	}
	if err := claimed.verify(); err != nil {
		return err // and the files may be those of whoever followed us already
	}
	if err := errors.Join(s.refresh(true), s.log.cut()); err != nil {
		return err
	}
	claimed.publish()
	return s.migrate()
}

// swap puts a copy in the place of a file.
func (s *Session) swap(name string, by *claim) error {
	path := filepath.Join(s.dir, name)
	from, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // it was only read
	temporary := filepath.Join(s.dir, swapPrefix+strconv.Itoa(by.epoch)+"-"+name)
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err == nil {
		// Copying may have taken long: somebody else may have taken ours for stale. If that happens from here on, the file to be
		// renamed is gone.
		err = by.verify()
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(temporary)))
	}
	return syncDir(s.dir)
}
