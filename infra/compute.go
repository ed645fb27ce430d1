package main

import (
	"slices"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// compute is the cluster and the one service in it.
type compute struct {
	cluster awsecs.Cluster
	task    awsecs.FargateTaskDefinition
	service awsecs.FargateService
}

// Capacity providers, as Fargate calls them.
const (
	onDemand = "FARGATE"
	spot     = "FARGATE_SPOT"
)

func newCompute(stack awscdk.Stack, opts options.Options, made parts) compute {
	scope := constructs.NewConstruct(stack, jsii.String("Compute"))
	cluster := awsecs.NewCluster(scope, jsii.String("Cluster"), &awsecs.ClusterProps{
		ClusterName:         jsii.String(opts.Names().Stack()),
		Vpc:                 made.network.vpc,
		ContainerInsightsV2: awsecs.ContainerInsights_ENABLED,
		// A log of every shell command would need rights on the log group that the task does without.
		ExecuteCommandConfiguration: &awsecs.ExecuteCommandConfiguration{Logging: awsecs.ExecuteCommandLogging_NONE},
	})
	// The cluster construct could make this itself, but then the service would not wait for it.
	providers := awsecs.NewCfnClusterCapacityProviderAssociations(scope, jsii.String("Providers"), &awsecs.CfnClusterCapacityProviderAssociationsProps{
		Cluster:                         cluster.ClusterName(),
		CapacityProviders:               &[]any{onDemand, spot},
		DefaultCapacityProviderStrategy: []any{},
	})
	task := newTaskDefinition(scope, opts, made)
	container := task.AddContainer(jsii.String(contract.ContainerName), containerOptions(scope, opts, made))
	container.AddMountPoints(mountPoints()...)
	container.AddUlimits(&awsecs.Ulimit{Name: awsecs.UlimitName_NOFILE, SoftLimit: jsii.Number(65535), HardLimit: jsii.Number(65535)})

	provider := onDemand
	if opts.UseFargateSpot {
		provider = spot
	}
	service := awsecs.NewFargateService(scope, jsii.String("Service"), &awsecs.FargateServiceProps{
		ServiceName:    jsii.String(opts.Names().Stack()),
		Cluster:        cluster,
		TaskDefinition: task,
		DesiredCount:   made.parameters.desiredCount,
		// One task at a time: the old one has left the volume before the new one takes it over.
		MinHealthyPercent:           jsii.Number(0),
		MaxHealthyPercent:           jsii.Number(100),
		AvailabilityZoneRebalancing: awsecs.AvailabilityZoneRebalancing_DISABLED, // it needs more than 100 %
		CircuitBreaker:              &awsecs.DeploymentCircuitBreaker{Enable: jsii.Bool(true), Rollback: jsii.Bool(true)},
		CapacityProviderStrategies:  &[]*awsecs.CapacityProviderStrategy{{CapacityProvider: jsii.String(provider), Weight: jsii.Number(1)}},
		EnableExecuteCommand:        jsii.Bool(true),
		AssignPublicIp:              &made.network.publicIP,
		SecurityGroups:              &[]awsec2.ISecurityGroup{made.network.taskGroup},
		VpcSubnets:                  made.network.subnets,
		PropagateTags:               awsecs.PropagatedTagSource_SERVICE, // what a task costs is billed under its tags
		EnableECSManagedTags:        jsii.Bool(true),
	})
	service.Node().AddDependency(providers, made.storage.mounts, made.access.execution, made.access.task)
	if made.network.wayOut != nil {
		service.Node().AddDependency(made.network.wayOut)
	}
	return compute{cluster, task, service}
}

// scratch are the places that are written to under a root file system that is read-only: local disk,
// gone with the task. Session Manager's agent, which ECS Exec brings into the container, needs two.
var scratch = []struct{ name, path string }{
	{"work", contract.WorkPath},
	{"tmp", contract.TempPath},
	{"ssm-lib", "/var/lib/amazon/ssm"},
	{"ssm-log", "/var/log/amazon/ssm"},
}

const volumeName = "volume"

func newTaskDefinition(scope constructs.Construct, opts options.Options, made parts) awsecs.FargateTaskDefinition {
	architecture := awsecs.CpuArchitecture_X86_64()
	if opts.Architecture == options.ARM64 {
		architecture = awsecs.CpuArchitecture_ARM64()
	}
	props := &awsecs.FargateTaskDefinitionProps{
		Family:         jsii.String(opts.Names().Stack()),
		Cpu:            jsii.Number(opts.CPU),
		MemoryLimitMiB: jsii.Number(opts.MemoryMiB),
		RuntimePlatform: &awsecs.RuntimePlatform{
			CpuArchitecture:       architecture,
			OperatingSystemFamily: awsecs.OperatingSystemFamily_LINUX(),
		},
		ExecutionRole: made.access.execution.WithoutPolicyUpdates(nil),
		TaskRole:      made.access.task.WithoutPolicyUpdates(nil),
	}
	const included = 20 // GiB; Fargate refuses to be asked for what it gives anyway
	if opts.EphemeralStorageGiB > included {
		props.EphemeralStorageGiB = jsii.Number(opts.EphemeralStorageGiB)
	}
	task := awsecs.NewFargateTaskDefinition(scope, jsii.String("Task"), props)
	task.AddVolume(&awsecs.Volume{
		Name: jsii.String(volumeName),
		EfsVolumeConfiguration: &awsecs.EfsVolumeConfiguration{
			FileSystemId:      made.storage.fileSystem.FileSystemId(),
			TransitEncryption: jsii.String("ENABLED"),
			AuthorizationConfig: &awsecs.AuthorizationConfig{
				AccessPointId: made.storage.accessPoint.AccessPointId(),
				Iam:           jsii.String("ENABLED"),
			},
		},
	})
	for _, place := range scratch {
		task.AddVolume(&awsecs.Volume{Name: jsii.String(place.name)})
	}
	return task
}

func mountPoints() []*awsecs.MountPoint {
	points := []*awsecs.MountPoint{{
		SourceVolume:  jsii.String(volumeName),
		ContainerPath: jsii.String(contract.VolumePath),
		ReadOnly:      jsii.Bool(false),
	}}
	for _, place := range scratch {
		points = append(points, &awsecs.MountPoint{
			SourceVolume:  jsii.String(place.name),
			ContainerPath: jsii.String(place.path),
			ReadOnly:      jsii.Bool(false),
		})
	}
	return points
}

func containerOptions(scope constructs.Construct, opts options.Options, made parts) *awsecs.ContainerDefinitionOptions {
	linux := awsecs.NewLinuxParameters(scope, jsii.String("Linux"), &awsecs.LinuxParametersProps{
		InitProcessEnabled: jsii.Bool(true), // reaps what a killed session leaves behind
	})
	// The daemon starts as root to give each session a uid of its own; these it does not need for that.
	linux.DropCapabilities(
		awsecs.Capability_AUDIT_WRITE, awsecs.Capability_MKNOD, awsecs.Capability_NET_BIND_SERVICE,
		awsecs.Capability_NET_RAW, awsecs.Capability_SETFCAP, awsecs.Capability_SYS_CHROOT,
	)
	fromAgentSecret := func(key string) awsecs.Secret {
		return awsecs.Secret_FromSecretsManager(made.secrets.agent, jsii.String(key))
	}
	return &awsecs.ContainerDefinitionOptions{
		Image:                  awsecs.ContainerImage_FromRegistry(jsii.String(*repositoryURI(made.registry)+*made.parameters.imageRef), nil),
		Essential:              jsii.Bool(true),
		User:                   jsii.String("0"),
		ReadonlyRootFilesystem: jsii.Bool(true),
		StopTimeout:            awscdk.Duration_Seconds(jsii.Number(contract.StopTimeoutSeconds)),
		LinuxParameters:        linux,
		Environment:            environment(opts),
		Secrets: &map[string]awsecs.Secret{
			contract.EnvAnthropicAPIKey: awsecs.Secret_FromSecretsManager(made.secrets.apiKey, nil),
			contract.EnvAPIToken:        fromAgentSecret(contract.SecretKeyAPIToken),
			contract.EnvGitHubToken:     fromAgentSecret(contract.SecretKeyGitHubToken),
		},
		HealthCheck: &awsecs.HealthCheck{
			Command:     jsii.Strings(slices.Concat([]string{"CMD"}, contract.HealthCommand)...),
			Interval:    awscdk.Duration_Seconds(jsii.Number(30)),
			Timeout:     awscdk.Duration_Seconds(jsii.Number(5)),
			Retries:     jsii.Number(3),
			StartPeriod: awscdk.Duration_Seconds(jsii.Number(60)),
		},
		// A slow log service must not stall the daemon: past the buffer, lines are dropped.
		Logging: awsecs.LogDrivers_AwsLogs(&awsecs.AwsLogDriverProps{
			LogGroup:      made.logs,
			StreamPrefix:  jsii.String(contract.ContainerName),
			Mode:          awsecs.AwsLogDriverMode_NON_BLOCKING,
			MaxBufferSize: awscdk.Size_Mebibytes(jsii.Number(25)),
		}),
	}
}

func environment(opts options.Options) *map[string]*string {
	values := map[string]*string{
		contract.EnvData:             jsii.String(contract.VolumePath),
		contract.EnvWork:             jsii.String(contract.WorkPath),
		contract.EnvListen:           jsii.String(contract.Listen),
		contract.EnvMaxSessions:      jsii.String(strconv.Itoa(opts.MaxSessions)),
		contract.EnvProject:          jsii.String(opts.ProjectName),
		contract.EnvEnvironment:      jsii.String(opts.Environment),
		contract.EnvAnthropicBaseURL: jsii.String(opts.AnthropicBaseURL),
	}
	if opts.SpendLimitUSD > 0 {
		values[contract.EnvSpendLimitUSD] = jsii.String(strconv.FormatFloat(opts.SpendLimitUSD, 'f', -1, 64))
	}
	return &values
}
