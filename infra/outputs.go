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
	output := func(name string, value *string, description string) {
		awscdk.NewCfnOutput(stack, &name, &awscdk.CfnOutputProps{Value: value, Description: &description})
	}
	output(contract.OutputRepositoryURI, repositoryURI(made.registry), "Push Docker images here")
	output(contract.OutputClusterName, made.compute.cluster.ClusterName(), "ECS cluster name")
	output(contract.OutputServiceName, made.compute.service.ServiceName(), "ECS service name")
	output(contract.OutputFileSystemID, made.storage.fileSystem.FileSystemId(), "EFS filesystem ID")
	output(contract.OutputLogGroupName, made.logs.LogGroupName(), "CloudWatch log group")
	output(contract.OutputAPIKeySecretARN, made.secrets.apiKey.SecretArn(), "Secret ARN (set value manually)")

	var subnets []string
	for _, id := range *made.network.vpc.SelectSubnets(made.network.subnets).SubnetIds {
		subnets = append(subnets, *id)
	}
	publicIP := "DISABLED"
	if made.network.publicIP {
		publicIP = "ENABLED"
	}
	output(contract.OutputAgentSecretARN, made.secrets.agent.SecretArn(), "Secret with the API token and the GitHub token")
	output(contract.OutputAccessPointID, made.storage.accessPoint.AccessPointId(), "EFS access point of the volume")
	output(contract.OutputArchitecture, jsii.String(string(opts.Architecture)), "Processor that the image is built for")
	output(contract.OutputVpcID, made.network.vpc.VpcId(), "VPC of the tasks")
	output(contract.OutputSubnetIDs, jsii.String(strings.Join(subnets, ",")), "Subnets of the tasks")
	output(contract.OutputSecurityGroupID, made.network.taskGroup.SecurityGroupId(), "Security group of the tasks")
	output(contract.OutputAssignPublicIP, &publicIP, "Whether tasks have a public address")
	output(contract.OutputTaskDefinitionARN, made.compute.task.TaskDefinitionArn(), "Task definition of the service")
	output(contract.OutputBackupVaultName, made.backup.vault.BackupVaultName(), "Vault of the daily backups")
	output(contract.OutputBackupRoleARN, made.backup.role.RoleArn(), "Role for aws backup start-backup-job")
	output(contract.OutputAlertTopicARN, made.alerts.TopicArn(), "SNS topic of the alarms")
	output(contract.OutputDashboardName, made.dashboard.DashboardName(), "CloudWatch dashboard")
}
