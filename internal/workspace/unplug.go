package workspace

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Git opens what is called .gitignore, .gitattributes or like an object, and where a session has put a pipe there it waits
// for somebody who writes. So when it takes long, we do, for an instant: git then finds an empty file. A pipe that
// the session itself keeps open for writing holds git up nevertheless, until the checkpoint's time is over. No other pipe of the
// tree is touched: the session may wait at it for its own processes, and would take us for one of them.
const (
	plugged   = 3 * time.Second       // after which git may be waiting for a pipe
	unplugged = 20 * time.Millisecond // between two looks at pipes that were found: git opens them again and again
)

// unplug watches over git in the place's tree until stop is called. A fault that it meets with is for whoever calls that.
func (s *scratch) unplug(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	wait := meanwhile(func() error { s.watchPipes(ctx); return nil })
	return func() { cancel(); _ = wait() }
}

// watchPipes looks after the place's pipes until ctx is done.
func (s *scratch) watchPipes(ctx context.Context) {
	var pipes []pipeIn
	defer func() { forgetPipes(pipes) }()
	look := time.NewTimer(plugged)
	defer look.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			forgetPipes(pipes)
			pipes = append(pipesBelow(ctx, s.place.Tree, gitOpens), pipesBelow(ctx, s.place.Scratch, nil)...)
			look.Reset(plugged)
		case <-again:
		}
		for _, one := range pipes {
			if ctx.Err() != nil {
				return
			}
			one.open()
		}
		if again = nil; len(pipes) > 0 {
			again = time.After(unplugged)
		}
	}
}

// pipeIn is a pipe below a directory of a session's.
type pipeIn struct {
	root *os.Root
	name string
}

// open opens it for writing, which lets those go on who wait for that. For reading too: so it does not wait itself (fifo(7)).
func (p pipeIn) open() {
	if info, err := p.root.Lstat(p.name); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return
	}
	if file, err := p.root.OpenFile(p.name, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0); err == nil {
		_ = file.Close() // nothing was written
	}
}

// maxPipes is how many pipes are looked after.
const maxPipes = 1000

// gitOpens reports whether git opens what has a name in a tree, without looking whether it is a file: .gitignore and
// the like, and what is in .git.
func gitOpens(name string) bool {
	return strings.HasPrefix(name, ".git") || strings.Contains(name, "/.git")
}

// pipesBelow finds the pipes below a directory, of those names that are asked for; nil asks for all.
func pipesBelow(ctx context.Context, dir string, asked func(name string) bool) (found []pipeIn) {
	root, err := openTree(dir)
	if err != nil {
		return nil
	}
	_ = fs.WalkDir(dirsOf{root}, ".", func(name string, entry fs.DirEntry, err error) error { // what cannot be looked at is passed over
		if ctx.Err() != nil || len(found) >= maxPipes {
			return fs.SkipAll
		}
		if err == nil && entry.Type()&fs.ModeNamedPipe != 0 && (asked == nil || asked(name)) {
			found = append(found, pipeIn{root, name})
		}
		return nil
	})
	if len(found) == 0 {
		_ = root.Close() // of a directory
	}
	return found
}

func forgetPipes(pipes []pipeIn) {
	for _, one := range pipes {
		_ = one.root.Close() // of a directory; a second time does no harm
	}
}
