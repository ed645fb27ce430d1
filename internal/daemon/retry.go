package daemon

import (
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/session"
)

// retry puts an interrupted session into the queue again: at once the first time, then after a pause that doubles, so
// that something that keeps ending it does not keep the machine busy.
func (d *Daemon) retry(r *run) {
	id := r.session.ID()
	d.mu.Lock()
	if r.started {
		delete(d.failures, id)
	} else {
		d.failures[id]++
	}
	record := r.session.Record()
	times := max(d.failures[id], record.IdleStarts-1, record.Cuts-1)
	d.mu.Unlock()
	d.readmitLater(r.session, pause(times))
}

// pause is how long a session waits that was cut off so many times in a row.
func pause(times int) time.Duration {
	if times <= 0 {
		return 0
	}
	return min(time.Second<<min(times-1, 10), time.Minute)
}

// lookAtClock is how often somebody who waits looks at the clock: a machine that was asleep does not count the time.
const lookAtClock = time.Minute

// readmitLater readmits a session after a pause, or as soon after it as the volume can be written. An earlier appointment
// takes the place of a later one, as of a session that waited, was stopped and resumed, and was interrupted then. When
// the daemon stops it leaves that to the next one.
func (d *Daemon) readmitLater(s *session.Session, pause time.Duration) {
	at := time.Now().Add(pause)
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, waits := d.later[s.ID()]; d.stopping || waits && !at.Before(known) {
		return
	}
	d.later[s.ID()] = at
	d.ended.Go(func() {
		for again := true; again && d.waitUntil(at); {
			at, again = d.keepAppointment(s, at)
		}
	})
}

// waitUntil waits until a time by the clock. It reports false if the daemon stops before.
func (d *Daemon) waitUntil(at time.Time) bool {
	for {
		left := at.Round(0).Sub(time.Now().Round(0))
		timer := time.NewTimer(max(0, min(left, lookAtClock)))
		select {
		case <-timer.C:
		case <-d.gone:
			timer.Stop()
			return false
		}
		if left <= lookAtClock {
			return true
		}
	}
}

// keepAppointment readmits a session, unless the appointment was given to another time. It returns the next one if it has to
// be tried again.
func (d *Daemon) keepAppointment(s *session.Session, at time.Time) (next time.Time, again bool) {
	d.mu.Lock()
	ours := d.later[s.ID()].Equal(at)
	if ours {
		delete(d.later, s.ID())
	}
	d.mu.Unlock()
	if !ours {
		return at, false
	}
	err := d.readmit(s)
	if err == nil {
		return at, false
	}
	d.volumeFailed(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, waits := d.later[s.ID()]; waits {
		return at, false
	}
	next = time.Now().Add(lookAgain)
	d.later[s.ID()] = next
	return next, true
}

// report writes the line of the log that the dashboard's queries read, if a session has ended, and err is nil.
func (d *Daemon) report(s *session.Session, err error) {
	record := s.Record()
	if err != nil || !record.State.Ended() {
		return
	}
	fields := []any{
		contract.LogFieldSession, record.ID, contract.LogFieldState, string(record.State),
		contract.LogFieldCostUSD, record.CostUSD, contract.LogFieldDuration, record.DurationSeconds,
	}
	if record.Error != nil {
		fields = append(fields, contract.LogFieldErrorCode, string(record.Error.Code), contract.LogFieldError, record.Error.Message)
	}
	d.config.Logger.Info(contract.LogSessionEnded, fields...)
	if record.State == api.Cancelled {
		return // somebody's wish is neither a success nor a failure
	}
	since := record.Since()
	d.config.Metrics.SessionEnded(record.State == api.Succeeded, since.Seconds, since.CostUSD, since.Tokens)
}
