package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/cloud/awstest"
)

// From nothing to a running service, and what comes after.
func TestUpInTheCloud(t *testing.T) {
	l := newLab(t)
	const key = "sk-ant-api03-secret"
	first := l.berth(t, key+"\n", "up", "--env", "dev", "--key-file", "-", "--no-smoke")
	if first.code != 0 || !strings.HasPrefix(first.out, "claude-code-dev runs @sha256:") || strings.Contains(first.out+first.err, key) {
		t.Fatalf("%+v", first)
	}
	var parameters map[string]string
	l.Change(func(w *awstest.World) {
		parameters = w.Stacks["claude-code-dev"].Parameters
		if w.Secrets["claude-code/dev/anthropic-api-key"].Value != key {
			t.Error("the key is not set")
		}
	})
	if parameters["DesiredCount"] != "1" || !strings.HasPrefix(parameters["ImageRef"], "@sha256:") {
		t.Errorf("%v", parameters)
	}

	t.Run("a second time nothing changes", func(t *testing.T) {
		l.Forget()
		again := l.berth(t, "", "up", "--env", "dev", "--no-smoke")
		if again.code != 0 || again.out != first.out || len(l.Mutations()) > 0 {
			t.Errorf("%+v, which changed %q", again, l.Mutations())
		}
		if calls := len(l.Calls()); calls > 12 {
			t.Errorf("it took %d calls", calls)
		}
	})
	t.Run("an update", func(t *testing.T) {
		l.Forget()
		if err := os.WriteFile(filepath.Join(l.root, "app/claude-code-dev.template.json"), []byte(`{"Resources":{}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		again := l.berth(t, "", "up", "--env", "dev", "--no-smoke")
		if got := fmt.Sprint(l.Mutations()); again.code != 0 || got != "[cloudformation:UpdateStack]" {
			t.Errorf("%+v, which changed %q", again, got)
		}
	})
	t.Run("pause is kept by up", func(t *testing.T) {
		if paused := l.berth(t, "", "pause", "--env", "dev"); paused.code != 0 {
			t.Fatalf("%+v", paused)
		}
		again := l.berth(t, "", "up", "--env", "dev", "--no-smoke")
		l.Change(func(w *awstest.World) { parameters = w.Stacks["claude-code-dev"].Parameters })
		if again.code != 0 || !strings.Contains(again.out, "is paused, and stays so") || parameters["DesiredCount"] != "0" {
			t.Errorf("%+v, %v", again, parameters)
		}
		if status := l.berth(t, "", "status", "--env", "dev"); status.code != 0 || !strings.Contains(status.out, "(paused)") {
			t.Errorf("%+v", status)
		}
		if again := l.berth(t, "", "unpause", "--env", "dev"); again.code != 0 || again.out != "claude-code-dev runs\n" {
			t.Errorf("%+v", again)
		}
	})
}

func TestDayToDay(t *testing.T) {
	l := newLab(t)
	l.running()
	parameter := func(name string) (value string) {
		l.Change(func(w *awstest.World) { value = w.Stacks["claude-code-dev"].Parameters[name] })
		return value
	}
	if got := l.berth(t, "", "deploy", "--env", "dev", "v1"); got.code != 0 || got.out != digestOf("a")+"\n" || parameter("ImageRef") != "@"+digestOf("a") {
		t.Errorf("deploy: %+v", got)
	}
	if got := l.berth(t, "", "deploy", "--env", "dev", "--rollback"); got.code != 0 || got.out != digestOf("b")+"\n" || parameter("ImageRef") != "@"+digestOf("b") {
		t.Errorf("rollback: %+v", got)
	}
	l.Forget()
	if got := l.berth(t, "sk-ant-new\n", "key", "set", "--env", "dev"); got.code != 0 || fmt.Sprint(l.Mutations()) != "[secretsmanager:PutSecretValue ecs:UpdateService]" {
		t.Errorf("key set: %+v, %q", got, l.Mutations())
	}
	l.Forget()
	for _, verb := range []string{"status", "doctor"} {
		if got := l.berth(t, "", verb, "--env", "dev"); got.code != 0 || got.out == "" {
			t.Errorf("%s: %+v", verb, got)
		}
	}
	var status map[string]any
	l.Forget()
	got := l.berth(t, "", "status", "--env", "dev", "--json")
	described := 0
	for _, call := range l.Calls() {
		if call.String() == "cloudformation:DescribeStacks" {
			described++
		}
	}
	if described != 1 {
		t.Errorf("status describes the stack %d times", described)
	}
	if err := json.Unmarshal([]byte(got.out), &status); err != nil || status["image"] != digestOf("b") || status["image_in_registry"] != true || status["key_set"] != true || status["status"] != "UPDATE_COMPLETE" {
		t.Errorf("%v: %s", err, got.out)
	}
	if got := l.berth(t, "", "env", "list"); got.code != 0 || !strings.Contains(got.out, "claude-code  dev ") {
		t.Errorf("env list: %+v", got)
	}
	if got := l.berth(t, "", "diff", "--env", "dev"); got.code != 0 || !strings.Contains(got.out, "Number of stacks with differences: 0") {
		t.Errorf("diff: %+v", got)
	}
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("what reads changed %q", changed)
	}
	for _, args := range [][]string{
		{"deploy", "--env", "dev"},
		{"deploy", "--env", "dev", "v1", "--rollback"},
		{"deploy", "v1"},
		{"pause"},
		{"key", "set"},
		{"doctor"},
		{"pause", "--env", "test"},
		{"pause", "--env", "dev", "--local"},
		{"pause", "--env", "dev", "--region", "mars-1"},
		{"up", "--env", "dev", "-c", "environment=prod"},
		{"up", "--env", "dev", "-c", "cpu=3"},
		{"status", "--region", "us-east-1"},
		{"key", "set", "--env", "dev", "--key-file", "/dev/null"},
	} {
		if got := l.berth(t, "", args...); got.code != 2 || len(got.lines()) != 1 || got.out != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("what cannot be used changed %q", changed)
	}
}

// A production that was deleted goes on with what it left: the file system by the option for it, the rest by its names.
func TestUpAdopts(t *testing.T) {
	l := newLab(t)
	up := []string{"up", "--env", "prod", "--no-smoke"}
	first := func(how func(*awstest.World)) done {
		l.Heal()
		l.Change(func(w *awstest.World) {
			stack := w.AddStack("claude-code", "prod")
			w.AddVolume(stack).Targets = map[string]string{}
			w.AddPoint(stack.Name, "fs-0123456789abcdef0", time.Unix(1_700_000_000, 0))
			w.LogLines["/ecs/claude-code-prod"] = []awstest.LogLine{}
			clear(w.Secrets)
			delete(w.Stacks, "claude-code-prod")
			how(w)
		})
		return l.berth(t, "", up...)
	}
	deployed := func() string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(l.root, "cdk.log"))
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		return first
	}
	for _, call := range []string{"elasticfilesystem:DescribeFileSystems", "ecr:DescribeImages", "logs:DescribeLogGroups", "secretsmanager:DescribeSecret", "backup:DescribeBackupVault"} {
		l.Heal()
		l.Fail(awstest.Failure{Call: call, Kind: "denied"})
		told(t, "denied at "+call, l.berth(t, "", up...), 1, "AWS refuses "+call, "allow that action")
	}
	told(t, "two file systems", first(func(w *awstest.World) {
		w.Files()["fs-0123456789abcdef1"] = &awstest.FileSystem{Tags: w.Files()["fs-0123456789abcdef0"].Tags}
	}), 1, "left 2 file systems", "-c fileSystemId=fs-")
	told(t, "a secret", first(func(w *awstest.World) {
		delete(w.Files(), "fs-0123456789abcdef1")
		w.Secrets["claude-code/prod/agent"] = &awstest.Secret{}
	}), 1, "the secret claude-code/prod/agent is there already", "delete-secret --secret-id claude-code/prod/agent")
	if changed := l.Mutations(); len(changed) > 0 {
		t.Fatalf("what fails has changed %q", changed)
	}

	got := first(func(*awstest.World) {})
	if got.code != 0 || !strings.Contains(got.err, "taking over what an earlier stack left: the backup vault, the file system fs-0123456789abcdef0, the image repository, the log group") {
		t.Fatalf("%+v", got)
	}
	if args := deployed(); !strings.Contains(args, "-c fileSystemId=fs-0123456789abcdef0") || !strings.Contains(args, "--import-existing-resources") {
		t.Errorf("it ran cdk %s", args)
	}
	l.Forget()
	if again := l.berth(t, "", up...); again.code != 0 || len(l.Mutations()) > 0 {
		t.Errorf("%+v, which changed %q: the stack knows its file system", again, l.Mutations())
	}
}

// What `up` was told once it need not be told again, and neither need the other verbs that deploy.
func TestOptionsAreRemembered(t *testing.T) {
	l := newLab(t)
	up := func(want string, args ...string) {
		t.Helper()
		l.Forget()
		got := l.berth(t, "", append([]string{"up", "--env", "dev", "--no-smoke"}, args...)...)
		if changed := fmt.Sprint(l.Mutations()); got.code != 0 || changed != want {
			t.Errorf("up %q: %+v, which changed %s, not %s", args, got, changed, want)
		}
	}
	recorded := func() string {
		var template struct {
			Metadata struct{ BerthOptions map[string]string }
		}
		l.Change(func(w *awstest.World) { _ = json.Unmarshal([]byte(w.Stacks["claude-code-dev"].Template), &template) })
		return fmt.Sprint(template.Metadata.BerthOptions)
	}
	up("[cloudformation:UpdateStack cloudformation:CreateStack cloudformation:UpdateStack]", "-c", "cpu=4096", "-c", "memory=16384")
	up("[]")
	up("[cloudformation:UpdateStack]", "-c", "alertEmail=ops@example.com")
	if got := recorded(); got != "map[alertEmail:ops@example.com cpu:4096 memory:16384]" {
		t.Errorf("the stack records %s", got)
	}
	if got := l.berth(t, "", "deploy", "--env", "dev", "latest"); got.code != 1 { // there is none; the template is not touched either
		t.Errorf("%+v", got)
	}
	if got := l.berth(t, "", "diff", "--env", "dev"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	told(t, "what does not go with what is recorded", l.berth(t, "", "up", "--env", "dev", "-c", "memory=4096"), 2, "with cpu 4096", "option memory")
	up("[cloudformation:UpdateStack]", "-c", "alertEmail=default")
	// cdk.json is what somebody has written on purpose.
	if err := os.WriteFile(filepath.Join(l.root, "cdk.json"), []byte(`{"app": "fake-app", "context": {"cpu": "8192"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	up("[cloudformation:UpdateStack]")
	l.Change(func(w *awstest.World) {
		w.Stacks["claude-code-dev"].Template = `{"Metadata":{"BerthOptions":{"colour":"red"}}}`
	})
	told(t, "an option of the future", l.berth(t, "", "up", "--env", "dev"), 1, `the option "colour", which this berth does not know`, "a newer one")
	l.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Template = "{" })
	told(t, "no template", l.berth(t, "", "up", "--env", "dev"), 1, "cannot be read", "npx cdk deploy")
}

// What changed what runs ends with a session through the tunnel, and as well as that.
func TestUpEndsWithASession(t *testing.T) {
	for word, want := range map[string]struct {
		code int
		said string
	}{
		"succeed": {0, "a session to see that it works"},
		"fail":    {1, "claude-code-dev runs, but a session in it does not end well: session b87a348be000 failed (claude_failed)"},
	} {
		t.Run(word, func(t *testing.T) {
			l := newLab(t)
			agent := l.agent
			agent.ends = word
			got := l.berth(t, "sk-ant-key\n", "up", "--env", "dev", "--key-file", "-")
			if got.code != want.code || !strings.Contains(got.err, want.said) || (got.out == "") != (want.code != 0) {
				t.Errorf("%+v", got)
			}
			if want.code != 0 {
				return
			}
			again := l.berth(t, "", "up", "--env", "dev")
			if again.code != 0 || len(agent.sessions) != 1 {
				t.Errorf("%+v, after %d sessions", again, len(agent.sessions))
			}
		})
	}
}
