package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsbudgets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// budgetAlerts are the percentages of the limit at which AWS Budgets notifies the topic.
var budgetAlerts = []float64{50, 80, 100}

// newBudget watches what AWS charges for what carries the stack's tags, where spendLimitUSD sets a
// limit. They count once they are activated as cost allocation tags in the account's billing. What takes
// no tags, such as custom metrics, is not in it.
// Model use is not in it: Anthropic charges that, and the daemon enforces the limit on it.
func newBudget(stack awscdk.Stack, opts options.Options, alerts awssns.Topic) {
	if opts.SpendLimitUSD == 0 {
		return
	}
	notifications := make([]any, len(budgetAlerts))
	for i, percentage := range budgetAlerts {
		notifications[i] = &awsbudgets.CfnBudget_NotificationWithSubscribersProperty{
			Notification: &awsbudgets.CfnBudget_NotificationProperty{
				NotificationType:   jsii.String("ACTUAL"),
				ComparisonOperator: jsii.String("GREATER_THAN"),
				Threshold:          &percentage,
				ThresholdType:      jsii.String("PERCENTAGE"),
			},
			Subscribers: []any{&awsbudgets.CfnBudget_SubscriberProperty{
				SubscriptionType: jsii.String("SNS"),
				Address:          alerts.TopicArn(),
			}},
		}
	}
	var resourceTags []any // the CDK knows no other way to tag a budget
	for _, tag := range tags(opts) {
		resourceTags = append(resourceTags, &awsbudgets.CfnBudget_ResourceTagProperty{Key: tag.Key, Value: tag.Value})
	}
	tagged := func(key, value string) any {
		return &awsbudgets.CfnBudget_ExpressionProperty{Tags: &awsbudgets.CfnBudget_TagValuesProperty{
			Key: &key, Values: jsii.Strings(value), MatchOptions: jsii.Strings("EQUALS"),
		}}
	}
	awsbudgets.NewCfnBudget(stack, jsii.String("Budget"), &awsbudgets.CfnBudgetProps{
		Budget: &awsbudgets.CfnBudget_BudgetDataProperty{
			BudgetName:  jsii.String(opts.Names().Stack()),
			BudgetType:  jsii.String("COST"),
			TimeUnit:    jsii.String("MONTHLY"),
			BudgetLimit: &awsbudgets.CfnBudget_SpendProperty{Amount: &opts.SpendLimitUSD, Unit: jsii.String("USD")},
			Metrics:     jsii.Strings("UnblendedCost"),
			FilterExpression: &awsbudgets.CfnBudget_ExpressionProperty{And: []any{
				tagged(contract.TagProject, opts.ProjectName),
				tagged(contract.TagEnvironment, opts.Environment),
			}},
		},
		NotificationsWithSubscribers: notifications,
		ResourceTags:                 resourceTags,
	})
}
