//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestList(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	for command, want := range map[string]string{
		"cdk list": "claude-code-dev\n",
		"cdk list -c projectName=my-agent -c environment=prod": "my-agent-prod\n",
	} {
		if done := p.must(t, command); done.stdout != want {
			t.Errorf("want %q on stdout\n%s", want, done)
		}
	}
}

// The newest CLI cannot read what the library writes, so the one that runs is the one that package.json names.
func TestVersionIsPinned(t *testing.T) {
	t.Parallel()
	var project struct{ Dependencies map[string]string }
	text, err := os.ReadFile(filepath.Join(shared.root, "package.json"))
	if err == nil {
		err = json.Unmarshal(text, &project)
	}
	if err != nil {
		t.Fatal(err)
	}
	if done := newProject(t).must(t, "cdk --version"); !strings.HasPrefix(done.stdout, project.Dependencies["aws-cdk"]+" ") {
		t.Errorf("want version %s\n%s", project.Dependencies["aws-cdk"], done)
	}
}

// A template can be read and checked before there is an account.
func TestSynthWithoutCredentials(t *testing.T) {
	t.Parallel()
	done := newProject(t).must(t, "cdk synth -c environment=prod -c cpu=4096 -c memory=16384")
	var template struct {
		Resources map[string]struct {
			Type       string         `yaml:"Type"`
			Properties map[string]any `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal([]byte(done.stdout), &template); err != nil {
		t.Fatalf("stdout is no template: %v\n%s", err, done)
	}
	tasks := 0
	for _, resource := range template.Resources {
		if resource.Type == "AWS::ECS::TaskDefinition" {
			tasks++
			if cpu, memory := resource.Properties["Cpu"], resource.Properties["Memory"]; cpu != "4096" || memory != "16384" {
				t.Errorf("the task has CPU %v and memory %v", cpu, memory)
			}
		}
	}
	if tasks != 1 {
		t.Errorf("there are %d task definitions", tasks)
	}
	if warning := "berth: no AWS credentials were found"; strings.Count(done.stderr, warning) != 1 {
		t.Errorf("stderr has to say %q once:\n%s", warning, done.stderr)
	}
}

// clutter is what a wrong option must not drown in.
var clutter = regexp.MustCompile(`goroutine|panic|\bat \S+ \(|\bat Object\.|\.js:\d+|\.go:\d+|Error:`)

func TestBadOptionsEndTheCommandWithOneLine(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	for _, test := range []struct{ command, want string }{
		{"cdk synth -c cpu=3000", `berth: option cpu: "3000" is not allowed; use 256, 512, 1024, 2048, 4096, 8192 or 16384`},
		{"cdk deploy -c environment=production", `berth: option environment: "production" is not allowed; use dev, staging or prod`},
		{"cdk list -c cpus=4096", `berth: unknown option "cpus"; the options are projectName, environment, cpu, memory, `},
		{"cdk diff -c alertEmail=", `berth: option alertEmail: "" is not allowed; use one e-mail address of at most 128 characters, such as ops@example.com`},
	} {
		t.Run(test.command, func(t *testing.T) {
			done := p.run(t, test.command)
			var ours, others []string
			for line := range strings.Lines(done.stderr) {
				switch {
				case strings.HasPrefix(line, "berth: "):
					ours = append(ours, line)
				case !strings.HasSuffix(line, ": Subprocess exited with error 1\n"): // the CLI's own word
					others = append(others, line)
				}
			}
			if done.status == 0 || done.stdout != "" || len(ours) != 1 || !strings.HasPrefix(ours[0], test.want) || len(others) > 0 || clutter.MatchString(done.stderr) {
				t.Errorf("want a failure, and the one line %q\n%s", test.want, done)
			}
		})
	}
}
