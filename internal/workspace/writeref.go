package workspace

import (
	"errors"
	"os"
	"path/filepath"
)

// writeRef sets a ref of the mirror as `git update-ref` does, in a tenth of the operations on the volume. The error is
// os.ErrExist if somebody else has it locked.
func (r *mirror) writeRef(name, oid string) error {
	return r.lockedRef(name, func(lock *os.File) error { return fillRef(lock, oid) })
}

// fillRef writes what a ref leads to, synced.
func fillRef(lock *os.File, oid string) error {
	_, err := lock.WriteString(oid + "\n")
	return errors.Join(err, lock.Sync())
}

// lockSays returns what a ref was about to lead to when somebody was killed over it; nothing if that is not known.
func (r *mirror) lockSays(name string) string {
	text, err := os.ReadFile(filepath.Join(r.path, filepath.FromSlash(name)) + ".lock")
	if err != nil {
		return ""
	}
	return parseOID(string(text))
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
		return fillRef(lock, run.next)
	})
}

// lockedRef locks a ref's file, has write fill the one that replaces it, synced, and puts that in its place.
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
	if err = errors.Join(write(lock), lock.Close()); err == nil {
		err = rename(path+".lock", path)
	}
	if err != nil {
		_ = os.Remove(path + ".lock") // the next one removes it
		return err
	}
	return syncDir(filepath.Dir(path))
}
