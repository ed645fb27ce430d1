//go:build e2e

package cloud

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// A deployment from nothing to nothing, twice: the real CDK CLI deploys the stack, the real Dockerfile becomes the image in its
// repository, the service runs it as its task definition says, sessions come through the tunnel and outlive their container, and after
// each step the aws CLI reports what `berth status` does. No secret is among the arguments of any process meanwhile, in any layer of the
// image, in what anything prints, and within a session's reach.
func TestTheStory(t *testing.T) {
	const untilTold = "touch began; until test -e go-on; do sleep 0.1; done"
	var x *story
	x = newStory(t,
		scripted.Script{Match: "berth works", Steps: []scripted.Step{scripted.Use(scripted.Bash("echo berth works")), scripted.Text("berth works")}},
		scripted.Script{Match: "^short", Steps: []scripted.Step{scripted.Use(scripted.Bash("echo made > file; git add file; git commit -qm made")), scripted.Text("All done.")}},
		scripted.Script{Match: "^long", Steps: []scripted.Step{scripted.Use(scripted.Bash("echo first >> steps")), scripted.Use(scripted.Bash(untilTold)), scripted.Text("All done.")}},
		scripted.Script{Match: "^victim", Steps: []scripted.Step{
			scripted.Use(scripted.Bash("echo others > file")), scripted.Use(scripted.Bash("touch began; until test -e done; do sleep 0.1; done")), scripted.Text("Done."),
		}},
		scripted.Script{Match: "^thief", Steps: []scripted.Step{
			{Compute: func(scripted.Request) scripted.Step {
				return scripted.Use(scripted.Bash(thiefProgram + " '" + x.instructions.Load().(string) + "' > report"))
			}},
			scripted.Text("Done."),
		}})
	x.step("the bases are made", x.bases)
	x.step("up", x.firstUp)
	x.step("a session", func() { x.session() })
	var goesOn func()
	x.step("killed in mid-session", func() { goesOn = x.killedInMidSession() })
	// The next agent has to wait until the dead one's lease of the session has run out.
	x.step("a thief in the container", x.thief)
	x.step("what is in the image", func() { x.searchImage(); x.bill() })
	x.step("the killed session goes on", goesOn)
	x.step("the container", x.limits)
	x.step("logs", x.logs)
	x.step("key set in mid-session", x.newKey)
	x.step("nothing to do", x.nothingToDo)
	x.step("deploy, and roll back", func() { x.another(x.first.Image) })
	x.step("pause and unpause", x.pause)
	x.step("exec, cost, template", func() { x.exec(); x.cost(); x.searchTemplate() })
	x.step("down --purge", x.down)
	x.step("up again", func() { x.up(); x.compare("up again"); x.session() })
	x.step("down again", x.down)
}

// bases waits for what the Dockerfile begins with.
func (x *story) bases() {
	x.t.Helper()
	if err := shared.bases(); err != nil {
		x.t.Fatal(err)
	}
}

// firstUp deploys into an account that has nothing, and gives the agent a token for GitHub, which its next task has.
func (x *story) firstUp() {
	x.t.Helper()
	x.up()
	x.first = x.compare("up")
	if first := x.first; first.Image == "" || first.Parameters[contract.ParamImageRef] != "@"+first.Image || !first.KeySet || first.Paused {
		x.t.Errorf("after `berth up`: %+v", first)
	}
	text, err := json.Marshal(map[string]string{contract.SecretKeyAPIToken: x.agent().token, contract.SecretKeyGitHubToken: githubSecret})
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := x.fargate.secrets.PutSecretValue(x.t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String(names.AgentSecret()), SecretString: aws.String(string(text))}); err != nil {
		x.t.Fatal(err)
	}
}

// session runs a short session to its end, through the tunnel.
func (x *story) session() *api.Session {
	x.t.Helper()
	in := x.agent() // the emulator has a task as running before its container runs
	id, said, _ := strings.Cut(x.berth("", "run", "short"), "\n")
	if !strings.Contains(said, "All done.") {
		x.t.Errorf("`berth run` says %q", said)
	}
	var shown api.Session
	if err := json.Unmarshal([]byte(x.berth("", "show", id, "--json")), &shown); err != nil || shown.State != api.Succeeded {
		x.t.Errorf("`berth show` says %+v, %v", shown, err)
	}
	return in.await(id, "ends well", succeeded)
}

