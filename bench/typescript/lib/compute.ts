import * as cdk from 'aws-cdk-lib';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { Access } from './access';
import { environment, project, stackName, volumePath, workPath } from './names';
import { Network } from './network';
import { Secrets } from './secrets';
import { Storage } from './storage';

interface ComputeProps {
  network: Network;
  storage: Storage;
  secrets: Secrets;
  access: Access;
  logGroup: logs.LogGroup;
  image: string;
  desiredCount: number;
}

const scratch = [
  { name: 'work', path: workPath },
  { name: 'tmp', path: '/tmp' },
  { name: 'ssm-lib', path: '/var/lib/amazon/ssm' },
  { name: 'ssm-log', path: '/var/log/amazon/ssm' },
];

export class Compute extends Construct {
  readonly cluster: ecs.Cluster;
  readonly task: ecs.FargateTaskDefinition;
  readonly service: ecs.FargateService;

  constructor(stack: cdk.Stack, props: ComputeProps) {
    super(stack, 'Compute');
    this.cluster = new ecs.Cluster(this, 'Cluster', {
      clusterName: stackName,
      vpc: props.network.vpc,
      containerInsightsV2: ecs.ContainerInsights.ENABLED,
      executeCommandConfiguration: { logging: ecs.ExecuteCommandLogging.NONE },
    });
    const providers = new ecs.CfnClusterCapacityProviderAssociations(this, 'Providers', {
      cluster: this.cluster.clusterName,
      capacityProviders: ['FARGATE', 'FARGATE_SPOT'],
      defaultCapacityProviderStrategy: [],
    });
    this.task = this.taskDefinition(props);
    this.service = new ecs.FargateService(this, 'Service', {
      serviceName: stackName,
      cluster: this.cluster,
      taskDefinition: this.task,
      desiredCount: props.desiredCount,
      minHealthyPercent: 0,
      maxHealthyPercent: 100,
      availabilityZoneRebalancing: ecs.AvailabilityZoneRebalancing.DISABLED,
      circuitBreaker: { enable: true, rollback: true },
      capacityProviderStrategies: [{ capacityProvider: 'FARGATE', weight: 1 }],
      enableExecuteCommand: true,
      assignPublicIp: true,
      securityGroups: [props.network.taskGroup],
      vpcSubnets: props.network.subnets,
      propagateTags: ecs.PropagatedTagSource.SERVICE,
      enableECSManagedTags: true,
    });
    const { storage, access } = props;
    this.service.node.addDependency(providers, storage.fileSystem.mountTargetsAvailable, access.execution, access.task);
  }

  private taskDefinition(props: ComputeProps): ecs.FargateTaskDefinition {
    const { storage, access } = props;
    const task = new ecs.FargateTaskDefinition(this, 'Task', {
      family: stackName,
      cpu: 2048,
      memoryLimitMiB: 8192,
      runtimePlatform: {
        cpuArchitecture: ecs.CpuArchitecture.X86_64,
        operatingSystemFamily: ecs.OperatingSystemFamily.LINUX,
      },
      executionRole: access.execution.withoutPolicyUpdates(),
      taskRole: access.task.withoutPolicyUpdates(),
    });
    task.addVolume({
      name: 'volume',
      efsVolumeConfiguration: {
        fileSystemId: storage.fileSystem.fileSystemId,
        transitEncryption: 'ENABLED',
        authorizationConfig: { accessPointId: storage.accessPoint.accessPointId, iam: 'ENABLED' },
      },
    });
    for (const { name } of scratch) task.addVolume({ name });

    const container = task.addContainer('agent', this.containerOptions(props));
    container.addMountPoints(
      ...[{ name: 'volume', path: volumePath }, ...scratch].map(({ name, path }) => ({
        sourceVolume: name,
        containerPath: path,
        readOnly: false,
      })),
    );
    container.addUlimits({ name: ecs.UlimitName.NOFILE, softLimit: 65535, hardLimit: 65535 });
    return task;
  }

  private containerOptions({ secrets, logGroup, image }: ComputeProps): ecs.ContainerDefinitionOptions {
    const { Capability } = ecs;
    const linuxParameters = new ecs.LinuxParameters(this, 'Linux', { initProcessEnabled: true });
    linuxParameters.dropCapabilities(
      Capability.AUDIT_WRITE, Capability.MKNOD, Capability.NET_BIND_SERVICE,
      Capability.NET_RAW, Capability.SETFCAP, Capability.SYS_CHROOT,
    );
    return {
      image: ecs.ContainerImage.fromRegistry(image),
      essential: true,
      user: '0',
      readonlyRootFilesystem: true,
      stopTimeout: cdk.Duration.seconds(120),
      linuxParameters,
      environment: {
        ANTHROPIC_BASE_URL: 'https://api.anthropic.com',
        BERTH_DATA: volumePath,
        BERTH_ENVIRONMENT: environment,
        BERTH_LISTEN: '127.0.0.1:8787',
        BERTH_MAX_SESSIONS: '4',
        BERTH_PROJECT: project,
        BERTH_WORK: workPath,
      },
      secrets: {
        ANTHROPIC_API_KEY: ecs.Secret.fromSecretsManager(secrets.apiKey),
        BERTH_API_TOKEN: ecs.Secret.fromSecretsManager(secrets.agent, 'api_token'),
        GITHUB_TOKEN: ecs.Secret.fromSecretsManager(secrets.agent, 'github_token'),
      },
      healthCheck: {
        command: ['CMD', '/usr/local/bin/berthd', 'health'],
        interval: cdk.Duration.seconds(30),
        timeout: cdk.Duration.seconds(5),
        retries: 3,
        startPeriod: cdk.Duration.seconds(60),
      },
      logging: ecs.LogDrivers.awsLogs({
        logGroup,
        streamPrefix: 'agent',
        mode: ecs.AwsLogDriverMode.NON_BLOCKING,
        maxBufferSize: cdk.Size.mebibytes(25),
      }),
    };
  }
}
