import { Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as sns from 'aws-cdk-lib/aws-sns';
import { stackName } from './names';

export class Alerts {
  readonly topic: sns.Topic;

  constructor(stack: Stack) {
    this.topic = new sns.Topic(stack, 'Alerts', {
      topicName: `${stackName}-alerts`,
      displayName: `berth ${stackName}`,
      enforceSSL: true,
    });
    const ownAccount = { StringEquals: { 'aws:SourceAccount': stack.account } };
    this.mayPublish('cloudwatch.amazonaws.com', ownAccount);
    this.mayPublish('budgets.amazonaws.com', ownAccount);
    this.mayPublish('events.amazonaws.com');
  }

  private mayPublish(service: string, conditions?: Record<string, unknown>) {
    this.topic.addToResourcePolicy(
      new iam.PolicyStatement({
        effect: iam.Effect.ALLOW,
        principals: [new iam.ServicePrincipal(service, { conditions })],
        actions: ['sns:Publish'],
        resources: [this.topic.topicArn],
      }),
    );
  }
}
