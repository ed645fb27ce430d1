import { RemovalPolicy, SecretValue, Stack } from 'aws-cdk-lib';
import * as sm from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';
import { environment, notSet, project, stackName } from './names';

export class Secrets extends Construct {
  readonly apiKey: sm.Secret;
  readonly agent: sm.Secret;

  constructor(stack: Stack) {
    super(stack, 'Secrets');
    this.apiKey = new sm.Secret(this, 'AnthropicApiKey', {
      secretName: `${project}/${environment}/anthropic-api-key`,
      description: `Anthropic API key of ${stackName}`,
      secretStringValue: SecretValue.unsafePlainText(notSet),
      removalPolicy: RemovalPolicy.DESTROY,
    });
    this.agent = new sm.Secret(this, 'Agent', {
      secretName: `${project}/${environment}/agent`,
      description: `API token (made up) and optional GitHub token of ${stackName}`,
      generateSecretString: {
        secretStringTemplate: JSON.stringify({ github_token: notSet }),
        generateStringKey: 'api_token',
        passwordLength: 43,
        excludePunctuation: true,
      },
      removalPolicy: RemovalPolicy.DESTROY,
    });
  }
}
