package scripted

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// demoSteps makes the demo's replies to a request, without sending them.
func demoSteps(r Request) []Step {
	var steps []Step
	for index, step := range Demo()[0].Steps {
		r.Step = index
		if step.Compute != nil {
			step = step.Compute(r)
		}
		steps = append(steps, step)
	}
	return steps
}

func TestDemoIsQuickToWatch(t *testing.T) {
	r := Request{Prompt: strings.Repeat("a long prompt ", 100), Cwd: "/w"}
	var took time.Duration
	for _, step := range demoSteps(r) {
		built, err := build(step, r, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(built.events()) < 8 {
			t.Errorf("nothing to watch in %q", step.Text)
		}
		took += step.Delay + step.Pause*time.Duration(len(built.events()))
	}
	if took < 2*time.Second || took > 5*time.Second {
		t.Errorf("the demo takes %s", took)
	}
}

// Whatever is asked for, the program is Go, names the task, and no command has the prompt in it.
func TestDemoTakesAnyPrompt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prompt := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"`; rm -rf / #", "\"\n)\n}", "END_OF_DEMO_FILE\nEND_OF_DEMO_FILE", "$(reboot)", "{{prompts}}", "\xff\xfe", "*/ /*",
		})).Draw(t, "prompt")
		r := Request{Prompt: "secret-mark " + prompt, Prompts: []string{prompt}, Session: "s", Cwd: "/w"}
		for _, file := range demoFiles(r) {
			if !strings.HasSuffix(file[0], ".go") {
				continue
			}
			if _, err := parser.ParseFile(token.NewFileSet(), file[0], file[1], 0); err != nil {
				t.Errorf("%s: %v", file[0], err)
			}
			if strings.Contains(file[1], "\nEND_OF_DEMO_FILE\n") {
				t.Error("the prompt ends the file")
			}
		}
		if !strings.Contains(demoFiles(r)[1][1], `const Task = "secret-mark`) {
			t.Error("the task is not named")
		}
		for _, step := range demoSteps(r) {
			for _, tool := range step.Tools {
				encoded, err := json.Marshal(tool.Input)
				if err != nil {
					t.Fatal(err)
				}
				if tool.Name == "Bash" && strings.Contains(string(encoded), "secret-mark") {
					t.Errorf("the prompt is in a command: %s", encoded)
				}
			}
		}
	})
}

// The commands have to do without a known directory, without go, without git, and twice.
func TestDemoCommandsWorkAnywhere(t *testing.T) {
	cached, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache := strings.TrimSpace(string(cached))
	prompt := "it's \"so\" $(touch pwned) `touch pwned`\nmore"
	for name, c := range map[string]struct{ path, want string }{
		"with git and go": {os.Getenv("PATH"), "ok  \texample.com/greeting"},
		"without go":      {toolsWithout(t, "go"), "no go on this machine"},
		"without git":     {toolsWithout(t, "git"), "not in a git repository"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, home := t.TempDir(), t.TempDir()
			shell := func(command string) string {
				cmd := exec.Command("/bin/bash", "-c", command)
				cmd.Dir = dir
				cmd.Env = []string{
					"HOME=" + home, "PATH=" + c.path, "GIT_CONFIG_NOSYSTEM=1", "GOCACHE=" + cache,
					"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=user.useConfigOnly", "GIT_CONFIG_VALUE_0=true",
				}
				output, err := cmd.CombinedOutput()
				if err != nil {
					t.Logf("%s: %v", command, err)
				}
				return string(output)
			}
			if name != "without git" {
				shell("git init -q")
			}
			var all string
			for range 2 {
				for _, step := range demoSteps(Request{Prompt: prompt, Prompts: []string{prompt}}) {
					for _, tool := range step.Tools {
						all += shell(tool.Input["command"].(string)) + "\n"
					}
				}
			}
			if !strings.Contains(all, c.want) {
				t.Errorf("%q is missing in:\n%s", c.want, all)
			}
			if log := shell("git log --oneline"); name != "without git" && strings.Count(log, "Add a greeting") != 1 {
				t.Errorf("the log is %q after\n%s", log, all)
			}
			if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
				t.Error("the prompt was run")
			}
		})
	}
}

// toolsWithout makes a PATH of the commands that the demo needs, but for one.
func toolsWithout(t *testing.T, unwanted string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"git", "go", "ls", "mkdir", "cat", "grep", "gcc"} {
		if path, err := exec.LookPath(name); err == nil && name != unwanted {
			if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}
