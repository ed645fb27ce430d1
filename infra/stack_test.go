package main

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/contract"
)

// untaggable are the types that take no tags
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-template-resource-type-ref.html).
var untaggable = []string{
	"AWS::Backup::BackupSelection", "AWS::EC2::Route", "AWS::EC2::SecurityGroupIngress",
	"AWS::EC2::SubnetRouteTableAssociation", "AWS::EC2::VPCGatewayAttachment",
	"AWS::ECS::ClusterCapacityProviderAssociations", "AWS::EFS::MountTarget", "AWS::IAM::Policy",
	"AWS::SNS::Subscription", "AWS::SNS::TopicPolicy",
}

func TestEveryResourceIsTagged(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		want := map[string]string{"Project": made.options.ProjectName, "Environment": made.options.Environment, "ManagedBy": "berth"}
		for id, resource := range made.body.Resources {
			if slices.Contains(untaggable, resource.Type) {
				continue
			}
			got := tagsOf(resource)
			for key, value := range want {
				if got[key] != value {
					t.Errorf("%s (%s): tag %s is %q, want %q", id, resource.Type, key, got[key], value)
				}
			}
		}
	})
}

// tagsOf reads a resource's tags from the property that its type has them in.
func tagsOf(resource resource) map[string]string {
	tags := map[string]string{}
	for property, value := range resource.Properties {
		if !strings.HasSuffix(property, "Tags") {
			continue
		}
		switch value := value.(type) {
		case []any:
			for _, tag := range value {
				key, _ := at(tag, "Key").(string)
				tags[key], _ = at(tag, "Value").(string)
			}
		case map[string]any:
			for key := range value {
				tags[key], _ = value[key].(string)
			}
		}
	}
	return tags
}

// kept are the types whose resources stay behind when the stack is deleted in prod.
var kept = []string{"AWS::Backup::BackupVault", "AWS::ECR::Repository", "AWS::EFS::FileSystem", "AWS::Logs::LogGroup"}

func TestOnlyProductionKeepsItsData(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		for id, resource := range made.body.Resources {
			keeps := strings.HasPrefix(resource.DeletionPolicy, "Retain") || strings.HasPrefix(resource.UpdateReplacePolicy, "Retain")
			switch want := made.options.Production() && slices.Contains(kept, resource.Type); {
			case keeps != want:
				t.Errorf("%s (%s) in %s is kept: %v, want %v", id, resource.Type, made.options.Environment, keeps, want)
			// What a first deployment that failed has made goes again.
			case want && (resource.DeletionPolicy != "RetainExceptOnCreate" || resource.UpdateReplacePolicy != "Retain"):
				t.Errorf("%s (%s): DeletionPolicy is %q, UpdateReplacePolicy %q", id, resource.Type, resource.DeletionPolicy, resource.UpdateReplacePolicy)
			}
		}
	})
}

func TestOutputs(t *testing.T) {
	want := []string{
		"AgentSecretArn", "AlertTopicArn", "AnthropicApiKeySecretArn", "Architecture", "AssignPublicIp", "BackupRoleArn",
		"BackupVaultName", "DashboardName", "EcrRepositoryUri", "EcsClusterName", "EcsServiceName", "EfsAccessPointId",
		"EfsFileSystemId", "LogGroupName", "SubnetIds", "TaskDefinitionArn", "TaskSecurityGroupId", "VpcId",
	}
	each(t, func(t *testing.T, made template) {
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(made.body.Outputs))); diff != "" {
			t.Errorf("outputs (-want +got):\n%s", diff)
		}
		for name, part := range map[string]string{
			"EcrRepositoryUri": "dkr.ecr", "EcsClusterName": "ComputeCluster", "EcsServiceName": `["ComputeService`,
			"EfsFileSystemId": made.options.FileSystemID, "LogGroupName": "Logs", "AnthropicApiKeySecretArn": "SecretsAnthropicApiKey",
			"AgentSecretArn": "SecretsAgent", "EfsAccessPointId": "StorageAccessPoint", "TaskDefinitionArn": "ComputeTask",
			"TaskSecurityGroupId": "NetworkTasks", "BackupVaultName": "BackupVault", "BackupRoleArn": "BackupRole",
			"AlertTopicArn": "Alerts", "DashboardName": "Dashboard", "Architecture": string(made.options.Architecture), "SubnetIds": "ubnet",
		} {
			if value := asText(made.body.Outputs[name]["Value"]); !strings.Contains(value, part) || value == `""` {
				t.Errorf("%s is %s, want something of %q", name, value, part)
			}
		}
	})
}

