//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/contract"
)

// outputs are what `cdk deploy` prints at its end: the specification's six, and berth's own.
var outputs = []string{
	"EcrRepositoryUri", "EcsClusterName", "EcsServiceName", "EfsFileSystemId", "LogGroupName", "AnthropicApiKeySecretArn",

	"AgentSecretArn", "AlertTopicArn", "Architecture", "AssignPublicIp", "BackupRoleArn", "BackupVaultName", "DashboardName",
	"EfsAccessPointId", "SubnetIds", "TaskDefinitionArn", "TaskSecurityGroupId", "VpcId",
}

// The first deployment makes everything that the specification promises, without an option and without
// an image: the aws CLI finds it all, in the state in which it should be.
func TestFirstDeployment(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	deployed := a.must(t, "cdk deploy")
	made := a.describe(t, "claude-code-dev")

	t.Run("outputs", func(t *testing.T) {
		for _, name := range outputs {
			if line := fmt.Sprintf("claude-code-dev.%s = %s\n", name, made.outputs[name]); made.outputs[name] == "" || !strings.Contains(deployed.stderr, line) {
				t.Errorf("the deployment did not print %q", line)
			}
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(outputs)), slices.Sorted(maps.Keys(made.outputs))); diff != "" {
			t.Errorf("outputs (-want +got):\n%s", diff)
		}
	})
	t.Run("aws", func(t *testing.T) {
		// CloudFormation's name of a selection is its id and its plan's.
		selection, _ := made.resource("BackupPlanFileSystem")
		made.outputs["SelectionId"], _, _ = strings.Cut(selection, "_")
		defer delete(made.outputs, "SelectionId")
		a.check(t, made, slices.Concat(identity, access, storage, backups, registry, secrets, compute, observability))
	})
	t.Run("the API token is made up", func(t *testing.T) {
		answer := a.ask(t, [][]string{{"secretsmanager", "get-secret-value", "--secret-id", made.outputs["AgentSecretArn"]}})[0]
		text, _ := answer.(map[string]any)["SecretString"].(string)
		var agent map[string]string
		if err := json.Unmarshal([]byte(text), &agent); err != nil || !regexp.MustCompile(`^[A-Za-z0-9]{43}$`).MatchString(agent["api_token"]) {
			t.Errorf("the secret holds %q (%v); want a token of 43 letters and digits", text, err)
		}
	})
	t.Run("ignored properties", func(t *testing.T) { checkIgnored(t, a) })

	t.Run("no difference afterwards", func(t *testing.T) {
		if done := a.must(t, "cdk diff"); !strings.Contains(done.stdout+done.stderr, "Number of stacks with differences: 0") {
			t.Error(done)
		}
	})
	t.Run("no change a second time", func(t *testing.T) {
		if done := a.must(t, "cdk deploy"); !strings.Contains(done.stderr, "claude-code-dev (no changes)") {
			t.Error(done)
		}
		if diff := cmp.Diff(made, a.describe(t, "claude-code-dev"), cmp.AllowUnexported(stack{})); diff != "" {
			t.Errorf("the stack (-before +after):\n%s", diff)
		}
	})
}

