import * as cdk from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { Access } from './access';
import { Alerts } from './alerts';
import { Backup } from './backup';
import { Compute } from './compute';
import { environment, project, stackName } from './names';
import { Network } from './network';
import { Observability } from './observability';
import { Secrets } from './secrets';
import { Storage } from './storage';

export class BerthStack extends cdk.Stack {
  constructor(app: Construct) {
    super(app, stackName, {
      stackName,
      description: 'berth: an always-on Claude Code agent',
      synthesizer: new cdk.BootstraplessSynthesizer(),
      suppressTemplateIndentation: true,
    });
    cdk.Tags.of(this).add('Project', project);
    cdk.Tags.of(this).add('Environment', environment);
    cdk.Tags.of(this).add('ManagedBy', 'berth');

    const network = new Network(this);
    const parameters = this.addParameters();
    const registry = new ecr.Repository(this, 'Registry', {
      repositoryName: stackName,
      imageScanOnPush: true,
      lifecycleRules: [{ description: 'keep the newest images', maxImageCount: 10 }],
      emptyOnDelete: true,
      removalPolicy: cdk.RemovalPolicy.DESTROY,
    });
    const registryUri = cdk.Fn.sub('${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}/${Repository}', {
      Repository: registry.repositoryName,
    });
    const secrets = new Secrets(this);
    const storage = new Storage(this, network);
    const logGroup = new logs.LogGroup(this, 'Logs', {
      logGroupName: `/ecs/${stackName}`,
      retention: logs.RetentionDays.ONE_WEEK,
      removalPolicy: cdk.RemovalPolicy.DESTROY,
    });
    const access = new Access(this, { registry, secrets, storage, logGroup });
    const image = registryUri + parameters.imageRef;
    const { desiredCount } = parameters;
    const compute = new Compute(this, { network, storage, secrets, access, logGroup, image, desiredCount });
    const backup = new Backup(this, storage);
    const alerts = new Alerts(this);
    const observability = new Observability(this, { storage, compute, backup, alerts, logGroup });

    const outputs: Record<string, [value: string, description?: string]> = {
      EcrRepositoryUri: [registryUri, 'Push Docker images here'],
      EcsClusterName: [compute.cluster.clusterName, 'ECS cluster name'],
      EcsServiceName: [compute.service.serviceName, 'ECS service name'],
      EfsFileSystemId: [storage.fileSystem.fileSystemId, 'EFS filesystem ID'],
      LogGroupName: [logGroup.logGroupName, 'CloudWatch log group'],
      AnthropicApiKeySecretArn: [secrets.apiKey.secretArn, 'Secret ARN (set value manually)'],
      AgentSecretArn: [secrets.agent.secretArn],
      EfsAccessPointId: [storage.accessPoint.accessPointId],
      Architecture: ['x86_64'],
      VpcId: [network.vpc.vpcId],
      SubnetIds: [network.vpc.selectSubnets(network.subnets).subnetIds.join(',')],
      TaskSecurityGroupId: [network.taskGroup.securityGroupId],
      AssignPublicIp: ['ENABLED'],
      TaskDefinitionArn: [compute.task.taskDefinitionArn],
      BackupVaultName: [backup.vault.backupVaultName],
      BackupRoleArn: [backup.role.roleArn],
      AlertTopicArn: [alerts.topic.topicArn],
      DashboardName: [observability.dashboard.dashboardName],
    };
    for (const [name, [value, description]] of Object.entries(outputs)) {
      new cdk.CfnOutput(this, name, { value, description });
    }
  }

  private addParameters() {
    const imageRef = new cdk.CfnParameter(this, 'ImageRef', {
      type: 'String',
      default: ':latest',
      description: 'Image in the repository: :tag or @sha256:digest',
      allowedPattern: '^(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$',
    });
    const desiredCount = new cdk.CfnParameter(this, 'DesiredCount', {
      type: 'Number',
      default: 0,
      minValue: 0,
      maxValue: 1,
      description: 'Tasks: 0 until the repository holds an image, or to pause; then 1',
    });
    const fileSystem = new cdk.CfnParameter(this, 'FileSystemId', {
      type: 'String',
      default: '',
      description: 'File system that the stack adopted; empty: its own',
    });
    new cdk.CfnRule(this, 'SameFileSystem', {
      assertions: [{
        assert: cdk.Fn.conditionEquals(fileSystem.valueAsString, ''),
        assertDescription: 'fileSystemId is not what this stack was deployed with. Give it as before (see the output EfsFileSystemId); '
          + 'to change it on purpose, also give --parameters FileSystemId=',
      }],
    });
    return { imageRef: imageRef.valueAsString, desiredCount: desiredCount.valueAsNumber };
  }
}
