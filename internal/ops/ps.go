package ops

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"berth/internal/api"
)

// psLatest is how many ended sessions `berth ps` lists without --all.
const psLatest = 10

// Ps is the verb `berth ps`: it lists sessions.
type Ps struct {
	Target
	All   bool        `name:"all" short:"a" help:"List all ended sessions too, not only the latest ten; --state lists all by itself."`
	State []api.State `name:"state" placeholder:"STATE" help:"List only those in a state: queued, preparing, running, interrupted, waiting, succeeded, failed or cancelled; with commas, or repeated, for more."`
	JSON  bool        `name:"json" help:"Write JSON: an array of all sessions, the oldest first."`
}

// Help is the long help.
func (Ps) Help() string {
	return `Examples:
  berth ps
  berth ps --all --state failed
  berth ps --json | jq -r '.[] | select(.cost_usd > 1) | .id'

Exit codes: 0 listed; 1 failed; 2 a flag cannot be used; 3 the agent cannot be reached.`
}

// Run writes the list to stdio.Out.
func (p *Ps) Run(ctx context.Context, stdio Stdio) error {
	for _, state := range p.State {
		if !slices.Contains(api.States, state) {
			return &UsageError{fmt.Errorf("--state: there is no state %q; see berth ps --help", state)}
		}
	}
	client, err := p.connect(stdio)
	if err != nil {
		return err
	}
	sessions, err := client.Sessions(ctx, p.State...)
	if err != nil {
		return err
	}
	if !p.All && !p.JSON && len(p.State) == 0 {
		sessions = recent(sessions)
	}
	if p.JSON {
		return writeJSON(stdio.Out, sessions)
	}
	if len(sessions) == 0 {
		text := "there are no sessions; start one with `berth run`"
		if len(p.State) > 0 {
			text = "no session is in such a state; `berth ps --all` lists them all"
		}
		fmt.Fprintln(stdio.Err, "berth: "+text)
		return nil
	}
	return writeSessions(stdio.Out, sessions, time.Now())
}

// recent keeps the sessions that have not ended, and the latest of those that have.
func recent(sessions []api.Session) []api.Session {
	kept, ended := []api.Session{}, 0
	for _, session := range slices.Backward(sessions) {
		if session.State.Ended() {
			ended++
		}
		if !session.State.Ended() || ended <= psLatest {
			kept = append(kept, session)
		}
	}
	slices.Reverse(kept)
	return kept
}

func writeSessions(to io.Writer, sessions []api.Session, now time.Time) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tAGE\tWORK\tCOST\tPROMPT")
	for _, session := range sessions {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", shortID(session.ID), session.State, age(session.CreatedAt, now),
			duration(session.DurationSeconds), money(session.CostUSD), oneLine(session.Prompt, 50))
	}
	return table.Flush()
}
