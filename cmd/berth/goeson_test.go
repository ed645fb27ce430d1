package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/cloud/awstest"
)

// An earlier `up` that was cut off, or half of a deletion, is no reason to stop: the same command goes on.
func TestWhatWasCutOffGoesOn(t *testing.T) {
	const stack = "claude-code-dev"
	up := []string{"up", "--env", "dev", "--no-smoke"}
	down := []string{"down", "--env", "dev", "--yes"}
	met := func(t *testing.T, how func(*awstest.World), args ...string) (*lab, done) {
		t.Helper()
		l := newLab(t)
		l.running()
		l.agent.idle()
		l.Change(func(w *awstest.World) {
			w.ActiveSessions(0)
			how(w)
		})
		return l, l.berth(t, "", args...)
	}
	t.Run("a change set that was never executed", func(t *testing.T) {
		review := func(w *awstest.World) {
			w.Stacks[stack].Status, w.Stacks[stack].Outputs = "REVIEW_IN_PROGRESS", w.AddStack("claude-code", "staging").Outputs
			w.Stacks[stack].Parameters["ImageRef"], w.Stacks[stack].Parameters["DesiredCount"] = ":latest", "0"
			w.Services[stack].Desired, w.Services[stack].Tasks = 0, nil
		}
		l, got := met(t, review, up...)
		if checked := fmt.Sprint(l.Calls()); got.code != 0 || !strings.Contains(got.out, " runs @sha256:") || !strings.Contains(checked, "DescribeVpcs") {
			t.Errorf("up: %+v", got)
		}
		l, got = met(t, review, down...)
		if got.code != 0 || !slices.Contains(l.Mutations(), "cloudformation:DeleteStack") {
			t.Errorf("down: %+v", got)
		}
		_, got = met(t, review, "deploy", "--env", "dev", "v1")
		told(t, "deploy", got, 1, "a change set was made and not executed", "`berth up --env dev` goes on")
	})
	t.Run("CloudFormation is at work", func(t *testing.T) {
		for _, status := range []string{"UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_IN_PROGRESS"} {
			for _, args := range [][]string{up, down, {"deploy", "--env", "dev", "v1"}} {
				if args[0] == "deploy" && status == "UPDATE_IN_PROGRESS" {
					continue // it is told of, and is no verb that goes on
				}
				l, looks := newLab(t), 0
				l.running()
				l.agent.idle()
				var look func()
				look = func() {
					if looks++; looks < 4 {
						l.On("cloudformation:DescribeStacks", look)
						return
					}
					l.Change(func(w *awstest.World) { w.Stacks[stack].Status = "UPDATE_COMPLETE" })
				}
				l.Change(func(w *awstest.World) {
					w.ActiveSessions(0)
					w.Stacks[stack].Status = status
				})
				l.On("cloudformation:DescribeStacks", look)
				if got := l.berth(t, "", args...); got.code != 0 || !strings.Contains(got.err, "the stack is in "+status+"; waiting for its end") {
					t.Errorf("%q in %s: %+v", args, status, got)
				}
			}
		}
	})
	t.Run("half of a deletion", func(t *testing.T) {
		l, got := met(t, func(w *awstest.World) {
			w.Stacks[stack].Status = "DELETE_FAILED"
			delete(w.Services, stack)
			delete(w.Images, stack)
		}, down...)
		if got.code != 0 || !strings.Contains(got.out, "Nothing is left of claude-code-dev.") {
			t.Errorf("%+v, which did %q", got, l.Mutations())
		}
	})
	t.Run("a key without a task that has it", func(t *testing.T) {
		l, _ := met(t, func(*awstest.World) {}, up...)
		l.Change(func(w *awstest.World) {
			w.Services[stack].Tasks[len(w.Services[stack].Tasks)-1].Started = time.Now().Add(-2 * time.Hour)
			w.Secrets["claude-code/dev/anthropic-api-key"].Changed = time.Now().Add(-time.Hour)
		})
		l.Forget()
		got := l.berth(t, "", up...)
		if changed := fmt.Sprint(l.Mutations()); got.code != 0 || changed != "[ecs:UpdateService]" || !strings.Contains(got.err, "was started before the key was set, and is replaced") {
			t.Errorf("%+v, which changed %s", got, changed)
		}
		l.Forget()
		if got := l.berth(t, "", up...); got.code != 0 || len(l.Mutations()) > 0 {
			t.Errorf("again: %+v, which changed %q", got, l.Mutations())
		}
	})
}

