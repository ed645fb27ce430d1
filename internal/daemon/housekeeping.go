package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/metrics"
	"berth/internal/session"
)

// housekeepingEvery is how often the volume is tidied.
const housekeepingEvery = time.Minute

// housekeeping removes what is no longer needed, until ctx is done.
func (d *Daemon) housekeeping(ctx context.Context) {
	ticker := time.NewTicker(housekeepingEvery)
	defer ticker.Stop()
	d.sweepWork()
	for {
		d.tidy(ctx)
		d.prune(ctx)
		if err := d.mirrors.Maintain(ctx); err != nil && ctx.Err() == nil {
			d.config.Logger.Warn("the repositories on the volume could not be tidied", contract.LogFieldError, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// tidy finishes what was cut off of removals, and removes what killed daemons have left half written.
func (d *Daemon) tidy(ctx context.Context) {
	err := errors.Join(d.store.FinishRemovals(d.forgetting(ctx)), d.store.Sweep())
	if err != nil && ctx.Err() == nil {
		d.config.Logger.Warn("the volume could not be tidied", contract.LogFieldError, err)
	}
}

// forgetting returns what removes what is left of a session that is no more: its checkpoints, its work dir and its account.
func (d *Daemon) forgetting(ctx context.Context) func(*session.Record) error {
	return func(record *session.Record) error {
		place := d.place(record, nil)
		if err := errors.Join(d.mirrors.Forget(ctx, place.Source, record.ID), os.RemoveAll(d.dirs(record.ID).Root)); err != nil {
			return err
		}
		d.config.Models.Ledger.Forget(record.ID)
		return nil
	}
}

// prune removes sessions that have ended longer ago than they are to be kept, the oldest first.
func (d *Daemon) prune(ctx context.Context) {
	if d.config.Retention <= 0 {
		return
	}
	for _, s := range d.store.List() {
		record := s.Record()
		if ctx.Err() != nil {
			return
		}
		if !d.old(&record) {
			continue
		}
		err := d.store.Remove(s, d.old, d.forgetting(ctx))
		conflict, leased := (*session.StateError)(nil), (*session.LeasedError)(nil)
		if errors.As(err, &conflict) || errors.As(err, &leased) {
			continue // somebody has taken it up meanwhile
		}
		log := d.config.Logger.With(contract.LogFieldSession, record.ID, "ended", record.EndedAt)
		if err != nil {
			log.Warn("an old session could not be removed whole; it is tried again", contract.LogFieldError, err)
			continue
		}
		log.Info("an old session is removed")
	}
}

// old reports whether a session is to be removed.
func (d *Daemon) old(record *session.Record) bool {
	return record.State.Ended() && !record.Unheard && record.EndedAt != nil && time.Since(*record.EndedAt) >= d.config.Retention
}

// sweepWork removes work dirs of sessions that are no more.
func (d *Daemon) sweepWork() {
	entries, err := os.ReadDir(d.config.Work)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if _, err := uuid.Parse(entry.Name()); err == nil && d.store.Gone(entry.Name()) {
			_ = os.RemoveAll(d.dirs(entry.Name()).Root) // it is tried again at the next start
		}
	}
}

// sharing shares the volume with other daemons until ctx is done.
func (d *Daemon) sharing(ctx context.Context) {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		d.share()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// share looks at what other daemons on the volume have done, and takes over what they have left.
func (d *Daemon) share() {
	for _, s := range d.store.Reread() {
		d.config.Logger.Info("a session can be read again", contract.LogFieldSession, s.ID())
		d.admit(s)
	}
	d.takeMail()
	d.takeOver()
	alone := d.alone
	if d.alone = !d.store.Peers(); d.alone && alone {
		return
	}
	// Once more when the last of the others has gone: it may have left something.
	changed, err := d.store.Changed()
	if err != nil {
		d.config.Logger.Warn("what other agents do cannot be seen", contract.LogFieldError, err)
		return
	}
	for _, s := range changed {
		d.mu.Lock()
		_, known := d.later[s.ID()]
		d.mu.Unlock()
		if known {
			continue
		}
		if err := d.readmit(s); err != nil {
			d.config.Logger.Warn("a session of another agent cannot be taken over", contract.LogFieldSession, s.ID(), contract.LogFieldError, err)
		}
	}
}

// isElsewhere notes that another daemon has a session.
func (d *Daemon) isElsewhere(s *session.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.foreign[s.ID()] = s
}

// takeOver looks at the sessions that another daemon had: it may have let go of them, or have died.
func (d *Daemon) takeOver() {
	d.mu.Lock()
	foreign := d.foreign
	d.foreign = map[string]*session.Session{}
	d.mu.Unlock()
	for _, s := range foreign {
		err := errors.Join(s.Refresh(), d.readmit(s))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // else it was removed
			d.config.Logger.Warn("a session of another agent cannot be taken over", contract.LogFieldSession, s.ID(), contract.LogFieldError, err)
			d.isElsewhere(s)
		}
	}
}

// takeMail gives sessions what other daemons have accepted for them, as far as this one can hold them.
func (d *Daemon) takeMail() {
	mails, err := d.store.Mails()
	if err != nil {
		d.config.Logger.Warn("what other agents have left cannot be read", contract.LogFieldError, err)
	}
	for _, mail := range mails {
		s := d.store.Get(mail.Session)
		if s == nil && !d.store.Gone(mail.Session) {
			continue // it may be one that is not known yet, or cannot be read just now
		}
		var err error
		if s != nil {
			err = d.takeOne(s, &mail)
		}
		var conflict *session.StateError
		if err == nil || errors.As(err, &conflict) && mail.Event.Type == api.EventStop {
			err = d.store.Delivered(mail) // a message to a session that is being stopped is for when it has ended
		}
		var leased *session.LeasedError
		if err != nil && !errors.As(err, &leased) {
			d.config.Logger.Warn("a message that another agent has left is not delivered yet", contract.LogFieldSession, mail.Session, contract.LogFieldError, err)
		}
	}
}

func (d *Daemon) takeOne(s *session.Session, mail *session.Mail) error {
	release, err := s.Hold()
	if err != nil {
		return err
	}
	defer release()
	event := mail.Event
	if event.Type == api.EventStop {
		record := s.Record()
		if record.StopAsked || !mail.Asked.IsZero() && !mail.Asked.Equal(record.AskedAt) {
			return nil // it was taken before, or is for what has ended since
		}
		return d.stopHeld(s)
	}
	known := false
	err = s.Each(func(other api.Event) {
		known = known || other.MessageID == event.MessageID && other.Type == api.EventMessage
	})
	if err != nil || known {
		return err
	}
	return d.askHeld(s, event)
}

// Sample is how the agent is, for its metrics.
func (d *Daemon) Sample() metrics.Sample {
	queued, active, progressing := d.sample()
	return metrics.Sample{
		Queue: queued, Active: active, Progressing: progressing,
		KeyRefused: d.models.Key().State == "refused", SpendMonth: d.config.Models.Ledger.Spend().MonthUSD,
	}
}
