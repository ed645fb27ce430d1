package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/aws/smithy-go"
	"golang.org/x/term"

	"berth/internal/api"
	"berth/internal/cloud"
	"berth/internal/contract"
	"berth/internal/cost"
	"berth/internal/image"
	"berth/internal/options"
)

// UpCloud are the flags of `berth up` that are for a deployment in AWS.
type UpCloud struct {
	Context []string      `name:"context" short:"c" sep:"none" placeholder:"key=value" help:"With --env: a deploy option, as the CDK CLI takes it; repeat it for more."`
	KeyFile string        `name:"key-file" placeholder:"FILE" help:"With --env: read the Anthropic key from a file, if none is set yet; - is standard input."`
	Image   string        `name:"image" placeholder:"NAME" help:"With --env: push this image of the local builder in place of building one."`
	NoSmoke bool          `name:"no-smoke" help:"With --env: when something was changed, run no session in the end to see that it works."`
	Timeout time.Duration `name:"timeout" default:"20m" help:"With --env: how long the service may take to be steady."`
}

// runCloud is `berth up --env`: each step does what is missing.
func (u *Up) runCloud(ctx context.Context, stdio Stdio) (err error) {
	given, err := readOptions(u.Context, u.Target)
	if err != nil {
		return err
	}
	key := ""
	if u.KeyFile != "" { // one that cannot be used is told of now, and not after minutes
		if key, err = readKey(ctx, stdio, u.KeyFile); err != nil {
			return usage(ctx, err)
		}
	}
	d, err := u.newDeployment(ctx, stdio)
	if err != nil {
		return err
	}
	defer d.orInterrupted(ctx, &err)
	if err := d.findCDK(); err != nil {
		return err
	}
	parsed, err := d.provision(ctx, stdio, given)
	if err != nil {
		return err
	}
	newKey, err := d.ensureKey(ctx, stdio, key)
	if err != nil {
		return err
	}
	ref, err := d.ensureImage(ctx, stdio, u.Image)
	if err != nil {
		return err
	}
	before, count := d.stack.Parameters[contract.ParamImageRef], d.stack.Parameters[contract.ParamDesiredCount]
	parameters := map[string]string{contract.ParamImageRef: ref, contract.ParamDesiredCount: "1"}
	paused := count == "0" && before != contract.DefaultImageRef
	if paused {
		delete(parameters, contract.ParamDesiredCount)
	}
	if newKey && count == "1" && before == ref {
		if err := d.restart(ctx); err != nil {
			return err
		}
	}
	if err := d.rollOut(ctx, parameters, u.Timeout); err != nil {
		return err
	}
	if d.changed && !paused && !u.NoSmoke {
		if err := u.smoke(ctx, stdio, d); err != nil {
			return err
		}
	}
	d.tellCost(parsed)
	if paused {
		_, err = fmt.Fprintf(stdio.Out, "%s is paused, and stays so; `berth unpause %s` has it go on.\n", d.names.Stack(), d.flags())
		return err
	}
	_, err = fmt.Fprintf(stdio.Out, "%s runs %s in %s.\nNext:  berth run %s \"Write a program that greets, and a test for it\"\n", d.names.Stack(), shortRef(ref), d.client.Region, d.flags())
	return err
}

// smokeTask is a session that shows that all parts work together, at the price of a few words.
var smokeTask = api.NewSession{
	Prompt:  "Run the command `echo berth works` in the shell, and answer with its output alone.",
	Options: api.Options{MaxTurns: 4, MaxBudgetUSD: 0.5, TimeoutSeconds: 300},
}

// smoke runs one session through the tunnel, so that whoever deployed knows that it works. What it says is progress, not a result.
func (u *Up) smoke(ctx context.Context, stdio Stdio, d *deployment) error {
	if key, err := d.client.Key(ctx, d.stack); err != nil || !key.Set {
		return err // ensureKey has said that sessions wait
	}
	d.say("running a session to see that it works (--no-smoke leaves it out)")
	client, err := u.connect(ctx, stdio)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := d.answers(ctx, client); err != nil {
		return err
	}
	session, err := client.Create(ctx, smokeTask)
	if err != nil {
		return err
	}
	stdio.Out = stdio.Err
	if err := u.followToEnd(ctx, stdio, client, session.ID, 0, false); ctx.Err() != nil {
		return err
	} else if err != nil {
		return fmt.Errorf("%s runs, but a session in it does not end well: %w; see `berth logs %s%s`", d.names.Stack(), err, shortID(session.ID), u.flags())
	}
	return nil
}

// answerTime is how long the agent of a task that ECS has as running may take to be reached.
const answerTime = 3 * time.Minute

// answers waits until the agent answers: it starts, and Session Manager connects, some seconds after ECS says that the task runs.
func (d *deployment) answers(ctx context.Context, client *api.Client) error {
	end := time.Now().Add(answerTime)
	return until(ctx, d.every, func(ctx context.Context) (bool, error) {
		_, err := client.Status(ctx)
		if errors.Is(err, api.ErrUnreachable) && time.Now().Before(end) {
			return false, nil
		}
		return true, err
	})
}

