package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/pricing"

	"berth/internal/cloud"
	"berth/internal/contract"
	"berth/internal/cost"
)

// runCloud estimates what a deployment costs as it is: with the options that its stack records, and with what there is now. Options and
// assumptions that are given come before both.
func (c *Cost) runCloud(ctx context.Context, stdio Stdio) error {
	target := Target{Env: c.Env, Project: c.Project, Region: c.Region}
	if err := target.check(); err != nil {
		return err
	}
	given, err := readOptions(c.Context, target)
	if err = errors.Join(err, c.Check()); err != nil {
		return &UsageError{err}
	}
	d, err := target.newDeployment(ctx, stdio)
	if err != nil {
		return err
	}
	if c.Actual {
		return c.runActual(ctx, stdio, d)
	}
	if err := d.refresh(ctx); err != nil {
		return err
	}
	_, parsed, err := d.options(ctx, given)
	if err != nil {
		return err
	}
	if err := c.measure(ctx, d); err != nil {
		return err
	}
	table, err := cost.Load(d.client.Region)
	if c.Live {
		config := d.client.Config.Copy()
		config.Region = cost.LiveEndpoint(d.client.Region)
		table, err = cost.Live(ctx, pricing.NewFromConfig(config), d.client.Region, cost.Needed(parsed, c.Assumptions))
	}
	if err != nil {
		return cloud.Explain(err)
	}
	estimate, err := cost.New(parsed, c.Assumptions, table)
	if err != nil {
		return err
	}
	estimate.Notes = slices.Insert(estimate.Notes, 0, c.measured(d))
	if c.JSON {
		return writeJSON(stdio.Out, estimate)
	}
	return cost.WriteText(stdio.Out, estimate)
}

// measure replaces assumptions that nobody gave by what there is: no hours while it is paused, and what is stored.
func (c *Cost) measure(ctx context.Context, d *deployment) error {
	if d.stack.Parameters[contract.ParamDesiredCount] == "0" && !c.given["hours"] {
		c.Hours = 0
	}
	gigabytes := func(bytes int64) float64 { return math.Ceil(float64(bytes)/(1<<30)*1e4) / 1e4 } // as exact as assumptions are
	if id := d.stack.Outputs[contract.OutputFileSystemID]; id != "" && !c.given["efs-gb"] {
		volume, err := d.client.FileSystem(ctx, id)
		if err != nil {
			return err
		}
		if c.EFSGB = 0; volume != nil {
			c.EFSGB = gigabytes(volume.SizeBytes)
		}
	}
	if d.stack.Outputs[contract.OutputRepositoryURI] != "" && !c.given["images-gb"] {
		images, err := d.client.Images(ctx, d.stack)
		if err != nil {
			return err
		}
		var sum int64
		for i := range images {
			sum += images[i].Size
		}
		c.ImagesGB = gigabytes(sum)
	}
	return nil
}

// measured says what the estimate is of.
func (c *Cost) measured(d *deployment) string {
	text := fmt.Sprintf("This is %s as it is deployed, with the volume and the images that it has now", d.names.Stack())
	if c.Hours == 0 && d.stack.Parameters[contract.ParamDesiredCount] == "0" {
		text += "; no task runs, so that its hours are none (--hours 730: as if it ran)"
	}
	return text + "."
}

// actual is what `berth cost --actual --json` writes.
type actual struct {
	Stack  string        `json:"stack"`
	Months []actualMonth `json:"months"`
	Notes  []string      `json:"notes"`
}

type actualMonth struct {
	cloud.MonthSpent
	Total float64 `json:"total_usd"`
}

// runActual writes what AWS has charged for.
func (c *Cost) runActual(ctx context.Context, stdio Stdio, d *deployment) error {
	months, err := d.client.Spent(ctx, d.names, time.Now())
	if err != nil {
		return err
	}
	report := actual{Stack: d.names.Stack(), Months: []actualMonth{}, Notes: []string{
		"Without what carries no tags, such as metrics and queries of logs, and without the model, which Anthropic bills (`berth spend " + d.flags() + "`).",
	}}
	for _, month := range months {
		made := actualMonth{MonthSpent: month}
		for i := range made.Services {
			made.Total += made.Services[i].USD
			made.Services[i].USD = toCents(made.Services[i].USD)
		}
		made.Total = toCents(made.Total)
		slices.SortStableFunc(made.Services, func(a, b cloud.ServiceSpent) int {
			return cmp.Or(cmp.Compare(b.USD, a.USD), cmp.Compare(a.Service, b.Service))
		})
		report.Months = append(report.Months, made)
	}
	if c.JSON {
		return writeJSON(stdio.Out, report)
	}
	return writeActual(stdio.Out, &report)
}

func toCents(dollars float64) float64 { return math.Round(dollars*100) / 100 }

func writeActual(to io.Writer, report *actual) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for i, month := range report.Months {
		if i > 0 {
			fmt.Fprintln(table)
		}
		heading := month.Month
		if month.Estimated {
			heading += " (not closed yet)"
		}
		fmt.Fprintf(table, "%s\tUSD\n", heading)
		for _, each := range month.Services {
			fmt.Fprintf(table, "%s\t%.2f\n", oneLine(each.Service, 100), each.USD)
		}
		fmt.Fprintf(table, "Total\t%.2f\n", month.Total)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, note := range report.Notes {
		if _, err := fmt.Fprintln(to, "\n"+note); err != nil {
			return err
		}
	}
	return nil
}
