package daemon

import (
	"time"

	"berth/internal/claude"
)

// firstLine is how long Claude Code may take to its first line of output, which takes it a second or two: one that takes
// a turn for finished which is not waits for a message, without a word.
const firstLine = 2 * time.Minute

// watch holds the clocks of a run. Those that nobody set never fire.
type watch struct {
	stallAfter, lingerFor  time.Duration
	timeout, stall, linger *time.Timer
}

func newWatch(config Config, timeoutSeconds float64) *watch {
	w := &watch{
		stallAfter: config.Stall, lingerFor: config.Linger, timeout: time.NewTimer(time.Hour), stall: time.NewTimer(min(config.Stall, firstLine)), linger: time.NewTimer(time.Hour),
	}
	w.linger.Stop()
	w.timeout.Stop()
	if timeoutSeconds > 0 {
		w.timeout.Reset(time.Duration(timeoutSeconds * float64(time.Second)))
	}
	return w
}

// heard is called for every sign of life. After a result only background commands may go on, until they begin a turn.
func (w *watch) heard(line *claude.Line) {
	w.stall.Reset(w.stallAfter)
	switch {
	case line.Begins():
		w.linger.Stop()
	case line.Type == "result":
		w.linger.Reset(w.lingerFor)
	}
}

// forgive reports whether a silence is excused, because a request to the model shows a sign of life: then it may last longer.
func (w *watch) forgive(active time.Time) bool {
	left := w.stallAfter - time.Since(active)
	if active.IsZero() || left <= 0 {
		return false
	}
	w.stall.Reset(left)
	return true
}

func (w *watch) stop() {
	w.timeout.Stop()
	w.stall.Stop()
	w.linger.Stop()
}
