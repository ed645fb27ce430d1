package daemon

import (
	"errors"
	"io/fs"

	"berth/internal/api"
	"berth/internal/session"
)

// enqueue puts a session into the queue.
func (d *Daemon) enqueue(s *session.Session) {
	d.requeue(s)
	d.rouse()
}

// start gives free places to those who have waited longest.
func (d *Daemon) start() {
	for d.able() {
		r, more := d.next()
		if !more {
			return
		}
		if r == nil {
			continue
		}
		err := r.begin()
		var conflict *session.StateError
		var leased *session.LeasedError
		switch {
		case err == nil:
			go r.do()
			continue
		case errors.As(err, &leased), errors.Is(err, session.ErrLost):
			d.done(r)
			d.isElsewhere(r.session)
			continue
		case errors.As(err, &conflict), errors.Is(err, fs.ErrNotExist) && d.store.Gone(r.session.ID()):
			d.done(r) // somebody stopped it at this moment, or another agent has removed it
			continue
		case errors.Is(err, session.ErrDamaged):
			d.broke(r.session, err)
			d.done(r)
			continue
		}
		d.volumeFailed(err)
		d.requeue(r.session)
		d.forget(r)
		return
	}
}

// next takes the session that has waited longest and gives it a place. There is no more if there is no place,
// or nobody waits; the run is nil if the session does not wait any more. It is for the dispatcher alone, which is the only one to give places.
func (d *Daemon) next() (r *run, more bool) {
	first, more := d.first()
	if !more {
		return nil, false
	}
	s := d.store.Get(first.id) // which may ask the volume
	if s == nil {
		return nil, true
	}
	if record := s.Record(); record.State != api.Queued || !record.AskedAt.Equal(first.asked) {
		return nil, true // it runs already, has ended, or was asked again and stands elsewhere in the queue
	}
	r = newRun(d, s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs[first.id] != nil {
		d.queue.push(first) // its last run is about to let go of it, and wakes us
		return nil, false
	}
	d.runs[first.id] = r
	d.ended.Add(1)
	return r, true
}

// first takes the first one out of the queue, if there is a place for it.
func (d *Daemon) first() (first waiting, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.runs) >= d.config.Places || d.queue.len() == 0 {
		return waiting{}, false
	}
	return d.queue.pop(), true
}

// requeue puts a session into the queue without waking anybody: the next look is soon enough.
func (d *Daemon) requeue(s *session.Session) {
	record := s.Record()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.push(waiting{asked: record.AskedAt, id: record.ID})
}

// done is called by a run that has let go of its session.
func (d *Daemon) done(r *run) {
	d.forget(r)
	d.rouse()
}

func (d *Daemon) forget(r *run) {
	d.mu.Lock()
	delete(d.runs, r.session.ID())
	d.mu.Unlock()
	d.ended.Done()
}

// rouse has the dispatcher look at the queue.
func (d *Daemon) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
