//go:build linux

// Package slowfs is a directory seen through FUSE, in which every operation takes longer, and is counted: a stand-in
// for a file system on the other end of a network. It needs root and /dev/fuse, and no fusermount.
//
// The kernel passes reads of data that it has in its page cache, and no other operation, without asking.
package slowfs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// name is the mount's source and, as a file system, its type in /proc/self/mountinfo; and that of its directories.
const name = "slowvolume"

// Volume is a directory that is slow.
type Volume struct {
	// Path is where it is.
	Path string

	base   string // has Path, and nothing else
	server *fuse.Server
	slow   *slow
}

// Options say how slow a volume is.
type Options struct {
	// Delay is the time that is added to each operation.
	Delay time.Duration

	// Cached is how long the kernel may answer for names, also those that are not there, and attributes itself, as a
	// client of NFS does for some seconds; 0 has it ask each time.
	Cached time.Duration

	// Flush has closing a file be an operation. FUSE is asked each time; an NFS server is not, it is sent what was
	// written and is not there yet, and FUSE has been sent that already.
	Flush bool
}

// Mount mounts a directory once more, in a temporary directory, and slowly. Mounts that earlier programs left when they
// were killed are taken away first.
func Mount(directory string, options Options) (*Volume, error) {
	if err := sweep(); err != nil {
		return nil, err
	}
	root, err := fs.NewLoopbackRoot(directory)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", directory, err)
	}
	base, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return nil, err
	}
	v := &Volume{Path: filepath.Join(base, "mount"), base: base}
	if err := os.Mkdir(v.Path, 0o700); err != nil {
		return nil, errors.Join(err, os.Remove(base))
	}
	v.slow = &slow{
		RawFileSystem: fs.NewNodeFS(root, &fs.Options{
			EntryTimeout: &options.Cached, AttrTimeout: &options.Cached, NegativeTimeout: &options.Cached, NullPermissions: true,
		}),
		flush: options.Flush, delay: options.Delay, kinds: map[string]int{}, programs: map[string]int{}, hidden: map[string]uint64{},
	}
	v.server, err = fuse.NewServer(v.slow, v.Path, &fuse.MountOptions{
		DirectMountStrict: true, FsName: name, Name: name, AllowOther: true, // sessions have users of their own
		// Without this the kernel asks for one before each write. EFS has none
		// (https://docs.aws.amazon.com/efs/latest/ug/nfs4-unsupported-features.html).
		DisableXAttrs: true,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mounting: %w", err), remove(base))
	}
	go v.server.Serve()
	if err := v.server.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting: %w", err), v.Close())
	}
	return v, nil
}

// Close unmounts, also if something still has a file open. What was written is in the directory.
func (v *Volume) Close() error {
	err := syscall.Unmount(v.Path, 0)
	if errors.Is(err, syscall.EBUSY) {
		err = syscall.Unmount(v.Path, syscall.MNT_DETACH)
	} else if err == nil {
		v.server.Wait()
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", v.Path, err) // nothing in it must be removed
	}
	return remove(v.base)
}

// Counts returns how many operations there have been since it was called last: by their kind, and by the name of the
// program that asked for them. Those that are the kernel's own, or of a program that was gone at once, are "-".
func (v *Volume) Counts() (kinds, programs map[string]int) {
	v.slow.mu.Lock()
	defer v.slow.mu.Unlock()
	kinds, programs = v.slow.kinds, v.slow.programs
	v.slow.kinds, v.slow.programs = map[string]int{}, map[string]int{}
	return kinds, programs
}

// Hide has names be as if they were not there, but for whoever makes them: as a client of NFS has it that remembers so. As there, it is over
// when something else is made in their directory.
func (v *Volume) Hide(names ...string) {
	v.slow.mu.Lock()
	defer v.slow.mu.Unlock()
	for _, name := range names {
		v.slow.hidden[name] = 0
	}
}

// SetDelay changes how much time is added to each operation from now on.
func (v *Volume) SetDelay(delay time.Duration) {
	v.slow.mu.Lock()
	defer v.slow.mu.Unlock()
	v.slow.delay = delay
}

// sweep unmounts what programs left that were killed: mounts of this kind, in temporary directories of this name,
// whose other end is gone.
func sweep() error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	own := filepath.Join(os.TempDir(), name+"-")
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line) // proc(5): the fifth is the mount point; what it is follows a dash
		if len(fields) < 5 || !strings.Contains(line, " - fuse."+name+" "+name+" ") || !strings.HasPrefix(fields[4], own) {
			continue
		}
		if _, err := os.Stat(fields[4]); !errors.Is(err, syscall.ENOTCONN) {
			continue // somebody's who is alive
		}
		if err := syscall.Unmount(fields[4], syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting what is left at %s: %w", fields[4], err)
		}
		if err := remove(filepath.Dir(fields[4])); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a mount's directories. They are empty: it must never remove what is mounted.
func remove(base string) error {
	return errors.Join(os.Remove(filepath.Join(base, "mount")), os.Remove(base))
}

// slow delays and counts.
type slow struct {
	fuse.RawFileSystem
	flush bool

	mu              sync.Mutex
	delay           time.Duration
	kinds, programs map[string]int
	hidden          map[string]uint64 // names, and the directory that they were looked for in
}

// hides reports whether a name is one that is not to be seen.
func (s *slow) hides(directory uint64, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, hidden := s.hidden[name]
	if hidden {
		s.hidden[name] = directory
	}
	return hidden
}

// made ends the hiding in a directory in which something was made.
func (s *slow) made(directory uint64, status fuse.Status) fuse.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status.Ok() {
		maps.DeleteFunc(s.hidden, func(_ string, in uint64) bool { return in == directory })
	}
	return status
}

// wait counts an operation, and takes the time that is added to it.
func (s *slow) wait(caller *fuse.Caller, kind string) {
	name := program(caller.Pid) // each time: a process becomes another program
	s.mu.Lock()
	s.kinds[kind]++
	s.programs[name]++
	delay := s.delay
	s.mu.Unlock()
	if delay > 0 {
		<-time.After(delay)
	}
}

// program is the name of a process (proc(5)); of git's, with what it was asked to do.
func program(pid uint32) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
	if err == nil && filepath.Base(words[0]) == "git" {
		for words = words[1:]; len(words) > 2 && (words[0] == "-c" || words[0] == "-C"); {
			words = words[2:]
		}
		return strings.TrimSpace("git " + strings.Join(words[:min(len(words), 1)], ""))
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "-"
	}
	return strings.TrimSpace(string(name))
}
