package ops

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"berth/internal/api"
)

// Spend is the verb `berth spend`: what sessions have cost.
type Spend struct {
	Target
	JSON bool `name:"json" help:"Write JSON: the report as the agent's API has it."`
}

// Help is the long help.
func (Spend) Help() string {
	return `What the agent's sessions have spent on the model, by day and by model, reckoned from the tokens of each
request and a dated table of prices. Days are those of UTC.

Examples:
  berth spend
  berth spend --json | jq .month_usd

Exit codes: 0 shown; 1 failed; 3 the agent cannot be reached.`
}

// Run writes the report to stdio.Out.
func (s *Spend) Run(ctx context.Context, stdio Stdio) error {
	client, err := s.connect(ctx, stdio)
	if err != nil {
		return err
	}
	defer client.Close()
	report, err := client.Spend(ctx)
	if err != nil {
		return err
	}
	if s.JSON {
		return writeJSON(stdio.Out, report)
	}
	return writeReport(stdio.Out, report)
}

func writeReport(to io.Writer, report *api.SpendReport) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", oneLine(name, 100), oneLine(value, 200)) }
	writeSpend(row, &report.Spend)
	if report.EstimatedUSD > 0 {
		row("estimated", money(report.EstimatedUSD)+" of this month's: requests that a crash cut off, or that another agent has under way")
	}
	for _, part := range []struct {
		heading string
		amounts map[string]float64
		order   func(a, b string) int
	}{
		{"DAY", report.Days, strings.Compare},
		{"MODEL (THIS MONTH)", report.Models, func(a, b string) int {
			return cmp.Or(cmp.Compare(report.Models[b], report.Models[a]), strings.Compare(a, b)) // the dearest first
		}},
	} {
		if len(part.amounts) == 0 {
			continue
		}
		fmt.Fprintf(table, "\n%s\tUSD\n", part.heading)
		for _, name := range slices.SortedFunc(maps.Keys(part.amounts), part.order) {
			row(name, money(part.amounts[name]))
		}
	}
	return table.Flush()
}
