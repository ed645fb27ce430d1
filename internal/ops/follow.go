package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"
	"unicode"

	"berth/internal/api"
)

// followOptions say how a session's events are shown.
type followOptions struct {
	Follow  bool // go on until the session has ended
	JSON    bool // as JSON, a line each, and nothing else
	Summary bool // in the end, say how the session fared and what to do next
	Verbose bool // show requests, checkpoints and the like too
	Explain bool // say why, if it is long in the queue

	Flags string // of the target, for commands that are suggested
}

// follow shows a session's events from the one with index from on, and returns the session as it is then.
func follow(ctx context.Context, stdio Stdio, client *api.Client, id string, from int, options followOptions) (*api.Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := client.Events(ctx, id, from, options.Follow)
	var queue *queueWatch
	if options.Explain {
		queue = newQueueWatch(client, stdio.Err)
	}
	if options.JSON {
		events = queue.over(ctx, events)
		if err := writeEvents(stdio.Out, events); err != nil {
			return nil, err
		}
		return client.Session(ctx, id)
	}
	to := newTerminal(stdio)
	to.canLive = to.canLive && options.Follow
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	view := newTranscript(to)
	view.summary, view.verbose, view.queue = options.Summary, options.Verbose, queue
	defer view.release() // without a summary, it has to tell the end itself
	if err := watch(ctx, events, view, ticker.C); err != nil {
		return nil, err
	}
	session, err := client.Session(ctx, id)
	if err != nil {
		return nil, err
	}
	if options.Summary {
		view.summarise(session, os.Args[0], options.Flags)
	}
	return session, nil
}

// summarise ends the transcript with a summary. It may be that somebody resumed the session just now: then the
// summary tells of that, and not of the end before it.
func (t *transcript) summarise(session *api.Session, program, flags string) {
	if session.State == t.told {
		t.held = nil
	}
	t.release()
	if t.to.canLive {
		t.to.notice("", "")
	}
	for _, line := range summary(session, t.delivered, program, flags, t.to.colourErr) {
		t.to.notice("", line)
	}
}

// watch shows events as they come, and moves the live line while none do.
func watch(ctx context.Context, events iter.Seq2[api.Event, error], view *transcript, tick <-chan time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	type next struct {
		event api.Event
		err   error
	}
	coming := make(chan next)
	go func() {
		defer close(coming)
		for event, err := range events {
			select {
			case coming <- next{event, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	said := make(chan []string, 1)
	if view.queue != nil {
		view.queue.tell = func(lines []string) { said <- lines }
	}
	defer func() {
		cancel()
		view.queue.stop()
		view.to.clear()
	}()
	for {
		select {
		case each, more := <-coming:
			switch {
			case !more:
				return view.to.failed
			case each.err != nil:
				return each.err
			}
			view.queue.heard(ctx, &each.event)
			view.event(&each.event)
			if view.to.failed != nil {
				return view.to.failed
			}
		case lines := <-said:
			view.queued(lines)
		case now := <-tick:
			if view.waits != "" && !view.told.Ended() {
				view.to.show(view.status(now))
			}
		}
	}
}

// queued says why the session waits, if it still does.
func (t *transcript) queued(lines []string) {
	for _, line := range lines {
		if t.told == api.Queued {
			t.notice(yellow, line)
		}
	}
}

// eventLine is an event as --json writes it.
type eventLine struct {
	ID int `json:"id"`
	api.Event
}

// writeEvents writes events as JSON, a line each.
func writeEvents(to io.Writer, events iter.Seq2[api.Event, error]) error {
	for event, err := range events {
		if err != nil {
			return err
		}
		var line strings.Builder
		encoder := json.NewEncoder(&line)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(eventLine{event.ID, event}); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		if _, err := io.WriteString(to, escapeControls(line.String())); err != nil {
			return err
		}
	}
	return nil
}

// escapeControls writes the control characters that JSON leaves as they are, DEL and those of C1, as escapes
// of JSON: it may be a terminal that gets it.
func escapeControls(text string) string {
	if !strings.ContainsFunc(text, isLateControl) {
		return text
	}
	var safe strings.Builder
	for _, r := range text {
		if isLateControl(r) {
			fmt.Fprintf(&safe, `\u%04x`, r)
		} else {
			safe.WriteRune(r)
		}
	}
	return safe.String()
}

// isLateControl tells the control characters that JSON does not escape, and the marks that turn the direction of writing.
func isLateControl(r rune) bool {
	return r >= 0x7f && r <= 0x9f || unicode.Is(unicode.Bidi_Control, r)
}