// killedInMidSession kills the container. What it returns waits until the session that was in it has gone on to its end.
func (x *story) killedInMidSession() (goesOn func()) {
	x.t.Helper()
	killed := x.fargate.task()
	goesOn = x.inMidSession("long, killed", func(in *task, id string) {
		eventually(x.t, "a checkpoint has the first step's file", func() bool {
			command := "for each in " + contract.VolumePath + "/repos/*.git; do git -c safe.directory='*' --git-dir=$each ls-tree -r --name-only refs/berth/" + id + "; done | grep -w steps"
			_, err := shared.docker.Docker(x.t.Context(), "exec", in.id, "sh", "-c", command)
			return err == nil
		})
		if _, err := shared.docker.Docker(x.t.Context(), "kill", "--signal", "KILL", in.id); err != nil {
			x.t.Fatal(err)
		}
	})
	var stopped []string
	answer := x.aws("ecs describe-tasks --cluster " + names.Stack() + " --tasks " + killed + " --query tasks[0].[stopCode,to_string(containers[0].exitCode)]")[0]
	if err := json.Unmarshal(answer, &stopped); err != nil || !slices.Equal(stopped, []string{"EssentialContainerExited", "137"}) {
		x.t.Errorf("the task that was killed: %s, %v", answer, err)
	}
	x.compare("the container was replaced")
	return goesOn
}

// newKey sets another key, the only one that the model takes from then on. The container with the old one gets SIGTERM.
func (x *story) newKey() {
	x.t.Helper()
	goesOn := x.inMidSession("long, stopped", func(*task, string) {
		x.key.Store(secondKey)
		x.berth(secondKey, "key", "set")
	})
	goesOn()
	if second := x.compare("key set"); second.KeyVersion == x.first.KeyVersion {
		x.t.Errorf("after `berth key set` the secret has the version %s still", second.KeyVersion)
	}
}

// inMidSession has something end the container while somebody follows a session in it, and waits for the next container. What it returns
// waits until that one goes on with the session, and whoever follows it has heard its end.
func (x *story) inMidSession(prompt string, end func(in *task, id string)) (goesOn func()) {
	x.t.Helper()
	ctx := x.whole.Context() // which outlives this step
	following, stdout, stderr := x.command(ctx, filepath.Join(shared.clone, "bin", "berth"), "run", prompt, "--env", names.Environment)
	if err := following.Start(); err != nil {
		x.t.Fatal(err)
	}
	before := x.agent()
	var id string
	eventually(x.t, "the session is there", func() bool {
		list, err := before.client.Sessions(x.t.Context())
		for _, each := range list {
			if each.Prompt == prompt {
				id = each.ID
			}
		}
		return err == nil && id != ""
	})
	before.await(id, "is in mid-work", before.began("began"))
	end(before, id)
	x.next(before.id)
	return func() {
		x.t.Helper()
		after := x.agent()
		again := after.await(id, "is in mid-work again", after.began("began"))
		after.inside("touch " + filepath.Join(again.WorkDir, "go-on"))
		after.await(id, "ends well", succeeded)
		if text := after.inside("cat " + filepath.Join(again.WorkDir, "steps")); text != "first" {
			x.t.Errorf("the steps that were taken: %q", text)
		}
		if err := following.Wait(); err != nil || !strings.Contains(stdout.String(), "All done.") {
			x.t.Errorf("who followed the session: %v\n%s\n%s", err, stdout, stderr)
		}
	}
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
	x.session()
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
	x.session()
}

// exec runs a command in the container, through the tunnel.
func (x *story) exec() {
	x.t.Helper()
	if text := x.run("", filepath.Join(shared.clone, "bin", "berth"), "exec", "--env", names.Environment, "--", "id", "-u"); text != "0" {
		x.t.Errorf("`berth exec` says %q", text)
	}
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
	of := " --stack-name " + names.Stack()
	answers := x.aws("cloudformation list-change-sets"+of, "cloudformation get-template"+of, "cloudformation describe-stack-events"+of)
	var made struct {
		Summaries []struct{ ChangeSetName string }
	}
	if err := json.Unmarshal(answers[0], &made); err != nil || len(made.Summaries) == 0 {
		x.t.Errorf("the change sets: %v: %s", err, answers[0])
	}
	for _, each := range made.Summaries {
		x.aws("cloudformation describe-change-set --change-set-name "+each.ChangeSetName+of, "cloudformation get-template --change-set-name "+each.ChangeSetName+of)
	}
}

// down deletes the deployment while it runs, and nothing is left.
func (x *story) down() {
	x.t.Helper()
	if text := x.berth("", "down", "--yes", "--force", "--purge"); !strings.Contains(text, "Nothing is left") {
		x.t.Errorf("`berth down --purge` says %q", text)
	}
	eventually(x.t, "the container ends", func() bool { return x.fargate.container() == "" })
	left := x.aws("cloudformation list-stacks --query StackSummaries[?StackStatus!='DELETE_COMPLETE'].StackName", "ecr describe-repositories --query repositories[].repositoryName",
		"efs describe-file-systems --query FileSystems[].FileSystemId", "secretsmanager list-secrets --query SecretList[].Name", "logs describe-log-groups --query logGroups[].logGroupName")
	for _, each := range left {
		if text := strings.TrimSpace(string(each)); text != "[]" {
			x.t.Errorf("left: %s", text)
		}
	}
}
