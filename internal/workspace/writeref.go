package workspace

import (
	"errors"
	"os"
	"path/filepath"
)

// writeRef sets a ref of the mirror as `git update-ref` does, in a tenth of the operations on the volume. The error is
// os.ErrExist if somebody else has it locked.
func (r *mirror) writeRef(name, oid string) error {
	return r.lockedRef(name, func(lock *os.File) error {
		_, err := lock.WriteString(oid + "\n")
		return err
	})
}

// moveRef makes the session's ref lead to a checkpoint, if it is as this run knows it: nobody else can move it between the
// look and the move, for they need the lock too.
func (r *mirror) moveRef(id string, run *known) error {
	name := "refs/berth/" + id
	return r.lockedRef(name, func(lock *os.File) error {
		text, err := os.ReadFile(filepath.Join(r.path, filepath.FromSlash(name)))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if there := parseOID(string(text)); there != "" {
			if err := run.check(id, there); err != nil {
				return err
			}
		}
		_, err = lock.WriteString(run.next + "\n")
		return err
	})
}

// lockedRef locks a ref's file, has write fill the one that replaces it, and puts that in its place, synced.
func (r *mirror) lockedRef(name string, write func(lock *os.File) error) error {
	path := filepath.Join(r.path, filepath.FromSlash(name))
	lock, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			lock, err = os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	if err != nil {
		return err
	}
	if err = write(lock); err == nil {
		err = lock.Sync()
	}
	if err = errors.Join(err, lock.Close()); err == nil {
		err = rename(path+".lock", path)
	}
	if err != nil {
		_ = os.Remove(path + ".lock") // the next one removes it
		return err
	}
	return syncDir(filepath.Dir(path))
}
