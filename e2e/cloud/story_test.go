//go:build e2e && story

package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/image"
	"berth/internal/scripted"
)

// story is a deployment from its beginning to its end, seen from the operator's place: a clone of the project, an AWS account, which is
// an emulator, and a model, which plays scripts.
type story struct {
	t       *testing.T
	url     string   // of the emulator
	env     []string // of every command
	model   string
	fargate *fargate
	watched func(secret string)
	proxy   *recorder
}

var names = contract.Names{Project: "claude-code", Environment: "dev"}

func newStory(t *testing.T, scripts ...scripted.Script) *story {
	t.Helper()
	model, err := scripted.New(scripted.Options{Key: modelKey, Scripts: scripts})
	if err != nil {
		t.Fatal(err)
	}
	x := &story{t: t}
	var stop func()
	if x.model, stop, err = model.Listen(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	x.environment()
	x.emulator()
	x.proxy = newRecorder(t, x.url)
	x.run("go", "build", "-o", "bin/", "./cmd/berth")
	x.env = append(x.env, image.EnvRegistry+"="+x.proxy.address(), "AWS_ENDPOINT_URL="+x.proxy.URL, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
	x.watched = watchCommandLines(t)
	config := aws.Config{Region: "us-east-1", BaseEndpoint: &x.url, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
	x.fargate = &fargate{
		t: t, docker: shared.docker, url: x.url, cluster: names.Stack(), volumes: t.TempDir(), containers: map[string]string{},
		// On Fargate the role's credentials are at an address of the task's own.
		platform: map[string]string{
			"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": x.url,
			"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		},
		ecs: ecs.NewFromConfig(config), secrets: secretsmanager.NewFromConfig(config), logs: cloudwatchlogs.NewFromConfig(config),
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); x.fargate.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return x
}

// environment makes the environment of every command: nobody's home, profile and credentials are in it, and no proxy.
func (x *story) environment() {
	x.t.Helper()
	home := x.t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".cdk.json"), []byte(`{"notices": false}`), 0o600); err != nil {
		x.t.Fatal(err)
	}
	link := filepath.Join(shared.clone, "node_modules")
	if err := os.Symlink(filepath.Join(shared.root, "node_modules"), link); err != nil && !errors.Is(err, os.ErrExist) {
		x.t.Fatal(err)
	}
	x.env = []string{
		"PATH=" + filepath.Join(shared.root, "node_modules", ".bin") + ":/usr/bin:" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + x.t.TempDir(), "LC_ALL=C.UTF-8",
		"AWS_EC2_METADATA_DISABLED=true", "CDK_REQUIRE_APPROVAL=never", "CDK_DISABLE_CLI_TELEMETRY=true", "npm_config_update_notifier=false",
		"GOPROXY=off", "DOCKER_HOST=" + shared.docker.Host, image.EnvBuildFlags + "=--network=host",
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			x.t.Fatal(err)
		}
		x.env = append(x.env, name+"="+strings.TrimSpace(string(value)))
	}
}

// emulator starts an AWS emulator, which ends with the test.
func (x *story) emulator() {
	x.t.Helper()
	file := filepath.Join(x.t.TempDir(), "endpoint.json")
	program := exec.Command(filepath.Join(shared.root, ".venv/bin/python"), filepath.Join(shared.root, "emulator/launch.py"), "--endpoint-file", file, "--with-parent")
	var said bytes.Buffer
	program.Env, program.Stderr = x.env, &said
	if err := program.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() {
		err := errors.Join(program.Process.Signal(syscall.SIGTERM), program.Wait())
		if err != nil || x.t.Failed() {
			x.t.Logf("the emulator: %v\n%s", err, said.String())
		}
	})
	var endpoint struct{ URL string }
	eventually(x.t, "the emulator accepts requests", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &endpoint) == nil
	})
	x.url = endpoint.URL
}

