package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/tmaxmax/go-sse"
)

// EventFailure is the SSE event type of a last message that tells why a stream cannot go on; its data is
// an Error. All other messages of a stream have no type.
const EventFailure = "failure"

// MaxEvent is the size in bytes of the largest event that a client reads. A line of Claude Code's output
// may hold a whole file, or an image.
const MaxEvent = 64 << 20

// KeepAlive is how often the agent writes to a stream on which nothing happens.
const KeepAlive = 15 * time.Second

// retry says how a lost stream is taken up again.
type retry struct {
	first, most time.Duration // the pause before another attempt doubles from first to most
	giveUp      time.Duration // without a connection
	stall       time.Duration // without a byte, after which a connection counts as lost
}

var defaultRetry = retry{
	first:  100 * time.Millisecond,
	most:   5 * time.Second,
	giveUp: 30 * time.Second,
	stall:  4 * KeepAlive,
}

// Events returns a session's events from the one with index from on: those that there are, and with
// follow also those that come, until the session has ended and its last event was returned. A lost
// connection is taken up again where it broke off, so that each event comes once; an error ends it.
func (c *Client) Events(ctx context.Context, id string, from int, follow bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := &follower{client: c, id: id, from: from, next: from, follow: follow}
		if err := f.run(ctx, yield); err != nil && !errors.Is(err, errBrokenOff) {
			yield(Event{}, err)
		}
	}
}

// errBrokenOff means that whoever reads the events wants no more of them.
var errBrokenOff = errors.New("broken off")

// lostError is a connection that was lost: another one may work.
type lostError struct{ cause error }

func (e *lostError) Error() string { return e.cause.Error() }

func (e *lostError) Unwrap() error { return e.cause }

// follower reads a session's events over as many connections as it takes.
type follower struct {
	client *Client
	id     string
	from   int
	next   int // the index of the event that comes next
	follow bool
	state  State // the last that an event told; empty if none has
}

// run reads until the end. Its only error beside those to be reported is errBrokenOff.
func (f *follower) run(ctx context.Context, yield func(Event, error) bool) error {
	retry := f.client.retry
	pause, good := retry.first, time.Now()
	for {
		began, before := time.Now(), f.next
		err := f.connect(ctx, yield)
		if err == nil {
			var ended bool
			if ended, err = f.ended(ctx); ended {
				return nil
			}
		}
		lost := new(lostError)
		if err != nil && !errors.As(err, &lost) {
			return err
		}
		// A connection that brought something, or held for a while, was one.
		if f.next > before || time.Since(began) > retry.most {
			pause, good = retry.first, time.Now()
		}
		if time.Since(good)+pause > retry.giveUp {
			return f.lost(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, retry.most)
	}
}

// lost is what is reported when no connection comes about any more.
func (f *follower) lost(err error) error {
	if f.state.Ended() {
		return nil // the agent went away after it had told the session's end
	}
	if status := new(StatusError); errors.As(err, &status) {
		return status
	}
	if err == nil {
		err = errors.New("it ends the stream of events again and again")
	}
	if errors.Is(err, ErrUnreachable) {
		return fmt.Errorf("lost the events of session %s after %d: %w", f.id, f.next, err)
	}
	if through := f.client.through; through != nil {
		return fmt.Errorf("lost the events of session %s after %d: %w", f.id, f.next, through.lost(err))
	}
	return fmt.Errorf("lost the events of session %s after %d: %w at %s: %w", f.id, f.next, ErrUnreachable, f.client.endpoint.URL, err)
}

// ended reports whether a stream that the agent closed was the last.
func (f *follower) ended(ctx context.Context) (bool, error) {
	if !f.follow || f.state.Ended() {
		return true, nil
	}
	if f.state != "" {
		return false, nil
	}
	// It began after the session's last state, so that no event has told it.
	session, err := f.client.Session(ctx, f.id)
	if err != nil {
		return false, retriable(ctx, err)
	}
	return session.State.Ended() && session.Events <= f.next, nil
}

// connect opens one connection and reads it to its end. No error means that the agent closed the stream.
func (f *follower) connect(ctx context.Context, yield func(Event, error) bool) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	path := sessionPath(f.id, fmt.Sprintf("/events?from=%d&follow=%t", f.from, f.follow))
	request, err := f.client.request(inner, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if f.next > f.from {
		request.Header.Set("Last-Event-ID", strconv.Itoa(f.next-1))
	}
	stall := time.AfterFunc(f.client.retry.stall, cancel)
	defer stall.Stop()
	response, err := f.client.do(request)
	stall.Stop()
	if err != nil {
		return retriable(ctx, err)
	}
	defer closeBody(response)
	body := &watchedReader{reader: response.Body, timer: stall, patience: f.client.retry.stall}
	for message, err := range sse.Read(body, &sse.ReadConfig{MaxEventSize: MaxEvent}) {
		switch {
		case err == nil:
			err = f.take(message, yield)
		case ctx.Err() != nil:
			err = ctx.Err()
		default:
			err = &lostError{err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take hands on one message of the stream, if it is the event that comes next.
func (f *follower) take(message sse.Event, yield func(Event, error) bool) error {
	if message.Type == EventFailure {
		failure := new(Error)
		if err := json.Unmarshal([]byte(message.Data), failure); err != nil {
			return fmt.Errorf("the agent ended the events of session %s, and its reason cannot be read: %w", f.id, err)
		}
		if failure.Code == CodeStopping {
			return &lostError{failure} // another agent may take its place
		}
		return failure
	}
	if message.Type != "" {
		return nil // from a newer agent
	}
	index, err := strconv.Atoi(message.LastEventID)
	if err != nil {
		return fmt.Errorf("the agent sent an event of session %s with the id %.40q, which is not a number", f.id, message.LastEventID)
	}
	if index < f.next {
		return nil // sent twice
	}
	if index > f.next {
		return fmt.Errorf("the agent left out events %d to %d of session %s", f.next, index-1, f.id)
	}
	event := Event{}
	if err := json.Unmarshal([]byte(message.Data), &event); err != nil {
		return fmt.Errorf("event %d of session %s cannot be read: %w", index, f.id, err)
	}
	event.ID = index
	f.next++
	if event.Type == EventState {
		f.state = event.State
	}
	if !yield(event, nil) {
		return errBrokenOff
	}
	return nil
}

// retriable marks the errors after which another attempt may succeed: no connection, or an agent (or a
// tunnel to it) that is just going down or coming up.
func retriable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	status := new(StatusError)
	switch {
	case errors.As(err, &status):
		if status.Status == http.StatusServiceUnavailable {
			return &lostError{err}
		}
	case errors.Is(err, ErrUnreachable), errors.Is(err, context.Canceled): // cancelled by the stall timer
		return &lostError{err}
	}
	return err
}

// watchedReader sets a timer off when a read takes longer than patience. Time that passes between reads
// does not count: then it is the reader that is slow.
type watchedReader struct {
	reader   io.Reader
	timer    *time.Timer
	patience time.Duration
}

func (w *watchedReader) Read(p []byte) (int, error) {
	w.timer.Reset(w.patience)
	defer w.timer.Stop()
	return w.reader.Read(p)
}
