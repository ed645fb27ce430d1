package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNetworkLetsNothingInButNfsFromTheTasks(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		for _, id := range made.all("AWS::EC2::SecurityGroup") {
			if rules := made.body.Resources[id].Properties["SecurityGroupIngress"]; rules != nil {
				t.Errorf("%s lets in %v", id, rules)
			}
		}
		rule := made.one(t, "AWS::EC2::SecurityGroupIngress", "").Properties
		wantJSON(t, "the one inbound rule", rule, `{
			"Description": "NFS from the tasks", "IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049,
			"GroupId": {"Fn::GetAtt": ["NetworkNfsAB9E69FD", "GroupId"]},
			"SourceSecurityGroupId": {"Fn::GetAtt": ["NetworkTasks9BB5996E", "GroupId"]}}`)
		wantJSON(t, "what the file system may open", made.one(t, "AWS::EC2::SecurityGroup", "Nfs").Properties["SecurityGroupEgress"],
			`[{"CidrIp": "255.255.255.255/32", "Description": "Disallow all traffic", "IpProtocol": "icmp", "FromPort": 252, "ToPort": 86}]`)
	})
}

func TestTasksMayReachTheInternet(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		wantJSON(t, "what the tasks may open", made.one(t, "AWS::EC2::SecurityGroup", "Tasks").Properties["SecurityGroupEgress"],
			`[{"CidrIp": "0.0.0.0/0", "Description": "Allow all outbound traffic by default", "IpProtocol": "-1"}]`)
	})
}

func TestNetworkOfEachKind(t *testing.T) {
	for variant, want := range map[string]struct {
		publicIP string
		subnets  int
		created  int
	}{
		"dev":     {"ENABLED", 3, 0}, // the first three of six zones
		"zones":   {"ENABLED", 2, 0},
		"adopted": {"DISABLED", 2, 0},
		"new-vpc": {"ENABLED", 2, 1},
		"largest": {"ENABLED", 2, 1},
	} {
		made := templates[variant]
		service := made.one(t, "AWS::ECS::Service", "").Properties
		if got := at(service, "NetworkConfiguration", "AwsvpcConfiguration", "AssignPublicIp"); got != want.publicIP {
			t.Errorf("%s: AssignPublicIp is %v, want %s", variant, got, want.publicIP)
		}
		subnets, _ := at(service, "NetworkConfiguration", "AwsvpcConfiguration", "Subnets").([]any)
		if targets := made.all("AWS::EFS::MountTarget"); len(subnets) != want.subnets || len(targets) != want.subnets {
			t.Errorf("%s: tasks use %d subnets, %d have a mount target, want %d", variant, len(subnets), len(targets), want.subnets)
		}
		if vpcs := made.all("AWS::EC2::VPC"); len(vpcs) != want.created {
			t.Errorf("%s: makes %d VPCs, want %d", variant, len(vpcs), want.created)
		}
		if nat := made.all("AWS::EC2::NatGateway"); len(nat) > 0 {
			t.Errorf("%s: makes NAT gateways %v", variant, nat)
		}
		for _, id := range made.all("AWS::EFS::MountTarget") {
			wantJSON(t, variant+" mount target", made.body.Resources[id].Properties["SecurityGroups"], `[{"Fn::GetAtt": ["NetworkNfsAB9E69FD", "GroupId"]}]`)
			if !slices.Contains(made.one(t, "AWS::ECS::Service", "").DependsOn, id) {
				t.Errorf("%s: the service does not wait for %s", variant, id)
			}
		}
	}
	newVpc := templates["new-vpc"]
	for _, id := range append(newVpc.all("AWS::EC2::Route"), newVpc.all("AWS::EC2::SubnetRouteTableAssociation")...) {
		if !slices.Contains(newVpc.one(t, "AWS::ECS::Service", "").DependsOn, id) {
			t.Errorf("new-vpc: the service does not wait for %s, so its task could start without a way out", id)
		}
	}
	wantJSON(t, "zones that are named", at(templates["zones"].one(t, "AWS::ECS::Service", "").Properties, "NetworkConfiguration", "AwsvpcConfiguration", "Subnets"),
		`["subnet-000000000000000f0", "subnet-000000000000000b0"]`)
	// Ids and addresses go by the zone's letter, so that adding a zone moves no other.
	for id, block := range map[string]string{"NetworkSubneta": "10.0.0.0/27", "NetworkSubneth": "10.0.0.224/27"} {
		if got := templates["largest"].one(t, "AWS::EC2::Subnet", id).Properties["CidrBlock"]; got != block {
			t.Errorf("largest: %s is %v, want %s", id, got, block)
		}
	}
}