var identity = []fact{
	{"the account", "sts get-caller-identity", "Account", `"123456789012"`},
	{
		"the stack", "cloudformation describe-stacks --stack-name ${Stack}", "Stacks[0].[StackStatus,Parameters[].[ParameterKey,ParameterValue]]",
		`["CREATE_COMPLETE", [["ImageRef", ":latest"], ["DesiredCount", "0"], ["FileSystemId", ""]]]`,
	},
	{
		"whatever can be found by tags", "resourcegroupstaggingapi get-resources --tag-filters Key=Project,Values=claude-code Key=Environment,Values=dev Key=ManagedBy,Values=berth",
		`[length(ResourceTagMappingList[?contains(ResourceARN, ':alarm:')]), length(ResourceTagMappingList[?!contains(ResourceARN, ':alarm:')]),
		  sort(ResourceTagMappingList[?!contains(ResourceARN, ':alarm:')].ResourceARN)]`,
		`[10, 17, [
			"…", "arn:aws:backup:us-east-1:123456789012:backup-vault:claude-code-dev", "…", "…",
			"arn:aws:ecr:us-east-1:123456789012:repository/claude-code-dev", "arn:aws:ecs:us-east-1:123456789012:cluster/claude-code-dev",
			"arn:aws:ecs:us-east-1:123456789012:service/claude-code-dev/claude-code-dev", "${TaskDefinitionArn}", "…", "…",
			"arn:aws:events:us-east-1:123456789012:rule/claude-code-dev-backup-failed", "arn:aws:events:us-east-1:123456789012:rule/claude-code-dev-deployment-failed",
			"arn:aws:events:us-east-1:123456789012:rule/claude-code-dev-task-failed",
			"arn:aws:logs:us-east-1:123456789012:log-group:/ecs/claude-code-dev",
			"${AgentSecretArn}", "${AnthropicApiKeySecretArn}", "${AlertTopicArn}"
		]]`,
	},
}

// ofRole picks a role by its logical id.
func ofRole(logical, query string) string {
	return "RoleDetailList[?RoleName=='${" + logical + "}']|[0]." + query
}

const (
	rolesCommand = "iam get-account-authorization-details --filter Role"
	trustOfTasks = `[{
		"Action": "sts:AssumeRole", "Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"},
		"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:ecs:us-east-1:123456789012:*"}, "StringEquals": {"aws:SourceAccount": "123456789012"}}
	}]`
	writeLogs = `{"Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Effect": "Allow",
		"Resource": "arn:aws:logs:us-east-1:123456789012:log-group:/ecs/claude-code-dev:*"}`
	ofOwner = "[AssumeRolePolicyDocument.Statement, AttachedManagedPolicies[].PolicyArn, Tags[?Key=='Project' || Key=='Environment'].Value, RolePolicyList[].PolicyDocument.Statement]"
)

var access = []fact{
	{"execution role", rolesCommand, ofRole("AccessExecutionRole", ofOwner), `[` + trustOfTasks + `, [], ["dev", "claude-code"], [[
		{"Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], "Effect": "Allow",
			"Resource": "arn:aws:ecr:us-east-1:123456789012:repository/claude-code-dev"},
		{"Action": "ecr:GetAuthorizationToken", "Effect": "Allow", "Resource": "*"},
		` + writeLogs + `,
		{"Sid": "ReadSecrets", "Action": "secretsmanager:GetSecretValue", "Effect": "Allow", "Resource": ["${AgentSecretArn}", "${AnthropicApiKeySecretArn}"]}
	]]]`},
	{"task role", rolesCommand, ofRole("AccessTaskRole", ofOwner), `[` + trustOfTasks + `, [], ["dev", "claude-code"], [[
		` + writeLogs + `,
		{"Sid": "PutMetrics", "Action": "cloudwatch:PutMetricData", "Effect": "Allow", "Resource": "*",
			"Condition": {"StringEquals": {"cloudwatch:namespace": "ClaudeCodeAgent"}}},
		{"Sid": "UseVolume", "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"], "Effect": "Allow",
			"Resource": "arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/${EfsFileSystemId}",
			"Condition": {"StringEquals": {"elasticfilesystem:AccessPointArn": "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/${EfsAccessPointId}"}}},
		{"Sid": "SessionManager", "Effect": "Allow", "Resource": "*", "Action": [
			"ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"]}
	]]]`},
	{"backup role", rolesCommand, ofRole("BackupRole", ofOwner), `[
		[{"Action": "sts:AssumeRole", "Effect": "Allow", "Principal": {"Service": "backup.amazonaws.com"}}],
		["arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup", "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForRestores"], ["dev", "claude-code"], []
	]`},
	{
		"nothing gets into the tasks", "ec2 describe-security-groups --group-ids ${TaskSecurityGroupId}",
		"SecurityGroups[].[VpcId, IpPermissions, IpPermissionsEgress[].[IpProtocol, IpRanges[].CidrIp]]", `[["vpc-00000001", [], [["-1", ["0.0.0.0/0"]]]]]`,
	},
	{
		"only NFS from the tasks gets to the file system", "ec2 describe-security-groups --group-ids ${NetworkNfs}",
		"SecurityGroups[].[VpcId, IpPermissions[].[IpProtocol, FromPort, ToPort, UserIdGroupPairs[].GroupId, IpRanges, Ipv6Ranges, PrefixListIds], IpPermissionsEgress[].IpRanges[].CidrIp]",
		`[["vpc-00000001", [["tcp", 2049, 2049, ["${TaskSecurityGroupId}"], [], [], []]], ["255.255.255.255/32"]]]`,
	},
}

