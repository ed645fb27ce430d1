package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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

// newNetwork finds or makes the VPC, and chooses its subnets: private ones with a way out where there
// are any, else public ones. A VPC with neither, or without a zone that is asked for, is an error.
func newNetwork(stack awscdk.Stack, opts options.Options) (network, error) {
	scope := constructs.NewConstruct(stack, jsii.String("Network"))
	if err := checkRegion(stack, opts); err != nil {
		return network{}, err
	}
	made := network{}
	made.vpc, made.wayOut = chooseVpc(scope, opts)
	candidates := *made.vpc.PrivateSubnets()
	if len(candidates) == 0 {
		candidates, made.publicIP = *made.vpc.PublicSubnets(), true
	}
	if len(candidates) == 0 {
		return network{}, fmt.Errorf("option vpcId: %q has no subnet with a way to the internet, which the tasks need; use new, or another VPC", opts.VpcID)
	}
	// Before the CDK CLI has looked the VPC up, there is one with made-up zones in its place.
	pending := *made.vpc.SelectSubnets(nil).IsPendingLookup
	subnets, missing := onePerZone(candidates, opts.AvailabilityZones)
	if len(missing) > 0 && !pending && opts.VpcID != options.VpcNew {
		return network{}, fmt.Errorf("option availabilityZones: the VPC has no such subnet in %s; name zones that it has", strings.Join(missing, ", "))
	}
	if pending {
		subnets = candidates
	}
	made.subnets = &awsec2.SubnetSelection{Subnets: &subnets}

	made.taskGroup = awsec2.NewSecurityGroup(scope, jsii.String("Tasks"), &awsec2.SecurityGroupProps{
		Vpc:              made.vpc,
		Description:      jsii.String("berth tasks: nothing in, everything out"),
		AllowAllOutbound: jsii.Bool(true),
	})
	made.nfsGroup = awsec2.NewSecurityGroup(scope, jsii.String("Nfs"), &awsec2.SecurityGroupProps{
		Vpc:              made.vpc,
		Description:      jsii.String("berth file system: NFS in from its tasks, nothing out"),
		AllowAllOutbound: jsii.Bool(false),
	})
	// Not by the group's AddIngressRule, which writes both groups' whole paths into the rule's id.
	awsec2.NewCfnSecurityGroupIngress(scope, jsii.String("NfsFromTasks"), &awsec2.CfnSecurityGroupIngressProps{
		Description:           jsii.String("NFS from the tasks"),
		GroupId:               made.nfsGroup.SecurityGroupId(),
		SourceSecurityGroupId: made.taskGroup.SecurityGroupId(),
		IpProtocol:            jsii.String("tcp"),
		FromPort:              jsii.Number(nfsPort),
		ToPort:                jsii.Number(nfsPort),
	})
	return made, nil
}

// mostZones is how many zones are used if availabilityZones names none. One is enough for a task, and
// more are somewhere to go when that one fails. Not all of them: us-east-1 has six, of which Fargate and
// EFS do not serve each.
const mostZones = 3

// onePerZone picks the first subnet of each wanted zone, and names the zones that have none. Without a
// wish it picks from the first zones there are.
func onePerZone(subnets []awsec2.ISubnet, zones []string) (picked []awsec2.ISubnet, missing []string) {
	byZone := map[string]awsec2.ISubnet{}
	var found []string
	for _, subnet := range subnets {
		zone := *subnet.AvailabilityZone()
		if _, taken := byZone[zone]; !taken {
			byZone[zone] = subnet
			found = append(found, zone)
		}
	}
	if len(zones) == 0 {
		slices.Sort(found)
		zones = found[:min(mostZones, len(found))]
	}
	for _, zone := range zones {
		if subnet, ok := byZone[zone]; ok {
			picked = append(picked, subnet)
		} else {
			missing = append(missing, zone)
		}
	}
	return picked, missing
}

