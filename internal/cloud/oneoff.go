package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"berth/internal/contract"
)

// OneOff registers a task definition that is the service's own but for two things: the agent's container runs another command, and
// the volume is the root of another file system. It returns its ARN.
func (c *Client) OneOff(ctx context.Context, stack *Stack, fileSystem string, command []string) (arn string, err error) {
	from := stack.Outputs[contract.OutputTaskDefinitionARN]
	answer, err := c.ECS.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &from})
	if err != nil {
		return "", Explain(err)
	}
	own := answer.TaskDefinition
	input := &ecs.RegisterTaskDefinitionInput{
		Family: aws.String(stack.Names.Stack() + "-check"), Cpu: own.Cpu, Memory: own.Memory, NetworkMode: own.NetworkMode,
		RequiresCompatibilities: own.RequiresCompatibilities, RuntimePlatform: own.RuntimePlatform, EphemeralStorage: own.EphemeralStorage,
		ExecutionRoleArn: own.ExecutionRoleArn, TaskRoleArn: own.TaskRoleArn,
		ContainerDefinitions: slices.Clone(own.ContainerDefinitions), Volumes: slices.Clone(own.Volumes),
		Tags: []types.Tag{
			{Key: aws.String(contract.TagProject), Value: &stack.Names.Project},
			{Key: aws.String(contract.TagEnvironment), Value: &stack.Names.Environment},
			{Key: aws.String(contract.TagManagedBy), Value: aws.String(contract.ManagedBy)},
		},
	}
	for i := range input.Volumes {
		if input.Volumes[i].EfsVolumeConfiguration != nil {
			// No access point: the copy has none. The new file system has no policy, so a mount target's security group is what guards it.
			input.Volumes[i].EfsVolumeConfiguration = &types.EFSVolumeConfiguration{
				FileSystemId: &fileSystem, RootDirectory: aws.String("/"), TransitEncryption: types.EFSTransitEncryptionEnabled,
			}
		}
	}
	for i := range input.ContainerDefinitions {
		if container := &input.ContainerDefinitions[i]; aws.ToString(container.Name) == contract.ContainerName {
			container.Command, container.HealthCheck = command, nil
			container.Secrets = nil // it talks to nobody
		}
	}
	registered, err := c.ECS.RegisterTaskDefinition(ctx, input)
	if err != nil {
		return "", Explain(err)
	}
	return aws.ToString(registered.TaskDefinition.TaskDefinitionArn), nil
}

// RunOneOff starts a task of a task definition where the service's tasks run.
func (c *Client) RunOneOff(ctx context.Context, stack *Stack, definition string) (task string, err error) {
	answer, err := c.ECS.RunTask(ctx, &ecs.RunTaskInput{
		Cluster: aws.String(stack.Outputs[contract.OutputClusterName]), TaskDefinition: &definition, LaunchType: types.LaunchTypeFargate, Count: aws.Int32(1),
		NetworkConfiguration: &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{
			Subnets: stack.Subnets(), SecurityGroups: []string{stack.Outputs[contract.OutputSecurityGroupID]},
			AssignPublicIp: types.AssignPublicIp(stack.Outputs[contract.OutputAssignPublicIP]),
		}},
	})
	if err != nil {
		return "", Explain(err)
	}
	if len(answer.Tasks) == 0 {
		reason := "ECS gives no reason"
		for _, failure := range answer.Failures {
			reason = aws.ToString(failure.Reason) + " " + aws.ToString(failure.Detail)
		}
		return "", fmt.Errorf("ECS started no task: %s", strings.TrimSpace(reason))
	}
	return aws.ToString(answer.Tasks[0].TaskArn), nil
}

// Subnets are the stack's.
func (s *Stack) Subnets() []string { return strings.Split(s.Outputs[contract.OutputSubnetIDs], ",") }

// TaskByARN describes a task; ok is false if ECS has forgotten it.
func (c *Client) TaskByARN(ctx context.Context, stack *Stack, arn string) (task Task, ok bool, err error) {
	answer, err := c.ECS.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(stack.Outputs[contract.OutputClusterName]), Tasks: []string{arn}})
	if err != nil {
		return Task{}, false, Explain(err)
	}
	if len(answer.Tasks) == 0 {
		return Task{}, false, nil
	}
	return toTask(&answer.Tasks[0]), true, nil
}

// StopTask stops a task. One that has stopped is left.
func (c *Client) StopTask(ctx context.Context, stack *Stack, arn, why string) error {
	_, err := c.ECS.StopTask(ctx, &ecs.StopTaskInput{Cluster: aws.String(stack.Outputs[contract.OutputClusterName]), Task: &arn, Reason: &why})
	if unknown := new(types.InvalidParameterException); errors.As(err, &unknown) {
		return nil
	}
	return Explain(err)
}

// DropTaskDefinition deregisters a task definition and deletes it.
func (c *Client) DropTaskDefinition(ctx context.Context, arn string) error {
	if _, err := c.ECS.DeregisterTaskDefinition(ctx, &ecs.DeregisterTaskDefinitionInput{TaskDefinition: &arn}); err != nil {
		return Explain(err)
	}
	_, err := c.ECS.DeleteTaskDefinitions(ctx, &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: []string{arn}})
	return Explain(err)
}

// TaskLog is what a task's container wrote to the log group last, the oldest line first: a page, which is all where it did not write for days.
func (c *Client) TaskLog(ctx context.Context, stack *Stack, taskID string) (lines []string, err error) {
	stream := contract.ContainerName + "/" + contract.ContainerName + "/" + taskID
	answer, err := c.Logs.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{
		LogGroupName: aws.String(stack.Outputs[contract.OutputLogGroupName]), LogStreamName: &stream, StartFromHead: aws.Bool(false),
	})
	if err != nil {
		return nil, Explain(err)
	}
	for _, event := range answer.Events {
		lines = append(lines, aws.ToString(event.Message))
	}
	return lines, nil
}
