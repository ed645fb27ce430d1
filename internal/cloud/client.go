package cloud

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// Options say how to reach AWS. What is empty is the environment's or the shared configuration's.
type Options struct {
	Region  string
	Profile string
}

// Client reaches AWS in one region, as one identity. Its calls are bounded: a few attempts each (AWS_MAX_ATTEMPTS), some seconds
// for a connection, a minute for an answer.
type Client struct {
	Config aws.Config // for clients of further services
	Region string
	asked  string // the region, where it is not the environment's: a suggested command has to name it

	CloudFormation *cloudformation.Client
	ECS            *ecs.Client
	ECR            *ecr.Client
	Secrets        *secretsmanager.Client
	Logs           *cloudwatchlogs.Client
	CloudWatch     *cloudwatch.Client
	Quotas         *servicequotas.Client
	STS            *sts.Client

	identity func(context.Context) (Identity, error)
}

// attempts is how often a call is tried unless AWS_MAX_ATTEMPTS says otherwise.
const attempts = 4

// Connect finds a region and credentials as the AWS SDKs do. It asks AWS nothing but what the credentials themselves take.
func Connect(ctx context.Context, options Options) (*Client, error) {
	// Without the logger: the SDK's warnings would stand between a failure and its one line.
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{}), WithPlainBodies}
	if options.Region != "" {
		load = append(load, config.WithRegion(options.Region))
	}
	if options.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(options.Profile))
	}
	if os.Getenv("AWS_MAX_ATTEMPTS") == "" {
		load = append(load, config.WithRetryMaxAttempts(attempts))
	}
	// The aws CLI reads this variable, the SDK for Go does not.
	if region := os.Getenv("AWS_DEFAULT_REGION"); options.Region == "" && os.Getenv("AWS_REGION") == "" && region != "" {
		load = append(load, config.WithRegion(region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, Explain(err)
	}
	if loaded.Region == "" {
		return nil, &Error{
			What: "no AWS region is set", Next: "give --region, set AWS_REGION, or run `aws configure set region us-east-1`", Cause: ErrNoRegion,
		}
	}
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if loaded.Credentials == nil {
		return nil, noCredentials(errors.New("no provider"))
	}
	if _, err := loaded.Credentials.Retrieve(limited); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, explainCredentials(err)
	}
	client := newClient(loaded)
	client.asked = options.Region
	return client, nil
}

func newClient(loaded aws.Config) *Client {
	c := &Client{
		Config: loaded, Region: loaded.Region,
		CloudFormation: cloudformation.NewFromConfig(loaded),
		ECS:            ecs.NewFromConfig(loaded),
		ECR:            ecr.NewFromConfig(loaded),
		Secrets:        secretsmanager.NewFromConfig(loaded),
		Logs:           cloudwatchlogs.NewFromConfig(loaded),
		CloudWatch:     cloudwatch.NewFromConfig(loaded),
		Quotas:         servicequotas.NewFromConfig(loaded),
		STS:            sts.NewFromConfig(loaded),
	}
	var (
		mu    sync.Mutex
		known *Identity
	)
	c.identity = func(ctx context.Context) (Identity, error) {
		mu.Lock()
		defer mu.Unlock()
		if known == nil {
			answer, err := c.STS.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			if err != nil {
				return Identity{}, Explain(err)
			}
			known = &Identity{Account: aws.ToString(answer.Account), ARN: aws.ToString(answer.Arn)}
		}
		return *known, nil
	}
	return c
}

// Identity is whose credentials are used.
type Identity struct{ Account, ARN string }

// Name is the last part of the identity: a user's name, or a role's and its session's.
func (i Identity) Name() string {
	_, name, _ := strings.Cut(i.ARN, ":"+i.Account+":")
	return name
}

// Identity asks AWS whose credentials these are, once.
func (c *Client) Identity(ctx context.Context) (Identity, error) { return c.identity(ctx) }
