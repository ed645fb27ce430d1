package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/internal/cloud/awstest"
)

// inCloud are the ways in which verbs are called for a deployment in AWS. Each is met with each of the failures below.
var inCloud = []struct {
	verb  string
	args  []string
	stdin string
	waits string // the call at which it waits for AWS; empty: it does not wait
	any   bool   // the stack's state does not matter
}{
	{verb: "up", args: []string{"up", "--env", "dev", "--no-smoke"}, waits: "ecs:DescribeServices"},
	{verb: "status", args: []string{"status", "--env", "dev"}},
	{verb: "status", args: []string{"status", "--env", "dev", "--json"}},
	{verb: "deploy", args: []string{"deploy", "--env", "dev", "v1"}, waits: "ecs:DescribeServices"},
	{verb: "deploy", args: []string{"deploy", "--env", "dev", "--rollback"}, waits: "ecs:DescribeServices"},
	{verb: "pause", args: []string{"pause", "--env", "dev"}, waits: "ecs:DescribeServices"},
	{verb: "unpause", args: []string{"unpause", "--env", "dev"}, waits: "ecs:DescribeServices"},
	{verb: "key set", args: []string{"key", "set", "--env", "dev"}, stdin: "sk-ant-new\n", waits: "ecs:DescribeServices"},
	{verb: "doctor", args: []string{"doctor", "--env", "dev"}},
	{verb: "env list", args: []string{"env", "list"}, any: true},
	{verb: "diff", args: []string{"diff", "--env", "dev"}},
	{verb: "cost", args: []string{"cost", "--env", "dev"}},
	{verb: "cost", args: []string{"cost", "--env", "dev", "--actual", "--json"}, any: true},
	{verb: "push", args: []string{"push", "--env", "dev"}},
}

// notInCloud are the verbs that no row above is for, and why.
var notInCloud = map[string]string{
	"down": "see its own tests", "spend": "an agent's", "run": "an agent's", "ps": "an agent's", "show": "an agent's", "logs": "an agent's",
	"send": "an agent's", "stop": "an agent's", "resume": "an agent's", "pull": "an agent's", "completion": "of the shell",
	// Those of Session Manager and of AWS Backup have tests of their own beside their stand-ins.
	"exec": "", "open": "", "backup now": "", "backup list": "", "backup restore": "", "backup verify": "",
}

// A new verb has to say how it meets what goes wrong.
func TestEveryVerbHasARow(t *testing.T) {
	for _, verb := range verbs(t) {
		name := nameOf(verb)
		_, left := notInCloud[name]
		has := false
		for _, row := range inCloud {
			has = has || row.verb == name
		}
		if !has && !left {
			t.Errorf("the verb %s is in no row of the failures, nor among those left out", name)
		}
	}
}

// told checks how a command has failed: its status, one or two lines, the cause, and what to do next.
func told(t *testing.T, what string, got done, code int, cause, next string) {
	t.Helper()
	lines := got.lines()
	text := strings.Join(lines, "\n")
	if got.code != code || len(lines) < 1 || len(lines) > 2 || !strings.Contains(text, cause) || !strings.Contains(text, next) {
		t.Errorf("%s: exit status %d, want %d, %q and %q\n%s%s", what, got.code, code, cause, next, got.out, got.err)
	}
	if last := strings.TrimSuffix(got.err, "\n"); len(lines) > 0 && !strings.HasSuffix(last, lines[len(lines)-1]) {
		t.Errorf("%s: the reason is not the last that it says:\n%s", what, got.err)
	}
}

func TestFailuresOfEveryVerb(t *testing.T) {
	for _, row := range inCloud {
		t.Run(strings.Join(row.args, " "), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			env := slices.Clone(l.env)
			again := func() {
				l.Heal()
				l.running()
				l.env = slices.Clone(env)
				if row.verb == "unpause" {
					l.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Parameters["DesiredCount"] = "0" })
				}
			}
			run := func() done { return l.berth(t, row.stdin, row.args...) }

			again()
			if got := run(); got.code != 0 || len(got.lines()) > 0 {
				t.Fatalf("without a failure: %+v", got)
			}
			calls := map[string]bool{}
			for _, call := range l.Calls() {
				if !strings.HasPrefix(call.Action, "CreateStack") && call.String() != "cloudformation:UpdateStack" {
					calls[call.String()] = true
				}
			}

			for variable, want := range map[string][2]string{
				"AWS_ACCESS_KEY_ID": {"no AWS credentials were found", "aws configure"},
				"AWS_REGION":        {"no AWS region is set", "--region"},
			} {
				again()
				l.env = slices.DeleteFunc(l.env, func(each string) bool { return strings.HasPrefix(each, variable+"=") })
				told(t, "without "+variable, run(), 1, want[0], want[1])
			}
			for call := range calls {
				for kind, want := range map[string][2]string{"denied": {"AWS refuses ", "allow that action"}, "throttled": {"AWS throttles ", "wait a minute"}} {
					again()
					if !strings.Contains(call, "Get.") && call != "logs:GetLogEvents" {
						l.Fail(awstest.Failure{Call: call, Kind: kind})
						told(t, kind+" at "+call, run(), 1, want[0], want[1])
					}
				}
			}
			for kind, want := range map[string][2]string{
				"expired": {"the AWS credentials have expired", "aws sso login"}, "cut": {"AWS cannot be reached", "run the same command again"},
				"unknown": {"AWS does not know these credentials", "AWS_PROFILE"},
			} {
				again()
				l.Fail(awstest.Failure{Call: "*", Kind: kind})
				told(t, kind, run(), 1, want[0], want[1])
			}
			if row.waits != "" {
				again()
				l.Fail(awstest.Failure{Call: "ecs:DescribeServices", Kind: "cut", After: 1, Times: 1}) // an outage that ends is waited out
				l.Change(func(w *awstest.World) { w.Services["claude-code-dev"].Polls = 2 })
				if got := run(); row.verb != "deploy" && got.code != 0 {
					t.Errorf("one cut in mid-wait: %+v", got)
				}
			}
			if !row.any {
				states(t, l, again, run)
			}
			if row.waits != "" {
				waits(t, l, again, row.args, row.stdin)
			}
		})
	}
}

