//go:build e2e && story

package cloud

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// A deployment from nothing to nothing, twice: the real CDK CLI deploys the stack, the real Dockerfile becomes the image in its
// repository, the service runs it as its task definition says, sessions come through the tunnel and outlive their container, and after
// each step the aws CLI reports what `berth status` does. No secret is among the arguments of any process meanwhile.
func TestTheStory(t *testing.T) {
	needImage(t) // so that Docker has its layers
	x := newStory(t,
		scripted.Script{Match: "berth works", Steps: []scripted.Step{scripted.Use(scripted.Bash("echo berth works")), scripted.Text("berth works")}},
		scripted.Script{Match: "^short", Steps: []scripted.Step{scripted.Use(scripted.Bash("echo made > file")), scripted.Text("All done.")}},
		scripted.Script{Match: "^long", Steps: []scripted.Step{
			scripted.Use(scripted.Bash("echo first >> steps")), scripted.Use(scripted.Bash("touch began; until test -e go-on; do sleep 0.1; done")), scripted.Text("All done."),
		}})
	x.up()
	first := x.compare("up")
	if first.Image == "" || first.Parameters[contract.ParamImageRef] != "@"+first.Image || !first.KeySet || first.Paused {
		t.Errorf("after `berth up`: %+v", first)
	}
	x.session("short")
	x.killedInMidSession()
	x.logs()

	before := x.fargate.container()
	x.key.Store(secondKey)
	x.berth(secondKey, "key", "set")
	x.next(before)
	if second := x.compare("key set"); second.KeyVersion == first.KeyVersion {
		t.Errorf("after `berth key set` the secret has the version %s still", first.KeyVersion)
	}
	x.session("short")

	x.nothingToDo()
	x.another(first.Image)
	x.pause()

	if text := x.run("", filepath.Join(shared.clone, "bin", "berth"), "exec", "--env", names.Environment, "--", "id", "-u"); text != "0" {
		t.Errorf("`berth exec` says %q", text)
	}
	x.cost()
	x.searchTemplate()
	x.down()
	x.up()
	x.compare("up again")
	x.down()
}

// session runs a session to its end, through the tunnel.
func (x *story) session(prompt string) {
	x.t.Helper()
	x.agent() // the emulator has a task as running before its container runs
	id, said, _ := strings.Cut(x.berth("", "run", prompt), "\n")
	if !strings.Contains(said, "All done.") {
		x.t.Errorf("`berth run` says %q", said)
	}
	var shown api.Session
	if err := json.Unmarshal([]byte(x.berth("", "show", id, "--json")), &shown); err != nil || shown.State != api.Succeeded {
		x.t.Errorf("`berth show` says %+v, %v", shown, err)
	}
}

// killedInMidSession kills the container while somebody follows a session in it.
func (x *story) killedInMidSession() {
	x.t.Helper()
	following, stdout, stderr := x.command(x.t.Context(), filepath.Join(shared.clone, "bin", "berth"), "run", "long", "--env", names.Environment)
	if err := following.Start(); err != nil {
		x.t.Fatal(err)
	}
	before := x.agent()
	var id string
	eventually(x.t, "the session is there", func() bool {
		list, err := before.client.Sessions(x.t.Context())
		for _, each := range list {
			if each.Prompt == "long" {
				id = each.ID
			}
		}
		return err == nil && id != ""
	})
	before.await(id, "is in mid-work", before.began("began"))
	eventually(x.t, "a checkpoint has the first step's file", func() bool {
		command := "for each in " + contract.VolumePath + "/repos/*.git; do git -c safe.directory='*' --git-dir=$each ls-tree -r --name-only refs/berth/" + id + "; done | grep -w steps"
		_, err := shared.docker.Docker(x.t.Context(), "exec", before.id, "sh", "-c", command)
		return err == nil
	})
	killed := x.fargate.task()
	if _, err := shared.docker.Docker(x.t.Context(), "kill", "--signal", "KILL", before.id); err != nil {
		x.t.Fatal(err)
	}
	after := x.next(before.id)
	again := after.await(id, "is in mid-work again", after.began("began"))
	after.inside("touch " + filepath.Join(again.WorkDir, "go-on"))
	after.await(id, "ends well", succeeded)
	if text := after.inside("cat " + filepath.Join(again.WorkDir, "steps")); text != "first" {
		x.t.Errorf("the steps that were taken: %q", text)
	}
	if err := following.Wait(); err != nil || !strings.Contains(stdout.String(), "All done.") {
		x.t.Errorf("who followed the session: %v\n%s\n%s", err, stdout, stderr)
	}
	var stopped []string
	answer := x.aws("ecs describe-tasks --cluster " + names.Stack() + " --tasks " + killed + " --query tasks[0].[stopCode,to_string(containers[0].exitCode)]")[0]
	if err := json.Unmarshal(answer, &stopped); err != nil || !slices.Equal(stopped, []string{"EssentialContainerExited", "137"}) {
		x.t.Errorf("the task that was killed: %s, %v", answer, err)
	}
	x.compare("the container was replaced")
}

// logs are in CloudWatch, and told by berth.
func (x *story) logs() {
	x.t.Helper()
	eventually(x.t, "the log tells of a session's end", func() bool { return strings.Contains(x.berth("", "logs"), contract.LogSessionEnded) })
}