// `aws ecs update-service --desired-count` changes the number of tasks beside the stack: nobody says then that the agent runs, or is paused.
func TestTheServicesOwnCount(t *testing.T) {
	for _, each := range []struct {
		set  int
		args []string
		want string
	}{
		{0, []string{"up", "--env", "dev", "--no-smoke"}, "claude-code-dev runs @sha256:"},
		{0, []string{"unpause", "--env", "dev"}, "claude-code-dev runs\n"},
		{1, []string{"pause", "--env", "dev"}, "claude-code-dev is paused"},
	} {
		l := newLab(t)
		l.running()
		if each.args[0] == "up" {
			l.berth(t, "", each.args...) // the image is its own
		}
		l.Change(func(w *awstest.World) {
			service := w.Services["claude-code-dev"]
			if service.Desired = each.set; each.set == 0 {
				service.Tasks = nil
			} else {
				w.Stacks["claude-code-dev"].Parameters["DesiredCount"] = "0"
			}
		})
		told(t, "status", l.berth(t, "", "status", "--env", "dev"), 1, fmt.Sprintf("the service was set to %d task", each.set), "`berth pause --env dev`")
		l.Forget()
		got := l.berth(t, "", each.args...)
		if changed := fmt.Sprint(l.Mutations()); got.code != 0 || !strings.HasPrefix(got.out, each.want) || changed != "[ecs:UpdateService]" {
			t.Errorf("%q: %+v, which changed %s", each.args, got, changed)
		}
		l.Change(func(w *awstest.World) {
			if desired := w.Services["claude-code-dev"].Desired; desired != 1-each.set {
				t.Errorf("%q: %d tasks are wanted", each.args, desired)
			}
		})
	}
}

// ECS answers for some moments as if nothing had been changed: that a service is steady then says nothing.
func TestAnswersOfBefore(t *testing.T) {
	l := newLab(t)
	l.running()
	l.Change(func(w *awstest.World) { w.Rollout = awstest.Rollout{Stale: 2, Exit: intOf(78)} })
	told(t, "key set", l.berth(t, "sk-ant-new\n", "key", "set", "--env", "dev"), 1, "the container exited with 78", "berth logs --env dev")
	l.running()
	l.Change(func(w *awstest.World) { w.Rollout = awstest.Rollout{Stale: 2} })
	if got := l.berth(t, "sk-ant-new\n", "key", "set", "--env", "dev"); got.code != 0 || got.out != "The key is set, and the task runs with it.\n" {
		t.Errorf("%+v", got)
	}
}

