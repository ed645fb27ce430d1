import { Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import { Construct } from 'constructs';

/** The placeholder that infra/ takes where there are no credentials to look up the default VPC with. */
export class Network extends Construct {
  readonly vpc: ec2.IVpc;
  readonly subnets: ec2.SubnetSelection = { onePerAz: true, subnetType: ec2.SubnetType.PUBLIC };
  readonly taskGroup: ec2.SecurityGroup;
  readonly nfsGroup: ec2.SecurityGroup;

  constructor(stack: Stack) {
    super(stack, 'Network');
    const vpc = ec2.Vpc.fromVpcAttributes(this, 'Vpc', {
      vpcId: 'vpc-00000000000000000',
      availabilityZones: ['zone-a', 'zone-b'],
      publicSubnetIds: ['subnet-00000000000000000', 'subnet-00000000000000001'],
      publicSubnetRouteTableIds: ['rtb-00000000000000000', 'rtb-00000000000000000'],
    });
    this.vpc = vpc;
    this.taskGroup = new ec2.SecurityGroup(this, 'Tasks', {
      vpc,
      description: 'berth tasks: nothing in, everything out',
      allowAllOutbound: true,
    });
    this.nfsGroup = new ec2.SecurityGroup(this, 'Nfs', {
      vpc,
      description: 'berth file system: NFS in from its tasks, nothing out',
      allowAllOutbound: false,
    });
    this.nfsGroup.addIngressRule(this.taskGroup, ec2.Port.tcp(2049), 'NFS from the tasks');
  }
}
