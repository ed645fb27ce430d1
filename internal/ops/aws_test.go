package ops_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"berth/internal/cloud/awstest"
	"berth/internal/ops"
)

const (
	liveVolume     = "fs-0123456789abcdef0"
	restoredVolume = "fs-0aaaaaaaaaaaaaaa1"
	envCDK         = "BERTH_TEST_CDK" // has this test binary be the CDK CLI
)

// account is AWS with a deployment, at the wire, and berth's verbs on it.
type account struct {
	*awstest.World
	out, err bytes.Buffer
	input    string
}

// newAccount has a deployment with one running task, a backup of yesterday, and a task that finds a restored volume whole.
func newAccount(t *testing.T, environment string) *account {
	t.Helper()
	a := &account{World: awstest.New()}
	_, stop := a.Serve()
	t.Cleanup(stop)
	a.Change(func(w *awstest.World) {
		stack := w.AddStack("claude-code", environment)
		stack.Parameters["DesiredCount"] = "1"
		w.AddVolume(stack)
		w.AddPoint(stack.Name, liveVolume, w.Now().Add(-20*time.Hour))
		w.Services[stack.Name].Desired = 1
		w.Services[stack.Name].Tasks = []*awstest.Task{{ID: strings.Repeat("1", 32), Status: "RUNNING", Health: "HEALTHY"}}
		w.Images[stack.Name] = []awstest.Image{{Digest: "sha256:" + strings.Repeat("1", 64), Size: 250_000_000}}
		w.LogLines["/ecs/"+stack.Name] = []awstest.LogLine{}
		w.OneOffs().Lines = []string{`{"verified":"` + stack.Name + `","sessions":3,"events":41,"states":{"succeeded":2,"queued":1},"newest":"2026-11-27T10:00:00Z","broken":[],"mirrors":1}`}
		w.ActiveSessions(0)
		w.Backups().Polls = 1
	})
	for _, each := range append(a.Env(), "BERTH_POLL_SECONDS=0.001") {
		name, value, _ := strings.Cut(each, "=")
		t.Setenv(name, value)
	}
	project(t)
	return a
}

