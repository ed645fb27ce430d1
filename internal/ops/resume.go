package ops

import (
	"context"

	"berth/internal/api"
)

// Resume is the verb `berth resume`: it takes an ended session up again.
type Resume struct {
	Target
	ID     string `arg:"" help:"The session, by its id or a part of it."`
	Limits `group:"Limits and options (those given replace the session's)"`
	Detach bool `name:"detach" short:"d" help:"Return without following it."`
	JSON   bool `name:"json" help:"Write the further events, a JSON object a line."`
}

// Help is the long help.
func (Resume) Help() string {
	return `The session goes on with everything it knows. Turns and time are counted anew, money is not.

Examples:
  berth resume 7a63ffb1e2f5 --max-budget-usd 5
  berth resume 7a63ffb1e2f5 --detach

Exit codes: those of berth run; 1 also if the session has not ended.`
}

// Run takes the session up.
func (r *Resume) Run(ctx context.Context, stdio Stdio) error {
	options, err := r.options()
	if err != nil {
		return &UsageError{err}
	}
	client, session, err := r.connected(ctx, stdio, &r.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Resume(ctx, session.ID, api.Resumption{Options: options}); err != nil || r.Detach {
		return err
	}
	return r.followToEnd(ctx, stdio, client, session.ID, session.Events, r.JSON)
}
