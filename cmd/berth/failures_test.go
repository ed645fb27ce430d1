package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/cloud/awstest"
)

// inCloud are the ways in which verbs are called for a deployment in AWS. Each is met with each of the failures below.
var inCloud = []struct {
	verb  string
	args  []string
	stdin string
	waits string // the call at which it waits for AWS; empty: it does not wait
	any   bool   // the stack's state does not matter
	agent bool   // it reaches the agent: what may pass by itself ends it with 3
	local bool   // it asks neither AWS nor the agent
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
	{verb: "run", args: []string{"run", "--env", "dev", "--detach", "succeed at it"}, agent: true},
	{verb: "ps", args: []string{"ps", "--env", "dev"}, agent: true},
	{verb: "show", args: []string{"show", "--env", "dev", "be000", "--json"}, agent: true},
	{verb: "send", args: []string{"send", "--env", "dev", "be000", "more"}, agent: true},
	{verb: "stop", args: []string{"stop", "--env", "dev", "be001", "--no-wait"}, agent: true},
	{verb: "resume", args: []string{"resume", "--env", "dev", "be000", "--detach"}, agent: true},
	{verb: "diff", args: []string{"diff", "--env", "dev", "be000"}, agent: true},
	{verb: "spend", args: []string{"spend", "--env", "dev"}, agent: true},
	{verb: "logs", args: []string{"logs", "--env", "dev", "be000"}, agent: true},
	{verb: "logs", args: []string{"logs", "--env", "dev"}, agent: true, any: true},
	{verb: "exec", args: []string{"exec", "--env", "dev", "--", "true"}, agent: true},
	{verb: "open", args: []string{"open", "--env", "dev"}, agent: true},
	{verb: "pull", args: []string{"pull", "--env", "dev", "be000"}, agent: true},
	{verb: "completion", args: []string{"completion"}, local: true},
}

// notInCloud are the verbs that no row above is for, and why.
var notInCloud = map[string]string{
	// internal/ops meets them with the same: TestEveryCallRefused, TestInterruptedWaits, TestNoDeployment.
	"down": "", "backup now": "", "backup list": "", "backup restore": "", "backup verify": "",
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
			if row.verb == "pull" {
				l.makeClone(t)
			}
			if row.local {
				asksNobody(t, l, row.args)
				return
			}
			env := slices.Clone(l.env)
			again := func() {
				l.Heal()
				l.running()
				l.env = slices.Clone(env)
				if row.verb == "unpause" {
					l.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Parameters["DesiredCount"] = "0" })
				}
			}
			run := func() done {
				l.agent.change(func() {
					l.agent.sessions = nil
					l.agent.add("succeed").play("succeed")
					l.agent.add("hang").play("hang")
				})
				return l.berth(t, row.stdin, row.args...)
			}
			passing := 1 // the exit status of what may pass by itself
			if row.agent {
				passing = 3
			}

			again()
			if got := run(); row.verb == "open" && got.code != 130 || row.verb != "open" && got.code != 0 {
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
				for kind, want := range map[string]struct {
					code        int
					cause, next string
				}{"denied": {1, "AWS refuses ", "allow that action"}, "throttled": {passing, "AWS throttles ", "wait a minute"}} {
					again()
					if !strings.Contains(call, "Get.") && call != "logs:GetLogEvents" {
						l.Fail(awstest.Failure{Call: call, Kind: kind})
						told(t, kind+" at "+call, run(), want.code, want.cause, want.next)
					}
				}
			}
			for kind, want := range map[string]struct {
				code        int
				cause, next string
			}{
				"expired": {1, "the AWS credentials have expired", "aws sso login"}, "cut": {passing, "AWS cannot be reached", "run the same command again"},
				"unknown": {1, "AWS does not know these credentials", "AWS_PROFILE"},
			} {
				again()
				l.Fail(awstest.Failure{Call: "*", Kind: kind})
				told(t, kind, run(), want.code, want.cause, want.next)
			}
			if row.waits != "" {
				again()
				l.Fail(awstest.Failure{Call: "ecs:DescribeServices", Kind: "cut", After: 1, Times: 1}) // an outage that ends is waited out
				l.Change(func(w *awstest.World) { w.Services["claude-code-dev"].Polls = 2 })
				if got := run(); row.verb != "deploy" && got.code != 0 {
					t.Errorf("one cut in mid-wait: %+v", got)
				}
			}
			switch {
			case row.any:
			case row.agent:
				noTask(t, l, again, run)
				states(t, l, func() {
					again()
					l.Change(func(w *awstest.World) { w.Services["claude-code-dev"].Tasks = nil })
				}, run, passing)
			default:
				states(t, l, again, run, passing)
			}
			if row.waits != "" {
				waits(t, l, again, row.args, row.stdin)
			}
		})
	}
}

