package claude

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// own gives a file or a directory, and what is in it, to a user. It goes from directory to directory by their
// descriptors and follows no symbolic link, so that nothing outside is touched, whatever names change.
func own(path string, id int) error {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir) //nolint:errcheck // it was only looked at
	name := filepath.Base(path)
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := ownAt(dir, name, id); err != nil {
		return err
	}
	switch kind := stat.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		return unix.Fchmodat(dir, name, 0o700, 0)
	case kind == unix.S_IFREG && !shared(&stat):
		return unix.Fchmodat(dir, name, 0o600, 0)
	}
	return nil
}

// shared reports whether a file has another name. There it may be anybody's: a session can have linked it here, where the
// system lets it (protected_hardlinks in proc_sys_fs(5)), and must not even get a copy.
func shared(stat *unix.Stat_t) bool { return stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Nlink > 1 }

func ownAt(dir int, name string, id int) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	kind, theirs := stat.Mode&unix.S_IFMT, int(stat.Uid) == id && int(stat.Gid) == id
	switch {
	case kind == unix.S_IFDIR:
		return ownDir(dir, name, id)
	case theirs:
		return nil
	case kind == unix.S_IFCHR, kind == unix.S_IFBLK:
		return fmt.Errorf("%s is a device", name)
	case shared(&stat):
		return nil
	}
	// The kernel takes setuid and setgid bits, and capabilities, off files that are given away (chown(2)).
	if err := unix.Fchownat(dir, name, id, id, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "chown", Path: name, Err: err}
	}
	return nil
}

func ownDir(dir int, name string, id int) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	opened := os.NewFile(uintptr(fd), name)
	defer opened.Close() //nolint:errcheck // it was only read
	for {
		names, err := opened.Readdirnames(1000)
		for _, each := range names {
			if err := ownAt(fd, each, id); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return opened.Chown(id, id)
		}
		if err != nil {
			return err
		}
	}
}
