package ops

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"berth/internal/api"
)

// psLatest is how many ended sessions `berth ps` lists by itself.
const psLatest = 10

// Ps is the verb `berth ps`: it lists sessions.
type Ps struct {
	Target
	All   bool     `name:"all" short:"a" help:"List all ended sessions too, not only the latest ten."`
	State []string `name:"state" sep:"none" placeholder:"STATE" help:"List all in a state: queued, preparing, running, interrupted, waiting, succeeded, failed or cancelled; with commas, or repeated, for more."`
	Repo  *string  `name:"repo" placeholder:"URL|DIR" help:"List all with this repository, as berth run takes it."`
	Since *string  `name:"since" placeholder:"TIME" help:"List all made after it: a duration before now, such as 90m, 12h or 7d, or a time such as 2026-11-23 or 2026-11-23T14:00:00Z."`
	Until *string  `name:"until" placeholder:"TIME" help:"List all made before it."`
	Limit *int     `name:"limit" short:"n" placeholder:"N" help:"List the newest so many of them, and no more."`
	JSON  bool     `name:"json" help:"Write JSON: an array of all sessions, the oldest first; flags that choose among them do so here too."`
}

// Help is the long help.
func (Ps) Help() string {
	return `Without a flag: what has not ended, and the ten latest that have.

Examples:
  berth ps
  berth ps --state failed --since 7d
  berth ps --repo . --limit 3
  berth ps --json --since 24h | jq -r '.[] | select(.cost_usd > 1) | .id'

Exit codes: 0 listed; 1 failed; 2 a flag cannot be used; 3 the agent cannot be reached.`
}

// Run writes the list to stdio.Out.
func (p *Ps) Run(ctx context.Context, stdio Stdio) error {
	now := time.Now()
	query, err := p.query(now)
	if err != nil {
		return &UsageError{err}
	}
	client, err := p.connect(ctx, stdio)
	if err != nil {
		return err
	}
	defer client.Close()
	var sessions []api.Session
	if p.All || p.JSON || p.chooses() {
		sessions, err = client.Collect(ctx, query)
	} else {
		sessions, err = recent(ctx, client)
	}
	if err != nil {
		return err
	}
	slices.SortFunc(sessions, func(a, b api.Session) int { return strings.Compare(a.ID, b.ID) }) // which is by time
	if p.JSON {
		return writeJSON(stdio.Out, sessions)
	}
	if len(sessions) == 0 {
		text := "there are no sessions; start one with `berth run" + p.flags() + "`"
		if p.chooses() {
			text = "no session is like that; `berth ps --all" + p.flags() + "` lists them all"
		}
		fmt.Fprintln(stdio.Err, "berth: "+text)
		return nil
	}
	return writeSessions(stdio.Out, sessions, now)
}

// chooses reports whether a flag chooses among the sessions.
func (p *Ps) chooses() bool {
	return len(p.State) > 0 || p.Repo != nil || p.Since != nil || p.Until != nil || p.Limit != nil
}

// query is what the flags ask for.
func (p *Ps) query(now time.Time) (query api.ListQuery, err error) {
	for _, given := range p.State {
		for name := range strings.SplitSeq(given, ",") {
			state := api.State(strings.TrimSpace(name))
			if state == "" {
				return query, fmt.Errorf("--state %q has an empty name, as a script's unset variable is; name states, or leave it out", given)
			}
			if !slices.Contains(api.States, state) {
				return query, fmt.Errorf("--state: there is no state %q; see berth ps --help", state)
			}
			query.States = append(query.States, state)
		}
	}
	if query.Repo, err = readRepo(p.Repo); err != nil {
		return query, err
	}
	if query.CreatedAfter, err = readTime("--since", p.Since, now); err != nil {
		return query, err
	}
	if query.CreatedBefore, err = readTime("--until", p.Until, now); err != nil {
		return query, err
	}
	if p.Limit != nil {
		if *p.Limit < 1 {
			return query, fmt.Errorf("--limit is %d: it has to be 1 or more", *p.Limit)
		}
		query.Limit, query.Newest = *p.Limit, true
	}
	return query, nil
}

// readTime is a time that a flag has: so long ago, a time of RFC 3339, or a day of the local calendar.
func readTime(flag string, given *string, now time.Time) (time.Time, error) {
	if given == nil {
		return time.Time{}, nil
	}
	if days, found := strings.CutSuffix(*given, "d"); found {
		if number, err := strconv.ParseFloat(days, 64); err == nil && number >= 0 && number < 36500 {
			return now.Add(-time.Duration(number * float64(24*time.Hour))), nil
		}
	}
	if ago, err := time.ParseDuration(*given); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if at, err := time.Parse(time.RFC3339, *given); err == nil {
		return at, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, *given, time.Local); err == nil { // whoever types it means a day of their own
		return day, nil
	}
	return time.Time{}, fmt.Errorf("%s: %.80q is neither a duration like 90m, 12h or 7d nor a time like 2026-11-23 or 2026-11-23T14:00:00Z", flag, *given)
}

// unfinished are the states of sessions that have not ended.
func unfinished() (states []api.State) {
	return slices.DeleteFunc(slices.Clone(api.States), api.State.Ended)
}

// recent lists the sessions that have not ended, and the latest of those that have. The cost does not grow with
// the number of those that ended long ago. One that ends between the two questions is in both answers.
func recent(ctx context.Context, client *api.Client) ([]api.Session, error) {
	open, err := client.Collect(ctx, api.ListQuery{States: unfinished()})
	if err != nil {
		return nil, err
	}
	ended, err := client.Collect(ctx, api.ListQuery{States: []api.State{api.Succeeded, api.Failed, api.Cancelled}, Newest: true, Limit: psLatest})
	if err != nil {
		return nil, err
	}
	for _, session := range open {
		if !slices.ContainsFunc(ended, func(other api.Session) bool { return other.ID == session.ID }) {
			ended = append(ended, session)
		}
	}
	return ended, nil
}

// stateText is a session's state, and when it goes on if it waits.
func stateText(session *api.Session, now time.Time) string {
	if session.State == api.Waiting && session.WaitingUntil != nil {
		return string(session.State) + " until " + clock(*session.WaitingUntil, now, time.Local)
	}
	return string(session.State)
}

func writeSessions(to io.Writer, sessions []api.Session, now time.Time) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tAGE\tWORK\tCOST\tPROMPT")
	for _, session := range sessions {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", shortID(session.ID), stateText(&session, now), age(session.CreatedAt, now),
			duration(session.DurationSeconds), money(session.CostUSD), oneLine(session.Prompt, 50))
	}
	return table.Flush()
}
