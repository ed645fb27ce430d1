import { Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as backup from 'aws-cdk-lib/aws-backup';
import * as events from 'aws-cdk-lib/aws-events';
import * as iam from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { stackName } from './names';
import { Storage } from './storage';

export class Backup extends Construct {
  readonly vault: backup.BackupVault;
  readonly role: iam.Role;

  constructor(stack: Stack, storage: Storage) {
    super(stack, 'Backup');
    this.vault = new backup.BackupVault(this, 'Vault', {
      backupVaultName: stackName,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    const plan = new backup.BackupPlan(this, 'Plan', {
      backupPlanName: `${stackName}-daily`,
      backupVault: this.vault,
      backupPlanRules: [
        new backup.BackupPlanRule({
          ruleName: 'daily',
          scheduleExpression: events.Schedule.cron({ hour: '5', minute: '0' }),
          startWindow: Duration.hours(1),
          completionWindow: Duration.hours(8),
          deleteAfter: Duration.days(35),
        }),
      ],
    });
    this.role = new iam.Role(this, 'Role', {
      description: 'Lets AWS Backup copy the file system and restore it',
      assumedBy: new iam.ServicePrincipal('backup.amazonaws.com'),
      managedPolicies: ['Backup', 'Restores'].map((what) => iam.ManagedPolicy.fromAwsManagedPolicyName(`service-role/AWSBackupServiceRolePolicyFor${what}`)),
    });
    plan.addSelection('FileSystem', {
      backupSelectionName: `${stackName}-daily`,
      resources: [backup.BackupResource.fromEfsFileSystem(storage.fileSystem)],
      role: this.role,
      disableDefaultBackupPolicy: true,
    });
  }
}
