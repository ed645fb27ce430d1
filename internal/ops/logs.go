package ops

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Logs is the verb `berth logs`: what a session says and does, or what the agent in AWS logs.
type Logs struct {
	Target
	ID      *string `arg:"" optional:"" help:"The session, by its id or a part of it; the newest if left out."`
	Verbose bool    `name:"verbose" short:"v" help:"Show requests to the model, checkpoints and the work dir too."`
	Follow  bool    `name:"follow" short:"f" help:"Go on until the session has ended."`
	JSON    bool    `name:"json" help:"Write its events, a JSON object a line."`

	Agent bool          `name:"agent" help:"With --env: what the agent has logged, from CloudWatch, and with an id only what is about that session. It is the default without an id."`
	Since time.Duration `name:"since" default:"1h" placeholder:"1h" help:"With --env: how far back to begin with the agent's log."`
}

// Help is the long help.
func (Logs) Help() string {
	return `With --env and without an id it is the agent's log that is shown, as CloudWatch has it: also where no task runs.

Examples:
  berth logs
  berth logs -f 7a63ffb1e2f5
  berth logs --verbose 7a63ffb1e2f5
  berth logs 7a63ffb1e2f5 --json | jq -c 'select(.type == "state")'
  berth logs --env dev -f
  berth logs --env dev --agent --since 24h 01a20627-df5e-7b97-99ab-b87a348be001

Exit codes: 0 shown, however the session ended; 1 failed, or there is no such session; 2 the id fits several;
3 the agent cannot be reached; 130 Ctrl-C.`
}

// Run writes the session's events to stdio.Out.
func (l *Logs) Run(ctx context.Context, stdio Stdio) error {
	if err := l.check(); err != nil {
		return err
	}
	switch {
	case l.Agent && !l.inCloud():
		return &UsageError{errors.New("--agent goes with --env; the agent on this machine logs to berthd.log on its volume")}
	case l.Since <= 0:
		return &UsageError{errors.New("--since: give a duration above 0, such as 15m or 24h")}
	case l.inCloud() && (l.Agent || l.ID == nil):
		if l.ID != nil && strings.TrimSpace(*l.ID) == "" {
			return &UsageError{errors.New("the session's id is empty; `berth ps` lists the sessions")}
		}
		log, err := l.newAgentLog(ctx, stdio)
		if err != nil {
			return err
		}
		return log.show(ctx, l.Follow)
	}
	client, session, err := l.connected(ctx, stdio, l.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = follow(ctx, stdio, client, session.ID, 0, followOptions{Follow: l.Follow, JSON: l.JSON, Summary: l.Follow, Verbose: l.Verbose, Flags: l.flags()})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
