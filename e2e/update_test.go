//go:build e2e

package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// digest stands for an image that was pushed.
const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// A deployment with other options changes what they name and nothing else: not the data, not the key that
// somebody put in, not which image runs, and not whether it runs.
func TestUpdateKeepsWhatItDoesNotName(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.must(t, "cdk deploy --parameters DesiredCount=1 --parameters ImageRef="+digest)
	before := a.describe(t, "claude-code-dev")
	wantParameters := map[string]string{"DesiredCount": "1", "FileSystemId": "", "ImageRef": digest}
	if diff := cmp.Diff(wantParameters, before.parameters); diff != "" {
		t.Fatalf("parameters (-want +got):\n%s", diff)
	}
	a.must(t, before.fill(t, "aws secretsmanager put-secret-value --secret-id ${AnthropicApiKeySecretArn} --secret-string your-api-key-here"))
	token := [][]string{{"secretsmanager", "get-secret-value", "--secret-id", before.outputs["AgentSecretArn"]}}
	tokenBefore := a.ask(t, token)

	a.must(t, "cdk deploy -c useFargateSpot=true -c cpu=1024 -c memory=4096 -c logRetentionDays=3")
	after := a.describe(t, "claude-code-dev")

	t.Run("parameters", func(t *testing.T) {
		if diff := cmp.Diff(wantParameters, after.parameters); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("resources", func(t *testing.T) {
		var other []string
		for _, id := range slices.Sorted(maps.Keys(after.resources)) {
			if after.resources[id] != before.resources[id] {
				other = append(other, after.types[id])
			}
		}
		// A task definition never changes: there is a next one.
		if diff := cmp.Diff([]string{"AWS::ECS::TaskDefinition"}, other); diff != "" || len(after.resources) != len(before.resources) {
			t.Errorf("replaced (-want +got):\n%s\n%d resources, before %d", diff, len(after.resources), len(before.resources))
		}
	})
	t.Run("outputs", func(t *testing.T) {
		want := maps.Clone(before.outputs)
		want["TaskDefinitionArn"] = strings.TrimSuffix(before.outputs["TaskDefinitionArn"], ":1") + ":2"
		if diff := cmp.Diff(want, after.outputs); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("token", func(t *testing.T) {
		if diff := cmp.Diff(tokenBefore, a.ask(t, token)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	})
	t.Run("aws", func(t *testing.T) {
		a.check(t, after, []fact{
			{
				"only what was named was touched", "cloudformation describe-stack-events --stack-name ${Stack}",
				"sort(StackEvents[?ResourceStatus=='UPDATE_COMPLETE'].ResourceType)",
				`["AWS::CloudFormation::Stack", "AWS::ECS::Service", "AWS::ECS::TaskDefinition", "AWS::Logs::LogGroup"]`,
			},
			{"the key that was put in is still there", "secretsmanager get-secret-value --secret-id ${AnthropicApiKeySecretArn}", "SecretString", `"your-api-key-here"`},
			{"retention", "logs describe-log-groups", "logGroups[].retentionInDays", `[3]`},
			{
				"service", "ecs describe-services --cluster ${EcsClusterName} --services ${EcsServiceName}",
				"services[].[desiredCount, runningCount, taskDefinition, capacityProviderStrategy[].capacityProvider]", `[[1, 1, "${TaskDefinitionArn}", ["FARGATE_SPOT"]]]`,
			},
			{
				"task", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}",
				"taskDefinition.[revision, cpu, memory, containerDefinitions[0].image, volumes[0].efsVolumeConfiguration.fileSystemId]",
				`[2, "1024", "4096", "${EcrRepositoryUri}` + digest + `", "${EfsFileSystemId}"]`,
			},
		})
		checkIgnored(t, a)
	})
	t.Run("commands", func(t *testing.T) { checkCommands(t, a, after) })
}

// checkCommands runs the specification's commands for a deployed stack as it writes them, save that
// start-backup-job needs a role. Some take away what the stack is made of: it is no good afterwards.
func checkCommands(t *testing.T, a *account, made stack) {
	t.Helper()
	ofService := "aws ecs update-service --cluster ${EcsClusterName} --service ${EcsServiceName} "
	fileSystem := "arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/${EfsFileSystemId}"
	for _, test := range []struct {
		command, query, want string
		fails                string // what the command says when it cannot work as it is written
	}{
		{"aws sts get-caller-identity", "Account", `"123456789012"`, ""},
		{"aws cloudformation describe-stack-events --stack-name claude-code-dev", "StackEvents[0].[ResourceType, ResourceStatus]", `["AWS::CloudFormation::Stack", "UPDATE_COMPLETE"]`, ""},
		{ofService + "--force-new-deployment", "service.deployments[0].[status, taskDefinition]", `["PRIMARY", "${TaskDefinitionArn}"]`, ""},
		{ofService + "--desired-count 0", "service.[desiredCount, taskDefinition]", `[0, "${TaskDefinitionArn}"]`, ""},
		{"aws backup start-backup-job --backup-vault-name ${BackupVaultName} --resource-arn " + fileSystem, "BackupJobId", "", "--iam-role-arn"},
		{"aws backup start-backup-job --backup-vault-name ${BackupVaultName} --iam-role-arn ${BackupRoleArn} --resource-arn " + fileSystem, "BackupJobId", `"…"`, ""},
		{"aws backup describe-backup-vault --backup-vault-name ${BackupVaultName}", "NumberOfRecoveryPoints", `1`, ""},
		{"aws efs delete-file-system --file-system-id ${EfsFileSystemId}", "@", "", "FileSystemInUse"},
		{"aws ecr delete-repository --repository-name claude-code-dev --force", "repository.repositoryName", `"claude-code-dev"`, ""},
	} {
		t.Run(test.command, func(t *testing.T) {
			done := a.run(t, made.fill(t, test.command)+" --query", test.query)
			switch {
			case test.fails != "":
				if done.status == 0 || !strings.Contains(done.stderr, test.fails) {
					t.Errorf("want a failure because of %s\n%s", test.fails, done)
				}
			case done.status != 0:
				t.Error(done)
			default:
				wantText(t, done.command, done.stdout, made.fill(t, test.want))
			}
		})
	}
}
