package claude

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// Claim is the right to run a session's processes.
type Claim struct {
	session string
	dirs    Dirs
	lock    *os.File
}

// politeWait is how long an earlier process of a session may take to end by itself. Its reaper takes less, unless the daemon
// that had the session was stopped and not ended.
const politeWait = reapGrace + 3*time.Second

// Take waits until no process of the session is left, ends those that escaped their reaper or do not end, and claims
// the session. ctx bounds the wait. It is for the session's owner: nobody else may run it.
func Take(ctx context.Context, session string, dirs Dirs) (*Claim, error) {
	if err := os.MkdirAll(filepath.Dir(dirs.Lock), 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(dirs.Lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ticker, late := time.NewTicker(10*time.Millisecond), time.NewTimer(politeWait)
	defer ticker.Stop()
	defer late.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sweep(session, userOf(dirs.Root)) == 0 {
			return &Claim{session: session, dirs: dirs, lock: lock}, nil
		}
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", dirs.Lock, err), lock.Close())
		}
		select {
		case <-ticker.C:
		case <-late.C:
			sweep(session, userOf(dirs.Root))
			late.Reset(politeWait)
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("an earlier process of session %s does not end: %w", session, context.Cause(ctx)), lock.Close())
		}
	}
}

// Release gives the claim up. A process that was started under it must have ended.
func (c *Claim) Release() { _ = c.lock.Close() }

// RestoreTranscript puts a copy of the session's transcript where the CLI looks for it, unless what is there is at least as
// long. It reports whether it did. There may be no copy.
func (c *Claim) RestoreTranscript(from string) (restored bool, err error) {
	copied, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer copied.Close() //nolint:errcheck // it was only read
	info, err := copied.Stat()
	if err != nil {
		return false, err
	}
	present := newTranscript(c.dirs.Config, c.session)
	if err := present.Refresh(); err != nil {
		return false, err
	}
	if present.read >= info.Size() {
		return false, nil
	}
	// The session could have made anything of its own directories.
	if err := errors.Join(os.RemoveAll(c.dirs.Config), c.dirs.Make()); err != nil {
		return false, err
	}
	// Claude Code names the directory by where it works, but finds a transcript in any.
	dir := filepath.Join(c.dirs.Config, "projects", notInNames.ReplaceAllString(c.dirs.Tree, "-"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	file, err := os.OpenFile(filepath.Join(dir, c.session+".jsonl"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(file, copied)
	return err == nil, errors.Join(err, file.Close())
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9]`)

// Transcript reads the session's transcript, which may be empty.
func (c *Claim) Transcript() (*Transcript, error) {
	transcript := newTranscript(c.dirs.Config, c.session)
	return transcript, transcript.Refresh()
}
