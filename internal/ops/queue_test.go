package ops

import (
	"bytes"
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/api"
)

func TestWhyQueued(t *testing.T) {
	for _, test := range []struct {
		status api.Status
		want   []string
	}{
		{
			api.Status{Places: 4, Sessions: map[api.State]int{api.Running: 3, api.Preparing: 1, api.Queued: 3, api.Succeeded: 9}},
			[]string{"waits for a place (taken: 4 of 4), and 2 other sessions wait too"},
		},
		{api.Status{Places: 1, Sessions: map[api.State]int{api.Queued: 2}}, []string{"waits for a place (taken: 0 of 1), and 1 other session waits too"}},
		{api.Status{Places: 1}, []string{"waits for a place (taken: 0 of 1)"}}, // it has just got one
		{
			api.Status{Places: 4, Problems: []string{"there is no key:\n\x1b[31mset ANTHROPIC_API_KEY", "the volume is full"}},
			[]string{"waits: there is no key: set ANTHROPIC_API_KEY", "waits: the volume is full"},
		},
	} {
		if got := whyQueued(&test.status); !slices.Equal(got, test.want) {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// The agent is asked once, when the session has been in the queue for long, and its answer is shown if it still is.
func TestQueueIsExplained(t *testing.T) {
	state := func(state api.State) *api.Event { return &api.Event{Type: api.EventState, State: state} }
	for name, test := range map[string]struct {
		steps      []any // events, and times to pass
		answerTime time.Duration
		asked      int
		shown      string
	}{
		"at once":  {[]any{state(api.Queued), time.Second, state(api.Running), time.Minute}, 0, 0, "2|· queued\n2|· running\n"},
		"later":    {[]any{state(api.Queued), time.Minute, state(api.Running)}, 0, 1, "2|· queued\n2|· waits: why\n2|· running\n"},
		"too late": {[]any{state(api.Queued), 3 * time.Second, state(api.Running), time.Minute}, 5 * time.Second, 1, "2|· queued\n2|· running\n"},
		"again": {
			[]any{state(api.Queued), time.Second, state(api.Interrupted), time.Minute, state(api.Queued), time.Minute, state(api.Interrupted), state(api.Queued), time.Minute},
			0, 1, "2|· queued\n2|· interrupted; goes on by itself\n2|· queued\n2|· waits: why\n2|· interrupted; goes on by itself\n2|· queued\n",
		},
	} {
		for _, inJSON := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var asked atomic.Int32
					queue := &queueWatch{explain: func(context.Context) []string {
						asked.Add(1)
						time.Sleep(test.answerTime) //nolint:forbidigo // the bubble's clock
						return []string{"waits: why"}
					}, tell: func([]string) {}}
					events := func(yield func(api.Event, error) bool) {
						for _, step := range test.steps {
							if event, is := step.(*api.Event); is {
								yield(*event, nil)
								continue
							}
							time.Sleep(step.(time.Duration)) //nolint:forbidigo // the bubble's clock
						}
					}
					var err error
					var all streams
					if inJSON {
						err = writeEvents(new(bytes.Buffer), queue.over(t.Context(), events))
					} else {
						view := newTranscript(terminalFor(&all, 0))
						view.queue = queue
						err = watch(t.Context(), events, view, nil)
					}
					if err != nil || int(asked.Load()) != test.asked || !inJSON && all.text.String() != test.shown {
						t.Errorf("%v, asked %d times, shown\n%s", err, asked.Load(), all.text.String())
					}
				})
			})
		}
	}
}
