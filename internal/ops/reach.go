package ops

import (
	"context"
	"errors"
	"net"
	"time"

	"berth/internal/api"
	"berth/internal/cloud"
	"berth/internal/contract"
	"berth/internal/tunnel"
)

// reachPatience is how long a follower goes on without the agent. ECS takes some two minutes to replace a task: it lets
// the old one end first.
const reachPatience = 5 * time.Minute

// flags are what a suggested command needs to be for the same agent, with a blank before them.
func (t Target) flags() string {
	if !t.inCloud() {
		return ""
	}
	return " " + cloud.Flags(t.names(), t.Region)
}

// awayError is one of AWS's that means that the agent cannot be reached.
type awayError struct{ error }

func (e *awayError) Unwrap() error { return e.error }

func (*awayError) Is(target error) bool { return target == api.ErrUnreachable }

// away marks the errors that mean that the agent cannot be reached, but may be there, now or later.
func away(err error) error {
	for _, kind := range []error{cloud.ErrNoTask, cloud.ErrNoStack, cloud.ErrNetwork, cloud.ErrThrottled} {
		if errors.Is(err, kind) {
			return &awayError{err}
		}
	}
	return err
}

// standing finds the deployment, whatever the state of its stack: a task may run all the same.
func (t Target) standing(ctx context.Context) (*cloud.Client, *cloud.Stack, error) {
	client, err := t.cloud(ctx)
	if err != nil {
		return nil, nil, err
	}
	stack, err := client.Stack(ctx, t.names())
	return client, stack, err
}

// reach makes a client of the agent in AWS. Each connection goes through Session Manager to the task that runs then.
func (t Target) reach(ctx context.Context) (*api.Client, error) {
	aws, stack, err := t.standing(ctx)
	if err != nil {
		return nil, away(err)
	}
	return reachStack(ctx, aws, stack)
}

// reachStack is reach where the stack has been looked at.
func reachStack(ctx context.Context, aws *cloud.Client, stack *cloud.Stack) (*api.Client, error) {
	token, err := aws.APIToken(ctx, stack)
	if err != nil {
		return nil, away(err)
	}
	way := tunnel.New(func(ctx context.Context) (tunnel.Session, error) {
		task, err := aws.TaskToReach(ctx, stack)
		if err != nil {
			return tunnel.Session{}, startFailed(err)
		}
		started, err := aws.ForwardPort(ctx, stack, task)
		if err != nil {
			return tunnel.Session{}, startFailed(err)
		}
		return tunnel.Session(started), nil
	})
	return api.NewClientThrough(api.Endpoint{URL: "http://" + contract.Listen, Token: token}, api.Through{
		Dial:     func(ctx context.Context) (net.Conn, error) { return way.Dial(ctx) },
		Close:    way.Close,
		Patience: reachPatience,
		Where:    "in " + stack.Names.Stack(),
		Next:     "`berth status " + stack.Flags() + "` says how it is",
		Refused:  "its task was started with another one; `berth pause " + stack.Flags() + "` and `berth unpause " + stack.Flags() + "` start it with this one",
	}), nil
}

// startFailed tells errors after which another attempt is of no use from the rest.
func startFailed(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(away(err), api.ErrUnreachable) && !errors.Is(err, cloud.ErrNoStack) {
		return err
	}
	return &api.FinalError{Err: away(err)}
}