// run runs a command in the clone, which has to succeed, and returns what it prints.
func (x *story) run(words ...string) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	switch words[0] {
	case "cdk":
		words[0] = filepath.Join(shared.root, "node_modules", ".bin", "cdk")
	case "aws":
		words[0] = filepath.Join(shared.root, ".venv", "bin", "aws")
	}
	program := exec.CommandContext(ctx, words[0], words[1:]...)
	program.Dir, program.Env, program.WaitDelay = shared.clone, x.env, 5*time.Second
	var stdout, stderr bytes.Buffer
	program.Stdout, program.Stderr = &stdout, &stderr
	started := time.Now()
	if err := program.Run(); err != nil {
		x.t.Fatalf("%s: %v\n%s\n%s", strings.Join(words, " "), err, stdout.String(), stderr.String())
	}
	x.t.Logf("%5.1f s  %.120s", time.Since(started).Seconds(), strings.Join(append([]string{filepath.Base(words[0])}, words[1:]...), " "))
	searchFor(x.t, words[0], strings.NewReader(stdout.String()+stderr.String()))
	return strings.TrimSpace(stdout.String())
}

// aws asks the aws CLI for one thing.
func (x *story) aws(query string, words ...string) string {
	x.t.Helper()
	return x.run(append(append([]string{"aws"}, words...), "--query", query, "--output", "text")...)
}

// berth runs the command, as it was built from the clone.
func (x *story) berth(words ...string) string {
	x.t.Helper()
	return x.run(append([]string{filepath.Join(shared.clone, "bin", "berth")}, words...)...)
}

// up is the one command.
func (x *story) up(key string) string {
	x.t.Helper()
	return x.berth("up", "--env", names.Environment, "-c", "anthropicBaseUrl="+x.model, "--key-file", key, "--no-smoke")
}

func (x *story) output(name string) string {
	x.t.Helper()
	return x.aws(fmt.Sprintf("Stacks[0].Outputs[?OutputKey=='%s'].OutputValue", name), "cloudformation", "describe-stacks", "--stack-name", names.Stack())
}

// agent waits until the agent answers, as it does to whoever has the token that the stack made.
func (x *story) agent() *api.Client {
	x.t.Helper()
	var agent map[string]string
	text, err := x.fargate.secrets.GetSecretValue(x.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(names.AgentSecret())})
	if err != nil {
		x.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(aws.ToString(text.SecretString)), &agent); err != nil {
		x.t.Fatal(err)
	}
	token := agent[contract.SecretKeyAPIToken]
	x.watched(token)
	client := api.NewClient(api.Endpoint{URL: "http://" + contract.Listen, Token: token})
	eventually(x.t, "the agent answers", func() bool {
		_, err := client.Status(x.t.Context())
		return err == nil
	})
	return client
}

