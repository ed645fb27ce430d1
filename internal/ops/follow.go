package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/internal/api"
)

// followOptions say how a session's events are shown.
type followOptions struct {
	Follow  bool // go on until the session has ended
	JSON    bool // as JSON, a line each, and nothing else
	Summary bool // in the end, say how the session fared and what to do next
}

// follow shows a session's events from the one with index from on, and returns the session as it is then.
func follow(ctx context.Context, stdio Stdio, client *api.Client, id string, from int, options followOptions) (*api.Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := client.Events(ctx, id, from, options.Follow)
	if options.JSON {
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
	view.summary = options.Summary
	defer view.release() // without a summary, it has to tell the end itself
	if err := watch(ctx, events, view, ticker.C); err != nil {
		return nil, err
	}
	session, err := client.Session(ctx, id)
	if err != nil {
		return nil, err
	}
	if options.Summary {
		view.summarise(session, os.Args[0])
	}
	return session, nil
}

// summarise ends the transcript with a summary. It may be that somebody resumed the session just now: then the
// summary tells of that, and not of the end before it.
func (t *transcript) summarise(session *api.Session, program string) {
	if session.State == t.told {
		t.held = nil
	}
	t.release()
	if t.to.canLive {
		t.to.notice("", "")
	}
	for _, line := range summary(session, program, t.to.colourErr) {
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
	defer func() {
		cancel()
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
			view.event(&each.event)
			if view.to.failed != nil {
				return view.to.failed
			}
		case now := <-tick:
			if view.waits != "" && !view.told.Ended() {
				view.to.show(view.status(now))
			}
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

func isLateControl(r rune) bool { return r >= 0x7f && r <= 0x9f }

// summary says how a session fared, why it failed, where its files are, and what to type next.
func summary(session *api.Session, program string, colour bool) []string {
	mark, style := "…", yellow
	switch session.State {
	case api.Succeeded:
		mark, style = "✓", green
	case api.Failed:
		mark, style = "✗", red
	case api.Cancelled:
		mark, style = "■", red
	default:
	}
	tokens := session.Tokens
	line := fmt.Sprintf(" · %s · %s · %s · %s tokens in, %s out", plural(session.Turns, "turn", "turns"),
		duration(session.DurationSeconds), money(session.CostUSD), count(tokens.Input+tokens.CacheRead+tokens.CacheWrite), count(tokens.Output))
	lines := []string{styled(colour, style, mark+" "+string(session.State)) + line}
	if session.State == api.Failed && session.Error != nil {
		lines = append(lines, "  why    "+reason(session.Error))
	}
	if session.WorkDir != "" {
		lines = append(lines, "  files  "+oneLine(session.WorkDir, 4096))
	}
	if session.PullRequest != "" {
		lines = append(lines, "  pull request  "+oneLine(session.PullRequest, 1000))
	}
	id, berth := shortID(session.ID), commandName(program)
	switch session.State {
	case api.Failed, api.Cancelled:
		lines = append(lines, fmt.Sprintf("  next   %[1]s resume %[2]s · %[1]s show %[2]s · %[1]s diff %[2]s", berth, id))
	case api.Succeeded:
		lines = append(lines, fmt.Sprintf("  next   %[1]s diff %[2]s · %[1]s send %[2]s \"…\"", berth, id))
	default:
	}
	return lines
}

// reason is why a session failed, for people and with the code.
func reason(problem *api.Error) string {
	return oneLine(string(problem.Code), 60) + ": " + oneLine(problem.Message, 1000)
}

// commandName is how the program is called from where it was called: as it was typed, if that is short.
func commandName(typed string) string {
	if len(typed) > 20 {
		return filepath.Base(typed)
	}
	return typed
}