// makeClone makes the directory that berth is run in a repository, which a session's bundle can be pulled into.
func (l *lab) makeClone(t *testing.T) {
	t.Helper()
	l.agent.dir = t.TempDir()
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"},
		{"-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "commit", "--quiet", "--allow-empty", "--message", "work"},
		{"bundle", "create", "--quiet", filepath.Join(l.agent.dir, "thin.bundle"), "main"},
	} {
		command := exec.CommandContext(t.Context(), "git", args...)
		command.Dir, command.Env = l.root, l.env
		if said, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, said)
		}
	}
}

// asksNobody runs a verb with nothing that reaches AWS or an agent, and with what else it may lack.
func asksNobody(t *testing.T, l *lab, args []string) {
	l.Fail(awstest.Failure{Call: "*", Kind: "cut"})
	l.env = []string{"PATH=" + filepath.Join(l.root, "programs") + ":/usr/bin:/bin", "HOME=" + l.root}
	loginShell := func(shell string) {
		script := "#!/bin/sh\necho somebody:x:0:0::/:" + shell + "\n"
		if err := os.WriteFile(filepath.Join(l.root, "programs/getent"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	loginShell("/bin/bash")
	if got := l.berth(t, "", args...); got.code != 0 || got.out == "" || len(l.Calls()) > 0 {
		t.Errorf("with nothing: %+v, and it called %v", got, l.Calls())
	}
	for _, shell := range []string{"/bin/tcsh", ""} {
		loginShell(shell)
		told(t, "the login shell "+shell, l.berth(t, "", args...), 1, "shell", "berth completion bash, zsh or fish")
	}
	told(t, "another shell", l.berth(t, "", append(slices.Clone(args), "powershell")...), 2, "powershell", "bash")
}

// noTask meets a verb with a deployment whose task does not run.
func noTask(t *testing.T, l *lab, again func(), run func() done) {
	for _, task := range []*awstest.Task{
		{StopCode: "EssentialContainerExited", StoppedReason: "Essential container in task exited", ExitCode: intOf(78)},
		{StopCode: "TaskFailedToStart", StoppedReason: "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found"},
		{StopCode: "TaskFailedToStart", StoppedReason: "CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'"},
		{StopCode: "ServiceSchedulerInitiated", StoppedReason: "Scaling activity initiated by deployment ecs-svc/2, which the ECS deployment circuit breaker rolled back"},
	} {
		again()
		task.ID, task.Status, task.Stopped = strings.Repeat("2", 32), "STOPPED", time.Unix(1_700_000_300, 0)
		l.Change(func(w *awstest.World) { w.Services["claude-code-dev"].Tasks = []*awstest.Task{task} })
		told(t, task.StoppedReason, run(), 3, "no task of claude-code-dev runs; the last one ended: "+task.StoppedReason, "`berth status --env dev` says more")
	}
	again()
	l.Change(func(w *awstest.World) {
		w.Services["claude-code-dev"].Tasks, w.Stacks["claude-code-dev"].Parameters["DesiredCount"] = nil, "0"
	})
	told(t, "paused", run(), 3, "claude-code-dev is paused", "`berth unpause --env dev`")
	again()
	l.Change(func(w *awstest.World) { delete(w.Stacks, "claude-code-dev") })
	told(t, "no stack", run(), 3, "there is no stack claude-code-dev", "`berth up --env dev`")
}

// states meets a verb with the states of a stack that stand in its way.
func states(t *testing.T, l *lab, again func(), run func() done, code int) {
	for status, next := range map[string]string{
		"ROLLBACK_COMPLETE": "`berth down --env dev`, then `berth up --env dev`", "UPDATE_ROLLBACK_FAILED": "aws cloudformation continue-update-rollback --stack-name claude-code-dev",
		"DELETE_FAILED": "`berth down --env dev`",
	} {
		again()
		l.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = status })
		told(t, status, run(), code, "stack claude-code-dev is in "+status, next)
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
	l.Change(func(w *awstest.World) { delete(w.Quotas, "L-3032A538") })
	if got := l.berth(t, "", "doctor", "--env", "dev"); got.code != 0 || !strings.Contains(got.out, "✓ quota") || !strings.Contains(got.out, "not known, Service Quotas does not tell") {
		t.Errorf("a quota that nobody tells: %+v", got)
	}
	l.Change(func(w *awstest.World) { w.Quotas["L-3032A538"] = 100 })

	l.saveImage(t, "arm64")
	told(t, "an image for another machine", first(func(*awstest.World) {}), 1, "arm64", "amd64")
	l.saveImage(t, "amd64")
	if err := os.WriteFile(filepath.Join(l.root, "programs/silent"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Forget()
	told(t, "no builder", first(func(*awstest.World) {}), 1, "no program here can build an image", "start it, and try again")
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("without a builder it changed %q", changed)
	}
	if err := os.Remove(filepath.Join(l.root, "node_modules/.bin/cdk")); err != nil {
		t.Fatal(err)
	}
	told(t, "no CDK CLI", first(func(*awstest.World) {}), 1, "the pinned CDK CLI is not installed", "npm ci")
	for _, args := range [][]string{{"status"}, {"pause"}, {"deploy", "v1"}} {
		told(t, "no stack", l.berth(t, "", append(slices.Clone(args), "--env", "staging")...), 1, "there is no stack claude-code-staging in us-east-1", "berth up --env staging")
	}
}

// What only the registry and the builder can do to `push`.
func TestFailuresOfPush(t *testing.T) {
	l := newLab(t)
	l.running()
	push := []string{"push", "--env", "dev"}
	l.saveImage(t, "arm64")
	told(t, "an image for another machine", l.berth(t, "", append(slices.Clone(push), "--image", "ours:1")...), 1, "is for linux/arm64, and the stack's tasks run on linux/amd64", "--platform linux/amd64")
	l.saveImage(t, "amd64")
	env := slices.Clone(l.env)
	registry := func(address string) {
		l.env = slices.DeleteFunc(slices.Clone(env), func(each string) bool { return strings.HasPrefix(each, "BERTH_REGISTRY=") })
		l.env = append(l.env, "BERTH_REGISTRY="+address)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	registry(strings.TrimPrefix(closed.URL, "http://"))
	told(t, "no registry", l.berth(t, "", push...), 1, "the image repository cannot be reached: look into ", "check the network")
	for status, want := range map[int][2]string{
		http.StatusUnauthorized:       {"the registry refuses these credentials", "ecr:GetAuthorizationToken"},
		http.StatusForbidden:          {"the registry refuses these credentials", "ecr actions to push"},
		http.StatusServiceUnavailable: {"look into ", "503"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		registry(strings.TrimPrefix(server.URL, "http://"))
		told(t, http.StatusText(status), l.berth(t, "", push...), 1, want[0], want[1])
		server.Close()
	}
	registry("registry.example:5000")
	told(t, "a registry elsewhere", l.berth(t, "", push...), 1, "is not on this machine's loopback", "127.0.0.1:5000")
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("it changed %q", changed)
	}
}