// A deployment from nothing: the real CDK CLI deploys the stack, the real Dockerfile becomes the image in its registry, the service runs it as its task
// definition says, a session outlives its container, and what the aws CLI reports is what runs.
func TestTheStory(t *testing.T) {
	x := newStory(t,
		scripted.Script{Match: "^short", Steps: []scripted.Step{scripted.Use(scripted.Bash("echo made > file")), scripted.Text("Done.")}},
		scripted.Script{Match: "^long", Steps: []scripted.Step{
			scripted.Use(scripted.Bash("echo first >> steps")), scripted.Use(scripted.Bash("touch began; until test -e go-on; do sleep 0.1; done")), scripted.Text("Done."),
		}})
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(modelKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.up(key)
	digest := x.aws("imageDetails[].imageDigest", "ecr", "describe-images", "--repository-name", names.Stack())
	if !strings.HasPrefix(digest, "sha256:") || strings.Contains(digest, "\t") {
		t.Fatalf("ECR has %q", digest)
	}
	if parameter := x.aws("Stacks[0].Parameters[?ParameterKey=='ImageRef'].ParameterValue", "cloudformation", "describe-stacks", "--stack-name", names.Stack()); parameter != "@"+digest {
		t.Errorf("the stack's ImageRef is %s, and ECR has %s", parameter, digest)
	}
	client := x.agent()
	if running := x.aws("tasks[0].containers[0].imageDigest", "ecs", "describe-tasks", "--cluster", names.Stack(), "--tasks", x.task()); running != digest {
		t.Errorf("the task runs %s, and %s was rolled out", running, digest)
	}

	in := &task{t: t, client: client, id: x.fargate.container()}
	in.await(in.create("short"), "ends well", succeeded)
	long := in.create("long")
	in.await(long, "is in mid-work", in.began("began"))
	before := x.task()
	if _, err := shared.docker.Docker(t.Context(), "kill", "--signal", "KILL", in.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another container runs", func() bool { id := x.fargate.container(); return id != "" && id != in.id })
	in.id, in.client = x.fargate.container(), x.agent()
	again := in.await(long, "is in mid-work again", in.began("began"))
	in.inside("touch " + filepath.Join(again.WorkDir, "go-on"))
	in.await(long, "ends well", succeeded)
	if text := in.inside("cat " + filepath.Join(again.WorkDir, "steps")); text != "first" {
		t.Errorf("the steps that were taken: %q", text)
	}
	if why := x.aws("tasks[0].[stopCode,containers[0].exitCode]", "ecs", "describe-tasks", "--cluster", names.Stack(), "--tasks", before); why != "EssentialContainerExited\t137" {
		t.Errorf("the task that was killed: %q", why)
	}
	eventually(t, "the log is in CloudWatch", func() bool {
		return strings.Contains(x.aws("events[].message", "logs", "filter-log-events", "--log-group-name", names.LogGroup()), contract.LogSessionEnded)
	})

	x.proxy.forget()
	x.up(key)
	if changed := x.proxy.mutating(); len(changed) > 0 {
		t.Errorf("a second `berth up` with nothing to do made these calls: %q", changed)
	}
	if pushed := x.berth("push", "--env", names.Environment); !strings.HasSuffix(pushed, "@"+digest) {
		t.Errorf("`berth push` prints %q", pushed)
	}

	x.berth("pause", "--env", names.Environment)
	eventually(t, "no container runs", func() bool { return x.fargate.container() == "" })
	x.berth("unpause", "--env", names.Environment)
	in.client = x.agent()
	if again, err := in.client.Session(t.Context(), long); err != nil || again.State != api.Succeeded {
		t.Errorf("after a pause the session is %+v, %v", again, err)
	}
	x.berth("status", "--env", names.Environment, "--json")
	x.run("cdk", "destroy", "--force")
	if left := x.aws("StackSummaries[?StackStatus!='DELETE_COMPLETE'].StackName", "cloudformation", "list-stacks"); left != "" {
		t.Errorf("%s is left", left)
	}
}

// task is the ARN of the task that runs.
func (x *story) task() string {
	x.t.Helper()
	return x.aws("taskArns[0]", "ecs", "list-tasks", "--cluster", names.Stack(), "--desired-status", "RUNNING")
}

// watchCommandLines looks at the arguments of all processes of this machine until the test ends: no secret may be among them. What it
// returns adds a secret.
func watchCommandLines(t *testing.T) (add func(string)) {
	t.Helper()
	var (
		mu      sync.Mutex
		secrets = map[string]bool{modelKey: true, githubSecret: true, apiSecret: true}
		looks   int
		ended   = make(chan struct{})
		stopped = make(chan struct{})
	)
	look := func() {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		mu.Lock()
		defer mu.Unlock()
		for _, file := range files {
			text, _ := os.ReadFile(file)
			for secret := range secrets {
				if bytes.Contains(text, []byte(secret)) {
					t.Errorf("a secret is among the arguments of %.60q", text)
				}
			}
		}
		looks++
	}
	go func() {
		defer close(stopped)
		for tick := time.Tick(20 * time.Millisecond); ; look() {
			select {
			case <-tick:
			case <-ended:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(ended)
		<-stopped
		if looks < 10 {
			t.Errorf("the arguments of processes were looked at %d times only", looks)
		}
	})
	return func(secret string) {
		mu.Lock()
		defer mu.Unlock()
		secrets[secret] = true
	}
}
