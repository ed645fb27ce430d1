package main

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// newOutputs publishes what people and berth look up in a deployed stack.
func newOutputs(stack awscdk.Stack, opts options.Options, made parts) {
	output := func(name string, value *string, description ...string) {
		props := &awscdk.CfnOutputProps{Value: value}
		if len(description) > 0 {
			props.Description = jsii.String(strings.Join(description, " "))
		}
		awscdk.NewCfnOutput(stack, &name, props)
	}
	output(contract.OutputRepositoryURI, repositoryURI(made.registry), "Push Docker images here")
	output(contract.OutputClusterName, made.compute.cluster.ClusterName(), "ECS cluster name")
	output(contract.OutputServiceName, made.compute.service.ServiceName(), "ECS service name")
	output(contract.OutputFileSystemID, made.storage.fileSystem.FileSystemId(), "EFS filesystem ID")
	output(contract.OutputLogGroupName, made.logs.LogGroupName(), "CloudWatch log group")
	output(contract.OutputAPIKeySecretARN, made.secrets.apiKey.SecretArn(), "Secret ARN (set value manually)")

	var subnets []string
	for _, subnet := range *made.network.subnets.Subnets {
		subnets = append(subnets, *subnet.SubnetId())
	}
	publicIP := "DISABLED"
	if made.network.publicIP {
		publicIP = "ENABLED"
	}
	output(contract.OutputAgentSecretARN, made.secrets.agent.SecretArn())
	output(contract.OutputAccessPointID, made.storage.accessPoint.AccessPointId())
	output(contract.OutputArchitecture, jsii.String(string(opts.Architecture)))
	output(contract.OutputVpcID, made.network.vpc.VpcId())
	output(contract.OutputSubnetIDs, jsii.String(strings.Join(subnets, ",")))
	output(contract.OutputSecurityGroupID, made.network.taskGroup.SecurityGroupId())
	output(contract.OutputAssignPublicIP, &publicIP)
	output(contract.OutputTaskDefinitionARN, made.compute.task.TaskDefinitionArn())
	output(contract.OutputBackupVaultName, made.backup.vault.BackupVaultName())
	output(contract.OutputBackupRoleARN, made.backup.role.RoleArn())
	output(contract.OutputAlertTopicARN, made.alerts.TopicArn())
	output(contract.OutputDashboardName, made.dashboard.DashboardName())
}
