package dockertest

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The stack's own task definition, as it is synthesised, becomes what `docker run` is told.
func TestTheSynthesisedTaskDefinition(t *testing.T) {
	text, err := os.ReadFile("../../infra/testdata/golden/dev.json")
	if err != nil {
		t.Fatal(err)
	}
	definition, err := FromTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"ANTHROPIC_API_KEY": "k", "BERTH_API_TOKEN": "a", "GITHUB_TOKEN": "g"}
	task := Task{Definition: definition, Name: "x", Volume: "/srv/volume", Secrets: secrets, Overrides: map[string]string{"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}}
	words, err := task.Words()
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(words, " ")
	for _, want := range []string{
		"--user 0 ", "--read-only", "--init", "--cap-drop MKNOD", "--cap-drop NET_RAW", "--ulimit nofile=", "--stop-timeout 120", "--memory 8192m",
		"--cpus ", "--health-cmd /usr/local/bin/berthd health", "--health-interval 30s", "type=bind,source=/srv/volume,destination=/data/volume",
		"type=volume,destination=/work", "type=volume,destination=/tmp",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
	environment, err := task.environment()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(environment, "\n")
	for _, want := range []string{"ANTHROPIC_API_KEY=k", "BERTH_API_TOKEN=a", "BERTH_DATA=/data/volume", "ANTHROPIC_BASE_URL=http://127.0.0.1:1"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not in %q", want, lines)
		}
	}
	delete(secrets, "GITHUB_TOKEN")
	if _, err := task.environment(); err == nil {
		t.Error("a secret without a value was left out")
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"containerDefinitions":[]}`:                               "0 containers",
		`{"containerDefinitions":[{"name":"a","privileged":true}]}`: "privileged",
		`{"containerDefinitions":[{"name":"a","command":["x"]}]}`:   "command",
	} {
		if _, err := Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Read([]byte(`{"containerDefinitions":[{"name":"a","cpu":0,"volumesFrom":[]}]}`)); err != nil {
		t.Error(err)
	}
}

// The kernel is asked without a trace, and refuses whoever is not root.
func TestRefused(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	what, err := Refused(t.Context())
	if err != nil || os.Geteuid() != 0 && what == "" {
		t.Errorf("refused: %q, %v", what, err)
	}
	t.Logf("refused here: %q", what)
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), temporary) {
		t.Errorf("mounted: %s, %v", mounts, err)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/berth-probe-" + strconv.Itoa(os.Getpid()))
	if err != nil || len(groups) > 0 {
		t.Errorf("groups: %v, %v", groups, err)
	}
}
