package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	leaseFile   = "lease.json"
	claimPrefix = "lease."

	// paddedSize is how long texts that are written in place are at least.
	paddedSize = 512

	// maxEpoch is more than any session comes to: an epoch above it is damage, and must not be counted on from.
	maxEpoch = 1 << 40
)

// lease says which daemon may write to a session.
type lease struct {
	Owner   Owner     `json:"owner"`
	Epoch   int       `json:"epoch"`
	Renewed time.Time `json:"renewed"`
}

// claim is an epoch of a session that this daemon has claimed, and the file that says so. Its methods may be called at the same
// time.
type claim struct {
	epoch int
	path  string
	gone  chan struct{} // closed when another daemon has taken the session over

	mu    sync.Mutex
	lease lease
	file  *os.File // nil for a session that nobody else can know of
	made  fs.FileInfo
	names uint64 // how many it had when it was ours: the claim's, and lease.json
}

// makeClaim claims an epoch of the session in a directory. The error is fs.ErrExist if somebody has claimed it.
func makeClaim(dir string, of lease) (*claim, error) {
	c := &claim{epoch: of.Epoch, path: claimFile(dir, of.Epoch), lease: of, gone: make(chan struct{})}
	var err error
	if c.file, err = os.OpenFile(c.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	if c.made, err = c.file.Stat(); err == nil {
		c.names = namesOf(c.made)
		err = c.write()
	}
	if err != nil {
		return nil, errors.Join(err, c.file.Close(), os.Remove(c.path))
	}
	return c, nil
}

// write writes the claim over what its file has. It need not last: after a crash of the machine its owner is gone too. To other
// machines a new claim may be empty for a while, which keeps them out as well.
func (c *claim) write() error {
	text, err := json.Marshal(c.lease)
	if err != nil {
		return err
	}
	_, err = c.file.WriteAt(padded(text), 0)
	return err
}

// padded is a text that can be written over others of its kind: none is shorter, and none needs more room on the volume.
func padded(text []byte) []byte { return fmt.Appendf(nil, "%-*s\n", paddedSize-1, text) }

// save is write, for what other machines have to see: an NFS client keeps what it is given to itself until it is synced.
func (c *claim) save() error {
	if err := c.write(); err != nil {
		return err
	}
	return c.file.Sync()
}

// verify sees that nobody has taken the session over: the error is ErrLost if somebody has.
func (c *claim) verify() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.look()
}

// look is verify, for whoever has the mutex. Who takes a session over removes its last owner's claim before anything else. An NFS client
// may remember where the name led, for as long as it remembers the directory, and then opens the file by its handle: which the server
// keeps, without that name, as long as we have it open. But with that the client learns how many names are left.
func (c *claim) look() error {
	if c.isLost() {
		return ErrLost
	}
	if c.file == nil {
		return nil
	}
	named, err := os.Open(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		close(c.gone)
		return ErrLost
	}
	if err != nil {
		return err
	}
	defer named.Close() //nolint:errcheck // it was only looked at
	info, err := named.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(info, c.made) || namesOf(info) < c.names {
		close(c.gone)
		return ErrLost
	}
	return nil
}

// namesOf is how many names a file has; 0 where that cannot be told.
func namesOf(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink) //nolint:unconvert // it is narrower on other systems
	}
	return 0
}

func (c *claim) isLost() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// fence keeps an owner from writing that may not be one any more: one that has not renewed its claim for a while.
func (c *claim) fence(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isLost() {
		return ErrLost
	}
	if age := since(now, c.lease.Renewed); age < LeaseTime/2 && age > -LeaseTime/2 {
		return nil
	}
	return c.renewed(now)
}

// since is the time between two readings of a clock, by whichever clock went further: the monotonic one does not see a
// machine that was asleep, the other one may be set.
func since(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// renew says that the claim holds.
func (c *claim) renew(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewed(now)
}

func (c *claim) renewed(now time.Time) error {
	if err := c.look(); err != nil || c.file == nil {
		return err
	}
	before := c.lease.Renewed
	c.lease.Renewed = now
	if err := c.save(); err != nil {
		c.lease.Renewed = before
		return err
	}
	return nil
}

// publish gives the claim its other name, lease.json, for people and for what wants to know who has a session. It
// is the same file. Where the file system has no such links there is none.
func (c *claim) publish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := filepath.Join(filepath.Dir(c.path), leaseFile)
	beside := filepath.Join(filepath.Dir(c.path), "."+leaseFile+strconv.Itoa(c.epoch))
	if os.Link(c.path, beside) != nil || os.Rename(beside, name) != nil {
		return // one that is left is found as a leftover
	}
	if info, err := os.Stat(c.path); err == nil && os.SameFile(info, c.made) {
		c.names = max(c.names, namesOf(info))
	}
}

// giveUp lets everybody have the session, who then does all anew that an owner does first.
func (c *claim) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease.Renewed = time.Time{}
	_ = errors.Join(c.save(), c.close()) // else the claim runs out
}

// remove ends the claim.
func (c *claim) remove() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(ignoreMissing(os.Remove(c.path)), c.close())
}

// leave is for an owner that cannot tell whether it still is one: what it leaves runs out.
func (c *claim) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.close() // each write was synced
}

// close is for whoever has the mutex. A claim that is closed looks at nothing any more.
func (c *claim) close() (err error) {
	if c.file != nil {
		err = c.file.Close()
		c.file = nil
	}
	return err
}

func claimFile(dir string, epoch int) string {
	return filepath.Join(dir, claimPrefix+strconv.Itoa(epoch))
}

func claimEpoch(name string) (int, bool) {
	number, is := strings.CutPrefix(name, claimPrefix)
	epoch, err := strconv.Atoi(number)
	return epoch, is && err == nil && epoch > 0 && epoch <= maxEpoch && strconv.Itoa(epoch) == number
}

// readLease finds out who has the session in a directory; nil if nobody has. leftover reports whether a crash has left something.
func readLease(dir string) (current *lease, leftover bool, err error) {
	entries, err := os.ReadDir(dir)
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
		files = append(files, filepath.Base(claimFile(dir, newest)))
	}
	for _, name := range files {
		read, err := readLeaseFile(filepath.Join(dir, name))
		if err != nil {
			return nil, leftover, err
		}
		// Agents of before renewed lease.json alone.
		if read != nil && (current == nil || read.Epoch > current.Epoch || read.Epoch == current.Epoch && read.Renewed.After(current.Renewed)) {
			current = read
		}
	}
	return current, leftover, nil
}

// readLeaseFile reads one of the files. One that was torn by a crash is as old as its file; so is a claim that says that it is
// another one.
func readLeaseFile(path string) (*lease, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	epoch, isClaim := claimEpoch(filepath.Base(path))
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
