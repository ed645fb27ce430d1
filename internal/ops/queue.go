package ops

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"berth/internal/api"
)

// queueTime is how long a session may wait for a place before somebody who follows it is told why.
const queueTime = 2 * time.Second

// queueWatch asks once why a session waits, if it does so for long.
type queueWatch struct {
	explain func(context.Context) []string // why it waits, a line each
	tell    func([]string)                 // is called by a goroutine of its own
	timer   *time.Timer                    // nil if none was set, or if it was called off
}

// heard looks at an event that tells whether the session waits.
func (q *queueWatch) heard(ctx context.Context, event *api.Event) {
	switch {
	case q == nil || event.Type != api.EventState:
	case event.State != api.Queued:
		q.stop()
	case q.timer == nil:
		q.timer = time.AfterFunc(queueTime, func() {
			if lines := q.explain(ctx); len(lines) > 0 && ctx.Err() == nil {
				q.tell(lines)
			}
		})
	}
}

// stop calls the question off, if it was not asked yet. One that was asked is not asked again.
func (q *queueWatch) stop() {
	if q != nil && q.timer != nil && q.timer.Stop() {
		q.timer = nil
	}
}

// over watches events as they pass.
func (q *queueWatch) over(ctx context.Context, events iter.Seq2[api.Event, error]) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		defer q.stop()
		for event, err := range events {
			q.heard(ctx, &event)
			if !yield(event, err) {
				return
			}
		}
	}
}

// newQueueWatch asks an agent, and writes its answer to a stream.
func newQueueWatch(client *api.Client, to io.Writer) *queueWatch {
	return &queueWatch{
		explain: func(ctx context.Context) []string {
			status, err := client.Status(ctx)
			if err != nil { // who follows the session hears of it
				return nil
			}
			return whyQueued(status)
		},
		tell: func(lines []string) {
			for _, line := range lines {
				fmt.Fprintln(to, "berth: the session "+line)
			}
		},
	}
}

// whyQueued says what a session in the queue waits for.
func whyQueued(status *api.Status) (lines []string) {
	for _, problem := range status.Problems {
		lines = append(lines, "waits: "+oneLine(problem, 500))
	}
	if len(lines) > 0 {
		return lines
	}
	taken := status.Sessions[api.Running] + status.Sessions[api.Preparing]
	text := fmt.Sprintf("waits for a place (taken: %d of %d)", taken, status.Places)
	if others := status.Sessions[api.Queued] - 1; others > 0 {
		text += ", and " + plural(others, "other session waits too", "other sessions wait too")
	}
	return []string{text}
}
