package daemon

import (
	"errors"
	"io/fs"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/session"
)

// takeUp takes up what an earlier daemon left on the volume.
func (d *Daemon) takeUp() {
	for _, broken := range d.store.Broken() {
		d.config.Logger.Error("a session cannot be read and is left alone", contract.LogFieldError, broken)
	}
	for _, s := range d.store.List() {
		record := s.Record()
		if !record.State.Ended() || record.Unheard || s.Untidy() {
			d.admit(s)
		}
	}
}

// admit readmits a session, now or when the volume can be written.
func (d *Daemon) admit(s *session.Session) {
	if err := d.readmit(s); err != nil {
		d.volumeFailed(err)
		d.readmitLater(s, lookAgain)
	}
}

// readmit puts a session into the queue that belongs there, or ends it, unless another daemon has it.
func (d *Daemon) readmit(s *session.Session) error {
	for {
		err := d.readmitOnce(s)
		var leased *session.LeasedError
		var conflict *session.StateError
		switch {
		case errors.As(err, &leased), errors.Is(err, session.ErrLost):
			d.isElsewhere(s)
			return nil
		case errors.Is(err, session.ErrDamaged):
			d.broke(s, err)
			return nil
		case errors.Is(err, fs.ErrNotExist) && d.store.Gone(s.ID()):
			return nil // another agent has removed it
		case !errors.As(err, &conflict):
			return err
		}
		// Somebody moved it meanwhile: look again.
	}
}

func (d *Daemon) readmitOnce(s *session.Session) error {
	if d.runOf(s.ID()) != nil {
		if state := s.State(); state == api.Preparing || state == api.Running {
			return nil
		}
	}
	release, err := s.Hold()
	if err != nil {
		return err
	}
	defer release()
	record := s.Record()
	if record.State == api.Preparing || record.State == api.Running {
		if d.runOf(s.ID()) != nil {
			return nil
		}
		if err := s.Move(api.Interrupted, api.Event{Reason: "the agent stopped without warning"}); err != nil {
			return err
		}
		d.config.Metrics.Interrupted()
		record = s.Record()
	}
	switch {
	case record.State.Ended() && !record.Unheard:
		return nil
	case record.State == api.Interrupted && record.IdleStarts >= maxIdleRestarts && !record.StopAsked:
		err := s.Move(api.Failed, api.Event{Error: noProgress(record.IdleStarts, "")})
		d.report(s, err)
		return err
	case record.State == api.Waiting && record.WaitingUntil != nil && !record.StopAsked:
		if pause := time.Until(*record.WaitingUntil); pause > 0 {
			d.readmitLater(s, pause)
			return nil
		}
	}
	if err := s.Requeue(reasonStopped); err != nil {
		return err
	}
	d.report(s, nil)
	if s.State() == api.Queued {
		d.enqueue(s)
	}
	return nil
}

// broke puts a session aside that cannot be read any more.
func (d *Daemon) broke(s *session.Session, err error) {
	d.config.Logger.Error("a session cannot be read and is left alone", contract.LogFieldSession, s.ID(), contract.LogFieldError, err)
	d.store.Break(s, err)
}
