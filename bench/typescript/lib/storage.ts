import { RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as efs from 'aws-cdk-lib/aws-efs';
import * as iam from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { stackName, volumeUser } from './names';
import { Network } from './network';

export class Storage extends Construct {
  readonly fileSystem: efs.FileSystem;
  readonly accessPoint: efs.AccessPoint;

  constructor(stack: Stack, network: Network) {
    super(stack, 'Storage');
    this.fileSystem = new efs.FileSystem(this, 'FileSystem', {
      vpc: network.vpc,
      vpcSubnets: network.subnets,
      securityGroup: network.nfsGroup,
      fileSystemName: stackName,
      encrypted: true,
      performanceMode: efs.PerformanceMode.GENERAL_PURPOSE,
      throughputMode: efs.ThroughputMode.BURSTING,
      lifecyclePolicy: efs.LifecyclePolicy.AFTER_30_DAYS,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    const deny = (sid: string, actions: string[], conditions?: Record<string, unknown>) =>
      new iam.PolicyStatement({
        sid,
        effect: iam.Effect.DENY,
        principals: [new iam.AnyPrincipal()],
        actions,
        resources: ['*'],
        conditions,
      });
    const resource = this.fileSystem.node.defaultChild as efs.CfnFileSystem;
    resource.backupPolicy = { status: 'DISABLED' };
    resource.fileSystemPolicy = new iam.PolicyDocument({
      statements: [
        deny('TlsOnly', ['elasticfilesystem:ClientMount', 'elasticfilesystem:ClientWrite'], {
          Bool: { 'aws:SecureTransport': 'false' },
        }),
        deny('NobodyIsRoot', ['elasticfilesystem:ClientRootAccess']),
      ],
    });
    this.accessPoint = new efs.AccessPoint(this, 'AccessPoint', {
      fileSystem: this.fileSystem,
      path: `/${stackName}`,
      createAcl: { ownerUid: volumeUser, ownerGid: volumeUser, permissions: '0700' },
      posixUser: { uid: volumeUser, gid: volumeUser },
    });
  }
}
