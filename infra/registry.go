package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/options"
)

const imagesKept = 10

// newRegistry makes the repository that the container's image is pushed to.
func newRegistry(stack awscdk.Stack, opts options.Options) awsecr.Repository {
	return awsecr.NewRepository(stack, jsii.String("Registry"), &awsecr.RepositoryProps{
		RepositoryName:  jsii.String(opts.Names().Stack()),
		ImageScanOnPush: jsii.Bool(true),
		LifecycleRules: &[]*awsecr.LifecycleRule{{
			Description:   jsii.String("keep the newest images"),
			MaxImageCount: jsii.Number(imagesKept),
		}},
		EmptyOnDelete: jsii.Bool(!opts.Production()),
		RemovalPolicy: removal(opts),
	})
}

// repositoryURI is the repository's address. The construct takes it apart and together again from its
// ARN, which is the same in ten times the room.
func repositoryURI(registry awsecr.Repository) *string {
	return awscdk.Fn_Sub(jsii.String("${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}/${Repository}"),
		&map[string]*string{"Repository": registry.RepositoryName()})
}
