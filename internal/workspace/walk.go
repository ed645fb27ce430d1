package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// A session can swap a directory for a link while we look at it. So everything below its tree is reached from an open
// directory, one name at a time, and no link is followed (openat(2)).

// openTree opens a place's tree as a root that nothing leads out of.
func openTree(tree string) (*os.Root, error) {
	parent, err := os.OpenRoot(filepath.Dir(tree))
	if err != nil {
		return nil, lost("the session's files in %s are gone: %s", tree, reason(err))
	}
	defer func() { _ = parent.Close() }() // of a directory
	root, err := parent.OpenRoot(filepath.Base(tree))
	if err != nil {
		return nil, lost("the session's files in %s are gone: %s", tree, reason(err))
	}
	return root, nil
}

// openDir opens a directory below another.
func openDir(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

// dirsOf is what fs.WalkDir goes through below a root. Where a session has put a pipe in a directory's place, opening it
// fails at once, instead of waiting for somebody who writes.
type dirsOf struct{ root *os.Root }

// Open opens a directory.
func (d dirsOf) Open(name string) (fs.File, error) {
	return d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// Stat does not follow a link.
func (d dirsOf) Stat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// permission is what git does not keep: all of a file's mode but its type.
func permission(stat *unix.Stat_t) uint32 { return uint32(stat.Mode) & 0o7777 } //nolint:unconvert // it is 16 bits wide on other systems

func typeOf(stat *unix.Stat_t) uint32 { return uint32(stat.Mode) & unix.S_IFMT } //nolint:unconvert // likewise

// seen is a file or directory and its mode.
type seen struct {
	path string
	mode uint32 // type and permissions
}

// modes looks at files, given by their paths, and at the directories that they are in. What is gone meanwhile is
// left out.
func modes(root *os.Root, files []string) ([]seen, error) {
	top, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = top.Close() }() // of a directory
	sort.Strings(files)
	w := &modeWalk{dirs: []openedDir{{fd: int(top.Fd())}}}
	defer w.leave(1)
	for _, file := range files {
		fd, found := w.enter(path.Dir(file))
		if !found {
			continue
		}
		var stat unix.Stat_t
		if unix.Fstatat(fd, path.Base(file), &stat, unix.AT_SYMLINK_NOFOLLOW) == nil {
			w.seen = append(w.seen, seen{file, typeOf(&stat) | permission(&stat)})
		}
	}
	return w.seen, nil
}

// modeWalk keeps the directories open that lead to the last file.
type modeWalk struct {
	dirs []openedDir
	seen []seen
	gone string // a directory that cannot be entered
}

type openedDir struct {
	name string
	fd   int
}

// leave closes directories until so many are left.
func (w *modeWalk) leave(count int) {
	for len(w.dirs) > count {
		_ = unix.Close(w.dirs[len(w.dirs)-1].fd) // of a directory
		w.dirs = w.dirs[:len(w.dirs)-1]
	}
}

// enter opens a directory.
func (w *modeWalk) enter(dir string) (fd int, found bool) {
	var names []string
	if dir != "." {
		names = strings.Split(dir, "/")
	}
	same := 0
	for same < len(names) && same+1 < len(w.dirs) && w.dirs[same+1].name == names[same] {
		same++
	}
	w.leave(same + 1)
	for i := same; i < len(names); i++ {
		full := strings.Join(names[:i+1], "/")
		if full == w.gone {
			return 0, false
		}
		at := w.dirs[len(w.dirs)-1].fd
		fd, err := openDir(at, names[i])
		if err != nil {
			w.gone = full
			return 0, false
		}
		var stat unix.Stat_t
		if unix.Fstat(fd, &stat) == nil {
			w.seen = append(w.seen, seen{full, typeOf(&stat) | permission(&stat)})
		}
		w.dirs = append(w.dirs, openedDir{names[i], fd})
	}
	return w.dirs[len(w.dirs)-1].fd, true
}

// maxDirs is how many empty directories are kept.
const maxDirs = 20_000

var errTooManyDirs = fmt.Errorf("there are more than %d directories without a file that is kept", maxDirs)

// dirsBelow lists a directory and those below it, with their modes, and passes over repositories.
func dirsBelow(root *os.Root, dir string) (found []seen, err error) {
	err = fs.WalkDir(dirsOf{root}, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil //nolint:nilerr // what is gone, or closed, holds nothing that could be kept
		}
		if _, err := root.Lstat(path.Join(name, ".git")); err == nil || entry.Name() == ".git" {
			return fs.SkipDir
		}
		info, err := root.Lstat(name)
		if err != nil || !info.IsDir() {
			return nil //nolint:nilerr // likewise
		}
		if len(found) >= maxDirs {
			return errTooManyDirs
		}
		found = append(found, seen{name, unix.S_IFDIR | permissionOf(info.Mode())})
		return nil
	})
	return found, err
}

// permissionOf turns Go's idea of a mode into the system's.
func permissionOf(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

// goMode is the other way round.
func goMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// readSmall reads a regular file below a root, of at most so many bytes; empty if there is none.
func readSmall(root *os.Root, name string, most int64) (string, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return "", fmt.Errorf("%s is not a file of at most %d bytes", name, most)
	}
	text := make([]byte, info.Size())
	count, err := file.ReadAt(text, 0)
	if err != nil && count < len(text) {
		text = text[:count] // it became shorter
	}
	return string(text), nil
}