// What the first `up` will need in the end is looked for in the beginning.
func TestUpChecksBeforeItDeploys(t *testing.T) {
	l := newLab(t)
	up := []string{"up", "--env", "dev", "--no-smoke"}
	told(t, "no such key file", l.berth(t, "", append(slices.Clone(up), "--key-file", "none")...), 2, "--key-file: ", "no such file")
	told(t, "no key in it", l.berth(t, "", append(slices.Clone(up), "--key-file", os.DevNull)...), 2, "there is no key", "--key-file")
	if err := os.WriteFile(filepath.Join(l.root, "programs/silent"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	told(t, "no builder", l.berth(t, "", up...), 1, "no program here can build an image", "start it, and try again")
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("it changed %q", changed)
	}
}

// Termination protection is somebody's decision: no verb takes it off, and none deletes anything as long as it is on.
func TestTerminationProtection(t *testing.T) {
	l := newLab(t)
	l.running()
	l.Change(func(w *awstest.World) {
		w.Stacks["claude-code-dev"].Protected = true
		w.AddPoint("claude-code-dev", "fs-0123456789abcdef0", time.Unix(1_700_000_000, 0))
		w.OneOffs().Lines = []string{`{"verified":"claude-code-dev","sessions":1}`}
		w.ActiveSessions(0)
	})
	for _, args := range [][]string{{"pause"}, {"unpause"}, {"up", "--no-smoke", "-c", "alertEmail=ops@example.com"}, {"backup", "restore", "--yes"}} {
		if got := l.berth(t, "", append(slices.Clone(args), "--env", "dev")...); got.code != 0 || !slices.Contains(l.Mutations(), "cloudformation:UpdateStack") {
			t.Errorf("%q: %+v", args, got)
		}
		l.Change(func(w *awstest.World) {
			if !w.Stacks["claude-code-dev"].Protected {
				t.Errorf("%q has taken the protection off", args)
			}
		})
	}
	// The CDK CLI has just taken it off, and it cannot be put on again: the next deployment would not know.
	l.Fail(awstest.Failure{Call: "cloudformation:UpdateTerminationProtection", Kind: "denied", After: 1})
	told(t, "not put on again", l.berth(t, "", "up", "--env", "dev", "--no-smoke", "-c", "logRetentionDays=3"), 1,
		"stack claude-code-dev is without its termination protection", "update-termination-protection --enable-termination-protection --stack-name claude-code-dev` puts it on again")
	l.Heal()
	l.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Protected = true })
	l.Forget()
	told(t, "down", l.berth(t, "", "down", "--env", "dev", "--yes", "--force"), 1, "stack claude-code-dev has termination protection", "update-termination-protection --no-enable-termination-protection --stack-name claude-code-dev")
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("down changed %q", changed)
	}
}

// idle has the agent say that none of its sessions runs; without it, it says that one does.
func (a *fakeAgent) idle() {
	a.change(func() { a.status = map[string]any{"sessions": map[string]int{"succeeded": 2}} })
}

// The metric of the last minute does not know of a session that has just begun; the agent does.
func TestDownAsksTheAgent(t *testing.T) {
	l := newLab(t)
	l.running()
	l.Change(func(w *awstest.World) { w.ActiveSessions(0) })
	told(t, "down", l.berth(t, "", "down", "--env", "dev", "--yes"), 1, "1 session runs or waits", "--force")
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("it changed %q", changed)
	}
	l.agent.idle()
	l.Change(func(w *awstest.World) { w.ActiveSessions(-1) })
	if got := l.berth(t, "", "down", "--env", "dev", "--yes"); got.code != 0 {
		t.Errorf("no session, and no metric: %+v", got)
	}
}

// The image before the present one is the one that ran, and not one whose roll-out came to nothing.
func TestRollbackPassesOverWhatFailed(t *testing.T) {
	l := newLab(t)
	l.running()
	l.Change(func(w *awstest.World) {
		service := w.Services["claude-code-dev"]
		service.Revision, service.Ran, service.TakenBack = 3, []string{"@" + digestOf("a"), "@" + digestOf("c"), "@" + digestOf("b")}, []int{2}
	})
	if got := l.berth(t, "", "deploy", "--env", "dev", "--rollback"); got.code != 0 || got.out != digestOf("a")+"\n" {
		t.Errorf("%+v", got)
	}
}

// The last words of a task that wrote much are its last.
func TestLastWords(t *testing.T) {
	l := newLab(t)
	l.running()
	l.Change(func(w *awstest.World) {
		service := w.Services["claude-code-dev"]
		service.Tasks = []*awstest.Task{{ID: strings.Repeat("3", 32), Status: "STOPPED", StopCode: "EssentialContainerExited", StoppedReason: "Essential container in task exited", ExitCode: intOf(78), Stopped: time.Now()}}
		for i := range 25 {
			w.LogLines["/ecs/claude-code-dev"] = append(w.LogLines["/ecs/claude-code-dev"], awstest.LogLine{Stream: "agent/agent/" + service.Tasks[0].ID, Text: fmt.Sprintf("line %d", i), Time: time.Now()})
		}
	})
	told(t, "status", l.berth(t, "", "status", "--env", "dev"), 1, "its last words: line 24", "berth logs --env dev")
}