// provision sees that the stack is there and is what the options say, which it returns.
func (d *deployment) provision(ctx context.Context, stdio Stdio, given map[string]string) (parsed options.Options, err error) {
	stack, err := d.settled(ctx)
	if err != nil && !errors.Is(err, cloud.ErrNoStack) {
		return parsed, err
	}
	d.stack = stack
	given, parsed, err = d.options(ctx, given)
	if err != nil {
		return parsed, err
	}
	with := cloud.With{Options: given, Protected: stack != nil && stack.Protected}
	if stack == nil {
		if err := d.checkFirst(ctx, stdio, parsed); err != nil {
			return parsed, err
		}
		taken, err := d.adopt(ctx, parsed)
		if err != nil {
			return parsed, err
		}
		if taken.fileSystem != "" {
			given["fileSystemId"] = taken.fileSystem
		}
		with.Import = taken.named
	} else if same, err := d.cdk.UpToDate(ctx, d.client, stack, d.template, given); err != nil || same {
		return parsed, err
	}
	d.say("deploying the stack %s in %s", d.names.Stack(), d.client.Region)
	d.changed = true
	begun := time.Now().Add(-clockSkew)
	if err := d.cdk.Deploy(ctx, d.client, d.names, with, d.said); err != nil {
		if ctx.Err() != nil {
			return parsed, d.interrupted()
		}
		return parsed, d.why(ctx, err, begun, nil)
	}
	return parsed, d.refresh(ctx)
}

// checkFirst looks, before the first deployment, at what would fail minutes later.
func (d *deployment) checkFirst(ctx context.Context, stdio Stdio, parsed options.Options) error {
	// In production an earlier stack's repository may have the image, so that none has to be built.
	if _, err := image.FindBuilder(ctx, stdio.Getenv); err != nil && !parsed.Production() {
		return err
	}
	if _, err := checkVPC(ctx, d.client, parsed); err != nil {
		return err
	}
	// A quota that cannot be read is no reason to deploy nothing: Fargate says so itself if it is too small.
	if _, err := checkQuota(ctx, d.client, parsed); errors.Is(err, errSmallQuota) {
		return err
	} else if err != nil {
		d.say("whether Fargate's quota is enough cannot be told: %v", err)
	}
	return nil
}

// settled is the stack when CloudFormation is not at work on it any more: an earlier run may have been cut off. A change set that was made and
// never executed leaves a stack in which nothing is: there is none yet.
func (d *deployment) settled(ctx context.Context) (*cloud.Stack, error) {
	stack, err := waitForStack(ctx, d.client, d.names, d.every, d.say)
	switch {
	case ctx.Err() != nil:
		return nil, d.interrupted()
	case err != nil:
		return nil, err
	case stack.InReview():
		return nil, cloud.ErrNoStack
	}
	return stack, stack.Problem()
}

// ensureKey sets the key if none is set: the given one, or one that is asked for. Without anybody to ask, it says how.
func (d *deployment) ensureKey(ctx context.Context, stdio Stdio, key string) (set bool, err error) {
	there, err := d.client.Key(ctx, d.stack)
	if err != nil {
		return false, err
	}
	if there.Set {
		if key != "" {
			d.say("a key is set already; `berth key set %s` replaces it", d.flags())
		}
		d.keySince = there.Since
		return false, nil
	}
	in, isFile := stdio.In.(*os.File)
	switch {
	case key != "":
	case !isFile || !term.IsTerminal(int(in.Fd())):
		d.say("no Anthropic key is set, and sessions wait for one: `berth key set %s`", d.flags())
		return false, nil
	default:
		if key, err = readKey(ctx, stdio, ""); err != nil {
			return false, usage(ctx, err)
		}
	}
	if err := d.client.SetKey(ctx, d.stack, key); err != nil {
		return false, err
	}
	d.say("the key is set")
	return true, nil
}

// explainImage explains why there is no image: a call of AWS's as all others, and the registry, which is none, by what was done there.
func explainImage(err error) error {
	var call *smithy.OperationError
	var network net.Error
	switch {
	case errors.As(err, &call):
		if explained := new(cloud.Error); errors.As(cloud.Explain(err), &explained) {
			return explained
		}
	case errors.As(err, &network):
		return &cloud.Error{What: "the image repository cannot be reached: " + err.Error(), Next: "check the network, and run the same command again", Cause: err}
	}
	return err
}

// ensureImage sees that the repository has the image, and returns what ImageRef is to be.
func (d *deployment) ensureImage(ctx context.Context, stdio Stdio, given string) (ref string, err error) {
	architecture := "amd64"
	if d.stack.Outputs[contract.OutputArchitecture] == string(options.ARM64) {
		architecture = "arm64"
	}
	repository := image.Repository{
		URI: d.stack.Outputs[contract.OutputRepositoryURI], Endpoint: stdio.Getenv(image.EnvRegistry), Login: image.ECR(d.client.ECR),
	}
	result, err := image.Ensure(ctx, repository, image.Request{
		Architecture: architecture, Source: d.cdk.Root, Image: given, Progress: stdio.Err, Getenv: stdio.Getenv,
	})
	if err != nil {
		return "", explainImage(err)
	}
	return result.Ref(), nil
}

// tellCost says what the deployment costs a month, where there are prices.
func (d *deployment) tellCost(parsed options.Options) {
	table, err := cost.Load(d.client.Region)
	if err != nil {
		d.say("no estimate of the cost: %v", err)
		return
	}
	estimate, err := cost.New(parsed, cost.DefaultAssumptions(), table)
	if err != nil {
		d.say("no estimate of the cost: %v", err)
		return
	}
	d.say("estimated at %s a month, without model use; `berth cost` has the rows", "$"+fmt.Sprint(estimate.Total))
}
