package daemon

import (
	"time"

	"berth/internal/session"
)

// retry puts an interrupted session into the queue again: at once the first time, then after a pause that
// doubles, so that something that keeps ending it does not keep the machine busy.
func (d *Daemon) retry(s *session.Session) {
	var pause time.Duration
	if idle := s.Record().IdleStarts; idle > 1 {
		pause = min(time.Second<<min(idle-2, 10), time.Minute)
	}
	time.AfterFunc(pause, func() {
		if d.open() != nil {
			return // the next daemon readmits it
		}
		if err := d.readmit(s); err != nil {
			d.volumeFailed(err)
			d.readmitLater(s)
		}
	})
}
