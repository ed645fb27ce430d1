//go:build e2e

package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"berth/internal/api"
	"berth/internal/cloud/awstest"
	"berth/internal/contract"
	"berth/internal/image"
	"berth/internal/scripted"
	"berth/internal/tunnel/ssmtest"
)

// story is a deployment from its beginning to its end, seen from the operator's place: a clone of the project, an AWS account, which is
// an emulator, and a model, which plays scripts.
type story struct {
	t       *testing.T // the present step's
	whole   *testing.T // the story's
	url     string     // of the emulator
	env     []string   // of every command
	model   string     // its address
	key     atomic.Value
	fargate *fargate
	watched func(secret string)
	proxy   *awstest.Recorder
	cli     *awsCLI

	first        reported     // after the first `berth up`
	instructions atomic.Value // the thief's
}

// step runs a part of the story, and ends the story if that fails.
func (x *story) step(name string, run func()) {
	defer func() { x.t = x.whole }()
	if !x.whole.Run(name, func(t *testing.T) { x.t = t; run() }) {
		x.whole.FailNow()
	}
}

// envCredentials names the address at which the containers of a task get their role's credentials.
const envCredentials = "AWS_CONTAINER_CREDENTIALS_FULL_URI"

var names = contract.Names{Project: "claude-code", Environment: "dev"}

// commandTime ends a command that would otherwise never end: one of them builds the image.
const commandTime = 15 * time.Minute

