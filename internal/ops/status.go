package ops

import (
	"context"
	"fmt"
	"io"
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
	fmt.Fprintf(table, "agent\tberthd %s, up for %s, process %d\n", status.Version, age(status.StartedAt, now), status.PID)
	fmt.Fprintf(table, "address\t%s\n", address)
	fmt.Fprintf(table, "claude\t%s\n", status.ClaudeVersion)
	fmt.Fprintf(table, "model\t%s (key: %s)\n", status.Model, status.Key)
	fmt.Fprintf(table, "volume\t%s\n", status.Data)
	fmt.Fprintf(table, "work\t%s\n", status.Work)
	fmt.Fprintf(table, "isolation\t%s\n", status.Isolation)
	fmt.Fprintf(table, "places\t%d\n", status.Places)
	for _, state := range api.States {
		if count := status.Sessions[state]; count > 0 {
			fmt.Fprintf(table, "%s\t%d\n", state, count)
		}
	}
	for _, problem := range status.Problems {
		fmt.Fprintf(table, "PROBLEM\t%s\n", printable(problem))
	}
	return table.Flush()
}
