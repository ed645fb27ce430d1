import { Aws, Fn, Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { metricNamespace } from './names';
import { Secrets } from './secrets';
import { Storage } from './storage';

interface AccessProps {
  registry: ecr.Repository;
  secrets: Secrets;
  storage: Storage;
  logGroup: logs.LogGroup;
}

export class Access extends Construct {
  readonly execution: iam.Role;
  readonly task: iam.Role;

  constructor(stack: Stack, { registry, secrets, storage, logGroup }: AccessProps) {
    super(stack, 'Access');
    this.execution = this.taskRole('ExecutionRole', 'Lets ECS start the task: pull its image, read its secrets, write its logs');
    this.task = this.taskRole('TaskRole', 'What the container may do');

    registry.grantPull(this.execution);
    logGroup.grantWrite(this.execution);
    this.execution.addToPolicy(
      allow('ReadSecrets', ['secretsmanager:GetSecretValue'], [secrets.apiKey.secretArn, secrets.agent.secretArn]),
    );

    logGroup.grantWrite(this.task);
    this.task.addToPolicy(
      allow('PutMetrics', ['cloudwatch:PutMetricData'], ['*'], {
        StringEquals: { 'cloudwatch:namespace': metricNamespace },
      }),
    );
    this.task.addToPolicy(
      allow('UseVolume', ['elasticfilesystem:ClientMount', 'elasticfilesystem:ClientWrite'], [storage.fileSystem.fileSystemArn], {
        StringEquals: { 'elasticfilesystem:AccessPointArn': storage.accessPoint.accessPointArn },
      }),
    );
    const channels = ['CreateControlChannel', 'CreateDataChannel', 'OpenControlChannel', 'OpenDataChannel'];
    this.task.addToPolicy(allow('SessionManager', channels.map((name) => `ssmmessages:${name}`), ['*']));
  }

  private taskRole(id: string, description: string): iam.Role {
    return new iam.Role(this, id, {
      description,
      assumedBy: new iam.ServicePrincipal('ecs-tasks.amazonaws.com', {
        conditions: {
          StringEquals: { 'aws:SourceAccount': Aws.ACCOUNT_ID },
          ArnLike: { 'aws:SourceArn': Fn.sub('arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:*') },
        },
      }),
    });
  }
}

function allow(sid: string, actions: string[], resources: string[], conditions?: Record<string, unknown>): iam.PolicyStatement {
  return new iam.PolicyStatement({ sid, effect: iam.Effect.ALLOW, actions, resources, conditions });
}
