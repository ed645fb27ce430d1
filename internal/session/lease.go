package session

import (
	"encoding/json"
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

	"github.com/google/renameio/v2"
)

const (
	// LeaseTime is how long a lease that is not renewed keeps others out. An owner that could not renew it for
	// half of that looks whether it still has it before it writes anything.
	LeaseTime = 30 * time.Second
	// renewEvery is how often an owner renews its leases.
	renewEvery = LeaseTime / 3

	leaseFile   = "lease.json"
	claimPrefix = "lease."
	swapPrefix  = ".swap-"
)

// A lease says which daemon may write to a session. It is two files of the session's directory:
//
//	lease.<epoch>  made with O_EXCL, so that only one daemon can be the owner of an epoch, and never written again
//	lease.json     the same, with the time of the last renewal
//
// Whoever takes a session over from an owner that may come back from the dead first claims the next epoch, then
// puts copies in the places of the session's log and transcript. The old owner has the old files open, and never opens
// them by name again: what it writes counts nowhere, whenever it wakes, and it finds out as soon as it looks.
type lease struct {
	Owner   Owner     `json:"owner"`
	Epoch   int       `json:"epoch"`
	Renewed time.Time `json:"renewed"`
}

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
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.take(); err != nil {
		return nil, err
	}
	released := false
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return ErrLost
	}
	return s.fence()
}

// take is Hold, for whoever has the mutex.
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
	ours := s.verify() == nil
	_ = s.log.rest()
	s.transcript.close()
	if ours {
		s.removeLease() // last: until then nobody else writes
	}
	s.lease = nil
}

// acquire makes this daemon the session's owner.
func (s *Session) acquire() error {
	for range 10 {
		// First the log, then the lease: who became the owner in between has claimed the epoch that we try to claim.
		if err := s.refresh(false); err != nil {
			return err
		}
		current, _, err := s.readLease()
		if err != nil {
			return err
		}
		stale := false
		if current != nil {
			dead := current.Owner.dead(s.owner)
			stale = !dead
			// A time far ahead is no more to be believed than one long ago: it must not keep everybody out until it comes.
			if age := s.now().Sub(current.Renewed); !dead && age < LeaseTime && age > -LeaseTime {
				return &LeasedError{ID: s.ID(), Owner: current.Owner.ID}
			}
		}
		next := s.record.Epoch + 1
		if current != nil {
			next = max(next, current.Epoch+1)
		}
		claimed := &lease{Owner: s.owner, Epoch: next, Renewed: s.now()}
		switch err := s.claim(claimed); {
		case errors.Is(err, fs.ErrExist):
			continue // somebody was faster
		case err != nil:
			return err
		}
		// An epoch that is in the log has had its owner, who let go of it since we looked.
		if err := s.refresh(false); err != nil || s.record.Epoch >= next {
			if err := errors.Join(err, ignoreMissing(os.Remove(s.claimFile(next)))); err != nil {
				return err
			}
			continue
		}
		if err := s.enter(claimed, stale); err != nil {
			_ = s.log.rest()
			s.transcript.close()
			s.lease = claimed
			s.removeLease()
			s.lease = nil
			return err
		}
		return nil
	}
	return &LeasedError{ID: s.ID(), Owner: "that is faster each time"}
}

// enter makes the files the owner's, who has claimed an epoch.
func (s *Session) enter(claimed *lease, stale bool) error {
	if stale {
		for _, name := range []string{logFile, transcriptFile} {
			if err := s.swap(name, claimed.Epoch); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(s.log.take(), s.transcript.take()); err != nil {
		return err
	}
	if err := errors.Join(s.refresh(true), s.log.cut()); err != nil {
		return err
	}
	s.lease, s.gone = claimed, make(chan struct{})
	if err := s.writeLease(); err != nil {
		return err
	}
	s.tidy()
	return s.migrate()
}

// swap puts a copy in the place of a file.
func (s *Session) swap(name string, epoch int) error {
	path := filepath.Join(s.dir, name)
	from, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // it was only read
	temporary := filepath.Join(s.dir, swapPrefix+strconv.Itoa(epoch)+"-"+name)
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Sync(), to.Close())
	if err == nil {
		// Copying may have taken long: somebody else may have taken ours for stale.
		if _, claimed := os.Lstat(s.claimFile(epoch + 1)); claimed == nil {
			err = ErrLost
		}
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(temporary)))
	}
	return syncDir(s.dir)
}

