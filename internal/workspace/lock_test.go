package workspace

import (
	"path/filepath"
	"syscall"
	"testing"
)

// A process that is being started has copies of all open files for a moment; the locks must not last as long as these.
func TestALockEndsThoughItsFileIsOpenElsewhere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := lockFile(t.Context(), path, true)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := syscall.Dup(int(held.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(copied) }()
	unlock(held)
	next, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(next) }()
	if err := syscall.Flock(next, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Errorf("the lock is still held: %v", err)
	}
}
