package daemon

import "time"

// watch holds the clocks of a run. Those that nobody set never fire.
type watch struct {
	stallAfter             time.Duration
	timeout, stall, linger *time.Timer
}

func newWatch(config Config, timeoutSeconds float64) *watch {
	w := &watch{
		stallAfter: config.Stall, timeout: time.NewTimer(time.Hour), stall: time.NewTimer(config.Stall), linger: time.NewTimer(time.Hour),
	}
	w.linger.Stop()
	w.timeout.Stop()
	if timeoutSeconds > 0 {
		w.timeout.Reset(time.Duration(timeoutSeconds * float64(time.Second)))
	}
	return w
}

// heard is called for every sign of life.
func (w *watch) heard() { w.stall.Reset(w.stallAfter) }

func (w *watch) stop() {
	w.timeout.Stop()
	w.stall.Stop()
	w.linger.Stop()
}