func TestZonesThatTheVpcLacksAreRefused(t *testing.T) {
	context, err := projectContext()
	if err != nil {
		t.Fatal(err)
	}
	for zones, want := range map[string]string{
		"us-east-1a,us-east-1g": "the VPC has no such subnet in us-east-1g",
		"eu-west-1a":            "eu-west-1a is not in the region us-east-1",
	} {
		if _, err := synthesise(context, map[string]string{"availabilityZones": zones}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", zones, err, want)
		}
	}
	// On the first of its runs, the CDK CLI has not looked the VPC up yet.
	if _, err := synthesise(map[string]any{}, map[string]string{"availabilityZones": "us-east-1a"}); err != nil {
		t.Errorf("before the look-up: %v", err)
	}
}

func TestFileSystem(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		if made.options.FileSystemID != "" {
			if found := made.all("AWS::EFS::FileSystem"); len(found) > 0 {
				t.Fatalf("adopts a file system, and makes %v", found)
			}
			return
		}
		fileSystem := without(made.one(t, "AWS::EFS::FileSystem", "").Properties, "FileSystemTags")
		wantJSON(t, "file system", fileSystem, `{
			"Encrypted": true, "PerformanceMode": "generalPurpose", "ThroughputMode": "bursting",
			"BackupPolicy": {"Status": "DISABLED"},
			"LifecyclePolicies": [{"TransitionToIA": "AFTER_30_DAYS"}],
			"FileSystemPolicy": {"Version": "2012-10-17", "Statement": [
				{"Sid": "TlsOnly", "Effect": "Deny", "Principal": {"AWS": "*"}, "Resource": "*",
				 "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
				 "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
				{"Sid": "NobodyIsRoot", "Effect": "Deny", "Principal": {"AWS": "*"}, "Resource": "*",
				 "Action": "elasticfilesystem:ClientRootAccess"}]}}`)
	})
}

func TestAccessPointAndVolume(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		point := without(made.one(t, "AWS::EFS::AccessPoint", "").Properties, "AccessPointTags", "FileSystemId")
		wantJSON(t, "access point", point, fmt.Sprintf(`{
			"PosixUser": {"Uid": "1000", "Gid": "1000"},
			"RootDirectory": {"Path": "/%s", "CreationInfo": {"OwnerUid": "1000", "OwnerGid": "1000", "Permissions": "0700"}}}`,
			made.options.Names().Stack()))
		wantJSON(t, "volume", at(made.one(t, "AWS::ECS::TaskDefinition", "").Properties, "Volumes", 0), `{
			"Name": "volume", "EFSVolumeConfiguration": {"FilesystemId": "…", "TransitEncryption": "ENABLED",
			"AuthorizationConfig": {"AccessPointId": {"Ref": "StorageAccessPointB746CF38"}, "IAM": "ENABLED"}}}`)
	})
}

func TestTaskDefinition(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		opts := made.options
		task := made.one(t, "AWS::ECS::TaskDefinition", "").Properties
		architecture := strings.ToUpper(string(opts.Architecture))
		for key, want := range map[string]any{
			"Cpu": strconv.Itoa(opts.CPU), "Memory": strconv.Itoa(opts.MemoryMiB), "NetworkMode": "awsvpc",
			"RequiresCompatibilities": []any{"FARGATE"}, "Family": opts.Names().Stack(),
			"RuntimePlatform": map[string]any{"CpuArchitecture": architecture, "OperatingSystemFamily": "LINUX"},
		} {
			if diff := cmp.Diff(want, task[key]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", key, diff)
			}
		}
		var storage any
		if opts.EphemeralStorageGiB > 20 {
			storage = map[string]any{"SizeInGiB": float64(opts.EphemeralStorageGiB)}
		}
		if diff := cmp.Diff(storage, task["EphemeralStorage"]); diff != "" {
			t.Errorf("EphemeralStorage (-want +got):\n%s", diff)
		}
		if containers, _ := task["ContainerDefinitions"].([]any); len(containers) != 1 {
			t.Fatalf("there are %d containers, want 1", len(containers))
		}
	})
}

