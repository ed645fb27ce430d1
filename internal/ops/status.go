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

Exit codes: 0 the agent answers, and nothing keeps sessions from running; 1 something does; 3 the agent cannot be
reached.`
}

// Run writes the status to stdio.Out.
func (s *Status) Run(ctx context.Context, stdio Stdio) error {
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
	row("volume", status.Data)
	row("work", status.Work)
	row("isolation", status.Isolation)
	row("places", strconv.Itoa(status.Places))
	for _, state := range api.States {
		if count := status.Sessions[state]; count > 0 {
			row(string(state), strconv.Itoa(count))
		}
	}
	for _, problem := range status.Problems {
		row("PROBLEM", problem)
	}
	return table.Flush()
}
