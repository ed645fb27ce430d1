package server

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// turns has a few followers write at a time. Otherwise thousands that have a long log to catch up with would all be ready to run at
// once, and any other request would wait for a whole round of them at each of its steps: for seconds.
type turns chan struct{}

// turnTime is how long a turn lasts at most: who writes for longer waits for its follower to read, and goes on without one.
const turnTime = 2 * time.Millisecond

func newTurns() turns { return make(turns, max(4, 2*runtime.GOMAXPROCS(0))) }

// take does something when it is its turn, or returns ctx's error.
func (t turns) take(ctx context.Context, do func() error) error {
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	over := sync.OnceFunc(func() { <-t })
	defer over()
	defer time.AfterFunc(turnTime, over).Stop()
	return do()
}