func TestContainer(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		container, _ := at(made.one(t, "AWS::ECS::TaskDefinition", "").Properties, "ContainerDefinitions", 0).(map[string]any)
		wantJSON(t, "container", without(container, "Environment"), `{
			"Name": "agent", "Essential": true, "User": "0", "ReadonlyRootFilesystem": true, "StopTimeout": 120,
			"Image": {"Fn::Join": ["", [
				{"Fn::Sub": ["${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}/${Repository}", {"Repository": {"Ref": "Registry4DB9CCA5"}}]},
				{"Ref": "ImageRef"}]]},
			"HealthCheck": {"Command": ["CMD", "/usr/local/bin/berthd", "health"], "Interval": 30, "Retries": 3, "StartPeriod": 60, "Timeout": 5},
			"LinuxParameters": {"InitProcessEnabled": true,
				"Capabilities": {"Drop": ["AUDIT_WRITE", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SYS_CHROOT"]}},
			"LogConfiguration": {"LogDriver": "awslogs", "Options": {"awslogs-group": {"Ref": "Logs6819BB44"},
				"awslogs-stream-prefix": "agent", "awslogs-region": "us-east-1", "mode": "non-blocking", "max-buffer-size": "26214400b"}},
			"MountPoints": [
				{"ContainerPath": "/data/volume", "ReadOnly": false, "SourceVolume": "volume"},
				{"ContainerPath": "/work", "ReadOnly": false, "SourceVolume": "work"},
				{"ContainerPath": "/tmp", "ReadOnly": false, "SourceVolume": "tmp"},
				{"ContainerPath": "/var/lib/amazon/ssm", "ReadOnly": false, "SourceVolume": "ssm-lib"},
				{"ContainerPath": "/var/log/amazon/ssm", "ReadOnly": false, "SourceVolume": "ssm-log"}],
			"Secrets": [
				{"Name": "ANTHROPIC_API_KEY", "ValueFrom": {"Ref": "SecretsAnthropicApiKeyF6E99229"}},
				{"Name": "BERTH_API_TOKEN", "ValueFrom": {"Fn::Join": ["", [{"Ref": "SecretsAgentB74D8CEF"}, ":api_token::"]]}},
				{"Name": "GITHUB_TOKEN", "ValueFrom": {"Fn::Join": ["", [{"Ref": "SecretsAgentB74D8CEF"}, ":github_token::"]]}}],
			"Ulimits": [{"Name": "nofile", "SoftLimit": 65535, "HardLimit": 65535}]}`)
	})
}

func TestContainerEnvironment(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		got := map[string]string{}
		list, _ := at(made.one(t, "AWS::ECS::TaskDefinition", "").Properties, "ContainerDefinitions", 0, "Environment").([]any)
		for _, entry := range list {
			got[at(entry, "Name").(string)] = fmt.Sprint(at(entry, "Value"))
		}
		want := map[string]string{
			"BERTH_DATA": "/data/volume", "BERTH_WORK": "/work", "BERTH_LISTEN": "127.0.0.1:8787",
			"BERTH_MAX_SESSIONS": strconv.Itoa(made.options.MaxSessions), "BERTH_PROJECT": made.options.ProjectName,
			"BERTH_ENVIRONMENT": made.options.Environment, "ANTHROPIC_BASE_URL": made.options.AnthropicBaseURL,
		}
		if made.options.SpendLimitUSD > 0 {
			want["BERTH_SPEND_LIMIT_USD"] = strconv.FormatFloat(made.options.SpendLimitUSD, 'f', -1, 64)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
	})
}

