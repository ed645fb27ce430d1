package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockFile locks a file, which is made if need be and is never removed. The lock ends when the file is closed: by the
// caller, or by the system when the process is killed. It holds between the machines that mount one NFS volume, too
// (flock(2)).
func lockFile(ctx context.Context, path string, exclusive bool) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock a mirror: %w", err)
	}
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	// A call that waits could not be called off.
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close() // nothing was written
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			_ = file.Close() // nothing was written
			return nil, context.Cause(ctx)
		}
	}
}

// unlock ends a lock at once. To close the file would not do: a process that is just being started has a copy of it until it
// becomes another program, and with the copy the lock.
func unlock(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) // closing it does it, too, a moment later
	_ = file.Close()                                   // nothing was written
}
