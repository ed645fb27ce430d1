package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"berth/internal/cloud"
	"berth/internal/image"
	"berth/internal/options"
)

// Doctor is the verb `berth doctor`: what a deployment needs, checked one by one.
type Doctor struct {
	Target
	Context []string `name:"context" short:"c" sep:"none" placeholder:"key=value" help:"A deploy option, as the CDK CLI takes it; repeat it for more."`
	JSON    bool     `name:"json" help:"Write JSON: an array of checks."`
}

// Help is the long help.
func (Doctor) Help() string {
	return `It changes nothing. What is wrong comes with what to do about it; a stack that cannot be updated, with the call that
takes it out of its state.
` + optionsHelp + `

Examples:
  berth doctor --env dev
  berth doctor --env prod --json

Exit codes: 0 all is there; 1 something is missing; 2 a flag or option cannot be used.`
}

// finding is what a check found.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
}

// Run checks all, and fails if something is missing.
func (v *Doctor) Run(ctx context.Context, stdio Stdio) error {
	if err := v.needsEnv("doctor"); err != nil {
		return err
	}
	given, err := readOptions(v.Context, v.Target)
	if err != nil {
		return err
	}
	findings := v.examine(ctx, stdio, given)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if v.JSON {
		err = writeJSON(stdio.Out, findings)
	} else {
		table := tabwriter.NewWriter(stdio.Out, 0, 0, 2, ' ', 0)
		for _, each := range findings {
			mark := "✓"
			if !each.OK {
				mark = "✗"
			}
			fmt.Fprintf(table, "%s %s\t%s\n", mark, each.Check, oneLine(each.Found, 500))
		}
		err = table.Flush()
	}
	for _, each := range findings {
		if err == nil && !each.OK {
			return fmt.Errorf("%s: %s", each.Check, each.Found)
		}
	}
	return err
}

// examine makes all checks. Those that need AWS are left out when it cannot be asked.
func (v *Doctor) examine(ctx context.Context, stdio Stdio, given map[string]string) (findings []finding) {
	add := func(check, found string, err error) {
		if err != nil {
			found = err.Error()
		}
		findings = append(findings, finding{check, err == nil, found})
	}
	here, _ := os.Getwd()
	cdk, err := cloud.FindCDK(here)
	if err != nil {
		add("CDK CLI", "", err)
	} else {
		found, err := versionOf(ctx, filepath.Join(filepath.Dir(cdk.Program), "node"), "--version")
		add("Node.js", found, err)
		found, err = versionOf(ctx, cdk.Program, "--version")
		add("CDK CLI", found, err)
	}
	builder, err := image.FindBuilder(ctx, stdio.Getenv)
	add("image builder", builder.Name+" ("+builder.Path+")", err)

	client, err := v.cloud(ctx)
	if err != nil {
		check := "credentials"
		if errors.Is(err, cloud.ErrNoRegion) {
			check = "region"
		}
		add(check, "", err)
		return findings
	}
	add("region", client.Region, nil)
	identity, err := client.Identity(ctx)
	add("credentials", "account "+identity.Account+", "+identity.Name(), err)
	if err != nil {
		return findings
	}
	d := &deployment{client: client, names: v.names(), cdk: cdk}
	stack, err := client.Stack(ctx, v.names())
	switch {
	case errors.Is(err, cloud.ErrNoStack):
		add("stack", v.names().Stack()+" is not deployed yet", nil)
	case err != nil:
		add("stack", "", err)
	default:
		add("stack", v.names().Stack()+" is in "+stack.Status, stack.Problem())
		d.stack = stack
	}
	_, parsed, err := d.options(ctx, given)
	if err != nil {
		add("options", "", err)
		return findings
	}
	found, err := checkVPC(ctx, client, parsed)
	add("network", found, err)
	found, err = checkQuota(ctx, client, parsed)
	add("quota", found, err)
	return findings
}

// versionOf is the first line that a program says of itself.
func versionOf(ctx context.Context, program string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s does not run: %w; run `npm ci`", program, err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return first, nil
}

// checkVPC looks for the network that the options ask for.
func checkVPC(ctx context.Context, client *cloud.Client, parsed options.Options) (string, error) {
	if parsed.VpcID != options.VpcDefault {
		return "vpcId=" + parsed.VpcID, nil
	}
	id, err := client.DefaultVPC(ctx)
	if err != nil {
		return "", err
	}
	if id == "" {
		return "", &cloud.Error{What: "there is no default VPC in " + client.Region, Next: "give -c vpcId=new for a small one or -c vpcId=vpc-… for yours, or run `aws ec2 create-default-vpc" + client.RegionFlag() + "`"}
	}
	return "the default VPC, " + id, nil
}

// errSmallQuota marks a quota that was read and is too small.
var errSmallQuota = errors.New("the quota is too small")

// checkQuota compares Fargate's quota with what the task takes.
func checkQuota(ctx context.Context, client *cloud.Client, parsed options.Options) (string, error) {
	code, kind := cloud.QuotaOnDemand, "on demand"
	if parsed.UseFargateSpot {
		code, kind = cloud.QuotaSpot, "on Spot"
	}
	limit, err := client.VCPUs(ctx, code)
	switch {
	case errors.Is(err, cloud.ErrDenied), errors.Is(err, cloud.ErrThrottled), errors.Is(err, cloud.ErrNetwork), errors.Is(err, cloud.ErrExpired), errors.Is(err, cloud.ErrNoCredentials), ctx.Err() != nil:
		return "", err
	case err != nil: // Service Quotas is not everywhere; Fargate says itself if the quota is too small
		return "not known, Service Quotas does not tell: " + err.Error(), nil
	}
	const units = 1024 // of a vCPU
	wanted := float64(parsed.CPU) / units
	if limit < wanted {
		return "", &cloud.Error{
			Cause: errSmallQuota,
			What:  fmt.Sprintf("Fargate %s may use %v vCPUs in %s, and the task takes %v", kind, limit, client.Region, wanted),
			Next:  fmt.Sprintf("raise it: `aws service-quotas request-service-quota-increase --service-code fargate --quota-code %s --desired-value 16%s`", code, client.RegionFlag()),
		}
	}
	return fmt.Sprintf("Fargate %s may use %v vCPUs, and the task takes %v", kind, limit, wanted), nil
}
