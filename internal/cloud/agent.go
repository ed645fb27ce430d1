package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/smithy-go"

	"berth/internal/contract"
)

// Key is what is known of the Anthropic key without the key.
type Key struct {
	Set     bool
	Version string    // of its secret
	Since   time.Time // when that version was made
}

// Key reports whether the Anthropic key has been set, and which version of its secret is the present one.
func (c *Client) Key(ctx context.Context, stack *Stack) (Key, error) {
	answer, err := c.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(stack.Outputs[contract.OutputAPIKeySecretARN])})
	if err != nil {
		return Key{}, Explain(err)
	}
	return Key{aws.ToString(answer.SecretString) != contract.SecretNotSet, aws.ToString(answer.VersionId), aws.ToTime(answer.CreatedDate)}, nil
}

// SetKey puts the Anthropic key into its secret. The tasks read it when they start.
func (c *Client) SetKey(ctx context.Context, stack *Stack, key string) error {
	_, err := c.Secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: aws.String(stack.Outputs[contract.OutputAPIKeySecretARN]), SecretString: &key})
	return Explain(err)
}

// Restart has the service replace its task by one of the same definition. It returns the id of the deployment that does so: what ECS answers
// in the next seconds may still be of before.
func (c *Client) Restart(ctx context.Context, stack *Stack) (deployment string, err error) {
	cluster, service := stack.clusterAndService()
	answer, err := c.ECS.UpdateService(ctx, &ecs.UpdateServiceInput{Cluster: &cluster, Service: &service, ForceNewDeployment: true})
	if err != nil || answer.Service == nil {
		return "", Explain(err)
	}
	return toService(answer.Service).Primary().ID, nil
}

// Image is an image in the stack's repository.
type Image struct {
	Digest string    `json:"digest"`
	Tags   []string  `json:"tags"`
	Pushed time.Time `json:"pushed_at"`
	Size   int64     `json:"size_bytes"`
}

// repository is the name of the stack's repository.
func (s *Stack) repository() string {
	uri := s.Outputs[contract.OutputRepositoryURI]
	return uri[strings.Index(uri, "/")+1:]
}

// Images lists the repository's images, the newest first; one that is not there has none.
func (c *Client) Images(ctx context.Context, stack *Stack) (images []Image, err error) {
	pages := ecr.NewDescribeImagesPaginator(c.ECR, &ecr.DescribeImagesInput{RepositoryName: aws.String(stack.repository())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if missing := new(ecrtypes.RepositoryNotFoundException); errors.As(err, &missing) {
			return nil, nil
		}
		if err != nil {
			return nil, Explain(err)
		}
		for _, each := range page.ImageDetails {
			images = append(images, Image{aws.ToString(each.ImageDigest), each.ImageTags, aws.ToTime(each.ImagePushedAt), aws.ToInt64(each.ImageSizeInBytes)})
		}
	}
	slices.SortStableFunc(images, func(a, b Image) int { return b.Pushed.Compare(a.Pushed) })
	return images, nil
}

// FindImage is the digest of an image in the repository, by its tag or its digest.
func (c *Client) FindImage(ctx context.Context, stack *Stack, ref string) (digest string, err error) {
	id := ecrtypes.ImageIdentifier{ImageTag: &ref}
	if strings.HasPrefix(ref, "sha256:") {
		id = ecrtypes.ImageIdentifier{ImageDigest: &ref}
	}
	answer, err := c.ECR.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: aws.String(stack.repository()), ImageIds: []ecrtypes.ImageIdentifier{id}})
	var missing *ecrtypes.ImageNotFoundException
	if errors.As(err, &missing) || err == nil && len(answer.ImageDetails) == 0 {
		return "", &Error{What: fmt.Sprintf("the repository %s has no image %.80q", stack.repository(), ref), Next: fmt.Sprintf("`berth status %s` lists the newest, `berth push %s` makes one", stack.Flags(), stack.Flags())}
	}
	if err != nil {
		return "", Explain(err)
	}
	return aws.ToString(answer.ImageDetails[0].ImageDigest), nil
}

// PreviousImage is the digest that ran before the present one, by the revisions of the task definition. CloudFormation takes a revision back when
// the next one runs, or, where it came to nothing, at once: then it was gone before the next one was made, and is passed over.
func (c *Client) PreviousImage(ctx context.Context, stack *Stack) (string, error) {
	family, number := cutLast(stack.Outputs[contract.OutputTaskDefinitionARN], ":")
	service, err := c.Service(ctx, stack)
	if err != nil {
		return "", err
	}
	if service.TaskDefinition != "" {
		family, number = cutLast(service.TaskDefinition, ":")
	}
	revision, _ := strconv.Atoi(number)
	const most = 20
	var next time.Time // when the one that ran after it was made
	for each := revision; each > 0 && each > revision-most; each-- {
		answer, err := c.ECS.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String(family + ":" + strconv.Itoa(each))})
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorCode() == "ClientException" {
			continue // it was deleted
		}
		if err != nil {
			return "", Explain(err)
		}
		if gone := answer.TaskDefinition.DeregisteredAt; gone != nil && gone.Before(next) {
			continue
		}
		next = aws.ToTime(answer.TaskDefinition.RegisteredAt)
		if each == revision {
			continue
		}
		for _, container := range answer.TaskDefinition.ContainerDefinitions {
			_, digest, pinned := strings.Cut(aws.ToString(container.Image), "@")
			if aws.ToString(container.Name) == contract.ContainerName && pinned && "@"+digest != stack.Parameters[contract.ParamImageRef] {
				return digest, nil
			}
		}
	}
	return "", &Error{What: "no image ran before the present one of " + stack.Names.Stack(), Next: fmt.Sprintf("`berth status %s` lists the images; `berth deploy %s sha256:…` rolls one out", stack.Flags(), stack.Flags())}
}

// cutLast cuts a text at the last separator; without one, there is nothing after it.
func cutLast(text, separator string) (before, after string) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, ""
	}
	return text[:i], text[i+len(separator):]
}

// Alarms are the stack's alarms that are not OK, and how many there are.
func (c *Client) Alarms(ctx context.Context, names contract.Names) (firing []string, all int, err error) {
	pages := cloudwatch.NewDescribeAlarmsPaginator(c.CloudWatch, &cloudwatch.DescribeAlarmsInput{AlarmNamePrefix: aws.String(names.Stack() + "-")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, 0, Explain(err)
		}
		for _, alarm := range page.MetricAlarms {
			all++
			if alarm.StateValue == types.StateValueAlarm {
				firing = append(firing, aws.ToString(alarm.AlarmName))
			}
		}
	}
	return firing, all, nil
}

// Quotas of Fargate: vCPUs that tasks may have at once, on demand and on Spot
// (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html).
const (
	QuotaOnDemand = "L-3032A538"
	QuotaSpot     = "L-36FBB829"
)

// VCPUs is a quota of Fargate.
func (c *Client) VCPUs(ctx context.Context, code string) (float64, error) {
	answer, err := c.Quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("fargate"), QuotaCode: &code})
	if err != nil {
		return 0, Explain(err)
	}
	return aws.ToFloat64(answer.Quota.Value), nil
}
