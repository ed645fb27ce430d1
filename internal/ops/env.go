package ops

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"berth/internal/cloud"
	"berth/internal/contract"
)

// Env is the group `berth env`.
type Env struct {
	List EnvList `cmd:"" help:"List the deployments of the account and region."`
}

// EnvList is the verb `berth env list`.
type EnvList struct {
	Region string `name:"region" placeholder:"us-east-1" help:"The region; without it the environment's or the AWS configuration's."`
	JSON   bool   `name:"json" help:"Write JSON: an array of deployments."`
}

// Help is the long help.
func (EnvList) Help() string {
	return `Examples:
  berth env list
  berth env list --region eu-central-1 --json

Exit codes: 0 listed; 1 failed; 2 a flag cannot be used.`
}

// environment is a row of the list.
type environment struct {
	Project     string    `json:"project"`
	Environment string    `json:"environment"`
	Stack       string    `json:"stack"`
	Status      string    `json:"status"`
	Tasks       string    `json:"desired_count"`
	Image       string    `json:"image"`
	Updated     time.Time `json:"updated_at"`
}

// Run lists the stacks that berth's tags are on.
func (v *EnvList) Run(ctx context.Context, stdio Stdio) error {
	if v.Region != "" {
		if _, err := chooseRegion(v.Region, func(string) string { return "" }, ""); err != nil {
			return &UsageError{err}
		}
	}
	client, err := cloud.Connect(ctx, cloud.Options{Region: v.Region})
	if err != nil {
		return err
	}
	stacks, err := client.Stacks(ctx)
	if err != nil {
		return err
	}
	rows := []environment{}
	for _, stack := range stacks {
		updated := stack.Updated
		if updated.IsZero() {
			updated = stack.Created
		}
		rows = append(rows, environment{
			stack.Names.Project, stack.Names.Environment, stack.Names.Stack(), stack.Status, stack.Parameters[contract.ParamDesiredCount], stack.Parameters[contract.ParamImageRef], updated,
		})
	}
	if v.JSON {
		return writeJSON(stdio.Out, rows)
	}
	if len(rows) == 0 {
		fmt.Fprintf(stdio.Err, "berth: there is no deployment in %s; `berth up --env dev%s` makes one\n", client.Region, client.RegionFlag())
		return nil
	}
	table := tabwriter.NewWriter(stdio.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROJECT\tENVIRONMENT\tSTATUS\tTASKS\tIMAGE\tUPDATED")
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", row.Project, row.Environment, row.Status, row.Tasks, shortRef(row.Image), row.Updated.UTC().Format("2006-01-02 15:04"))
	}
	return table.Flush()
}

// shortRef is a digest short enough for a table.
func shortRef(ref string) string {
	const enough = len("@sha256:") + 12
	if len(ref) > enough && ref[0] == '@' {
		return ref[:enough]
	}
	return ref
}