// checkRegion refuses zones of another region than the stack's, where that is known.
func checkRegion(stack awscdk.Stack, opts options.Options) error {
	if *awscdk.Token_IsUnresolved(stack.Region()) {
		return nil
	}
	for _, zone := range opts.AvailabilityZones {
		if zone[:len(zone)-1] != *stack.Region() {
			return fmt.Errorf("option availabilityZones: %s is not in the region %s; name zones of that region", zone, *stack.Region())
		}
	}
	return nil
}

// chooseVpc makes a VPC, or has the CDK CLI look one up, which takes credentials.
func chooseVpc(scope constructs.Construct, opts options.Options) (awsec2.IVpc, constructs.IDependable) {
	lookup := &awsec2.VpcLookupOptions{VpcId: &opts.VpcID}
	switch {
	case opts.VpcID == options.VpcNew:
		return newVpc(scope, opts)
	case *awscdk.Token_IsUnresolved(awscdk.Stack_Of(scope).Account()):
		return placeholderVpc(scope, opts), nil
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
	zones := map[byte]*string{} // by letter, which also places the subnet in the VPC
	for _, zone := range opts.AvailabilityZones {
		zones[zone[len(zone)-1]] = jsii.String(zone)
	}
	for i := range zonesOfNewVpc {
		if len(opts.AvailabilityZones) == 0 {
			zones['a'+byte(i)] = awscdk.Fn_Select(jsii.Number(i), awscdk.Fn_GetAzs(nil))
		}
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
	route := awsec2.NewCfnRoute(scope, jsii.String("RouteOut"), &awsec2.CfnRouteProps{
		RouteTableId: routes.Ref(), DestinationCidrBlock: jsii.String("0.0.0.0/0"), GatewayId: gateway.Ref(),
	})
	route.AddDependency(attached)
	wayOut := constructs.NewDependencyGroup(route)

	var names, subnets, tables []*string
	for _, letter := range slices.Sorted(maps.Keys(zones)) {
		subnet := awsec2.NewCfnSubnet(scope, jsii.String("Subnet-"+string(letter)), &awsec2.CfnSubnetProps{
			VpcId:               vpc.Ref(),
			AvailabilityZone:    zones[letter],
			CidrBlock:           jsii.String(fmt.Sprintf("10.0.0.%d/27", 32*int(letter-'a'))),
			MapPublicIpOnLaunch: jsii.Bool(false), // the service asks for an address itself
		})
		wayOut.Add(awsec2.NewCfnSubnetRouteTableAssociation(scope, jsii.String("Routes-"+string(letter)), &awsec2.CfnSubnetRouteTableAssociationProps{
			SubnetId: subnet.Ref(), RouteTableId: routes.Ref(),
		}))
		names, subnets, tables = append(names, zones[letter]), append(subnets, subnet.Ref()), append(tables, routes.Ref())
	}
	return awsec2.Vpc_FromVpcAttributes(scope, jsii.String("Vpc"), &awsec2.VpcAttributes{
		VpcId:                     vpc.Ref(),
		AvailabilityZones:         &names,
		PublicSubnetIds:           &subnets,
		PublicSubnetRouteTableIds: &tables,
	}), wayOut
}

// placeholderVpc stands in where there are no credentials to look anything up with. CloudFormation
// refuses its identifiers, so a template that holds them cannot be deployed.
func placeholderVpc(scope constructs.Construct, opts options.Options) awsec2.IVpc {
	zones := opts.AvailabilityZones
	if len(zones) == 0 {
		zones = []string{"zone-a", "zone-b"}
	}
	attributes := &awsec2.VpcAttributes{
		VpcId:                     jsii.String("vpc-00000000000000000"),
		AvailabilityZones:         jsii.Strings(zones...),
		PublicSubnetIds:           &[]*string{},
		PublicSubnetRouteTableIds: &[]*string{},
	}
	for i := range zones {
		*attributes.PublicSubnetIds = append(*attributes.PublicSubnetIds, jsii.String(fmt.Sprintf("subnet-%017d", i)))
		*attributes.PublicSubnetRouteTableIds = append(*attributes.PublicSubnetRouteTableIds, jsii.String("rtb-00000000000000000"))
	}
	return awsec2.Vpc_FromVpcAttributes(scope, jsii.String("Vpc"), attributes)
}
