//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
)

const deployProd = "cdk deploy -c environment=prod -c cpu=4096 -c memory=16384"

// compare lists what is in the second inventory and not in the first, and missing the other way round.
func compare(before, after []string) (added, missing []string) {
	for _, line := range after {
		if !slices.Contains(before, line) {
			added = append(added, line)
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			missing = append(missing, line)
		}
	}
	return added, missing
}

// Production's data outlives its stack, and the next stack can have it.
//
// The file system is adopted by the option that is for it. The other three have names, and on AWS
// `cdk deploy --import-existing-resources` takes them over. The emulator can import the log group only, so
// that this test deletes the three, as one may who needs no old images, logs and backups.
func TestProductionKeepsItsDataAndCanBeDeployedAgain(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	before := a.inventory(t)
	a.must(t, deployProd)
	made := a.describe(t, "claude-code-prod")
	fileSystem := made.outputs["EfsFileSystemId"]

	a.must(t, "cdk destroy --force -c environment=prod")
	added, missing := compare(before, a.inventory(t))
	want := []string{
		`file system ["` + fileSystem + `","claude-code-prod","0"]`,
		`log group ["/ecs/claude-code-prod","7"]`,
		`repository ["claude-code-prod"]`,
		`vault ["claude-code-prod"]`,
	}
	if !slices.Equal(added, want) || len(missing) > 0 {
		t.Fatalf("the stack left\n%s\nand took %q; it should leave\n%s", strings.Join(added, "\n"), missing, strings.Join(want, "\n"))
	}

	a.ask(t, [][]string{
		{"ecr", "delete-repository", "--repository-name", "claude-code-prod"},
		{"logs", "delete-log-group", "--log-group-name", "/ecs/claude-code-prod"},
		{"backup", "delete-backup-vault", "--backup-vault-name", "claude-code-prod"},
	})
	a.must(t, deployProd+" -c fileSystemId="+fileSystem)
	again := a.describe(t, "claude-code-prod")
	a.check(t, again, []fact{
		{"no second file system", "efs describe-file-systems", "FileSystems[].[FileSystemId, NumberOfMountTargets]", `[["` + fileSystem + `", 3]]`},
		{"adopted", "cloudformation describe-stacks --stack-name ${Stack}", "Stacks[0].Outputs[?OutputKey=='EfsFileSystemId'].OutputValue", `["` + fileSystem + `"]`},
		{"mount targets", "efs describe-mount-targets --file-system-id ${EfsFileSystemId}", "sort(MountTargets[].SubnetId)", `["subnet-00000001", "subnet-00000002", "subnet-00000003"]`},
		{"closed", "efs describe-mount-target-security-groups --mount-target-id ${StorageMountTargetPublicSubnet3}", "SecurityGroups", `["${NetworkNfs}"]`},
		{"access point", "efs describe-access-points", "AccessPoints[].[FileSystemId, RootDirectory.Path]", `[["` + fileSystem + `", "/claude-code-prod"]]`},
		{"volume", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}", "taskDefinition.volumes[0].efsVolumeConfiguration.fileSystemId", `"` + fileSystem + `"`},
	})

	// Without the option the stack would start on an empty file system: it remembers, and refuses.
	forgot := a.run(t, deployProd)
	if forgot.status == 0 || !strings.Contains(forgot.stderr, "fileSystemId is not what this stack was deployed with") || clutter.MatchString(forgot.stderr) {
		t.Errorf("a deployment that forgets fileSystemId should be refused, with the reason\n%s", forgot)
	}
	if now := a.describe(t, "claude-code-prod").outputs["EfsFileSystemId"]; now != fileSystem {
		t.Errorf("the stack is now on the file system %s, not on %s", now, fileSystem)
	}
}

// A first deployment that fails leaves nothing, in production too: what it would leave is empty, and
// would be in the way of the next attempt.
func TestFailedFirstDeploymentLeavesNothing(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	// CloudFormation makes nothing that exists already. It comes to this rule last, after the service.
	const rule = "claude-code-prod-deployment-failed"
	a.must(t, "aws events put-rule --name "+rule+" --schedule-expression", "rate(1 day)")
	before := a.inventory(t)

	failed := a.run(t, deployProd)
	if failed.status == 0 || !strings.Contains(failed.stderr, rule) {
		t.Fatalf("want a failure that names %s\n%s", rule, failed)
	}
	a.check(t, stack{name: "claude-code-prod"}, []fact{
		{
			"it came far", "cloudformation describe-stack-events --stack-name ${Stack}", "sort(StackEvents[?ResourceStatus=='CREATE_COMPLETE' && " +
				"(ResourceType=='AWS::EFS::FileSystem' || ResourceType=='AWS::ECR::Repository' || ResourceType=='AWS::Logs::LogGroup' || ResourceType=='AWS::Backup::BackupVault')].ResourceType)",
			`["AWS::Backup::BackupVault", "AWS::ECR::Repository", "AWS::EFS::FileSystem", "AWS::Logs::LogGroup"]`,
		},
	})
	added, missing := compare(before, a.inventory(t))
	if want := []string{`stack ["claude-code-prod","ROLLBACK_COMPLETE"]`}; !slices.Equal(added, want) || len(missing) > 0 {
		t.Errorf("it left\n%s\nand took %q; it should leave %q", strings.Join(added, "\n"), missing, want)
	}

	a.must(t, "aws events delete-rule --name "+rule)
	a.must(t, deployProd)
	if made := a.describe(t, "claude-code-prod"); made.status != "CREATE_COMPLETE" {
		t.Errorf("the next deployment ended in %s", made.status)
	}
}
