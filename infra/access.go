package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
)

// access holds the two roles of a task.
//
// The constructs that use them may not add to them: every statement is in this file.
type access struct {
	execution awsiam.Role // ECS, before the container starts: pull the image, read the secrets, write logs
	task      awsiam.Role // the container itself
}

// newAccess makes both roles, each statement as narrow as AWS lets it be. Where a statement's resource
// is "*", the comment says why AWS has no narrower one.
func newAccess(stack awscdk.Stack, built parts) access {
	scope := constructs.NewConstruct(stack, jsii.String("Access"))
	made := access{
		execution: newTaskRole(scope, "ExecutionRole", "Lets ECS start the task: pull its image, read its secrets, write its logs"),
		task:      newTaskRole(scope, "TaskRole", "What the container may do"),
	}

	// The actions of the managed policy AmazonECSTaskExecutionRolePolicy, on this stack's own
	// repository and log group instead of every one in the account. GrantPull adds
	// ecr:GetAuthorizationToken on "*": the token is the account's, not a repository's.
	built.registry.GrantPull(made.execution)
	built.logs.GrantWrite(made.execution)
	made.execution.AddToPolicy(allow("ReadSecrets", []string{"secretsmanager:GetSecretValue"},
		built.secrets.apiKey.SecretArn(), built.secrets.agent.SecretArn()))

	built.logs.GrantWrite(made.task)
	metrics := allow("PutMetrics", []string{"cloudwatch:PutMetricData"}, jsii.String("*")) // metrics are no resources; the namespace bounds it
	metrics.AddCondition(jsii.String("StringEquals"), map[string]any{"cloudwatch:namespace": contract.MetricNamespace})
	made.task.AddToPolicy(metrics)
	volume := allow("UseVolume", []string{"elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"}, built.storage.fileSystem.FileSystemArn())
	volume.AddCondition(jsii.String("StringEquals"), map[string]any{
		"elasticfilesystem:AccessPointArn": built.storage.accessPoint.AccessPointArn(),
	})
	made.task.AddToPolicy(volume)
	// ECS Exec and port forwarding: the agent in the container calls Session Manager, whose channels have no ARN.
	made.task.AddToPolicy(allow("SessionManager", []string{
		"ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
		"ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
	}, jsii.String("*")))
	return made
}

// newTaskRole makes a role that only tasks of this account can take on: without the conditions, ECS could
// be talked into using it on behalf of another account.
func newTaskRole(scope constructs.Construct, id, description string) awsiam.Role {
	tasks := awscdk.Fn_Sub(jsii.String("arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:*"), nil)
	return awsiam.NewRole(scope, &id, &awsiam.RoleProps{
		Description: &description,
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("ecs-tasks.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{
				"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()},
				"ArnLike":      map[string]any{"aws:SourceArn": tasks},
			},
		}),
	})
}

func allow(sid string, actions []string, resources ...*string) awsiam.PolicyStatement {
	return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid:       &sid,
		Effect:    awsiam.Effect_ALLOW,
		Actions:   jsii.Strings(actions...),
		Resources: &resources,
	})
}
