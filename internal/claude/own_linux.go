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
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return unix.Fchmodat(dir, name, 0o700, 0)
	case unix.S_IFREG:
		return unix.Fchmodat(dir, name, 0o600, 0)
	}
	return nil
}

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
	case kind == unix.S_IFREG && stat.Nlink > 1:
		return copyAt(dir, name, id, stat.Mode&0o777)
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

// copyAt puts a user's copy of a file into its place: under its other names the file may be anybody's.
func copyAt(dir int, name string, id int, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	from := os.NewFile(uintptr(fd), name)
	defer from.Close() //nolint:errcheck // it was only read
	temporary := fmt.Sprintf(".berth-%d-%d", os.Getpid(), fd)
	fd, err = unix.Openat(dir, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: temporary, Err: err}
	}
	to := os.NewFile(uintptr(fd), temporary)
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Chown(id, id), to.Chmod(os.FileMode(mode)), to.Close())
	if err == nil {
		err = unix.Renameat(dir, temporary, dir, name)
	}
	if err != nil {
		return errors.Join(&os.PathError{Op: "copy", Path: name, Err: err}, unix.Unlinkat(dir, temporary, 0))
	}
	return nil
}
