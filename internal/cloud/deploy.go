package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"go.yaml.in/yaml/v3"

	"berth/internal/contract"
)

// With is what a deployment of the project's stack is made with. Parameters that are not named keep their values.
type With struct {
	Options, Parameters map[string]string
	Import              bool // resources with names that are there already become the stack's
	Protected           bool // the stack has termination protection, which it is to keep
}

// protectTime bounds the call that goes on after Ctrl-C.
const protectTime = 30 * time.Second

// protect puts termination protection back on, which the CDK CLI takes off when it deploys an app that does not ask for it. It does so after
// Ctrl-C, too. Where it cannot, nobody would ever know: the next deployment finds a stack without it.
func (c *Client) protect(ctx context.Context, names contract.Names) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), protectTime)
	defer cancel()
	_, err := c.CloudFormation.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{
		StackName: aws.String(names.Stack()), EnableTerminationProtection: aws.Bool(true),
	})
	if err != nil {
		return fmt.Errorf("%w; stack %s is without its termination protection: `aws cloudformation update-termination-protection --enable-termination-protection --stack-name %s%s` puts it on again",
			Explain(err), names.Stack(), names.Stack(), c.RegionFlag())
	}
	return nil
}

// Deploy deploys the project's stack, through `cdk deploy`.
func (k *CDK) Deploy(ctx context.Context, c *Client, names contract.Names, with With, out io.Writer) (err error) {
	args := append([]string{"deploy", names.Stack(), "--require-approval", "never", "--progress", "events"}, Context(with.Options)...)
	if with.Protected { // also where the deployment fails, or is cut off
		defer func() { err = errors.Join(err, c.protect(ctx, names)) }()
	}
	if with.Import {
		args = append(args, "--import-existing-resources")
	}
	return k.Run(ctx, c, out, append(args, parameterFlags(with.Parameters)...)...)
}

// Diff writes how the project's stack with options differs from what is deployed.
func (k *CDK) Diff(ctx context.Context, c *Client, names contract.Names, options map[string]string, out io.Writer) error {
	return k.Run(ctx, c, out, append([]string{"diff", names.Stack()}, Context(options)...)...)
}

func parameterFlags(parameters map[string]string) (flags []string) {
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		flags = append(flags, "--parameters", name+"="+parameters[name])
	}
	return flags
}

// Roll changes parameters of a deployed stack and nothing else: `cdk deploy` of the template that is deployed already.
// Options that it was deployed with need not be known again.
func (k *CDK) Roll(ctx context.Context, c *Client, stack *Stack, parameters map[string]string, out io.Writer) (err error) {
	template, err := c.Template(ctx, stack.Names)
	if err != nil {
		return err
	}
	identity, err := c.Identity(ctx)
	if err != nil {
		return err
	}
	directory, err := os.MkdirTemp("", "berth-stack-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	name := stack.Names.Stack()
	manifest := map[string]any{
		"version": assemblyVersion,
		"artifacts": map[string]any{name: map[string]any{
			"type": "aws:cloudformation:stack", "environment": "aws://" + identity.Account + "/" + c.Region, "displayName": name,
			"properties": map[string]any{"templateFile": name + ".template.json", "stackName": name, "tags": stack.Tags, "terminationProtection": stack.Protected},
		}},
	}
	for file, value := range map[string]any{"manifest.json": manifest, name + ".template.json": template} {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, file), text, 0o600); err != nil {
			return err
		}
	}
	args := []string{"deploy", name, "--app", directory, "--require-approval", "never", "--progress", "events"}
	return k.Run(ctx, c, out, append(args, parameterFlags(parameters)...)...)
}

// assemblyVersion is a schema of cloud assemblies that every CDK CLI since reads.
const assemblyVersion = "36.0.0"