// states meets a verb with the states of a stack that stand in its way.
func states(t *testing.T, l *lab, again func(), run func() done) {
	for status, next := range map[string]string{
		"ROLLBACK_COMPLETE": "`berth down --env dev`, then `berth up --env dev`", "UPDATE_ROLLBACK_FAILED": "aws cloudformation continue-update-rollback --stack-name claude-code-dev",
		"DELETE_FAILED": "`berth down --env dev`",
	} {
		again()
		l.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = status })
		told(t, status, run(), 1, "stack claude-code-dev is in "+status, next)
		if changed := l.Mutations(); len(changed) > 0 {
			t.Errorf("%s: it changed %q", status, changed)
		}
	}
}

// waits meets a verb with what can happen while it waits for the service.
func waits(t *testing.T, l *lab, again func(), args []string, stdin string) {
	name := strings.Join(args, " ")
	again()
	l.Change(func(w *awstest.World) { w.Rollout.Polls, w.Services["claude-code-dev"].Polls = -1, -1 })
	told(t, "interrupted in mid-wait", l.interruptAt(t, "ecs:DescribeServices", stdin, args...), 130, "interrupted", "berth status --env dev")
	if strings.HasPrefix(name, "pause") {
		return // nothing starts
	}
	roll := func(how func(*awstest.World)) done {
		again()
		l.Change(func(w *awstest.World) {
			how(w)
			// What makes `up` roll something out.
			if args[0] == "up" {
				w.Stacks["claude-code-dev"].Parameters["ImageRef"] = ":latest"
			}
		})
		defer l.Change(func(w *awstest.World) { w.Rollout = awstest.Rollout{} })
		return l.berth(t, stdin, args...)
	}
	told(t, "a task that exits at once", roll(func(w *awstest.World) { w.Rollout.Exit = intOf(78) }), 1, "the container exited with 78", "--env dev")
	told(t, "a task that cannot pull", roll(func(w *awstest.World) {
		w.Rollout.CannotPull = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found"
	}), 1, "CannotPullContainerError", "berth up --env dev")
	told(t, "an image of another architecture", roll(func(w *awstest.World) {
		w.Rollout.CannotPull = "CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'"
	}), 1, "the image is not for x86_64", "berth up --env dev")
	told(t, "the circuit breaker", roll(func(w *awstest.World) { w.Rollout.Exit, w.Rollout.Broken = intOf(1), true }), 1, "the container exited with 1", "--env dev")
}

// What only `up` meets: nothing is there yet.
func TestFailuresOfTheFirstUp(t *testing.T) {
	l := newLab(t)
	up := []string{"up", "--env", "dev", "--no-smoke"}
	first := func(how func(*awstest.World)) done {
		l.Heal()
		l.Change(func(w *awstest.World) {
			delete(w.Stacks, "claude-code-dev")
			how(w)
		})
		return l.berth(t, "", up...)
	}
	told(t, "no default VPC", first(func(w *awstest.World) { w.VPCs = nil }), 1, "there is no default VPC in us-east-1", "-c vpcId=new")
	told(t, "a small quota", first(func(w *awstest.World) {
		w.VPCs, w.Quotas["L-3032A538"] = []awstest.VPC{{ID: "vpc-1", Default: true}}, 1
	}), 1, "may use 1 vCPUs in us-east-1, and the task takes 2", "request-service-quota-increase")
	l.Change(func(w *awstest.World) { w.Quotas["L-3032A538"] = 100 })

	l.saveImage(t, "arm64")
	told(t, "an image for another machine", first(func(*awstest.World) {}), 1, "arm64", "amd64")
	l.saveImage(t, "amd64")
	if err := os.WriteFile(filepath.Join(l.root, "programs/silent"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	told(t, "no builder", first(func(*awstest.World) {}), 1, "no program here can build an image", "start it, and try again")
	if err := os.Remove(filepath.Join(l.root, "node_modules/.bin/cdk")); err != nil {
		t.Fatal(err)
	}
	told(t, "no CDK CLI", first(func(*awstest.World) {}), 1, "the pinned CDK CLI is not installed", "npm ci")
	for _, args := range [][]string{{"status"}, {"pause"}, {"deploy", "v1"}} {
		told(t, "no stack", l.berth(t, "", append(slices.Clone(args), "--env", "staging")...), 1, "there is no stack claude-code-staging in us-east-1", "berth up --env staging")
	}
}
