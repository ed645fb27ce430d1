package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/smithy-go/logging"

	"berth/internal/cloud"
	"berth/internal/cost"
	"berth/internal/options"
)

// Cost is the verb `berth cost`: it estimates what a deployment costs a month, or says what one has cost.
type Cost struct {
	Env     string   `name:"env" placeholder:"dev|staging|prod" help:"Estimate this deployment in AWS as it is: its options, its volume, its images, and whether a task runs."`
	Project string   `name:"project" default:"${project}" placeholder:"NAME" help:"With --env: the deployment's project name (${project})."`
	Context []string `name:"context" short:"c" sep:"none" placeholder:"key=value" help:"A deploy option, as the CDK CLI takes it; repeat it for more."`
	Region  string   `name:"region" placeholder:"us-east-1" help:"Region to price, or with --env the deployment's; without it AWS_REGION, AWS_DEFAULT_REGION, or us-east-1 (with --env that of the AWS configuration)."`
	Live    bool     `name:"live" help:"Ask the AWS Price List API for the prices, with your AWS credentials (pricing:GetProducts)."`
	Actual  bool     `name:"actual" help:"With --env: what AWS has charged for this month and the last, by service, from Cost Explorer by the stack's tags (ce:GetCostAndUsage; AWS charges $0.01 for a request)."`
	JSON    bool     `name:"json" help:"Write JSON."`

	cost.Assumptions `embed:"" group:"Assumptions"`

	given map[string]bool // the flags that are on the command line
}

// AfterApply notes which assumptions are given: those come before what is measured.
func (c *Cost) AfterApply(parsed *kong.Context) error {
	c.given = map[string]bool{}
	for _, each := range parsed.Path {
		if each.Flag != nil {
			c.given[each.Flag.Name] = true
		}
	}
	return nil
}

// Help is the long help.
func (Cost) Help() string {
	return `Prices come from a dated table inside berth, each with its source; --live asks AWS instead. With --env it is a deployment as it is, and -c and
the assumptions say what would be otherwise. --actual is no estimate, but a bill: it begins a day after the tags Project and Environment
were activated as cost allocation tags. Its JSON: stack, months (month, estimated, services, total_usd), notes.

Examples:
  berth cost
  berth cost -c useFargateSpot=true -c cpu=1024 -c memory=4096 -c logRetentionDays=3
  berth cost -c architecture=arm64 --sessions-per-day 20 --cost-per-session 0.80
  berth cost --region eu-central-1 --live --json
  berth cost --env prod
  berth cost --env prod -c architecture=arm64
  berth cost --env prod --actual

Exit codes: 0 estimated; 1 failed, or a price is missing; 2 a flag or option cannot be used.`
}

// Run writes the estimate to stdio.Out.
func (c *Cost) Run(ctx context.Context, stdio Stdio) error {
	switch {
	case c.Env != "" && c.Actual && (c.Live || len(c.Context) > 0):
		return &UsageError{errors.New("--actual is what was paid: neither --live nor -c goes with it")}
	case c.Env != "":
		return c.runCloud(ctx, stdio)
	case c.Actual:
		return &UsageError{errors.New("--actual goes with --env, which names a deployment in AWS")}
	case c.Project != "" && c.Project != DefaultProject:
		return &UsageError{errors.New("--project goes with --env, which names a deployment in AWS")}
	}
	parsed, badOptions := options.ParseAssignments(c.Context)
	region, badRegion := chooseRegion(c.Region, stdio.Getenv, cost.HomeRegion)
	if err := errors.Join(badOptions, c.Check(), badRegion); err != nil {
		return &UsageError{err}
	}
	table, err := c.prices(ctx, parsed, region)
	if err != nil {
		return err
	}
	estimate, err := cost.New(parsed, c.Assumptions, table)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(stdio.Out, estimate)
	}
	return cost.WriteText(stdio.Out, estimate)
}

// prices loads the embedded table, or asks AWS for the prices that the estimate takes.
func (c *Cost) prices(ctx context.Context, parsed options.Options, region string) (cost.Table, error) {
	if !c.Live {
		return cost.Load(region)
	}
	// Without the logger: the SDK's warnings would stand between a failure and its one line.
	aws, err := config.LoadDefaultConfig(ctx, config.WithRegion(cost.LiveEndpoint(region)), config.WithLogger(logging.Nop{}), cloud.WithPlainBodies)
	if err != nil {
		return cost.Table{}, fmt.Errorf("AWS configuration: %w", err)
	}
	if _, err := aws.Credentials.Retrieve(ctx); err != nil {
		return cost.Table{}, fmt.Errorf("no AWS credentials for --live; set AWS_PROFILE or run `aws configure`: %w", err)
	}
	table, err := cost.Live(ctx, pricing.NewFromConfig(aws), region, cost.Needed(parsed, c.Assumptions))
	return table, cloud.Explain(err)
}

// writeJSON writes value indented, with a line break at its end.
func writeJSON(w io.Writer, value any) error {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err := io.WriteString(w, escapeControls(text.String()))
	return err
}
