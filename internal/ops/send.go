package ops

import (
	"context"
	"fmt"

	"berth/internal/api"
)

// Send is the verb `berth send`: a further message to a session.
type Send struct {
	Target
	ID      string  `arg:"" help:"The session, by its id or a part of it."`
	Message *string `arg:"" optional:"" help:"The message. Without it, or as -, it is read from standard input."`
	File    string  `name:"file" short:"f" type:"path" placeholder:"FILE" help:"Read the message from a file."`
	Follow  bool    `name:"follow" help:"Follow the session to its end, and exit as berth run does."`
}

// Help is the long help.
func (Send) Help() string {
	return `A running session gets the message in the middle of its work. An ended one goes on, with everything it knows.

Examples:
  berth send 7a63ffb1e2f5 "Use the standard library only"
  berth send 7a63ffb1e2f5 --follow "Now write the documentation"

Exit codes: 0 the agent has the message; 1 failed; 2 the message or the id cannot be used; 3 the agent cannot be
reached; with --follow those of berth run.`
}

// Run sends the message.
func (s *Send) Run(ctx context.Context, stdio Stdio) error {
	text, err := readPrompt(ctx, stdio, s.Message, s.File)
	if err == nil {
		err = api.CheckMessage(text)
	}
	if err != nil {
		return usage(ctx, err)
	}
	client, session, err := s.connected(ctx, stdio, &s.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Send(ctx, session.ID, api.NewMessage{Text: text}); err != nil {
		return err
	}
	if !s.Follow {
		fmt.Fprintf(stdio.Err, "berth: session %[1]s has the message; follow it with `berth logs -f %[1]s%[2]s`\n", shortID(session.ID), s.flags())
		return nil
	}
	return s.followToEnd(ctx, stdio, client, session.ID, session.Events, false)
}
