//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/internal/cloud/awstest"
	"berth/internal/image"
)

// `berth up` need not be told its options again: the stack has them. Told others, it changes those and keeps the rest.
func TestUpRemembersItsOptions(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	recorder, err := awstest.NewRecorder(a.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer recorder.Close()
	a.withBuilder(t)
	a.env = append(a.env, "AWS_ENDPOINT_URL="+recorder.URL(), image.EnvRegistry+"="+recorder.Address(), "BERTH_POLL_SECONDS=0.1")
	berth := filepath.Join(t.TempDir(), "berth")
	build := project{shared.root, a.env}
	if done := build.exec(t, "go build ./cmd/berth", "", "go", "build", "-o", berth, "./cmd/berth"); done.status != 0 {
		t.Fatal(done)
	}
	up := func(options ...string) outcome {
		t.Helper()
		words := append([]string{berth, "up", "--env", "dev", "--no-smoke"}, options...)
		done := a.exec(t, "berth "+strings.Join(words[1:], " "), "", words...)
		if done.status != 0 {
			t.Fatal(done)
		}
		return done
	}
	facts := func(cpu, memory string) []fact {
		return []fact{
			{
				"task", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}",
				"taskDefinition.[cpu, memory, runtimePlatform.cpuArchitecture]", `["` + cpu + `", "` + memory + `", "X86_64"]`,
			},
			{"retention", "logs describe-log-groups", "logGroups[].retentionInDays", `[3]`},
			{"runs", "ecs describe-services --cluster ${EcsClusterName} --services ${EcsServiceName}", "services[].[desiredCount, runningCount]", `[[1, 1]]`},
		}
	}

	first := up("-c", "cpu=1024", "-c", "memory=4096", "-c", "logRetentionDays=3")
	a.check(t, a.describe(t, "claude-code-dev"), facts("1024", "4096"))

	recorder.Forget()
	again := up()
	if _, changed := recorder.Calls(); len(changed) > 0 || again.stdout != first.stdout {
		t.Errorf("without the options it changed %q\n%s", changed, again)
	}
	a.check(t, a.describe(t, "claude-code-dev"), facts("1024", "4096"))

	up("-c", "cpu=512", "-c", "memory=2048")
	a.check(t, a.describe(t, "claude-code-dev"), facts("512", "2048"))

	recorder.Forget()
	diff := a.exec(t, "berth diff", "", berth, "diff", "--env", "dev")
	if _, changed := recorder.Calls(); diff.status != 0 || !strings.Contains(diff.stdout+diff.stderr, "Number of stacks with differences: 0") || slices.Contains(changed, "ExecuteChangeSet") {
		t.Errorf("it changed %q\n%s", changed, diff)
	}
}

// withBuilder puts a Dockerfile into the project, and a stand-in for docker on the PATH, which has built it.
func (a *account) withBuilder(t *testing.T) {
	t.Helper()
	programs := t.TempDir()
	for file, text := range map[string]string{
		filepath.Join(a.directory, "Dockerfile"): "FROM scratch\n", filepath.Join(a.directory, ".dockerignore"): "*\n",
		filepath.Join(programs, "docker"): `#!/bin/sh
case "$1" in
build)
	while [ "$1" != --iidfile ]; do shift; done
	echo sha256:abc >"$2" ;;
save) cp "$(dirname "$0")/image.tar" "$3" ;;
esac
`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(file); err != nil {
				t.Error(err)
			}
		})
	}
	if err := awstest.SaveImage(filepath.Join(programs, "image.tar"), "amd64"); err != nil {
		t.Fatal(err)
	}
	a.env = append(a.env, image.EnvBuilder+"=docker")
	for i, variable := range a.env {
		if path, found := strings.CutPrefix(variable, "PATH="); found {
			a.env[i] = "PATH=" + programs + ":" + path
		}
	}
}