func TestService(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		provider := "FARGATE"
		if made.options.UseFargateSpot {
			provider = "FARGATE_SPOT"
		}
		service := without(made.one(t, "AWS::ECS::Service", "").Properties, "Tags", "NetworkConfiguration")
		wantJSON(t, "service", service, fmt.Sprintf(`{
			"ServiceName": %q, "Cluster": {"Ref": "ComputeCluster4F8E5F81"}, "TaskDefinition": {"Ref": "ComputeTask77A9816A"},
			"DesiredCount": {"Ref": "DesiredCount"}, "CapacityProviderStrategy": [{"CapacityProvider": %q, "Weight": 1}],
			"DeploymentConfiguration": {"MinimumHealthyPercent": 0, "MaximumPercent": 100,
				"DeploymentCircuitBreaker": {"Enable": true, "Rollback": true}},
			"AvailabilityZoneRebalancing": "DISABLED", "EnableExecuteCommand": true, "EnableECSManagedTags": true,
			"PropagateTags": "SERVICE"}`, made.options.Names().Stack(), provider))
		cluster := made.one(t, "AWS::ECS::Cluster", "").Properties
		wantJSON(t, "Container Insights", cluster["ClusterSettings"], `[{"Name": "containerInsights", "Value": "enabled"}]`)
		wantJSON(t, "capacity providers", made.one(t, "AWS::ECS::ClusterCapacityProviderAssociations", "").Properties, `{
			"Cluster": {"Ref": "ComputeCluster4F8E5F81"}, "CapacityProviders": ["FARGATE", "FARGATE_SPOT"], "DefaultCapacityProviderStrategy": []}`)
		waits := made.one(t, "AWS::ECS::Service", "").DependsOn
		for _, kind := range []string{"AWS::ECS::ClusterCapacityProviderAssociations", "AWS::IAM::Policy"} {
			for _, id := range made.all(kind) {
				if !slices.Contains(waits, id) {
					t.Errorf("the service does not wait for %s", id)
				}
			}
		}
	})
}

func TestParameters(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		want := fmt.Sprintf(`{
			"ImageRef": {"Type": "String", "Default": ":latest", "Description": "…",
				"AllowedPattern": "^(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$"},
			"DesiredCount": {"Type": "Number", "Default": 0, "MinValue": 0, "MaxValue": 1, "Description": "…"},
			"FileSystemId": {"Type": "String", "Default": %q, "Description": "…"}}`, made.options.FileSystemID)
		got := map[string]any{}
		for name, parameter := range made.body.Parameters {
			got[name] = parameter
		}
		wantJSON(t, "parameters", got, want)
	})
}

// A deployment that forgets fileSystemId, or adds it, is refused: the stack remembers what it was.
func TestFileSystemIsRemembered(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		wantJSON(t, "rule", made.body.Rules, fmt.Sprintf(`{"SameFileSystem": {"Assertions": [{
			"Assert": {"Fn::Equals": [{"Ref": "FileSystemId"}, %q]}, "AssertDescription": "…"}]}}`, made.options.FileSystemID))
	})
}

func TestRegistry(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		repository := made.one(t, "AWS::ECR::Repository", "").Properties
		if got, want := repository["EmptyOnDelete"], !made.options.Production(); got != want {
			t.Errorf("EmptyOnDelete is %v in %s, want %v", got, made.options.Environment, want)
		}
		if repository["RepositoryName"] != made.options.Names().Stack() {
			t.Errorf("RepositoryName is %v", repository["RepositoryName"])
		}
		wantJSON(t, "scan", repository["ImageScanningConfiguration"], `{"ScanOnPush": true}`)
		policy := fmt.Sprint(at(repository, "LifecyclePolicy", "LifecyclePolicyText"))
		if !strings.Contains(policy, `"countType":"imageCountMoreThan","countNumber":10}`) {
			t.Errorf("the lifecycle policy does not keep the last 10 images: %s", policy)
		}
	})
}

func TestSecrets(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		if got, want := len(made.all("AWS::SecretsManager::Secret")), len(made.options.Names().Secrets()); got != want {
			t.Errorf("there are %d secrets, and berth cost counts %d", got, want)
		}
		prefix := made.options.ProjectName + "/" + made.options.Environment
		key := made.one(t, "AWS::SecretsManager::Secret", "AnthropicApiKey").Properties
		if key["Name"] != prefix+"/anthropic-api-key" || key["SecretString"] != "not-set" || key["GenerateSecretString"] != nil {
			t.Errorf("the API key's secret is %v", key)
		}
		agent := made.one(t, "AWS::SecretsManager::Secret", "Agent").Properties
		if agent["Name"] != prefix+"/agent" || agent["SecretString"] != nil {
			t.Errorf("the agent's secret is %v", agent)
		}
		wantJSON(t, "made up token", agent["GenerateSecretString"], `{
			"SecretStringTemplate": "{\"github_token\":\"not-set\"}", "GenerateStringKey": "api_token",
			"PasswordLength": 43, "ExcludePunctuation": true}`)
	})
}

