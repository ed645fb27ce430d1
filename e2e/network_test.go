//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// An account whose default VPC somebody deleted gets advice instead of a stack, and then a VPC of its own.
func TestAccountWithoutDefaultVpc(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	const vpc = "vpc-00000001"
	a.ask(t, [][]string{
		{"ec2", "detach-internet-gateway", "--internet-gateway-id", "igw-00000001", "--vpc-id", vpc},
		{"ec2", "delete-internet-gateway", "--internet-gateway-id", "igw-00000001"},
		{"ec2", "delete-subnet", "--subnet-id", "subnet-00000001"},
		{"ec2", "delete-subnet", "--subnet-id", "subnet-00000002"},
		{"ec2", "delete-subnet", "--subnet-id", "subnet-00000003"},
		{"ec2", "delete-vpc", "--vpc-id", vpc},
	})
	before := a.inventory(t)

	failed := a.run(t, "cdk deploy")
	var ours []string
	for line := range strings.Lines(failed.stderr) {
		if strings.HasPrefix(line, "berth: ") {
			ours = append(ours, line)
		}
	}
	if failed.status == 0 || failed.stdout != "" || len(ours) != 1 || !strings.Contains(ours[0], "-c vpcId=new") || !strings.Contains(ours[0], "-c vpcId=vpc-…") || clutter.MatchString(failed.stderr) {
		t.Fatalf("want a failure, and one line that names -c vpcId=new and -c vpcId=vpc-…\n%s", failed)
	}

	a.must(t, "cdk deploy -c vpcId=new -c alertEmail=ops@example.com -c spendLimitUSD=250")
	made := a.describe(t, "claude-code-dev")
	t.Run("aws", func(t *testing.T) { a.check(t, made, ofNewVpc) })
	t.Run("ignored properties", func(t *testing.T) { checkIgnored(t, a) })

	a.must(t, "cdk destroy --force -c vpcId=new")
	if added, missing := compare(before, a.inventory(t)); len(added)+len(missing) > 0 {
		t.Errorf("the stack left\n%s\nand took %q", strings.Join(added, "\n"), missing)
	}
}

const budget = " --account-id 123456789012 --budget-name ${Stack}"

var ofNewVpc = []fact{
	{"one VPC", "ec2 describe-vpcs", "Vpcs[].[VpcId, IsDefault, CidrBlock]", `[["${VpcId}", false, "10.0.0.0/24"]]`},
	{"no NAT gateway to pay for", "ec2 describe-nat-gateways", "NatGateways", `[]`},
	{
		"two public subnets", "ec2 describe-subnets", "sort_by(Subnets, &CidrBlock)[].[VpcId, CidrBlock, AvailabilityZone]",
		`[["${VpcId}", "10.0.0.0/27", "us-east-1a"], ["${VpcId}", "10.0.0.32/27", "us-east-1b"]]`,
	},
	{
		"the way out", "ec2 describe-route-tables --route-table-ids ${NetworkRoutes}", "RouteTables[].[VpcId, Routes[?DestinationCidrBlock=='0.0.0.0/0'].GatewayId, length(Associations[?SubnetId])]",
		`[["${VpcId}", ["${NetworkGateway}"], 2]]`,
	},
	{
		"the tasks are in it", "ecs describe-services --cluster ${EcsClusterName} --services ${EcsServiceName}", "services[].networkConfiguration.awsvpcConfiguration.[assignPublicIp, join(',', subnets)]",
		`[["ENABLED", "${SubnetIds}"]]`,
	},
	{
		// The two are made side by side and are listed in no order.
		"so is the file system", "efs describe-mount-targets --file-system-id ${EfsFileSystemId}", "sort_by(MountTargets, &AvailabilityZoneName)[].[SubnetId, VpcId]",
		`[["${NetworkSubneta}", "${VpcId}"], ["${NetworkSubnetb}", "${VpcId}"]]`,
	},
	{
		"somebody is asked to confirm", "sns get-subscription-attributes --subscription-arn ${AlertsEmail}", "Attributes.[TopicArn, Protocol, Endpoint, PendingConfirmation]",
		`["${AlertTopicArn}", "email", "ops@example.com", "true"]`,
	},
	{"alarms", "cloudwatch describe-alarms", "sort(MetricAlarms[].AlarmName)", alarmNames("claude-code-dev", true)},
	{
		"80 % of the limit", "cloudwatch describe-alarms --alarm-names ${Stack}-spend-high", "MetricAlarms[].[Threshold, ComparisonOperator, Namespace, MetricName]",
		`[[200, "GreaterThanOrEqualToThreshold", "ClaudeCodeAgent", "SpendMonth"]]`,
	},
	{"the daemon knows the limit", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}", "taskDefinition.containerDefinitions[0].environment[?name=='BERTH_SPEND_LIMIT_USD'].value", `["250"]`},
	{"budget", "budgets describe-budgets --account-id 123456789012", "Budgets[].[BudgetName, to_number(BudgetLimit.Amount), BudgetLimit.Unit, TimeUnit]", `[["claude-code-dev", 250, "USD", "MONTHLY"]]`},
	{
		"budget alerts", "budgets describe-notifications-for-budget" + budget, "Notifications[].[NotificationType, ComparisonOperator, Threshold, ThresholdType]",
		`[["ACTUAL", "GREATER_THAN", 50, "PERCENTAGE"], ["ACTUAL", "GREATER_THAN", 80, "PERCENTAGE"], ["ACTUAL", "GREATER_THAN", 100, "PERCENTAGE"]]`,
	},
	{
		"budget alerts are heard", "budgets describe-subscribers-for-notification" + budget + " --notification NotificationType=ACTUAL,ComparisonOperator=GREATER_THAN,Threshold=80,ThresholdType=PERCENTAGE",
		"Subscribers", `[{"SubscriptionType": "SNS", "Address": "${AlertTopicArn}"}]`,
	},
}
