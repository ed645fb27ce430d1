package cloud

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"berth/internal/contract"
)

// Holds is what a deployment has that may outlive its stack.
type Holds struct {
	FileSystems    []*FileSystem // by their tags
	Vault          bool
	RecoveryPoints []RecoveryPoint
	Repository     bool
	Images         int
	ImageBytes     int64
	LogGroup       bool
	LogBytes       int64
	Secrets        []string // names; also those that are scheduled for deletion, which keep their names
}

// Empty reports whether there is nothing.
func (h *Holds) Empty() bool {
	return len(h.FileSystems) == 0 && !h.Vault && !h.Repository && !h.LogGroup && len(h.Secrets) == 0
}

// Holds looks for all that a deployment may have, by names and tags; there need be no stack.
func (c *Client) Holds(ctx context.Context, names contract.Names) (*Holds, error) {
	found := &Holds{}
	var err error
	if found.FileSystems, err = c.FileSystems(ctx, names); err != nil {
		return nil, err
	}
	if found.Vault, err = c.hasVault(ctx, names.Stack()); err != nil {
		return nil, err
	}
	if found.RecoveryPoints, err = c.RecoveryPoints(ctx, names.Stack()); err != nil {
		return nil, err
	}
	if err := c.holdsImages(ctx, names, found); err != nil {
		return nil, err
	}
	groups, err := c.Logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String(names.LogGroup())})
	if err != nil {
		return nil, Explain(err)
	}
	for _, group := range groups.LogGroups {
		if aws.ToString(group.LogGroupName) == names.LogGroup() {
			found.LogGroup, found.LogBytes = true, aws.ToInt64(group.StoredBytes)
		}
	}
	for _, name := range names.Secrets() {
		_, err := c.Secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(name)})
		if missing := new(smtypes.ResourceNotFoundException); errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return nil, Explain(err)
		}
		found.Secrets = append(found.Secrets, name)
	}
	return found, nil
}

func (c *Client) holdsImages(ctx context.Context, names contract.Names, found *Holds) error {
	pages := ecr.NewDescribeImagesPaginator(c.ECR, &ecr.DescribeImagesInput{RepositoryName: aws.String(names.Stack())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if missing := new(ecrtypes.RepositoryNotFoundException); errors.As(err, &missing) {
			return nil
		}
		if err != nil {
			return Explain(err)
		}
		found.Repository = true
		found.Images += len(page.ImageDetails)
		for _, image := range page.ImageDetails {
			found.ImageBytes += aws.ToInt64(image.ImageSizeInBytes)
		}
	}
	return nil
}

// DeleteRepository deletes the image repository with all that is in it.
func (c *Client) DeleteRepository(ctx context.Context, names contract.Names) error {
	_, err := c.ECR.DeleteRepository(ctx, &ecr.DeleteRepositoryInput{RepositoryName: aws.String(names.Stack()), Force: true})
	if missing := new(ecrtypes.RepositoryNotFoundException); errors.As(err, &missing) {
		return nil
	}
	return Explain(err)
}

// DeleteLogGroup deletes the container's log lines.
func (c *Client) DeleteLogGroup(ctx context.Context, names contract.Names) error {
	_, err := c.Logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String(names.LogGroup())})
	if missing := new(logtypes.ResourceNotFoundException); errors.As(err, &missing) {
		return nil
	}
	return Explain(err)
}

// DeleteSecret deletes a secret at once. One that is scheduled for deletion would keep its name for a week and more, and a new stack
// could not be made.
func (c *Client) DeleteSecret(ctx context.Context, name string) error {
	_, err := c.Secrets.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: &name, ForceDeleteWithoutRecovery: aws.Bool(true)})
	if missing := new(smtypes.ResourceNotFoundException); errors.As(err, &missing) {
		return nil
	}
	return Explain(err)
}

// Scale has the service run so many tasks, of which CloudFormation does not know: before the stack goes, or where somebody has set
// another number than the stack's.
func (c *Client) Scale(ctx context.Context, stack *Stack, tasks int32) error {
	cluster, service := stack.clusterAndService()
	_, err := c.ECS.UpdateService(ctx, &ecs.UpdateServiceInput{Cluster: &cluster, Service: &service, DesiredCount: &tasks})
	return Explain(err)
}

// ActiveSessions is how many sessions the agent said it runs, at most in the last minutes. known is false if it said nothing.
func (c *Client) ActiveSessions(ctx context.Context, names contract.Names, now time.Time) (sessions int, known bool, err error) {
	answer, err := c.CloudWatch.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{
		Namespace: aws.String(contract.MetricNamespace), MetricName: aws.String(contract.MetricActiveSessions),
		Dimensions: []cwtypes.Dimension{{Name: aws.String(contract.MetricDimension), Value: aws.String(names.MetricEnvironment())}},
		StartTime:  aws.Time(now.Add(-4 * time.Minute)), EndTime: aws.Time(now), Period: aws.Int32(60), Statistics: []cwtypes.Statistic{cwtypes.StatisticMaximum},
	})
	if err != nil {
		return 0, false, Explain(err)
	}
	last := time.Time{}
	for _, point := range answer.Datapoints {
		if at := aws.ToTime(point.Timestamp); at.After(last) {
			last, sessions, known = at, int(aws.ToFloat64(point.Maximum)), true
		}
	}
	return sessions, known, nil
}
