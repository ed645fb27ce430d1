package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"

	"berth/internal/contract"
)

// ErrNoTask means that no task of the service runs.
var ErrNoTask = errors.New("no task")

// Started is a session of Session Manager that was started: whoever has its URL and its token has the session.
type Started struct{ ID, URL, Token string }

// portDocument is the one of Session Manager's documents that forwards to a port of the target.
const portDocument = "AWS-StartPortForwardingSession"

// TaskToReach is the task that runs now. Without one the error is ErrNoTask, and says why.
func (c *Client) TaskToReach(ctx context.Context, stack *Stack) (Task, error) {
	tasks, err := c.Tasks(ctx, stack)
	if err != nil {
		return Task{}, err
	}
	for _, task := range tasks {
		if task.Running() && task.RuntimeID != "" {
			return task, nil
		}
	}
	if err := stack.Problem(); err != nil && !stack.InProgress() {
		problem := new(Error)
		if errors.As(err, &problem) {
			return Task{}, &Error{"no task runs: " + problem.What, problem.Next, ErrNoTask}
		}
	}
	what, next := "no task of "+stack.Names.Stack()+" runs", "`berth status "+stack.Flags()+"` says more"
	switch {
	case stack.Parameters[contract.ParamDesiredCount] == "0":
		what, next = stack.Names.Stack()+" is paused, or has no image yet", "`berth unpause "+stack.Flags()+"` starts its agent, `berth up "+stack.Flags()+"` does what is missing"
	case len(tasks) > 0 && !tasks[0].Stopped.IsZero():
		what += "; the last one ended: " + tasks[0].Why()
	case len(tasks) > 0:
		what += " yet: the next one is " + tasks[0].Status
	}
	return Task{}, &Error{what, next, ErrNoTask}
}

// ForwardPort starts a session that forwards to the agent's port of a task.
func (c *Client) ForwardPort(ctx context.Context, stack *Stack, task Task) (Started, error) {
	_, port, err := net.SplitHostPort(contract.Listen)
	if err != nil {
		return Started{}, err
	}
	cluster, _ := stack.clusterAndService()
	answer, err := ssm.NewFromConfig(c.Config).StartSession(ctx, &ssm.StartSessionInput{
		Target: aws.String(task.SSMTarget(cluster)), DocumentName: aws.String(portDocument), Parameters: map[string][]string{"portNumber": {port}},
	})
	if err != nil {
		return Started{}, explainSession(err, stack, "TargetNotConnected")
	}
	return Started{aws.ToString(answer.SessionId), aws.ToString(answer.StreamUrl), aws.ToString(answer.TokenValue)}, nil
}

// Execute starts a command in a task's container, in a terminal, as root.
func (c *Client) Execute(ctx context.Context, stack *Stack, task Task, command string) (Started, error) {
	cluster, _ := stack.clusterAndService()
	answer, err := c.ECS.ExecuteCommand(ctx, &ecs.ExecuteCommandInput{
		Cluster: &cluster, Task: &task.ARN, Container: aws.String(contract.ContainerName), Command: &command, Interactive: true,
	})
	if err != nil {
		return Started{}, explainSession(err, stack, "TargetNotConnectedException")
	}
	if answer.Session == nil {
		return Started{}, &Error{What: "ECS has started the command without a session to see it through", Next: "run the same command again"}
	}
	return Started{aws.ToString(answer.Session.SessionId), aws.ToString(answer.Session.StreamUrl), aws.ToString(answer.Session.TokenValue)}, nil
}

// explainSession explains why a session does not start. A task that has just started is not connected yet, nor one that
// ended just now any more: that is no task either.
func explainSession(err error, stack *Stack, code string) error {
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == code || api.ErrorCode() == "TargetNotConnected") {
		return &Error{
			"the task of " + stack.Names.Stack() + " is not connected to Session Manager (" + api.ErrorCode() + ")",
			"it takes some seconds after a start; `berth status " + stack.Flags() + "` says how the task is", fmt.Errorf("%w: %w", ErrNoTask, err),
		}
	}
	return Explain(err)
}

// APIToken is what the agent's API asks for.
func (c *Client) APIToken(ctx context.Context, stack *Stack) (string, error) {
	id := stack.Outputs[contract.OutputAgentSecretARN]
	if id == "" {
		id = stack.Names.AgentSecret()
	}
	answer, err := c.Secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		return "", Explain(err)
	}
	var values map[string]string
	// The error of decoding could show what is in there.
	if json.Unmarshal([]byte(aws.ToString(answer.SecretString)), &values) != nil || values[contract.SecretKeyAPIToken] == "" {
		return "", &Error{What: "the secret " + stack.Names.AgentSecret() + " holds no " + contract.SecretKeyAPIToken, Next: "`berth up " + stack.Flags() + "` puts it right"}
	}
	return values[contract.SecretKeyAPIToken], nil
}
