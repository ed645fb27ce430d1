//go:build e2e

package cloud

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// reported is what `berth status --json` says of a deployment.
type reported struct {
	Status           string
	Parameters, Tags map[string]string
	Paused           bool
	Service          struct {
		Status                    string
		Desired, Running, Pending int
		Rollout                   string
	}
	Tasks []struct {
		ID, Status, Digest string
	}
	Image  string
	Images []struct {
		Digest string
		Tags   []string
	}
	InRegistry bool   `json:"image_in_registry"`
	KeySet     bool   `json:"key_set"`
	KeyVersion string `json:"key_version"`
	Problems   []string
}

// compare has the aws CLI say what `berth status --json` says.
func (x *story) compare(after string) reported {
	x.t.Helper()
	var status reported
	if err := json.Unmarshal([]byte(x.berth("", "status", "--json")), &status); err != nil {
		x.t.Fatal(err)
	}
	stack := names.Stack()
	answers := x.aws(
		"cloudformation describe-stacks --stack-name "+stack,
		"ecs describe-services --cluster "+stack+" --services "+stack,
		"ecr describe-images --repository-name "+stack,
		"secretsmanager list-secret-version-ids --secret-id "+names.APIKeySecret(),
		"ecs list-tasks --cluster "+stack+" --desired-status RUNNING",
	)
	var seen reported
	x.stackSeen(answers[0], &seen)
	x.serviceSeen(answers[1], &seen)
	x.imagesSeen(answers[2], &seen)
	x.keySeen(answers[3], &seen)
	// What only berth makes of these, and stopped tasks, of which ECS forgets the oldest.
	seen.Paused, seen.Image, seen.InRegistry, seen.KeySet, seen.Problems = status.Paused, status.Image, true, true, []string{}
	tasks := status.Tasks
	status.Tasks = nil
	if difference := cmp.Diff(seen, status); difference != "" {
		x.t.Errorf("after %s the aws CLI reports other things than `berth status` (-aws +berth):\n%s", after, difference)
	}
	var running struct{ TaskArns []string }
	if err := json.Unmarshal(answers[4], &running); err != nil {
		x.t.Fatal(err)
	}
	for _, each := range tasks {
		if listed := slices.ContainsFunc(running.TaskArns, func(arn string) bool { return strings.HasSuffix(arn, "/"+each.ID) }); listed != (each.Status == "RUNNING") {
			x.t.Errorf("after %s `berth status` has the task %+v, and the aws CLI %q", after, each, running.TaskArns)
		}
	}
	return status
}

func (x *story) stackSeen(text []byte, seen *reported) {
	x.t.Helper()
	var answer struct {
		Stacks []struct {
			StackStatus string
			Parameters  []struct{ ParameterKey, ParameterValue string }
			Tags        []struct{ Key, Value string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil || len(answer.Stacks) != 1 {
		x.t.Fatalf("%v: %s", err, text)
	}
	seen.Status, seen.Parameters, seen.Tags = answer.Stacks[0].StackStatus, map[string]string{}, map[string]string{}
	for _, each := range answer.Stacks[0].Parameters {
		seen.Parameters[each.ParameterKey] = each.ParameterValue
	}
	for _, each := range answer.Stacks[0].Tags {
		seen.Tags[each.Key] = each.Value
	}
}

func (x *story) serviceSeen(text []byte, seen *reported) {
	x.t.Helper()
	var answer struct {
		Services []struct {
			Status                                   string
			DesiredCount, RunningCount, PendingCount int
			Deployments                              []struct{ RolloutState string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil || len(answer.Services) != 1 || len(answer.Services[0].Deployments) == 0 {
		x.t.Fatalf("%v: %s", err, text)
	}
	from := answer.Services[0]
	seen.Service.Status, seen.Service.Rollout = from.Status, from.Deployments[0].RolloutState
	seen.Service.Desired, seen.Service.Running, seen.Service.Pending = from.DesiredCount, from.RunningCount, from.PendingCount
}

func (x *story) imagesSeen(text []byte, seen *reported) {
	x.t.Helper()
	var answer struct {
		ImageDetails []struct {
			ImageDigest   string
			ImageTags     []string
			ImagePushedAt any
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		x.t.Fatalf("%v: %s", err, text)
	}
	seen.Images = nil
	for _, each := range answer.ImageDetails {
		seen.Images = append(seen.Images, struct {
			Digest string
			Tags   []string
		}{each.ImageDigest, each.ImageTags})
	}
	slices.Reverse(seen.Images) // the newest first
}

func (x *story) keySeen(text []byte, seen *reported) {
	x.t.Helper()
	var answer struct {
		Versions []struct {
			VersionID     string `json:"VersionId"`
			VersionStages []string
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		x.t.Fatalf("%v: %s", err, text)
	}
	for _, each := range answer.Versions {
		if slices.Contains(each.VersionStages, "AWSCURRENT") {
			seen.KeyVersion = each.VersionID
		}
	}
}
