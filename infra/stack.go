package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// newStack adds the whole deployment to the app as one stack. Without an environment (no credentials)
// the template can be read and checked, but has placeholders for the network.
//
// The stack has no assets and its template stays under the 51,200 bytes that CloudFormation takes
// directly, so it needs no bootstrap stack and no bucket.
func newStack(app constructs.Construct, opts options.Options, env *awscdk.Environment) (awscdk.Stack, error) {
	names := opts.Names()
	stack := awscdk.NewStack(app, jsii.String(names.Stack()), &awscdk.StackProps{
		StackName:   jsii.String(names.Stack()),
		Description: jsii.String("berth: an always-on Claude Code agent"),
		Env:         env,
		Synthesizer: awscdk.NewBootstraplessSynthesizer(nil),
		Tags:        stackTags(opts),
		// A template's indentation counts towards its size.
		SuppressTemplateIndentation: jsii.Bool(true),
	})
	for _, tag := range tags(opts) {
		awscdk.Tags_Of(stack).Add(tag.Key, tag.Value, nil)
	}

	var (
		made parts
		err  error
	)
	if made.network, err = newNetwork(stack, opts); err != nil {
		return nil, err
	}
	made.parameters = newParameters(stack, opts)
	made.registry = newRegistry(stack, opts)
	made.secrets = newSecrets(stack, opts)
	made.storage = newStorage(stack, opts, made.network)
	made.logs = newLogGroup(stack, opts)
	made.access = newAccess(stack, made)
	made.compute = newCompute(stack, opts, made)
	made.backup = newBackup(stack, opts, made.storage)
	made.alerts = newAlerts(stack, opts)
	made.dashboard = newObservability(stack, opts, made)
	newBudget(stack, opts, made.alerts)
	newOutputs(stack, opts, made)
	recordOptions(stack, opts)
	return stack, nil
}

// recordOptions writes the options into the template, from which the command takes them for the next deployment. CloudFormation does not
// look at them, and does not update a stack for them alone: what is not a default changes something else too.
func recordOptions(stack awscdk.Stack, opts options.Options) {
	if len(opts.Set) > 0 {
		stack.TemplateOptions().SetMetadata(&map[string]any{contract.MetadataOptions: opts.Set})
	}
}

// parts are the stack's constructs. Each takes what it builds on from those before it.
type parts struct {
	parameters parameters
	network    network
	registry   awsecr.Repository
	secrets    secrets
	storage    storage
	logs       awslogs.LogGroup
	access     access
	compute    compute
	backup     backup
	alerts     awssns.Topic
	dashboard  awscloudwatch.Dashboard
}

// parameters are what changes between deployments of the same template. The CDK CLI keeps the values
// of the last deployment unless it is given others, so that no deployment changes what runs by accident.
type parameters struct {
	imageRef     *string  // appended to the repository's URI
	desiredCount *float64 // tasks
}

func newParameters(stack awscdk.Stack, opts options.Options) parameters {
	imageRef := awscdk.NewCfnParameter(stack, jsii.String(contract.ParamImageRef), &awscdk.CfnParameterProps{
		Type:           jsii.String("String"),
		Default:        contract.DefaultImageRef,
		Description:    jsii.String("Image in the repository: :tag or @sha256:digest"),
		AllowedPattern: jsii.String(`^(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$`),
	})
	desiredCount := awscdk.NewCfnParameter(stack, jsii.String(contract.ParamDesiredCount), &awscdk.CfnParameterProps{
		Type:        jsii.String("Number"),
		Default:     0,
		MinValue:    jsii.Number(0),
		MaxValue:    jsii.Number(1),
		Description: jsii.String("Tasks: 0 until the repository holds an image, or to pause; then 1"),
	})
	rememberFileSystem(stack, opts)
	return parameters{imageRef.ValueAsString(), desiredCount.ValueAsNumber()}
}

// rememberFileSystem has the stack remember which file system it adopted, and refuse a deployment whose
// option fileSystemId says otherwise. Without it, a deployment that forgets the option would start on an
// empty file system, and one that adds it would delete the stack's own.
func rememberFileSystem(stack awscdk.Stack, opts options.Options) {
	adopted := awscdk.NewCfnParameter(stack, jsii.String(contract.ParamFileSystemID), &awscdk.CfnParameterProps{
		Type:        jsii.String("String"),
		Default:     opts.FileSystemID,
		Description: jsii.String("File system that the stack adopted; empty: its own"),
	})
	awscdk.NewCfnRule(stack, jsii.String("SameFileSystem"), &awscdk.CfnRuleProps{
		Assertions: &[]*awscdk.CfnRuleAssertion{{
			Assert: awscdk.Fn_ConditionEquals(adopted.ValueAsString(), opts.FileSystemID),
			AssertDescription: jsii.String("fileSystemId is not what this stack was deployed with. Give it as before (see the output " +
				contract.OutputFileSystemID + "); to change it on purpose, also give --parameters " + contract.ParamFileSystemID + "="),
		}},
	})
}

// tags are on every resource that takes any.
func tags(opts options.Options) []*awscdk.CfnTag {
	return []*awscdk.CfnTag{
		{Key: jsii.String(contract.TagProject), Value: &opts.ProjectName},
		{Key: jsii.String(contract.TagEnvironment), Value: &opts.Environment},
		{Key: jsii.String(contract.TagManagedBy), Value: jsii.String(contract.ManagedBy)},
	}
}

// stackTags are the same on the stack itself, which is found by them.
func stackTags(opts options.Options) *map[string]*string {
	all := map[string]*string{}
	for _, tag := range tags(opts) {
		all[*tag.Key] = tag.Value
	}
	return &all
}

// removal is what becomes of data when its stack is deleted.
//
// In prod it stays, except when the stack's very first deployment fails: what that one made is empty,
// and would only be in the way of the next.
func removal(opts options.Options) awscdk.RemovalPolicy {
	if opts.Production() {
		return awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE
	}
	return awscdk.RemovalPolicy_DESTROY
}
