package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/cloud/awstest"
)

// A hint names the region where the command did: without it, the same command on another day is for another region.
func TestHintsNameTheRegion(t *testing.T) {
	for _, row := range inCloud {
		if row.local {
			continue
		}
		t.Run(strings.Join(row.args, " "), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.makeClone(t)
			l.env = slices.DeleteFunc(l.env, func(each string) bool {
				return strings.HasPrefix(each, "AWS_REGION=") || strings.HasPrefix(each, "AWS_DEFAULT_REGION=")
			})
			args := slices.Clone(row.args)
			if end := slices.Index(args, "--"); end > 0 {
				args = slices.Insert(args, end, "--region", "eu-west-1")
			} else {
				args = append(args, "--region", "eu-west-1")
			}
			hints := 0
			for name, how := range map[string]func(*awstest.World){
				"nothing is wrong": func(*awstest.World) {},
				"no stack":         func(w *awstest.World) { delete(w.Stacks, "claude-code-dev") },
				"no key":           func(w *awstest.World) { w.Secrets["claude-code/dev/anthropic-api-key"].Value = "not-set" },
				"no image":         func(w *awstest.World) { w.Images["claude-code-dev"] = nil },
				"no earlier image": func(w *awstest.World) { w.Services["claude-code-dev"].Revision = 1 },
				"no VPC":           func(w *awstest.World) { w.VPCs = nil },
				"a small quota":    func(w *awstest.World) { w.Quotas["L-3032A538"] = 1 },
				"paused": func(w *awstest.World) {
					w.Services["claude-code-dev"].Tasks, w.Services["claude-code-dev"].Desired, w.Stacks["claude-code-dev"].Parameters["DesiredCount"] = nil, 0, "0"
				},
				"no task": func(w *awstest.World) {
					w.Services["claude-code-dev"].Tasks = []*awstest.Task{{ID: strings.Repeat("2", 32), Status: "STOPPED", StopCode: "EssentialContainerExited", StoppedReason: "gone", ExitCode: intOf(1), Stopped: time.Unix(1_700_000_300, 0)}}
				},
				"ROLLBACK_COMPLETE":      func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = "ROLLBACK_COMPLETE" },
				"UPDATE_ROLLBACK_FAILED": func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = "UPDATE_ROLLBACK_FAILED" },
				"DELETE_FAILED":          func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = "DELETE_FAILED" },
				"REVIEW_IN_PROGRESS":     func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = "REVIEW_IN_PROGRESS" },
			} {
				if name == "no task" && row.waits != "" {
					continue // for one
				}
				if row.agent && slices.Contains([]string{"no key", "no image", "no earlier image", "no VPC", "a small quota"}, name) {
					continue // nothing to it
				}
				l.running()
				l.Change(func(w *awstest.World) {
					w.VPCs, w.Quotas["L-3032A538"] = []awstest.VPC{{ID: "vpc-1", Default: true}}, 100
					how(w)
				})
				l.agent.change(func() {
					l.agent.sessions = nil
					l.agent.add("succeed").play("succeed")
					l.agent.add("hang").play("hang")
				})
				got := l.berth(t, row.stdin, args...)
				for _, hint := range suggested.FindAllString(got.out+got.err, -1) {
					hints++
					if !strings.Contains(hint, "--region eu-west-1") {
						t.Errorf("%s: it suggests %s", name, hint)
					}
				}
			}
			if hints == 0 && !row.any {
				t.Error("it suggested nothing, whatever was wrong")
			}
		})
	}
}

// suggested are the commands in a text that are for a region.
var suggested = regexp.MustCompile("`berth [^`]*`|`aws (?:cloudformation|ec2|ecs|efs|backup|secretsmanager|service-quotas) [^`]*`|Next:  berth .*")