const mountTarget = "${StorageFileSystemEfsMountTargetPublicSubnet"

var storage = []fact{
	{
		"file system", "efs describe-file-systems", "FileSystems[].[FileSystemId, Name, Encrypted, PerformanceMode, ThroughputMode, NumberOfMountTargets]",
		`[["${EfsFileSystemId}", "claude-code-dev", true, "generalPurpose", "bursting", 3]]`,
	},
	{"what is not used gets cheaper", "efs describe-lifecycle-configuration --file-system-id ${EfsFileSystemId}", "LifecyclePolicies", `[{"TransitionToIA": "AFTER_30_DAYS"}]`},
	{"no backups beside the plan's", "efs describe-backup-policy --file-system-id ${EfsFileSystemId}", "BackupPolicy.Status", `"DISABLED"`},
	{"nobody is root, nobody without TLS", "efs describe-file-system-policy --file-system-id ${EfsFileSystemId}", "Policy", `{"Version": "2012-10-17", "Id": "1", "Statement": [
		{"Sid": "TlsOnly", "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"], "Effect": "Deny", "Principal": {"AWS": "*"}, "Resource": "*",
			"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
		{"Sid": "NobodyIsRoot", "Action": "elasticfilesystem:ClientRootAccess", "Effect": "Deny", "Principal": {"AWS": "*"}, "Resource": "*"}
	]}`},
	{"a mount target in each zone", "efs describe-mount-targets --file-system-id ${EfsFileSystemId}", "sort(MountTargets[].SubnetId)", `["subnet-00000001", "subnet-00000002", "subnet-00000003"]`},
	{"the first is closed", "efs describe-mount-target-security-groups --mount-target-id " + mountTarget + "1}", "SecurityGroups", `["${NetworkNfs}"]`},
	{"the second is closed", "efs describe-mount-target-security-groups --mount-target-id " + mountTarget + "2}", "SecurityGroups", `["${NetworkNfs}"]`},
	{"the third is closed", "efs describe-mount-target-security-groups --mount-target-id " + mountTarget + "3}", "SecurityGroups", `["${NetworkNfs}"]`},
	{"access point", "efs describe-access-points --access-point-id ${EfsAccessPointId}", "AccessPoints[].[FileSystemId, PosixUser, RootDirectory]", `[["${EfsFileSystemId}",
		{"Uid": 1000, "Gid": 1000}, {"Path": "/claude-code-dev", "CreationInfo": {"OwnerUid": 1000, "OwnerGid": 1000, "Permissions": "0700"}}]]`},
}

var backups = []fact{
	{"vault", "backup list-backup-vaults", "BackupVaultList[].BackupVaultName", `["claude-code-dev"]`},
	{
		"a backup a day, kept for 35", "backup get-backup-plan --backup-plan-id ${BackupPlan}", "BackupPlan.[BackupPlanName, Rules[].[TargetBackupVaultName, ScheduleExpression, Lifecycle.DeleteAfterDays]]",
		`["claude-code-dev-daily", [["claude-code-dev", "cron(0 5 * * ? *)", 35]]]`,
	},
	{
		"of the file system", "backup get-backup-selection --backup-plan-id ${BackupPlan} --selection-id ${SelectionId}", "BackupSelection.[IamRoleArn, Resources]",
		`["${BackupRoleArn}", ["arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/${EfsFileSystemId}"]]`,
	},
}

