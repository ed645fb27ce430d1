package workspace

import (
	"context"
	"fmt"
	"sync"
)

// Listings of files are held in memory, and a session can have as many files as its disk has room for.
const (
	mostListed = 512 << 20 // bytes that git may list for one checkpoint or diff, in all
	fewListed  = 64 << 20  // bytes that any number of them may have listed at once: beyond that they go one at a time
)

// listings bounds what the listings of all checkpoints and diffs take together.
type listings struct {
	few, most int
	large     chan struct{} // has one place: for who has more than a few bytes
}

func newListings() *listings {
	return &listings{few: fewListed, most: mostListed, large: make(chan struct{}, 1)}
}

// listed is what was listed for one checkpoint or diff. Nil counts nothing.
type listed struct {
	of *listings

	mu    sync.Mutex // held while it waits for its place, too: the other listings of a checkpoint wait for the same one
	bytes int
	large bool // it has the place
	ended bool
}

// begin begins a checkpoint or diff. Whoever does has to call done.
func (l *listings) begin() *listed { return &listed{of: l} }

// take adds some bytes, and waits for those before if they make too much of all. Its error is errTooMuchListed, or wraps ctx's.
func (l *listed) take(ctx context.Context, count int) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended { // by a fault, which nobody waited for
		return context.Canceled
	}
	if l.bytes += count; l.bytes > l.of.most {
		return errTooMuchListed
	}
	if l.large || l.bytes <= l.of.few {
		return nil
	}
	select {
	case l.of.large <- struct{}{}:
		l.large = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// again begins to count anew, for who has dropped all that was listed.
func (l *listed) again() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes = 0
}

func (l *listed) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended = true; l.large {
		<-l.of.large
	}
}

// errTooMuchListed means that a session has too many files to be looked at.
var errTooMuchListed = fmt.Errorf("it has so many files that their names alone are more than %d MiB; leave some out with .gitignore", mostListed>>20)
