package ops

import (
	"context"
	"fmt"
	"io"
)

// Stop is the verb `berth stop`: it ends a session.
type Stop struct {
	Target
	ID     string `arg:"" help:"The session, by its id or a part of it."`
	NoWait bool   `name:"no-wait" help:"Return without waiting for its end."`
}

// Help is the long help.
func (Stop) Help() string {
	return `Its files and its transcript stay; berth resume takes it up again.

Examples:
  berth stop 7a63ffb1e2f5

Exit codes: 0 it has ended; 1 failed, or it had ended before; 2 the id fits several; 3 the agent cannot be reached.`
}

// Run asks for the session's end and waits for it.
func (s *Stop) Run(ctx context.Context, stdio Stdio) error {
	client, session, err := s.connected(ctx, stdio, &s.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	stopped, err := client.Stop(ctx, session.ID)
	if err != nil || s.NoWait {
		return err
	}
	if !stopped.State.Ended() {
		silent := stdio
		silent.Out, silent.Err = io.Discard, io.Discard
		if stopped, err = follow(ctx, silent, client, session.ID, session.Events, followOptions{Follow: true}); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdio.Err, "berth: session %s is %s\n", shortID(session.ID), stopped.State)
	return nil
}
