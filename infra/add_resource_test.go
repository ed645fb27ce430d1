package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/options"
)

// The functions from here to the first test are the examples of docs/add-a-resource.md, to the letter but
// for "example" before their names, which leaves those names to whoever follows the page.

func exampleAddOnCall(stack awscdk.Stack, opts options.Options) {
	onCall := awssns.NewTopic(stack, jsii.String("OnCall"), &awssns.TopicProps{
		TopicName:  jsii.String(opts.Names().Stack() + "-on-call"),
		EnforceSSL: jsii.Bool(true),
	})
	onCall.GrantPublish(awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), nil))

	alarms := stack.Node().FindChild(jsii.String("Observability")).Node().FindChild(jsii.String("Alarms"))
	memory := alarms.Node().FindChild(jsii.String("memory-high")).(awscloudwatch.Alarm)
	memory.AddAlarmAction(awscloudwatchactions.NewSnsAction(onCall))
}

func exampleNewQueue(stack awscdk.Stack, opts options.Options) awssqs.Queue {
	return awssqs.NewQueue(stack, jsii.String("Queue"), &awssqs.QueueProps{
		QueueName:         jsii.String(opts.Names().Stack()),
		EnforceSSL:        jsii.Bool(true),
		VisibilityTimeout: awscdk.Duration_Minutes(jsii.Number(5)),
		RemovalPolicy:     removal(opts),
		DeadLetterQueue: &awssqs.DeadLetterQueue{
			MaxReceiveCount: jsii.Number(3),
			Queue: awssqs.NewQueue(stack, jsii.String("DeadLetters"), &awssqs.QueueProps{
				QueueName:  jsii.String(opts.Names().Stack() + "-dead-letters"),
				EnforceSSL: jsii.Bool(true),
			}),
		},
	})
}

func exampleAllowQueue(task awsiam.Role, queue awssqs.Queue) {
	task.AddToPolicy(allow("TakeWork", []string{
		"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage",
	}, queue.QueueArn()))
}

func TestExamplesInTheDocumentationAreThisCode(t *testing.T) {
	page, err := os.ReadFile("../docs/add-a-resource.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("add_resource_test.go")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`func example([A-Z])`).ReplaceAllStringFunc(string(code), func(found string) string {
		return "func " + strings.ToLower(found[len("func example"):])
	})
	examples := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(examples) != 3 {
		t.Errorf("the page has %d examples, want 3", len(examples))
	}
	for _, example := range examples {
		if !strings.Contains(named, example[1]) {
			t.Errorf("this example is not the code that is tested here:\n%s", example[1])
		}
	}
}

func TestExamplesSynthesise(t *testing.T) {
	context, err := projectContext()
	if err != nil {
		t.Fatal(err)
	}
	made, err := synthesise(context, variants["dev"], func(stack awscdk.Stack, opts options.Options) {
		exampleAddOnCall(stack, opts)
		role := stack.Node().FindChild(jsii.String("Access")).Node().FindChild(jsii.String("TaskRole")).(awsiam.Role)
		exampleAllowQueue(role, exampleNewQueue(stack, opts))
	})
	if err != nil {
		t.Fatal(err)
	}
	memory := made.one(t, "AWS::CloudWatch::Alarm", "memoryhigh").Properties
	if actions := asText(memory["AlarmActions"]); !strings.Contains(actions, "OnCall") || !strings.Contains(actions, "Alerts") {
		t.Errorf("the memory alarm notifies %s, want both topics", actions)
	}
	if policy := asText(made.one(t, "AWS::IAM::Policy", "TaskRole").Properties); !strings.Contains(policy, "sqs:ReceiveMessage") {
		t.Errorf("the task may not take work from the queue: %s", policy)
	}
	for _, id := range append(made.all("AWS::SQS::Queue"), made.all("AWS::SNS::Topic")...) {
		if tags := tagsOf(made.body.Resources[id]); tags["Project"] != "claude-code" {
			t.Errorf("%s has the tags %v", id, tags)
		}
	}
}