// project has the verbs find a CDK CLI: this test binary, which asks the same AWS.
func project(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "node_modules", ".bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n" + envCDK + `=1 exec "` + self + `" "$@"` + "\n"
	for name, text := range map[string]string{filepath.Join(dir, "cdk.json"): "{}", filepath.Join(bin, "cdk"): script} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func init() {
	if os.Getenv(envCDK) == "" {
		return
	}
	if err := fakeCDK(os.Args[1:]); err != nil {
		fmt.Println("❌ ", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fakeCDK does to the stack what the CDK CLI's verbs come to. Its flags are said again as parameters, so that a test sees them.
func fakeCDK(args []string) error {
	ctx := context.Background()
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	client := cloudformation.NewFromConfig(loaded)
	fmt.Println("cdk " + strings.Join(args, " "))
	if args[0] == "destroy" {
		_, err := client.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: &args[1]})
		return err
	}
	input := &cloudformation.UpdateStackInput{StackName: &args[1]}
	for i, arg := range args {
		if arg == "--parameters" {
			name, value, _ := strings.Cut(args[i+1], "=")
			input.Parameters = append(input.Parameters, types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(value)})
		}
	}
	_, err = client.UpdateStack(ctx, input)
	return err
}

type verb interface {
	Run(context.Context, ops.Stdio) error
}

// run runs a verb, and keeps what it writes.
func (a *account) run(ctx context.Context, v verb) error {
	a.out.Reset()
	a.err.Reset()
	return v.Run(ctx, ops.Stdio{In: strings.NewReader(a.input), Out: &a.out, Err: &a.err, Getenv: os.Getenv})
}

var (
	dev  = ops.Target{Env: "dev"}
	prod = ops.Target{Env: "prod"}
)

// wellTold checks what a person is told of a failure: one or two lines, a cause and something to do next.
func wellTold(t *testing.T, err error, status int, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there was no error")
	}
	lines := ops.Lines(err)
	text := strings.Join(lines, "\n")
	if len(lines) > 2 || ops.ExitCode(err) != status {
		t.Errorf("exit status %d (want %d), and these lines:\n%s", ops.ExitCode(err), status, text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// TestEveryCallRefused has each call of a verb denied, then throttled, one at a time: each time the error names that call, and what
// the verb had made by then is gone again or named.
func TestEveryCallRefused(t *testing.T) {
	for name, make := range map[string]func() verb{
		"backup now":     func() verb { return &ops.BackupNow{Target: dev} },
		"backup list":    func() verb { return &ops.BackupList{Target: dev} },
		"backup verify":  func() verb { return &ops.BackupVerify{Target: dev} },
		"backup restore": func() verb { return &ops.BackupRestore{Target: dev, Yes: true} },
		"down":           func() verb { return &ops.Down{Target: dev, Yes: true} },
		"down prod":      func() verb { return &ops.Down{Target: prod, Yes: true} },
		"down --purge":   func() verb { return &ops.Down{Target: prod, Yes: true, Purge: true} },
	} {
		t.Run(name, func(t *testing.T) {
			environment := "dev"
			if strings.Contains(name, "prod") || strings.Contains(name, "purge") {
				environment = "prod"
			}
			a := newAccount(t, environment)
			if err := a.run(t.Context(), make()); err != nil {
				t.Fatalf("without a failure: %v\n%s", err, a.err.String())
			}
			var calls []string
			for _, call := range a.Calls() {
				if !slices.Contains(calls, call.String()) {
					calls = append(calls, call.String())
				}
			}
			for _, call := range calls {
				if call == "cloudformation:DeleteStack" || call == "cloudformation:UpdateStack" || call == "cloudformation:DescribeStackEvents" {
					continue // the CDK CLI's, or made only after a failure
				}
				if strings.HasPrefix(name, "down") && slices.Contains([]string{"secretsmanager:GetSecretValue", "ecs:ListTasks", "ecs:DescribeTasks", "ssm:StartSession"}, call) {
					continue // the way to the agent, whose metric has to do where there is none
				}
				for _, kind := range []string{"denied", "throttled"} {
					a := newAccount(t, environment)
					a.Fail(awstest.Failure{Call: call, Kind: kind})
					err := a.run(t.Context(), make())
					_, action, _ := strings.Cut(call, ":")
					wellTold(t, err, ops.ExitFailed, action)
					a.restoredIsGoneOrNamed(t, err, call+" "+kind)
				}
			}
		})
	}
}

// restoredIsGoneOrNamed checks that a failed drill leaves nothing that it does not name.
func (a *account) restoredIsGoneOrNamed(t *testing.T, err error, when string) {
	t.Helper()
	text := strings.Join(ops.Lines(err), "\n")
	a.Change(func(w *awstest.World) {
		if w.Files()[restoredVolume] != nil && !strings.Contains(text, restoredVolume) && !strings.Contains(text, "describe-restore-job") {
			t.Errorf("%s: the restored file system is left, and not named: %s", when, text)
		}
		for arn := range w.OneOffs().Definitions {
			if !strings.Contains(text, arn[strings.LastIndex(arn, "/")+1:]) {
				t.Errorf("%s: a task definition is left, and not named: %s", when, text)
			}
		}
	})
}

// TestInterruptedWaits has Ctrl-C, and a cut of the network, come in the middle of each wait.
func TestInterruptedWaits(t *testing.T) {
	for _, each := range []struct {
		name, call, says string
		verb             verb
	}{
		{"backup now", "backup:DescribeBackupJob", "backup job backup-job-1 goes on in AWS", &ops.BackupNow{Target: dev}},
		{"backup verify", "backup:DescribeRestoreJob", "restore job restore-job-1 goes on in AWS", &ops.BackupVerify{Target: dev}},
		{"verify's task", "ecs:DescribeTasks", "the task is stopped", &ops.BackupVerify{Target: dev}},
		{"backup restore", "backup:DescribeBackupJob", "the agent is stopped, on its old volume", &ops.BackupRestore{Target: dev, Yes: true}},
		{"restore stops the agent", "cloudformation:UpdateStack", "what CloudFormation has begun goes on: `berth status --env dev` tells whether the agent runs", &ops.BackupRestore{Target: dev, Yes: true}},
		{"down", "backup:DescribeBackupJob", "`berth down --env prod` goes on, `berth up --env prod` has the agent run again instead", &ops.Down{Target: prod, Yes: true}},
	} {
		environment := "dev"
		if each.name == "down" {
			environment = "prod"
		}
		t.Run(each.name, func(t *testing.T) {
			a := newAccount(t, environment)
			a.Change(func(w *awstest.World) {
				w.Backups().NeverDone = strings.HasPrefix(each.call, "backup:")
				w.OneOffs().Hang = true
			})
			if strings.Contains(each.name, "restore") { // the restoration itself ends
				a.Change(func(w *awstest.World) { w.Backups().NeverDone, w.OneOffs().Hang = false, false })
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a.On(each.call, cancel)
			wellTold(t, a.run(ctx, each.verb), ops.ExitInterrupted, "interrupted", each.says)
		})
		if each.call == "cloudformation:UpdateStack" {
			continue // the CDK CLI's
		}
		t.Run(each.name+", cut", func(t *testing.T) {
			a := newAccount(t, environment)
			a.Fail(awstest.Failure{Call: each.call, Kind: "cut"})
			wellTold(t, a.run(t.Context(), each.verb), ops.ExitFailed, "cannot be reached", each.says)
		})
	}
}

func TestNoDeployment(t *testing.T) {
	for _, v := range []verb{&ops.BackupNow{Target: dev}, &ops.BackupList{Target: dev}, &ops.BackupVerify{Target: dev}, &ops.BackupRestore{Target: dev, Yes: true}} {
		a := newAccount(t, "staging")
		wellTold(t, a.run(t.Context(), v), ops.ExitFailed, "there is no stack claude-code-dev", "berth up --env dev")
	}
	a := newAccount(t, "staging")
	for _, v := range []verb{&ops.BackupNow{}, &ops.BackupList{}, &ops.BackupVerify{}, &ops.BackupRestore{}} {
		wellTold(t, a.run(t.Context(), v), ops.ExitUsage, "name it with --env")
	}
	wellTold(t, a.run(t.Context(), &ops.Down{Purge: true}), ops.ExitUsage, "--env")
	if calls := a.Calls(); len(calls) > 0 {
		t.Errorf("AWS was asked: %v", calls)
	}
}