func newStory(t *testing.T, scripts ...scripted.Script) *story {
	t.Helper()
	x := &story{t: t, whole: t}
	x.startModel(scripts)
	x.environment()
	x.emulator()
	role := httptest.NewServer(http.HandlerFunc(credential))
	t.Cleanup(role.Close)
	config := aws.Config{Region: "us-east-1", BaseEndpoint: &x.url, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
	x.fargate = &fargate{
		t: t, docker: shared.docker, url: x.url, cluster: names.Stack(), volumes: t.TempDir(), containers: map[string]string{}, over: map[string]bool{},
		// On Fargate the role's credentials are at an address of the task's own.
		platform: map[string]string{
			"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": x.url,
			envCredentials: role.URL + "/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN": taskToken,
		},
		ecs: ecs.NewFromConfig(config), secrets: secretsmanager.NewFromConfig(config), logs: cloudwatchlogs.NewFromConfig(config),
	}
	x.fargate.ssm = ssmtest.New()
	x.fargate.ssm.Execute = x.fargate.inContainer
	t.Cleanup(x.fargate.ssm.Close)
	proxy, err := awstest.NewRecorder(x.url, map[string]http.HandlerFunc{"StartSession": x.fargate.startSession, "ExecuteCommand": x.fargate.executeCommand})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	x.proxy = proxy
	x.run("", "go", "build", "-o", "bin/", "./cmd/berth", "./infra") // the CDK CLI builds the second one itself, if need be
	x.env = append(x.env, image.EnvRegistry+"="+x.proxy.Address(), "AWS_ENDPOINT_URL="+x.proxy.URL(), "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
	x.cli = startCLI(t, x.env)
	x.watched = watchCommandLines(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); x.fargate.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return x
}

// startModel starts the model's API, which takes the one key that x.key has then.
func (x *story) startModel(scripts []scripted.Script) {
	x.t.Helper()
	model, err := scripted.New(scripted.Options{Scripts: scripts})
	if err != nil {
		x.t.Fatal(err)
	}
	x.key.Store(modelKey)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != x.key.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`)
			return
		}
		model.ServeHTTP(w, r)
	}))
	x.t.Cleanup(server.Close)
	x.model = server.URL
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
		"GOPROXY=off", "DOCKER_HOST=" + shared.docker.Host, image.EnvBuildFlags + "=--network=host", "BERTH_POLL_SECONDS=0.3",
		// What people have in theirs, and nothing of this may be in the image.
		contract.EnvAnthropicAPIKey + "=" + modelKey, contract.EnvGitHubToken + "=" + githubSecret, contract.EnvAPIToken + "=" + apiSecret,
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
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	emulator, err := awstest.StartEmulator(ctx, shared.root, x.t.TempDir(), x.env)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() {
		if said, err := emulator.Stop(); err != nil || x.t.Failed() {
			x.t.Logf("the emulator: %v\n%s", err, said)
		}
	})
	x.url = emulator.URL
}

// command is a command in the clone, not started; what it writes goes to the two buffers.
func (x *story) command(ctx context.Context, words ...string) (program *exec.Cmd, stdout, stderr *bytes.Buffer) {
	program = exec.CommandContext(ctx, words[0], words[1:]...)
	program.Dir, program.Env, program.WaitDelay = shared.clone, x.env, 5*time.Second
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	program.Stdout, program.Stderr = stdout, stderr
	return program, stdout, stderr
}

// run runs a command in the clone, which has to succeed, and returns what it prints.
func (x *story) run(input string, words ...string) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), commandTime)
	defer cancel()
	program, stdout, stderr := x.command(ctx, words...)
	program.Stdin = strings.NewReader(input)
	started := time.Now()
	if err := program.Run(); err != nil {
		x.t.Fatalf("%s: %v\n%s\n%s", strings.Join(words, " "), err, stdout, stderr)
	}
	x.t.Logf("%5.1f s  %.120s", time.Since(started).Seconds(), strings.Join(append([]string{filepath.Base(words[0])}, words[1:]...), " "))
	searchFor(x.t, words[0], strings.NewReader(stdout.String()+stderr.String()))
	return strings.TrimSpace(stdout.String())
}

// berth runs a verb of the command, as it was built from the clone, for the deployment.
func (x *story) berth(input string, words ...string) string {
	x.t.Helper()
	return x.run(input, append(append([]string{filepath.Join(shared.clone, "bin", "berth")}, words...), "--env", names.Environment)...)
}

// up is the one command.
func (x *story) up() {
	x.t.Helper()
	x.berth(x.key.Load().(string)+"\n", "up", "--key-file", "-", "-c", "anthropicBaseUrl="+x.model)
}

// aws asks the aws CLI, and returns the answers' JSON.
func (x *story) aws(commands ...string) []json.RawMessage {
	x.t.Helper()
	lists := make([][]string, len(commands))
	for i, each := range commands {
		lists[i] = append(strings.Fields(each), "--output", "json")
	}
	runs, err := x.cli.run(lists)
	if err != nil {
		x.t.Fatal(err)
	}
	answers := make([]json.RawMessage, len(commands))
	for i, each := range runs {
		if each.Status != 0 {
			x.t.Fatalf("aws %s: %d: %s", commands[i], each.Status, each.Stderr)
		}
		searchFor(x.t, "aws "+commands[i], strings.NewReader(each.Stdout))
		answers[i] = json.RawMessage(each.Stdout)
	}
	return answers
}

// awsCLI is the aws CLI, in one process for all commands: it takes a second or two to start.
type awsCLI struct {
	program *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
	stderr  bytes.Buffer
}

// awsRun is a command of the aws CLI that has ended.
type awsRun struct {
	Status         int
	Stdout, Stderr string
}

func startCLI(t *testing.T, env []string) *awsCLI {
	t.Helper()
	c := &awsCLI{program: exec.Command(filepath.Join(shared.root, ".venv", "bin", "python"), filepath.Join(shared.root, "e2e", "testdata", "aws.py"))}
	c.program.Env, c.program.Stderr = env, &c.stderr
	in, err := c.program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, json.NewDecoder(out)
	if err := c.program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // it ends with its input
		if err := errors.Join(c.in.Close(), c.program.Wait()); err != nil {
			t.Errorf("the aws CLI: %v: %s", err, &c.stderr)
		}
	})
	return c
}

func (c *awsCLI) run(commands [][]string) (runs []awsRun, err error) {
	if err := json.NewEncoder(c.in).Encode(commands); err != nil {
		return nil, err
	}
	if err := c.out.Decode(&runs); err != nil {
		return nil, fmt.Errorf("the aws CLI: %w", err)
	}
	return runs, nil
}

// next waits until another container than that one runs, and its agent answers.
func (x *story) next(before string) *task {
	x.t.Helper()
	eventually(x.t, "another container runs", func() bool { now := x.fargate.container(); return now != "" && now != before })
	return x.agent()
}

// agent waits until the agent of the container that runs now answers whoever has the token that the stack made.
func (x *story) agent() *task {
	x.t.Helper()
	var secret map[string]string
	text, err := x.fargate.secrets.GetSecretValue(x.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(names.AgentSecret())})
	if err != nil {
		x.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(aws.ToString(text.SecretString)), &secret); err != nil {
		x.t.Fatal(err)
	}
	token := secret[contract.SecretKeyAPIToken]
	x.watched(token)
	client := api.NewClient(api.Endpoint{URL: "http://" + contract.Listen, Token: token})
	in := &task{t: x.t, client: client, token: token}
	eventually(x.t, "the agent answers", func() bool {
		in.id = x.fargate.container()
		_, err := client.Status(x.t.Context())
		return err == nil && in.id != "" && in.id == x.fargate.container()
	})
	return in
}
