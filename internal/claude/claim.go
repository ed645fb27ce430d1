package claude

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Claim is the right to run a session's processes.
type Claim struct {
	session string
	dirs    Dirs
	lock    *os.File
}

// Take waits until no process of the session is left, ends those that escaped their reaper, and claims
// the session. ctx bounds the wait.
func Take(ctx context.Context, session string, dirs Dirs) (*Claim, error) {
	if err := os.MkdirAll(filepath.Dir(dirs.Lock), 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(dirs.Lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
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
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("an earlier process of session %s does not end: %w", session, context.Cause(ctx)), lock.Close())
		}
	}
}

// Release gives the claim up. A process that was started under it must have ended.
func (c *Claim) Release() { _ = c.lock.Close() }

// Transcript reads the session's transcript, which may be empty.
func (c *Claim) Transcript() (*Transcript, error) {
	transcript := newTranscript(c.dirs.Config, c.session)
	return transcript, transcript.Refresh()
}
