package ops

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"berth/internal/api"
)

// Status is the verb `berth status`: how the agent is.
type Status struct {
	Target
	JSON bool `name:"json" help:"Write JSON: the status as the agent's API has it."`
}

// Help is the long help.
func (Status) Help() string {
	return `Examples:
  berth status
  berth status --json | jq .sessions.running
  berth status --env dev

With --env it is what AWS says: stack, service, tasks, the image that runs against the registry, key, alarms, last backup; and
through the tunnel what the agent says: sessions and spend. When that cannot be reached, it says so and goes on. Its
JSON: stack, region, status, parameters, tags, paused, service, tasks, image, image_in_registry, images, key_set, key_version,
alarms, alarms_firing, last_backup, agent (the status as its API has it) or agent_unreachable, problems; what could not be found
out is left out, and problems say why.

Exit codes: 0 the agent answers, and nothing keeps sessions from running; 1 something does; 3 the agent cannot be
reached.`
}

// Run writes the status to stdio.Out.
func (s *Status) Run(ctx context.Context, stdio Stdio) error {
	if s.inCloud() {
		if err := s.check(); err != nil {
			return err
		}
		return s.runCloud(ctx, stdio)
	}
	endpoint, err := s.endpoint(stdio)
	if err != nil {
		return err
	}
	status, err := api.NewClient(endpoint).Status(ctx)
	if err != nil {
		return err
	}
	if s.JSON {
		err = writeJSON(stdio.Out, status)
	} else {
		err = writeStatus(stdio.Out, status, endpoint.URL, time.Now())
	}
	if err == nil && len(status.Problems) > 0 {
		err = fmt.Errorf("sessions do not run: %s", status.Problems[0])
	}
	return err
}

func writeStatus(to io.Writer, status *api.Status, address string, now time.Time) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, oneLine(value, 1000)) }
	row("agent", fmt.Sprintf("berthd %s, up for %s, process %d", status.Version, age(status.StartedAt, now), status.PID))
	row("address", address)
	row("claude", status.ClaudeVersion)
	row("model", fmt.Sprintf("%s (key: %s)", status.Model, status.Key))
	row("volume", status.Data+room(status.Volume))
	row("work", status.Work)
	row("isolation", status.Isolation)
	row("places", fmt.Sprintf("%d, of which %d taken", status.Places, status.Sessions[api.Preparing]+status.Sessions[api.Running]))
	for _, state := range api.States {
		if count := status.Sessions[state]; count > 0 || state == api.Queued || state == api.Running {
			row(string(state), strconv.Itoa(count))
		}
	}
	writeSpend(row, &status.Spend)
	for _, problem := range status.Problems {
		row("PROBLEM", problem)
	}
	return table.Flush()
}

// room says how full a volume is; nothing if the agent cannot tell.
func room(volume api.Volume) string {
	if volume.Total <= 0 {
		return ""
	}
	used := max(volume.Total-volume.Free, 0)
	return fmt.Sprintf(" (%s of %s used, %.0f %%)", bytesText(used), bytesText(volume.Total), 100*float64(used)/float64(volume.Total))
}

// writeSpend writes rows about what the agent has spent.
func writeSpend(row func(name, value string), spend *api.Spend) {
	row("spent today", spent(spend.DayUSD, spend.DayLimitUSD)+" ("+spend.Day+", UTC)")
	row("this month", spent(spend.MonthUSD, spend.MonthLimitUSD))
	row("prices", "dated "+spend.PricesDated)
}

// spent is an amount beside its limit.
func spent(dollars, limit float64) string {
	switch {
	case limit <= 0:
		return money(dollars) + ", no limit"
	case dollars >= limit:
		return fmt.Sprintf("%s: the limit of %s is reached", money(dollars), money(limit))
	}
	return fmt.Sprintf("%s of %s", money(dollars), money(limit))
}
