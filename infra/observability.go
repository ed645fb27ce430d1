package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/options"
)

// newObservability adds the alarms and the dashboard that shows them. metrics.go has what both read.
func newObservability(stack awscdk.Stack, opts options.Options, made parts) awscloudwatch.Dashboard {
	scope := constructs.NewConstruct(stack, jsii.String("Observability"))
	metrics := newMetrics(opts, made)
	newAlarms(scope, opts, metrics, made)
	return newDashboard(scope, opts, metrics, made.logs)
}

// newLogGroup makes the group that the container's log lines go to.
func newLogGroup(stack awscdk.Stack, opts options.Options) awslogs.LogGroup {
	retention := awslogs.RetentionDays_INFINITE
	if opts.LogRetentionDays > 0 {
		retention = "" // the construct's enumeration lags behind the service: the days are set below
	}
	group := awslogs.NewLogGroup(stack, jsii.String("Logs"), &awslogs.LogGroupProps{
		LogGroupName:  jsii.String(opts.Names().LogGroup()),
		Retention:     retention,
		RemovalPolicy: removal(opts),
	})
	if opts.LogRetentionDays > 0 {
		resource := group.Node().DefaultChild().(awslogs.CfnLogGroup)
		resource.SetRetentionInDays(jsii.Number(opts.LogRetentionDays))
	}
	return group
}

// newAlerts makes the topic that alarms, failures and the budget notify, and subscribes alertEmail.
//
// It is not encrypted with a key: CloudWatch cannot publish under AWS's own key for SNS, and a key of
// one's own costs a dollar a month to hide alarm names and thresholds.
func newAlerts(stack awscdk.Stack, opts options.Options) awssns.Topic {
	topic := awssns.NewTopic(stack, jsii.String("Alerts"), &awssns.TopicProps{
		TopicName:   jsii.String(opts.Names().AlertTopic()),
		DisplayName: jsii.String("berth " + opts.Names().Stack()),
		EnforceSSL:  jsii.Bool(true),
	})
	// A topic with a policy of its own loses the default one, under which these could publish.
	publish := func(service string, conditions *map[string]any) {
		topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Effect: awsiam.Effect_ALLOW,
			Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(&service, &awsiam.ServicePrincipalOpts{
				Conditions: conditions,
			})},
			Actions:   jsii.Strings("sns:Publish"),
			Resources: &[]*string{topic.TopicArn()},
		}))
	}
	ownAccount := &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": stack.Account()}}
	publish("cloudwatch.amazonaws.com", ownAccount)
	publish("budgets.amazonaws.com", ownAccount)
	publish("events.amazonaws.com", nil) // EventBridge sends no source account for a topic's policy to check
	if opts.AlertEmail != "" {
		// Not by the topic's AddSubscription, which writes the whole address into the subscription's id.
		awssns.NewSubscription(topic, jsii.String("Email"), &awssns.SubscriptionProps{
			Topic: topic, Protocol: awssns.SubscriptionProtocol_EMAIL, Endpoint: &opts.AlertEmail,
		})
	}
	return topic
}
