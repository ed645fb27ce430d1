package metrics

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
)

// NewCloudWatch makes a client of CloudWatch in a region; an empty one is the environment's or the shared
// configuration's. Where neither has credentials it returns nil, and no error. It asks nobody: AWS is first called for
// metrics, and the metadata service of EC2 never, so that the credentials of a machine are not used.
func NewCloudWatch(ctx context.Context, region string) (Client, error) {
	options := []func(*config.LoadOptions) error{
		config.WithEC2IMDSClientEnableState(imds.ClientDisabled),
		config.WithDefaultsMode(aws.DefaultsModeStandard), // "auto" would ask the metadata service where it runs
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	// The machine's are what the SDK resorts to when it finds no others.
	if loaded.Credentials == nil || aws.IsCredentialsProvider(loaded.Credentials, (*ec2rolecreds.Provider)(nil)) {
		return nil, nil
	}
	if loaded.Region == "" {
		return nil, errors.New("there are AWS credentials, but no region to send metrics to; set AWS_REGION")
	}
	return cloudwatch.NewFromConfig(loaded), nil
}
