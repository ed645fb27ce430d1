package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// lastMoment is how long after it was told to end berthd is there at most. It needs less: sessions are given up within 100 s. But
// a file system that does not answer holds whoever asks it, and a task is killed 120 s after SIGTERM, without a word.
const lastMoment = 110 * time.Second

// endAtLast ends the process a while after ctx is done, whatever it does by then. The function that it returns calls that off.
func endAtLast(ctx context.Context, after time.Duration, stderr io.Writer, exit func(int)) (stop func()) {
	over := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-over:
			return
		}
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			_, _ = fmt.Fprintf(stderr, "berthd: it does not end within %v, as when a disk does not answer: ending it; its sessions go on with the next start\n", after)
			exit(1)
		case <-over:
		}
	}()
	return func() { close(over) }
}
