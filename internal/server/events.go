package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"berth/internal/api"
	"berth/internal/contract"
)

const (
	// writeTime is how long a follower may take to read what was written; then it is dropped. It can
	// come back with Last-Event-ID.
	writeTime = 30 * time.Second

	// maxIndex is the largest index of an event that every program can write: JSON's numbers are exact up to it.
	maxIndex = 1<<53 - 1

	// ahead is how many events are taken from the log before the follower has read those before. It
	// lets a whole batch leave in one write.
	ahead = 16
)

type eventsInput struct {
	ID          sessionID `path:"id" doc:"The session's id, a UUID"`
	From        int       `query:"from" minimum:"0" maximum:"9007199254740991" doc:"The index of the first event wanted"`
	Follow      bool      `query:"follow" default:"true" doc:"Whether to go on until the session has ended, or return what there is"`
	LastEventID string    `header:"Last-Event-ID" doc:"The index of the last event that was received; goes before 'from'"`
}

type eventsAnswer struct{ Body func(huma.Context) }

// events answers with a stream. What is wrong before its first event is an ordinary answer.
func (h *handlers) events(ctx context.Context, in *eventsInput) (*eventsAnswer, error) {
	from := in.From
	if in.LastEventID != "" {
		last, err := strconv.Atoi(in.LastEventID)
		if err != nil || last < 0 || last > maxIndex || strconv.Itoa(last) != in.LastEventID {
			return nil, refuse(api.CodeBadRequest, "the Last-Event-ID %.40q is not the index of an event", in.LastEventID)
		}
		from = last + 1
	}
	ctx, cancel := context.WithCancel(ctx)
	if streams, found := ctx.Value(streamsKey{}).(context.Context); found {
		context.AfterFunc(streams, cancel)
	}
	sequence, err := h.agent.Events(ctx, string(in.ID), from, in.Follow)
	if err != nil {
		cancel()
		return nil, refused(h.log, err)
	}
	return &eventsAnswer{Body: func(to huma.Context) {
		defer cancel()
		request, writer := humago.Unwrap(to)
		stream := &stream{writer: writer, control: http.NewResponseController(writer)}
		if request.Method == http.MethodHead {
			sequence = func(func(json.RawMessage, error) bool) {}
		}
		if err := stream.begin(); err != nil {
			return // the follower is gone
		}
		if err := h.copy(ctx, stream, string(in.ID), from, sequence); err != nil {
			h.log.Debug("a follower is gone", contract.LogFieldSession, string(in.ID), contract.LogFieldError, err)
		}
	}}, nil
}

// taken is one event from the log, or the reason why there are no more.
type taken struct {
	line json.RawMessage
	err  error
}

// copy writes a sequence to a stream. Its error means that the follower is gone.
func (h *handlers) copy(ctx context.Context, to *stream, id string, from int, sequence iter.Seq2[json.RawMessage, error]) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan taken, ahead)
	go pull(ctx, sequence, events)
	defer func() {
		cancel()
		for range events { // until the sequence has been left, so that nothing outlives the request
		}
	}()
	alive := time.NewTicker(api.KeepAlive)
	defer alive.Stop()
	for index := from; ; {
		select {
		case event, more := <-events:
			if !more {
				return nil
			}
			if errors.Is(event.err, context.Canceled) {
				return nil // the server stops: the follower finds the next one
			}
			if event.err != nil {
				return to.failure(refused(h.log, fmt.Errorf("event %d of session %s: %w", index, id, event.err)))
			}
			err := h.turns.take(ctx, func() error { return to.event(index, event.line, len(events) == 0) })
			if err != nil {
				return err
			}
			index++
		case <-alive.C:
			if err := to.write([]byte(": alive\n\n"), true); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// pull takes a sequence's events one by one, as fast as the follower reads them. The sequence waits for
// events in between, which is why it has a goroutine of its own.
func pull(ctx context.Context, sequence iter.Seq2[json.RawMessage, error], events chan<- taken) {
	defer close(events)
	defer func() {
		if cause := recover(); cause != nil { // beyond the reach of the request's own
			select {
			case events <- taken{err: fmt.Errorf("panic: %v", cause)}:
			case <-ctx.Done():
			}
		}
	}()
	for line, err := range sequence {
		if ctx.Err() != nil {
			return
		}
		select {
		case events <- taken{line, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// stream writes server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type stream struct {
	writer  http.ResponseWriter
	control *http.ResponseController
}

func (s *stream) begin() error {
	header := s.writer.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	s.writer.WriteHeader(http.StatusOK)
	return s.write(nil, true)
}

func (s *stream) event(index int, line json.RawMessage, flush bool) error {
	var message bytes.Buffer
	message.Grow(len(line) + 32)
	fmt.Fprintf(&message, "id: %d\ndata: ", index)
	if bytes.ContainsAny(line, "\r\n") { // would end the line
		if err := json.Compact(&message, line); err != nil {
			return fmt.Errorf("event %d is not JSON: %w", index, err)
		}
	} else {
		message.Write(line)
	}
	message.WriteString("\n\n")
	return s.write(message.Bytes(), flush)
}

// failure says why there are no more events, to a client that would else come back for them.
func (s *stream) failure(why *Refusal) error {
	body, err := json.Marshal(why)
	if err != nil {
		return err
	}
	return s.write(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", api.EventFailure, body), true)
}

func (s *stream) write(message []byte, flush bool) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if len(message) > 0 {
		if _, err := s.writer.Write(message); err != nil {
			return err
		}
	}
	if !flush {
		return nil
	}
	return s.control.Flush()
}

// describeEvents says what huma cannot see of a stream.
func describeEvents(operation *huma.Operation) {
	operation.Responses["200"] = &huma.Response{
		Description: "Each event has its index, from 0, as 'id', and one JSON object with at least 'type' and 'time' as 'data'. " +
			"A message of type 'failure' has the reason why the stream cannot go on, as {code, message}.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
}
