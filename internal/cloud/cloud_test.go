package cloud

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"berth/internal/cloud/awstest"
	"berth/internal/contract"
)

var dev = contract.Names{Project: "claude-code", Environment: "dev"}

// serve starts a World and connects to it.
func serve(t *testing.T) (*awstest.World, *Client) {
	t.Helper()
	world := awstest.New()
	_, stop := world.Serve()
	t.Cleanup(stop)
	for _, each := range world.Env() {
		name, value, _ := strings.Cut(each, "=")
		t.Setenv(name, value)
	}
	client, err := Connect(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return world, client
}

func TestStackAndService(t *testing.T) {
	world, client := serve(t)
	if _, err := client.Stack(t.Context(), dev); !errors.Is(err, ErrNoStack) || err.Error() != "there is no stack claude-code-dev in us-east-1; `berth up --env dev` makes one, `berth env list` shows those that there are" {
		t.Errorf("no stack: %v", err)
	}
	exit := 3
	world.Change(func(w *awstest.World) {
		w.AddStack("claude-code", "dev")
		w.Services["claude-code-dev"].Tasks = []*awstest.Task{
			{ID: "1", Status: "STOPPED", StoppedReason: "Essential container in task exited", ExitCode: &exit, Stopped: time.Unix(1, 0)},
			{ID: "2", Status: "RUNNING", Digest: "sha256:2", Started: time.Unix(2, 0)},
		}
		w.Services["claude-code-dev"].Desired = 1
	})
	stack, err := client.Usable(t.Context(), dev)
	if err != nil || stack.Parameters[contract.ParamDesiredCount] != "0" || stack.Outputs[contract.OutputClusterName] != "claude-code-dev" {
		t.Fatalf("%+v, %v", stack, err)
	}
	service, err := client.Service(t.Context(), stack)
	if err != nil || !service.Steady() {
		t.Errorf("%+v, %v", service, err)
	}
	tasks, err := client.Tasks(t.Context(), stack)
	if err != nil || len(tasks) != 2 || tasks[0].ID != "2" || tasks[1].Why() != "Essential container in task exited: the container exited with 3" {
		t.Errorf("%+v, %v", tasks, err)
	}
	if stacks, err := client.Stacks(t.Context()); err != nil || len(stacks) != 1 || stacks[0].Names != dev {
		t.Errorf("%v, %v", stacks, err)
	}
	if id, err := client.Identity(t.Context()); err != nil || id.Account != awstest.Account || id.Name() != "user/somebody" {
		t.Errorf("%v, %v", id, err)
	}
	if vpc, err := client.DefaultVPC(t.Context()); err != nil || vpc != "vpc-00000001" {
		t.Errorf("%v, %v", vpc, err)
	}
	if got := world.Mutations(); len(got) > 0 {
		t.Errorf("reading changed something: %q", got)
	}
}

func TestExplain(t *testing.T) {
	world, client := serve(t)
	world.Change(func(w *awstest.World) { w.AddStack("claude-code", "dev") })
	stack, err := client.Stack(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]struct {
		is   error
		text string
	}{
		"denied":    {ErrDenied, "AWS refuses ecs:DescribeServices: User: arn:aws:iam::123456789012:user/somebody is not authorized to perform: ecs:DescribeServices; allow that action"},
		"throttled": {ErrThrottled, "AWS throttles ecs:DescribeServices, and went on to do so when it was tried again; wait a minute"},
		"expired":   {ErrExpired, "the AWS credentials have expired; run `aws sso login`"},
		"unknown":   {ErrNoCredentials, "AWS does not know these credentials (UnrecognizedClientException); set AWS_PROFILE"},
		"cut":       {ErrNetwork, "AWS cannot be reached (ecs:DescribeServices): 127.0.0.1:"},
		"broken":    {nil, "AWS answered ecs:DescribeServices with InternalFailure: an internal error"},
	} {
		world.Heal()
		world.Fail(awstest.Failure{Call: "ecs:*", Kind: kind})
		_, err := client.Service(t.Context(), stack)
		if err == nil || want.is != nil && !errors.Is(err, want.is) || !strings.HasPrefix(err.Error(), want.text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Service(ctx, stack); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestWithoutRegionOrCredentials(t *testing.T) {
	serve(t)
	t.Setenv("AWS_REGION", "")
	if _, err := Connect(t.Context(), Options{}); !errors.Is(err, ErrNoRegion) {
		t.Errorf("no region: %v", err)
	}
	t.Setenv("AWS_DEFAULT_REGION", "eu-west-1")
	if client, err := Connect(t.Context(), Options{}); err != nil || client.Region != "eu-west-1" {
		t.Errorf("%v", err)
	}
	if _, err := Connect(t.Context(), Options{Profile: "nobody"}); err == nil || !strings.HasPrefix(err.Error(), `there is no AWS profile "nobody"; `) {
		t.Errorf("no profile: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	if _, err := Connect(t.Context(), Options{}); !errors.Is(err, ErrNoCredentials) || err.Error() != "no AWS credentials were found; run `aws configure` or `aws sso login`, or set AWS_PROFILE" {
		t.Errorf("no credentials: %v", err)
	}
}

func TestProblem(t *testing.T) {
	for status, want := range map[string]string{
		"CREATE_COMPLETE": "", "UPDATE_ROLLBACK_COMPLETE": "",
		"ROLLBACK_COMPLETE": "`berth down --env dev`, then `berth up --env dev`", "UPDATE_ROLLBACK_FAILED": "continue-update-rollback --stack-name claude-code-dev",
		"DELETE_FAILED": "`berth down --env dev`", "UPDATE_IN_PROGRESS": "somebody is at work on it", "REVIEW_IN_PROGRESS": "`berth up --env dev` goes on",
		"UPDATE_FAILED": "rollback-stack", "ODD": "console",
	} {
		err := (&Stack{Names: dev, Status: status}).Problem()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "claude-code-dev is in "+status)) {
			t.Errorf("%s: %v", status, err)
		}
	}
}

// What failed first is what made the others fail.
func TestFirstFailure(t *testing.T) {
	world, client := serve(t)
	begun := time.Now()
	world.Change(func(w *awstest.World) {
		w.AddStack("claude-code", "dev").Events = []awstest.StackEvent{
			{Resource: "Old", Status: "CREATE_FAILED", Reason: "long ago", Time: begun.Add(-time.Hour)},
			{Resource: "Role", Status: "CREATE_FAILED", Reason: "not\nallowed", Time: begun.Add(time.Second)},
			{Resource: "Vault", Status: "CREATE_FAILED", Reason: "Resource creation cancelled", Time: begun.Add(2 * time.Second)},
			{Resource: "Service", Status: "CREATE_FAILED", Reason: "later", Time: begun.Add(3 * time.Second)},
		}
	})
	if got, err := client.FirstFailure(t.Context(), dev, begun); err != nil || got != "Role CREATE_FAILED: not allowed" {
		t.Errorf("%q, %v", got, err)
	}
}

// The one call that is written by hand is tried again as the SDK's are.
func TestDefaultVPCIsAskedForAgain(t *testing.T) {
	w := awstest.New()
	_, stop := w.Serve()
	defer stop()
	for _, each := range append(w.Env(), "AWS_MAX_ATTEMPTS=2") {
		name, value, _ := strings.Cut(each, "=")
		t.Setenv(name, value)
	}
	w.Fail(awstest.Failure{Call: "ec2:DescribeVpcs", Kind: "throttled", Times: 1})
	client, err := Connect(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := client.DefaultVPC(t.Context()); err != nil || id != "vpc-00000001" {
		t.Errorf("%q, %v", id, err)
	}
}
