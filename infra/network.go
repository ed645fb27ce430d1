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

	wayOut    constructs.IDependable // nil, or what a new VPC's tasks cannot do without
	taskGroup awsec2.SecurityGroup   // lets nothing in
	nfsGroup  awsec2.SecurityGroup   // lets NFS in, from tasks only
}

// newNetwork finds or makes the VPC. A VPC without a subnet that has a way out is an error.
func newNetwork(stack awscdk.Stack, opts options.Options) (network, error) {
	scope := constructs.NewConstruct(stack, jsii.String("Network"))
	vpc, wayOut := chooseVpc(scope, opts)
	made := network{vpc: vpc, wayOut: wayOut, subnets: &awsec2.SubnetSelection{OnePerAz: jsii.Bool(true)}}
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
func chooseVpc(scope constructs.Construct, opts options.Options) (awsec2.IVpc, constructs.IDependable) {
	lookup := &awsec2.VpcLookupOptions{VpcId: &opts.VpcID}
	switch {
	case opts.VpcID == options.VpcNew:
		return newVpc(scope, opts)
	case *awscdk.Token_IsUnresolved(awscdk.Stack_Of(scope).Account()):
		return placeholderVpc(scope), nil
	case opts.VpcID == options.VpcDefault:
		lookup = &awsec2.VpcLookupOptions{IsDefault: jsii.Bool(true)}
	}
	return awsec2.Vpc_FromLookup(scope, jsii.String("Vpc"), lookup), nil
}

// zonesOfNewVpc is how many zones a new VPC has if availabilityZones names none.
const zonesOfNewVpc = 2

// newVpc makes a network of one public subnet a zone, all behind one route table. It has no NAT
// gateway, which alone would cost as much a month as a small task: a security group that lets nothing
// in closes the tasks off.
//
// It is made from the plain resources because the CDK's construct makes a route table for each subnet,
// and would have a Lambda function close the VPC's default security group, which nothing here uses.
func newVpc(scope constructs.Construct, opts options.Options) (awsec2.IVpc, constructs.IDependable) {
	var zones []*string
	for _, zone := range opts.AvailabilityZones {
		zones = append(zones, jsii.String(zone))
	}
	for len(zones) < zonesOfNewVpc && len(opts.AvailabilityZones) == 0 {
		zones = append(zones, awscdk.Fn_Select(jsii.Number(len(zones)), awscdk.Fn_GetAzs(nil)))
	}

	vpc := awsec2.NewCfnVPC(scope, jsii.String("NewVpc"), &awsec2.CfnVPCProps{
		CidrBlock:          jsii.String("10.0.0.0/24"),
		EnableDnsSupport:   jsii.Bool(true),
		EnableDnsHostnames: jsii.Bool(true), // the file system is mounted by its name
	})
	awscdk.Tags_Of(vpc).Add(jsii.String("Name"), jsii.String(opts.Names().Stack()), nil)
	gateway := awsec2.NewCfnInternetGateway(scope, jsii.String("Gateway"), nil)
	attached := awsec2.NewCfnVPCGatewayAttachment(scope, jsii.String("GatewayAttachment"), &awsec2.CfnVPCGatewayAttachmentProps{
		VpcId: vpc.Ref(), InternetGatewayId: gateway.Ref(),
	})
	routes := awsec2.NewCfnRouteTable(scope, jsii.String("Routes"), &awsec2.CfnRouteTableProps{VpcId: vpc.Ref()})
	out := awsec2.NewCfnRoute(scope, jsii.String("RouteOut"), &awsec2.CfnRouteProps{
		RouteTableId: routes.Ref(), DestinationCidrBlock: jsii.String("0.0.0.0/0"), GatewayId: gateway.Ref(),
	})
	out.AddDependency(attached)

	var subnets, tables []*string
	for i, zone := range zones {
		subnet := awsec2.NewCfnSubnet(scope, jsii.String(fmt.Sprintf("Subnet%d", i+1)), &awsec2.CfnSubnetProps{
			VpcId:               vpc.Ref(),
			AvailabilityZone:    zone,
			CidrBlock:           jsii.String(fmt.Sprintf("10.0.0.%d/26", 64*i)),
			MapPublicIpOnLaunch: jsii.Bool(false), // the service asks for an address itself
		})
		awsec2.NewCfnSubnetRouteTableAssociation(scope, jsii.String(fmt.Sprintf("SubnetRoutes%d", i+1)), &awsec2.CfnSubnetRouteTableAssociationProps{
			SubnetId: subnet.Ref(), RouteTableId: routes.Ref(),
		})
		subnets, tables = append(subnets, subnet.Ref()), append(tables, routes.Ref())
	}
	return awsec2.Vpc_FromVpcAttributes(scope, jsii.String("Vpc"), &awsec2.VpcAttributes{
		VpcId:                     vpc.Ref(),
		AvailabilityZones:         &zones,
		PublicSubnetIds:           &subnets,
		PublicSubnetRouteTableIds: &tables,
	}), out
}

// placeholderVpc stands in where there are no credentials to look anything up with. CloudFormation
// refuses its identifiers, so a template that holds them cannot be deployed.
func placeholderVpc(scope constructs.Construct) awsec2.IVpc {
	return awsec2.Vpc_FromVpcAttributes(scope, jsii.String("Vpc"), &awsec2.VpcAttributes{
		VpcId:                     jsii.String("vpc-00000000000000000"),
		AvailabilityZones:         jsii.Strings("zone-a", "zone-b"),
		PublicSubnetIds:           jsii.Strings("subnet-0000000000000000a", "subnet-0000000000000000b"),
		PublicSubnetRouteTableIds: jsii.Strings("rtb-00000000000000000", "rtb-00000000000000000"),
	})
}