// parseTemplate reads a template in JSON or in the YAML that the CDK CLI sends.
func parseTemplate(body string) (template Template, err error) {
	if err := yaml.Unmarshal([]byte(body), &template); err != nil {
		return nil, err
	}
	text, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	template = nil
	err = json.Unmarshal(text, &template) // numbers are of one type now
	return template, err
}

// UpToDate reports whether the deployed template is what the project's app makes of the options. It is false where that cannot be
// told without the CDK CLI, which then finds out itself.
func (k *CDK) UpToDate(ctx context.Context, c *Client, stack *Stack, deployed Template, options map[string]string) (bool, error) {
	made, err := k.synth(ctx, c, stack.Names, options)
	if err != nil || made == nil {
		return false, err
	}
	return reflect.DeepEqual(made.effective(), deployed.effective()), nil
}

// Project is the context of the project's cdk.json, which holds for every deployment of it.
func (k *CDK) Project() (app string, context map[string]any, err error) {
	var project struct {
		App     string         `json:"app"`
		Context map[string]any `json:"context"`
	}
	file := filepath.Join(k.Root, "cdk.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", nil, err
	}
	if err := json.Unmarshal(text, &project); err != nil {
		return "", nil, fmt.Errorf("%s: %w", file, err)
	}
	return project.App, project.Context, nil
}

// synth runs the app as the CDK CLI does, without the seconds that the CLI itself takes. There is no template if the app needs a
// look-up that nobody has made yet, or fails: the CLI says why.
func (k *CDK) synth(ctx context.Context, c *Client, names contract.Names, options map[string]string) (template Template, err error) {
	program, context, err := k.Project()
	if err != nil {
		return nil, err
	}
	given := map[string]any{}
	maps.Copy(given, context)
	if text, err := os.ReadFile(filepath.Join(k.Root, "cdk.context.json")); err == nil {
		var looked map[string]any
		if json.Unmarshal(text, &looked) == nil {
			maps.Copy(given, looked)
		}
	}
	for name, value := range options {
		given[name] = value
	}
	encoded, err := json.Marshal(given)
	if err != nil {
		return nil, err
	}
	identity, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "berth-synth-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	app := exec.CommandContext(ctx, "sh", "-c", program)
	app.Dir = k.Root
	app.Env = append(k.env(c), "CDK_OUTDIR="+directory, "CDK_CONTEXT_JSON="+string(encoded), "CDK_DEFAULT_ACCOUNT="+identity.Account, "CDK_DEFAULT_REGION="+c.Region)
	if err := app.Run(); err != nil {
		return nil, ctx.Err()
	}
	var manifest struct {
		Missing []any `json:"missing"`
	}
	text, err := os.ReadFile(filepath.Join(directory, "manifest.json"))
	if err != nil || json.Unmarshal(text, &manifest) != nil || len(manifest.Missing) > 0 {
		return nil, nil
	}
	text, err = os.ReadFile(filepath.Join(directory, names.Stack()+".template.json"))
	if err != nil {
		return nil, nil
	}
	if err := json.Unmarshal(text, &template); err != nil {
		return nil, nil
	}
	return template, nil
}

// Explain adds to a failure of the CDK CLI what CloudFormation said first.
func (e *CDKError) explain(first string) string {
	if first == "" {
		return e.Error()
	}
	return strings.TrimSuffix("cdk "+e.Verb+" failed: "+first, ".")
}

// Why is why a deployment by the CDK CLI failed, as the one error that a person is told of. next is what to do then.
func (c *Client) Why(ctx context.Context, names contract.Names, failed *CDKError, first, next string) error {
	what := failed.explain(first)
	if stack, err := c.Stack(ctx, names); err == nil {
		if problem := new(Error); errors.As(stack.Problem(), &problem) {
			return &Error{What: what + "; the stack is in " + stack.Status, Next: problem.Next, Cause: failed}
		}
		if stack.Status == "UPDATE_ROLLBACK_COMPLETE" {
			what += "; the stack is as it was before"
		}
	}
	return &Error{What: what, Next: next, Cause: failed}
}
