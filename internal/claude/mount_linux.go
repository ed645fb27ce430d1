package claude

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mount gives this thread, and the program that it becomes, mounts of its own: nothing is hidden from anybody else.
//
// Each shared directory is replaced by the session's own temporary directory or, if it is in memory, by another one there.
// Each hidden one is empty. What is to be kept of either is mounted at its old place again.
func (b *sandbox) mount() error {
	// Message queues and System V shared memory have no directory that could be replaced.
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWIPC); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts from spreading: %w", err)
	}
	where, err := os.Getwd()
	if err != nil {
		return err
	}
	covers := outermost(slices.Concat(b.Shared, b.Hide))
	kept, err := b.open(covers)
	if err != nil {
		return err
	}
	temp, err := unix.Open(b.Temp, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: b.Temp, Err: err}
	}
	for _, cover := range covers {
		if err := b.cover(cover, temp); err != nil {
			return fmt.Errorf("covering %s: %w", cover, err)
		}
	}
	for _, each := range kept {
		if err := each.restore(); err != nil {
			return fmt.Errorf("keeping %s: %w", each.path, err)
		}
	}
	// Other sessions' and the agent's processes are not to be seen. Some containers do not allow it, and modes keep the
	// most of it closed.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "hidepid=invisible")
	// By its old name: what is above the directory that this process is in may be covered now.
	if err := os.Chdir(where); err != nil {
		return os.Chdir("/")
	}
	return nil
}

// cover replaces a directory.
func (b *sandbox) cover(dir string, temp int) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return err
	}
	switch {
	case !slices.Contains(b.Shared, dir): // nobody is to write here
		return unix.Mount("tmpfs", dir, "tmpfs", flags, "size=64k,mode=0711")
	case strings.HasPrefix(dir, "/dev/"), strings.HasPrefix(dir, "/run/"):
		return unix.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=256m,mode=0700,uid=%d,gid=%d", b.UID, b.UID))
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", temp), dir, "", unix.MS_BIND, "")
}

// keeper is something that is to be seen although it lies in a directory that is covered.
type keeper struct {
	path, cover string
	fd          int
	dir         bool
}

// open opens what is to be kept, before it is covered.
func (b *sandbox) open(covers []string) (kept []keeper, err error) {
	for _, path := range b.Keep {
		index := slices.IndexFunc(covers, func(cover string) bool { return within(path, cover) && path != cover })
		if index < 0 || slices.ContainsFunc(kept, func(k keeper) bool { return k.dir && within(path, k.path) }) {
			continue
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return nil, err
		}
		kept = append(kept, keeper{path: path, cover: covers[index], fd: fd, dir: stat.Mode&unix.S_IFMT == unix.S_IFDIR})
	}
	return kept, nil
}

// restore mounts what is kept at its old place. The directory that covers it may be the session's own, with anything in
// it: no name in it leads outside.
func (k *keeper) restore() error {
	root, err := os.OpenRoot(k.cover)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing was written
	name, err := filepath.Rel(k.cover, k.path)
	if err != nil {
		return err
	}
	dir := name
	if !k.dir {
		dir = filepath.Dir(name)
	}
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	flags := os.O_RDONLY | unix.O_NONBLOCK
	if !k.dir {
		flags |= os.O_CREATE
	}
	place, err := root.OpenFile(name, flags, 0o600)
	if err != nil {
		return err
	}
	err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", k.fd), fmt.Sprintf("/proc/self/fd/%d", place.Fd()), "", unix.MS_BIND|unix.MS_REC, "")
	return errors.Join(err, place.Close(), unix.Close(k.fd))
}

// outermost leaves out directories that lie in another one of the list, and those that are not there.
func outermost(dirs []string) (list []string) {
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			continue
		}
		inside := slices.ContainsFunc(dirs, func(other string) bool { return other != dir && within(dir, other) })
		if !inside && !slices.Contains(list, dir) {
			list = append(list, dir)
		}
	}
	return list
}

// within reports whether a path is a directory's, or in it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