// verify sees that nobody has taken the session over, for an owner.
func (s *Session) verify() error {
	if s.lease == nil {
		return ErrLost
	}
	if !s.log.current() {
		return s.lose()
	}
	if _, err := os.Lstat(s.claimFile(s.lease.Epoch + 1)); err == nil {
		return s.lose()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Session) lose() error {
	select {
	case <-s.gone:
	default:
		close(s.gone)
	}
	return ErrLost
}

// fence keeps an owner from writing that may not be one any more.
func (s *Session) fence() error {
	select {
	case <-s.gone:
		return ErrLost
	default:
	}
	if age := since(s.now(), s.lease.Renewed); age < LeaseTime/2 && age > -LeaseTime/2 {
		return nil
	}
	return s.renew()
}

// since is the time between two readings of a clock, by whichever clock went further: the monotonic one does not see a
// machine that was asleep, the other one may be set.
func since(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// renew renews the lease, for an owner.
func (s *Session) renew() error {
	if err := s.verify(); err != nil {
		return err
	}
	s.lease.Renewed = s.now()
	return s.writeLease()
}

// renewHeld renews the lease if this daemon has it.
func (s *Session) renewHeld() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return nil
	}
	return s.renew()
}

func (s *Session) claimFile(epoch int) string {
	return filepath.Join(s.dir, claimPrefix+strconv.Itoa(epoch))
}

func (s *Session) claim(claimed *lease) error {
	text, err := json.Marshal(claimed)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(s.claimFile(claimed.Epoch), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// writeLease need not last: after a crash of the machine its owner is gone too.
func (s *Session) writeLease() error {
	text, err := json.Marshal(s.lease)
	if err != nil {
		return err
	}
	pending, err := renameio.NewPendingFile(filepath.Join(s.dir, leaseFile), renameio.WithTempDir(s.dir), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	if _, err = pending.Write(text); err == nil {
		err = pending.CloseAtomicallyReplace()
	}
	return errors.Join(err, pending.Cleanup())
}

func (s *Session) removeLease() {
	_ = os.Remove(filepath.Join(s.dir, leaseFile)) // what stays is found stale
	_ = os.Remove(s.claimFile(s.lease.Epoch))
}

// readLease finds out who has the session; nil if nobody has. leftover reports whether a crash has left something.
func (s *Session) readLease() (current *lease, leftover bool, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, false, err
	}
	newest, files := 0, []string{}
	for _, entry := range entries {
		name := entry.Name()
		epoch, isClaim := claimEpoch(name)
		switch {
		case isClaim:
			newest = max(newest, epoch)
		case name == leaseFile:
			files = append(files, name)
		case strings.HasPrefix(name, "."):
			leftover = true
		}
	}
	if newest > 0 {
		files = append(files, filepath.Base(s.claimFile(newest)))
	}
	for _, name := range files {
		read, err := s.readLeaseFile(name)
		if err != nil {
			return nil, leftover, err
		}
		if read != nil && (current == nil || read.Epoch > current.Epoch) {
			current = read
		}
	}
	return current, leftover, nil
}

// readLeaseFile reads one of the files. One that was torn by a crash is as old as its file; so is a claim that says that it is
// another one.
func (s *Session) readLeaseFile(name string) (*lease, error) {
	path := filepath.Join(s.dir, name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	epoch, isClaim := claimEpoch(name)
	read := &lease{}
	if json.Unmarshal(text, read) == nil && read.Epoch > 0 && read.Epoch <= maxEpoch && (!isClaim || read.Epoch == epoch) {
		return read, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	return &lease{Epoch: max(epoch, 1), Renewed: info.ModTime(), Owner: Owner{ID: "unknown"}}, nil
}

// maxEpoch is more than any session comes to: an epoch above it is damage, and must not be counted on from.
const maxEpoch = 1 << 40

func claimEpoch(name string) (int, bool) {
	number, is := strings.CutPrefix(name, claimPrefix)
	epoch, err := strconv.Atoi(number)
	return epoch, is && err == nil && epoch > 0 && epoch <= maxEpoch && strconv.Itoa(epoch) == number
}

// tidy removes what earlier owners have left behind.
func (s *Session) tidy() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		epoch, isClaim := claimEpoch(entry.Name())
		if isClaim && epoch < s.lease.Epoch || slices.ContainsFunc(temporaries, func(prefix string) bool { return strings.HasPrefix(entry.Name(), prefix) }) {
			_ = os.Remove(filepath.Join(s.dir, entry.Name()))
		}
	}
}

// temporaries begin the names of files that are not whole yet.
var temporaries = []string{"." + snapshotFile, "." + leaseFile, swapPrefix}