// nothingToDo runs `berth up` again, and `berth push`: neither changes anything.
func (x *story) nothingToDo() {
	x.t.Helper()
	x.proxy.Forget()
	x.up()
	pushed := x.berth("", "push")
	if _, changed := x.proxy.Calls(); len(changed) > 0 {
		x.t.Errorf("with nothing to do, `berth up` and `berth push` made these calls: %q", changed)
	}
	if image := x.compare("nothing was to be done").Image; !strings.HasSuffix(pushed, "@"+image) {
		x.t.Errorf("`berth push` prints %q, and %s runs", pushed, image)
	}
}

// another image is rolled out, which somebody else has pushed, and the first one again.
func (x *story) another(first string) {
	x.t.Helper()
	second := x.pushAnother(first)
	before := x.fargate.container()
	if text := x.berth("", "deploy", "other"); text != second {
		x.t.Errorf("`berth deploy` prints %q, not %s", text, second)
	}
	between := x.next(before).id
	if image := x.compare("deploy").Image; image != second {
		x.t.Errorf("%s runs, and %s was rolled out", image, second)
	}
	if text := x.berth("", "deploy", "--rollback"); text != first {
		x.t.Errorf("`berth deploy --rollback` prints %q, not %s", text, first)
	}
	x.next(between)
	if image := x.compare("deploy --rollback").Image; image != first {
		x.t.Errorf("%s runs, and %s was rolled out again", image, first)
	}
	x.session("short")
}

// pushAnother pushes the image with another label, under the tag "other".
func (x *story) pushAnother(first string) (digest string) {
	x.t.Helper()
	repository := x.proxy.Address() + "/" + names.Stack()
	ref, err := name.NewDigest(repository + "@" + first)
	if err != nil {
		x.t.Fatal(err)
	}
	pulled, err := remote.Image(ref)
	if err != nil {
		x.t.Fatal(err)
	}
	config, err := pulled.ConfigFile()
	if err != nil {
		x.t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Labels["other"] = "yes"
	other, err := mutate.ConfigFile(pulled, config)
	if err != nil {
		x.t.Fatal(err)
	}
	tag, err := name.NewTag(repository + ":other")
	if err != nil {
		x.t.Fatal(err)
	}
	if err := remote.Write(tag, other); err != nil {
		x.t.Fatal(err)
	}
	sum, err := other.Digest()
	if err != nil {
		x.t.Fatal(err)
	}
	return sum.String()
}

// pause ends the container and keeps the sessions; a deployment meanwhile leaves it so.
func (x *story) pause() {
	x.t.Helper()
	x.berth("", "pause")
	eventually(x.t, "no container runs", func() bool { return x.fargate.container() == "" })
	if s := x.compare("pause"); !s.Paused || s.Service.Desired != 0 {
		x.t.Errorf("after `berth pause`: %+v", s)
	}
	x.up()
	if s := x.compare("up while paused"); !s.Paused {
		x.t.Errorf("`berth up` ended the pause: %+v", s)
	}
	x.berth("", "unpause")
	list, err := x.agent().client.Sessions(x.t.Context())
	if err != nil || len(list) < 5 {
		x.t.Errorf("after a pause there are the sessions %+v, %v", list, err)
	}
	x.compare("unpause")
	x.session("short")
}

func (x *story) cost() {
	x.t.Helper()
	var estimate struct {
		Total json.Number `json:"total_usd"`
	}
	text := x.berth("", "cost", "--json")
	if err := json.Unmarshal([]byte(text), &estimate); err != nil || estimate.Total == "" {
		x.t.Errorf("`berth cost`: %v\n%s", err, text)
	}
}

// searchTemplate searches what CloudFormation keeps of the deployments for secrets, as every output is.
func (x *story) searchTemplate() {
	x.t.Helper()
	x.aws("cloudformation get-template --stack-name "+names.Stack(), "cloudformation list-change-sets --stack-name "+names.Stack(), "cloudformation describe-stack-events --stack-name "+names.Stack())
}

// down deletes the deployment, and nothing is left.
func (x *story) down() {
	x.t.Helper()
	x.berth("", "pause") // so that no session can run
	if text := x.berth("", "down", "--yes", "--purge"); !strings.Contains(text, "Nothing is left") {
		x.t.Errorf("`berth down --purge` says %q", text)
	}
	if container := x.fargate.container(); container != "" {
		x.t.Errorf("the container %s runs on", container)
	}
	left := x.aws("cloudformation list-stacks --query StackSummaries[?StackStatus!='DELETE_COMPLETE'].StackName", "ecr describe-repositories --query repositories[].repositoryName",
		"efs describe-file-systems --query FileSystems[].FileSystemId", "secretsmanager list-secrets --query SecretList[].Name", "logs describe-log-groups --query logGroups[].logGroupName")
	for _, each := range left {
		if text := strings.TrimSpace(string(each)); text != "[]" {
			x.t.Errorf("left: %s", text)
		}
	}
}

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

// compare waits until the container of the task runs, if one is to run, and has the aws CLI say what `berth status --json` says.
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
