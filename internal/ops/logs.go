package ops

import (
	"context"
)

// Logs is the verb `berth logs`: what a session says and does.
type Logs struct {
	Target
	ID      *string `arg:"" optional:"" help:"The session, by its id or a part of it; the newest if left out."`
	Verbose bool    `name:"verbose" short:"v" help:"Show requests to the model, checkpoints and the work dir too."`
	Follow  bool    `name:"follow" short:"f" help:"Go on until the session has ended."`
	JSON    bool    `name:"json" help:"Write its events, a JSON object a line."`
}

// Help is the long help.
func (Logs) Help() string {
	return `Examples:
  berth logs
  berth logs -f 7a63ffb1e2f5
  berth logs --verbose 7a63ffb1e2f5
  berth logs 7a63ffb1e2f5 --json | jq -c 'select(.type == "state")'

Exit codes: 0 shown, however the session ended; 1 failed, or there is no such session; 2 the id fits several;
3 the agent cannot be reached; 130 Ctrl-C.`
}

// Run writes the session's events to stdio.Out.
func (l *Logs) Run(ctx context.Context, stdio Stdio) error {
	client, session, err := l.connected(ctx, stdio, l.ID)
	if err != nil {
		return err
	}
	_, err = follow(ctx, stdio, client, session.ID, 0, followOptions{Follow: l.Follow, JSON: l.JSON, Summary: l.Follow, Verbose: l.Verbose})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
