package main

import (
	"encoding/json"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// secrets are what the daemon is given and a session never sees.
//
// They go with the stack in every environment: their values can be set again, and a secret that stayed
// behind would keep its name and fail the next deployment, since CloudFormation cannot take it over.
type secrets struct {
	apiKey awssecretsmanager.Secret // the Anthropic API key
	agent  awssecretsmanager.Secret // the API token, and a GitHub token if one is set
}

func newSecrets(stack awscdk.Stack, opts options.Options) secrets {
	scope := constructs.NewConstruct(stack, jsii.String("Secrets"))
	template, err := json.Marshal(map[string]string{contract.SecretKeyGitHubToken: contract.SecretNotSet})
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	return secrets{
		apiKey: awssecretsmanager.NewSecret(scope, jsii.String("AnthropicApiKey"), &awssecretsmanager.SecretProps{
			SecretName:  jsii.String(opts.Names().APIKeySecret()),
			Description: jsii.String("Anthropic API key"),
			// Without a value CloudFormation would make one up, which looks like a key and is refused.
			SecretStringValue: awscdk.SecretValue_UnsafePlainText(jsii.String(contract.SecretNotSet)),
			RemovalPolicy:     awscdk.RemovalPolicy_DESTROY,
		}),
		agent: awssecretsmanager.NewSecret(scope, jsii.String("Agent"), &awssecretsmanager.SecretProps{
			SecretName:  jsii.String(opts.Names().AgentSecret()),
			Description: jsii.String("API token (made up) and optional GitHub token"),
			GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
				SecretStringTemplate: jsii.String(string(template)),
				GenerateStringKey:    jsii.String(contract.SecretKeyAPIToken),
				PasswordLength:       jsii.Number(43), // 256 bits in letters and digits
				ExcludePunctuation:   jsii.Bool(true),
			},
			RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
		}),
	}
}