var registry = []fact{
	{"repository", "ecr describe-repositories", "repositories[].[repositoryUri, imageScanningConfiguration.scanOnPush]", `[["${EcrRepositoryUri}", true]]`},
	{"only the newest images stay", "ecr get-lifecycle-policy --repository-name ${Stack}", "lifecyclePolicyText", `{"rules": [{"rulePriority": 1, "description": "keep the newest images",
		"selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10}, "action": {"type": "expire"}}]}`},
}

var secrets = []fact{
	{"Anthropic key", "secretsmanager get-secret-value --secret-id ${AnthropicApiKeySecretArn}", "[Name, SecretString]", `["claude-code/dev/anthropic-api-key", "not-set"]`},
	{
		"API token and GitHub token", "secretsmanager get-secret-value --secret-id ${AgentSecretArn}", "[Name, SecretString]",
		`["claude-code/dev/agent", {"api_token": "…", "github_token": "not-set"}]`,
	},
}

var compute = []fact{
	{
		"cluster", "ecs describe-clusters --clusters ${EcsClusterName} --include SETTINGS", "clusters[].[status, settings, capacityProviders, activeServicesCount]",
		`[["ACTIVE", [{"name": "containerInsights", "value": "enabled"}], ["FARGATE", "FARGATE_SPOT"], 1]]`,
	},
	{
		"service", "ecs describe-services --cluster ${EcsClusterName} --services ${EcsServiceName}",
		"services[].[status, desiredCount, taskDefinition, capacityProviderStrategy[].capacityProvider, deploymentConfiguration, enableExecuteCommand, networkConfiguration.awsvpcConfiguration, propagateTags]",
		`[["ACTIVE", 0, "${TaskDefinitionArn}", ["FARGATE"],
			{"deploymentCircuitBreaker": {"enable": true, "rollback": true}, "maximumPercent": 100, "minimumHealthyPercent": 0}, true,
			{"subnets": ["subnet-00000001", "subnet-00000002", "subnet-00000003"], "securityGroups": ["${TaskSecurityGroupId}"], "assignPublicIp": "ENABLED"}, "SERVICE"]]`,
	},
	{
		"task", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}",
		"taskDefinition.[family, networkMode, requiresCompatibilities, cpu, memory, runtimePlatform.cpuArchitecture, contains(executionRoleArn, 'ExecutionRole'), contains(taskRoleArn, 'TaskRole')]",
		`["claude-code-dev", "awsvpc", ["FARGATE"], "2048", "8192", "X86_64", true, true]`,
	},
	{"volume", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}", "taskDefinition.volumes[?efsVolumeConfiguration].efsVolumeConfiguration", `[{
		"fileSystemId": "${EfsFileSystemId}", "transitEncryption": "ENABLED", "authorizationConfig": {"accessPointId": "${EfsAccessPointId}", "iam": "ENABLED"}}]`},
	{
		"container", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}",
		"taskDefinition.containerDefinitions[].[name, image, readonlyRootFilesystem, stopTimeout, healthCheck, logConfiguration.options.\"awslogs-group\", secrets, mountPoints[?sourceVolume=='volume'].containerPath]",
		`[["agent", "${EcrRepositoryUri}:latest", true, 120,
			{"command": ["CMD", "/usr/local/bin/berthd", "health"], "interval": 30, "timeout": 5, "retries": 3, "startPeriod": 60}, "${LogGroupName}", [
				{"name": "ANTHROPIC_API_KEY", "valueFrom": "${AnthropicApiKeySecretArn}"},
				{"name": "BERTH_API_TOKEN", "valueFrom": "${AgentSecretArn}:api_token::"},
				{"name": "GITHUB_TOKEN", "valueFrom": "${AgentSecretArn}:github_token::"}
			], ["/data/volume"]]]`,
	},
}

var observability = []fact{
	{"logs stay for a week", "logs describe-log-groups", "logGroups[].[logGroupName, retentionInDays]", `[["${LogGroupName}", 7]]`},
	{"alarms", "cloudwatch describe-alarms", "sort(MetricAlarms[].AlarmName)", alarmNames("claude-code-dev", false)},
	{
		"every alarm is heard, going off and, but for those that count events, over", "cloudwatch describe-alarms",
		"MetricAlarms[?AlarmActions!=['${AlertTopicArn}'] || (OKActions!=['${AlertTopicArn}'] && Namespace!='AWS/Events') || !ActionsEnabled].AlarmName", `[]`,
	},
	{"topic", "sns get-topic-attributes --topic-arn ${AlertTopicArn}", "Attributes.[SubscriptionsConfirmed, SubscriptionsPending]", `["0", "0"]`},
	{"failed deployments are told", "events list-targets-by-rule --rule ${Stack}-deployment-failed", "Targets[].Arn", `["${AlertTopicArn}"]`},
	{"failed backups are told", "events list-targets-by-rule --rule ${Stack}-backup-failed", "Targets[].Arn", `["${AlertTopicArn}"]`},
	{"dashboard", "cloudwatch list-dashboards", "DashboardEntries[].DashboardName", `["${DashboardName}"]`},
	{"no budget without a limit", "budgets describe-budgets --account-id 123456789012", "length(Budgets || `[]`)", `0`},
}

// alarmNames is a JSON list of the alarms that a stack has to have, in order.
func alarmNames(stack string, limited bool) string {
	var names []string
	for _, alarm := range contract.Alarms {
		if limited || !alarm.NeedsSpendLimit {
			names = append(names, stack+"-"+alarm.Suffix)
		}
	}
	slices.Sort(names)
	return `["` + strings.Join(names, `", "`) + `"]`
}

var documentedIgnored = regexp.MustCompile("`(\\w+)` of `(AWS::\\w+::\\w+)`")

// checkIgnored holds the properties that the emulator did not look at against those that its page names.
func checkIgnored(t *testing.T, a *account) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(shared.root, "docs/emulator.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, found := range documentedIgnored.FindAllStringSubmatch(string(page), -1) {
		documented[found[2]+" "+found[1]] = true
	}
	var ignored map[string]map[string][]string // type, operation, properties
	a.get(t, "/_berth/ignored", &ignored)
	for kind, operations := range ignored {
		for operation, properties := range operations {
			for _, property := range properties {
				if !documented[kind+" "+property] {
					t.Errorf("the emulator ignores %s of %s on %s, and docs/emulator.md does not say so", property, kind, operation)
				}
			}
		}
	}
}

// A stack with a resource that the emulator does not know fails, and does not seem to work.
func TestUnknownResourceTypeIsRefused(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	assembly := t.TempDir()
	for name, text := range map[string]string{
		"ledger.template.json": `{"Resources": {"Ledger": {"Type": "AWS::QLDB::Ledger", "Properties": {"PermissionsMode": "STANDARD"}}}}`,
		"manifest.json": `{"version": "36.0.0", "artifacts": {"ledger": {"type": "aws:cloudformation:stack",
			"environment": "aws://123456789012/us-east-1", "properties": {"templateFile": "ledger.template.json"}}}}`,
	} {
		if err := os.WriteFile(filepath.Join(assembly, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if done := a.run(t, "cdk deploy --app "+assembly); done.status == 0 || !strings.Contains(done.stderr, "AWS::QLDB::Ledger") {
		t.Errorf("want a failure that names the type\n%s", done)
	}
}
