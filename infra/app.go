// Command infra is berth's AWS CDK app. The CDK CLI runs it, as cdk.json says, and reads the stack that
// it writes: one stack, named after the project and the environment.
//
// Each part of the stack is a construct in a file of its own: network, storage, registry, secrets,
// compute, access, observability, backup and outputs. stack.go puts them together.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/options"
)

func main() {
	stderr := os.Stderr
	if err := run(); err != nil {
		fmt.Fprintln(stderr, "berth: "+strings.ReplaceAll(err.Error(), "\n", "\nberth: "))
		os.Exit(1)
	}
}

// run reads the options from the context that the CDK CLI passes in, and writes the stack's template
// where the CLI expects it. Nothing is written if an option is wrong.
func run() (err error) {
	defer closeJsii()
	context, err := readContext()
	if err != nil {
		return err
	}
	opts, err := options.FromContext(context)
	if err != nil {
		return err
	}
	if err := checkLookup(context, opts); err != nil {
		return err
	}

	// The CDK reports a mistake by a panic, whose message is the only part of use to a reader.
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("synthesis failed: %v", problem)
		}
	}()
	env := awsEnvironment()
	if env == nil && opts.VpcID != options.VpcNew {
		fmt.Fprintln(os.Stderr, "berth: no AWS credentials were found, so the VPC and its subnets are placeholders: this template can be read, not deployed")
	}
	app := newApp(nil)
	if _, err := newStack(app, opts, env); err != nil {
		return err
	}
	app.Synth(nil)
	return nil
}

// closeJsii ends the Node.js process that runs the CDK, if it was started. jsii waits for it twice at
// once and, when the wrong one wins, prints "Runtime process exited abnormally" for a process that
// ended as it should: nothing that is said from here on is of use.
func closeJsii() {
	if quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = quiet
	}
	jsii.Close()
}

// newApp makes a CDK app that records no construct tree and no stack traces: nobody reads them, and
// they take a third of the time. The context is what -c and cdk.json hold; nil takes it from the CLI.
func newApp(context *map[string]any) awscdk.App {
	return awscdk.NewApp(&awscdk.AppProps{
		Context:            context,
		AnalyticsReporting: jsii.Bool(false),
		StackTraces:        jsii.Bool(false),
		TreeMetadata:       jsii.Bool(false),
	})
}

// awsEnvironment is the account and region of the credentials that the CDK CLI found; nil without any.
func awsEnvironment() *awscdk.Environment {
	account, region := os.Getenv("CDK_DEFAULT_ACCOUNT"), os.Getenv("CDK_DEFAULT_REGION")
	if account == "" || region == "" {
		return nil
	}
	return &awscdk.Environment{Account: &account, Region: &region}
}