func TestBackup(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		name := made.options.Names().Stack()
		if got := made.one(t, "AWS::Backup::BackupVault", "").Properties["BackupVaultName"]; got != name {
			t.Errorf("the vault is called %v", got)
		}
		wantJSON(t, "plan", made.one(t, "AWS::Backup::BackupPlan", "").Properties["BackupPlan"], fmt.Sprintf(`{
			"BackupPlanName": "%s-daily", "BackupPlanRule": [{"RuleName": "daily", "ScheduleExpression": "cron(0 5 * * ? *)",
			"StartWindowMinutes": 60, "CompletionWindowMinutes": 480, "Lifecycle": {"DeleteAfterDays": 35},
			"TargetBackupVault": {"Fn::GetAtt": ["BackupVaultADF21B19", "BackupVaultName"]}}]}`, name))
		selection := made.one(t, "AWS::Backup::BackupSelection", "").Properties
		wantJSON(t, "selection", selection["BackupSelection"], fmt.Sprintf(`{
			"SelectionName": "%s-daily", "IamRoleArn": {"Fn::GetAtt": ["BackupRole4CD139C5", "Arn"]}, "Resources": ["…"]}`, name))
		id := made.options.FileSystemID
		if id == "" {
			id = `{"Ref":"StorageFileSystemFFD87EE1"}`
		}
		if selected := asText(at(selection, "BackupSelection", "Resources", 0)); !strings.Contains(selected, ":file-system/") || !strings.Contains(selected, id) {
			t.Errorf("the selection is %s, want the file system %s", selected, id)
		}
	})
}

func TestLogRetention(t *testing.T) {
	for variant, want := range map[string]any{"dev": 7.0, "spot": 3.0, "largest": 3653.0, "adopted": nil} {
		group := templates[variant].one(t, "AWS::Logs::LogGroup", "").Properties
		if group["RetentionInDays"] != want {
			t.Errorf("%s: logs are kept for %v days, want %v", variant, group["RetentionInDays"], want)
		}
		if group["LogGroupName"] != templates[variant].options.Names().LogGroup() {
			t.Errorf("%s: the log group is called %v", variant, group["LogGroupName"])
		}
	}
}

func TestBudget(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		if made.options.SpendLimitUSD == 0 {
			if budgets := made.all("AWS::Budgets::Budget"); len(budgets) > 0 {
				t.Errorf("there is a budget without spendLimitUSD: %v", budgets)
			}
			return
		}
		budget := made.one(t, "AWS::Budgets::Budget", "").Properties
		wantJSON(t, "budget", budget["Budget"], fmt.Sprintf(`{"BudgetName": %q, "BudgetType": "COST", "TimeUnit": "MONTHLY",
			"BudgetLimit": {"Amount": %v, "Unit": "USD"}, "Metrics": ["UnblendedCost"], "FilterExpression": {"And": [
				{"Tags": {"Key": "Project", "Values": [%q], "MatchOptions": ["EQUALS"]}},
				{"Tags": {"Key": "Environment", "Values": [%q], "MatchOptions": ["EQUALS"]}}]}}`,
			made.options.Names().Stack(), made.options.SpendLimitUSD, made.options.ProjectName, made.options.Environment))
		var thresholds []any
		alerts, _ := budget["NotificationsWithSubscribers"].([]any)
		for _, alert := range alerts {
			thresholds = append(thresholds, at(alert, "Notification", "Threshold"))
			wantJSON(t, "subscriber", at(alert, "Subscribers"), `[{"SubscriptionType": "SNS", "Address": {"Ref": "Alerts91F83244"}}]`)
		}
		if diff := cmp.Diff([]any{50.0, 80.0, 100.0}, thresholds); diff != "" {
			t.Errorf("alerts in percent (-want +got):\n%s", diff)
		}
	})
}