// Two stacks of one account may not share a name: whatever is named, at any depth, is named after its
// stack.
func TestEnvironmentsShareNoName(t *testing.T) {
	seen := map[string]string{}
	for _, variant := range []string{"dev", "prod", "other"} {
		made := templates[variant]
		names := map[string]bool{}
		for _, resource := range made.body.Resources {
			collectNames(resource.Type, resource.Properties, names)
		}
		for name := range names {
			if other, taken := seen[name]; taken {
				t.Errorf("%s and %s share %s", variant, other, name)
			}
			seen[name] = variant
		}
	}
	if len(seen) < 60 {
		t.Errorf("only %d names were compared", len(seen))
	}
}

// generic are names that are the same everywhere: of a thing within another one, or of AWS's own.
var generic = []string{"MetricName", "Name", "PolicyName", "RuleName", "ContainerName", "ServiceNamespace"}

func collectNames(kind string, value any, into map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, part := range value {
			if text, ok := part.(string); ok && strings.HasSuffix(key, "Name") && !slices.Contains(generic, key) {
				into[kind+" "+key+" "+text] = true
			}
			collectNames(kind, part, into)
		}
		if dimension, ok := value["Value"].(string); ok && (value["Name"] == "Environment" || value["Name"] == "ClusterName") {
			into["metric dimension "+dimension] = true
		}
	case []any:
		for _, part := range value {
			collectNames(kind, part, into)
		}
	}
}

// What looks like a key may stand in no template. "not-set" is the one secret value in them.
func TestTemplatesHoldNoSecret(t *testing.T) {
	key := regexp.MustCompile(`sk-ant-|gh[pousr]_[A-Za-z0-9]{20}|AKIA[A-Z0-9]{12}`)
	each(t, func(t *testing.T, made template) {
		if found := key.FindString(made.text); found != "" {
			t.Errorf("the template holds %q", found)
		}
		for _, id := range made.all("AWS::SecretsManager::Secret") {
			if value := made.body.Resources[id].Properties["SecretString"]; value != nil && value != contract.SecretNotSet {
				t.Errorf("%s is set to %v", id, value)
			}
		}
	})
}

func TestFailedLookupsSayWhatToDo(t *testing.T) {
	t.Setenv("CDK_DEFAULT_ACCOUNT", testAccount)
	t.Setenv("CDK_DEFAULT_REGION", testRegion)
	failed := func(filter, problem string) map[string]any {
		return map[string]any{
			"vpc-provider:account=" + testAccount + ":filter." + filter + ":region=" + testRegion + ":returnAsymmetricSubnets=true": map[string]any{
				"$providerError": problem, "$dontSaveContext": true,
			},
		}
	}
	for name, test := range map[string]struct {
		variant string
		context map[string]any
		want    []string
	}{
		"no default VPC": {
			"dev", failed("isDefault=true", "Could not find any VPCs matching {...}"),
			[]string{"no default VPC in account 111122223333, region us-east-1", "-c vpcId=new", "-c vpcId=vpc-", "aws ec2 create-default-vpc"},
		},
		"unknown VPC": {
			"adopted", failed("vpc-id=vpc-0123456789abcdef0", "Could not find any VPCs matching {...}"),
			[]string{"option vpcId", "vpc-0123456789abcdef0"},
		},
		"denied": {"dev", failed("isDefault=true", "not authorized to perform: ec2:DescribeVpcs"), []string{"not authorized"}},
		"found":  {"dev", map[string]any{"vpc-provider:x": map[string]any{"vpcId": "vpc-1"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkLookup(test.context, templates[test.variant].options)
			if (err == nil) != (test.want == nil) {
				t.Fatalf("got error %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q lacks %q, or is more than a line", err, want)
				}
			}
		})
	}
}

func TestContextComesFromVariableAndFile(t *testing.T) {
	overflow := t.TempDir() + "/context.json"
	if err := os.WriteFile(overflow, []byte(`{"cpu": "4096"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CDK_CONTEXT_JSON", `{"environment": "prod"}`)
	t.Setenv("CONTEXT_OVERFLOW_LOCATION", overflow)
	context, err := readContext()
	if diff := cmp.Diff(map[string]any{"environment": "prod", "cpu": "4096"}, context); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	t.Setenv("CDK_CONTEXT_JSON", "not json")
	if _, err := readContext(); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("got error %v, want one line", err)
	}
}

func asText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
