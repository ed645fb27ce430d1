package main

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/options"
)

const nfsPort = 2049

// network is where tasks run and where they reach their file system.
type network struct {
	vpc      awsec2.IVpc
	subnets  *awsec2.SubnetSelection // one in each zone, for tasks and mount targets alike
	publicIP bool                    // a task's only way out of a public subnet is a public address

	taskGroup awsec2.SecurityGroup // lets nothing in
	nfsGroup  awsec2.SecurityGroup // lets NFS in, from tasks only
}

// newNetwork finds or makes the VPC. A VPC without a subnet that has a way out is an error.
func newNetwork(stack awscdk.Stack, opts options.Options) (network, error) {
	scope := constructs.NewConstruct(stack, jsii.String("Network"))
	vpc := chooseVpc(scope, opts)
	made := network{vpc: vpc, subnets: &awsec2.SubnetSelection{OnePerAz: jsii.Bool(true)}}
	if len(opts.AvailabilityZones) > 0 && opts.VpcID != options.VpcNew { // a new one has those zones only
		made.subnets.AvailabilityZones = jsii.Strings(opts.AvailabilityZones...)
	}
	switch {
	case len(*vpc.PrivateSubnets()) > 0:
		made.subnets.SubnetType = awsec2.SubnetType_PRIVATE_WITH_EGRESS
	case len(*vpc.PublicSubnets()) > 0:
		made.subnets.SubnetType = awsec2.SubnetType_PUBLIC
		made.publicIP = true
	default:
		return network{}, fmt.Errorf("option vpcId: %q has no subnet with a way to the internet, which the tasks need; use new, or another VPC", opts.VpcID)
	}
	if len(*vpc.SelectSubnets(made.subnets).SubnetIds) == 0 {
		return network{}, fmt.Errorf("option availabilityZones: %q has no such subnet in %v; name zones that it has", opts.VpcID, opts.AvailabilityZones)
	}

	made.taskGroup = awsec2.NewSecurityGroup(scope, jsii.String("Tasks"), &awsec2.SecurityGroupProps{
		Vpc:              vpc,
		Description:      jsii.String("berth tasks: nothing in, everything out"),
		AllowAllOutbound: jsii.Bool(true),
	})
	made.nfsGroup = awsec2.NewSecurityGroup(scope, jsii.String("Nfs"), &awsec2.SecurityGroupProps{
		Vpc:              vpc,
		Description:      jsii.String("berth file system: NFS in from its tasks, nothing out"),
		AllowAllOutbound: jsii.Bool(false),
	})
	made.nfsGroup.AddIngressRule(made.taskGroup, awsec2.Port_Tcp(jsii.Number(nfsPort)), jsii.String("NFS from the tasks"), nil)
	return made, nil
}

// chooseVpc makes a VPC, or has the CDK CLI look one up, which takes credentials.
func chooseVpc(scope constructs.Construct, opts options.Options) awsec2.IVpc {
	lookup := &awsec2.VpcLookupOptions{VpcId: &opts.VpcID}
	switch {
	case opts.VpcID == options.VpcNew:
		return newVpc(scope, opts)
	case *awscdk.Token_IsUnresolved(awscdk.Stack_Of(scope).Account()):
		return placeholderVpc(scope)
	case opts.VpcID == options.VpcDefault:
		lookup = &awsec2.VpcLookupOptions{IsDefault: jsii.Bool(true)}
	}
	return awsec2.Vpc_FromLookup(scope, jsii.String("Vpc"), lookup)
}

// newVpc makes a network of public subnets in two zones. It has no NAT gateway, which alone would cost
// as much a month as a small task: a security group that lets nothing in closes the tasks off.
func newVpc(scope constructs.Construct, opts options.Options) awsec2.IVpc {
	props := &awsec2.VpcProps{
		IpAddresses: awsec2.IpAddresses_Cidr(jsii.String("10.0.0.0/24")),
		NatGateways: jsii.Number(0),
		SubnetConfiguration: &[]*awsec2.SubnetConfiguration{{
			Name:                jsii.String("Public"),
			SubnetType:          awsec2.SubnetType_PUBLIC,
			MapPublicIpOnLaunch: jsii.Bool(false), // the service asks for an address itself
		}},
		// Closing the default group would take a Lambda function; nothing here uses that group.
		RestrictDefaultSecurityGroup: jsii.Bool(false),
	}
	if len(opts.AvailabilityZones) > 0 {
		props.AvailabilityZones = jsii.Strings(opts.AvailabilityZones...)
	} else {
		props.MaxAzs = jsii.Number(2)
	}
	return awsec2.NewVpc(scope, jsii.String("Vpc"), props)
}

// placeholderVpc stands in where there are no credentials to look anything up with. CloudFormation
// refuses its identifiers, so a template that holds them cannot be deployed.
func placeholderVpc(scope constructs.Construct) awsec2.IVpc {
	awscdk.Annotations_Of(scope).AddWarningV2(jsii.String("berth:placeholder-network"), jsii.String(
		"no AWS credentials were found, so the VPC and its subnets are placeholders: this template can be read, not deployed"))
	return awsec2.Vpc_FromVpcAttributes(scope, jsii.String("Vpc"), &awsec2.VpcAttributes{
		VpcId:                     jsii.String("vpc-00000000000000000"),
		AvailabilityZones:         jsii.Strings("zone-a", "zone-b"),
		PublicSubnetIds:           jsii.Strings("subnet-0000000000000000a", "subnet-0000000000000000b"),
		PublicSubnetRouteTableIds: jsii.Strings("rtb-00000000000000000", "rtb-00000000000000000"),
	})
}
