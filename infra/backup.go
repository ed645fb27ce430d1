package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsbackup"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/options"
)

const backupDays = 35

// backup keeps a daily copy of the file system.
type backup struct {
	vault awsbackup.BackupVault
	role  awsiam.Role // what a backup job, planned or asked for, runs as
}

func newBackup(stack awscdk.Stack, opts options.Options, volume storage) backup {
	scope := constructs.NewConstruct(stack, jsii.String("Backup"))
	vault := awsbackup.NewBackupVault(scope, jsii.String("Vault"), &awsbackup.BackupVaultProps{
		BackupVaultName: jsii.String(opts.Names().Stack()),
		RemovalPolicy:   removal(opts), // outside prod it still has to be empty to be deleted
	})
	plan := awsbackup.NewBackupPlan(scope, jsii.String("Plan"), &awsbackup.BackupPlanProps{
		BackupPlanName: jsii.String(opts.Names().BackupPlan()),
		BackupVault:    vault,
		BackupPlanRules: &[]awsbackup.BackupPlanRule{awsbackup.NewBackupPlanRule(&awsbackup.BackupPlanRuleProps{
			RuleName:           jsii.String("daily"),
			ScheduleExpression: awsevents.Schedule_Cron(&awsevents.CronOptions{Hour: jsii.String("5"), Minute: jsii.String("0")}),
			StartWindow:        awscdk.Duration_Hours(jsii.Number(1)),
			CompletionWindow:   awscdk.Duration_Hours(jsii.Number(8)),
			DeleteAfter:        awscdk.Duration_Days(jsii.Number(backupDays)),
		})},
	})
	// AWS Backup's own policies: which rights it needs to back a file system up, and to restore it, is for AWS to know and change.
	role := awsiam.NewRole(scope, jsii.String("Role"), &awsiam.RoleProps{
		Description: jsii.String("Lets AWS Backup copy the file system and restore it"),
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("backup.amazonaws.com"), nil),
		ManagedPolicies: &[]awsiam.IManagedPolicy{
			awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String("service-role/AWSBackupServiceRolePolicyForBackup")),
			awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String("service-role/AWSBackupServiceRolePolicyForRestores")),
		},
	})
	plan.AddSelection(jsii.String("FileSystem"), &awsbackup.BackupSelectionOptions{
		BackupSelectionName:        jsii.String(opts.Names().BackupPlan()),
		Resources:                  &[]awsbackup.BackupResource{awsbackup.BackupResource_FromEfsFileSystem(volume.fileSystem)},
		Role:                       role,
		DisableDefaultBackupPolicy: jsii.Bool(true), // the role has it already
	})
	return backup{vault, role}
}
