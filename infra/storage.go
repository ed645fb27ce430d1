package main

import (
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsefs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// storage is the volume that outlives every task: a file system, and the one way into it.
type storage struct {
	fileSystem  awsefs.IFileSystem
	accessPoint awsefs.AccessPoint
	mounts      constructs.IDependable // ready once the tasks can mount the file system
}

func newStorage(stack awscdk.Stack, opts options.Options, net network) storage {
	scope := constructs.NewConstruct(stack, jsii.String("Storage"))
	made := storage{}
	if opts.FileSystemID == "" {
		fileSystem := newFileSystem(scope, opts, net)
		made.fileSystem, made.mounts = fileSystem, fileSystem.MountTargetsAvailable()
	} else {
		made.fileSystem, made.mounts = adoptFileSystem(scope, opts, net)
	}

	user := strconv.Itoa(contract.VolumeUser)
	made.accessPoint = awsefs.NewAccessPoint(scope, jsii.String("AccessPoint"), &awsefs.AccessPointProps{
		FileSystem: made.fileSystem,
		Path:       jsii.String("/" + opts.Names().Stack()),
		CreateAcl:  &awsefs.Acl{OwnerUid: &user, OwnerGid: &user, Permissions: jsii.String("0700")},
		PosixUser:  &awsefs.PosixUser{Uid: &user, Gid: &user},
	})
	return made
}

func newFileSystem(scope constructs.Construct, opts options.Options, net network) awsefs.FileSystem {
	fileSystem := awsefs.NewFileSystem(scope, jsii.String("FileSystem"), &awsefs.FileSystemProps{
		Vpc:             net.vpc,
		VpcSubnets:      net.subnets,
		SecurityGroup:   net.nfsGroup,
		FileSystemName:  jsii.String(opts.Names().Stack()),
		Encrypted:       jsii.Bool(true),
		PerformanceMode: awsefs.PerformanceMode_GENERAL_PURPOSE,
		ThroughputMode:  awsefs.ThroughputMode_BURSTING, // no charge by the byte; an alarm watches its credits
		LifecyclePolicy: awsefs.LifecyclePolicy_AFTER_30_DAYS,
		RemovalPolicy:   removal(opts),
	})
	resource := fileSystem.Node().DefaultChild().(awsefs.CfnFileSystem)
	// Said, not left out: the backup plan does it, and both would be paid.
	resource.SetBackupPolicy(&awsefs.CfnFileSystem_BackupPolicyProperty{Status: jsii.String("DISABLED")})
	// Given a policy, the construct would add a statement to it that lets anybody write.
	resource.SetFileSystemPolicy(fileSystemPolicy())
	return fileSystem
}

// fileSystemPolicy denies what nobody may do. It allows nothing: with it in place, only those whom IAM
// allows get in, and no longer anybody who reaches a mount target.
//
// A file system policy's "*" is the file system that it is attached to.
func fileSystemPolicy() awsiam.PolicyDocument {
	deny := func(sid string, actions []string, conditions *map[string]any) awsiam.PolicyStatement {
		return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Sid:        &sid,
			Effect:     awsiam.Effect_DENY,
			Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
			Actions:    jsii.Strings(actions...),
			Resources:  jsii.Strings("*"),
			Conditions: conditions,
		})
	}
	return awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &[]awsiam.PolicyStatement{
		deny("TlsOnly", []string{"elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"},
			&map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}}),
		deny("NobodyIsRoot", []string{"elasticfilesystem:ClientRootAccess"}, nil),
	}})
}

// adoptFileSystem takes on a file system that an earlier stack, or somebody else, left: it keeps its
// policy and settings, and is given mount targets in this stack's network.
func adoptFileSystem(scope constructs.Construct, opts options.Options, net network) (awsefs.IFileSystem, constructs.IDependable) {
	ready := constructs.NewDependencyGroup()
	for _, subnet := range *net.subnets.Subnets {
		ready.Add(awsefs.NewCfnMountTarget(scope, jsii.String("MountTarget-"+*subnet.Node().Id()), &awsefs.CfnMountTargetProps{
			FileSystemId:   &opts.FileSystemID,
			SubnetId:       subnet.SubnetId(),
			SecurityGroups: &[]any{net.nfsGroup.SecurityGroupId()},
		}))
	}
	return awsefs.FileSystem_FromFileSystemAttributes(scope, jsii.String("FileSystem"), &awsefs.FileSystemAttributes{
		FileSystemId:  &opts.FileSystemID,
		SecurityGroup: net.nfsGroup,
	}), ready
}
