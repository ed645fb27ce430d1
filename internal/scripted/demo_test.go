package scripted

import (
	"encoding/json"
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

// Whatever is asked for, it is one line of comment in the program, and in no command.
func TestDemoTakesAnyPrompt(t *testing.T) {
	without := strings.Split(demoFiles(Request{})[0][1], "\n")
	rapid.Check(t, func(t *rapid.T) {
		prompt := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"`; rm -rf / #", "\"\n)\n}", "END_OF_DEMO_FILE\nEND_OF_DEMO_FILE", "$(reboot)", "{{prompts}}", "\xff\xfe", "a\rreboot", "a\vb\u0085c",
		})).Draw(t, "prompt")
		r := Request{Prompt: "secret-mark " + prompt, Prompts: []string{prompt}, Session: "s", Cwd: "/w"}
		lines := strings.Split(demoFiles(r)[0][1], "\n")
		if len(lines) != len(without) {
			t.Fatalf("the prompt makes lines of its own: %q", lines)
		}
		for number, line := range lines {
			if strings.HasPrefix(line, "# Asked for: secret-mark") == (line == without[number]) || strings.ContainsAny(line, "\r\v\f") {
				t.Errorf("line %d is %q", number, line)
			}
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

// The commands have to do without a known directory, without git, and twice.
func TestDemoCommandsWorkAnywhere(t *testing.T) {
	prompt := "it's \"so\" $(touch pwned) `touch pwned`\nmore"
	for name, c := range map[string]struct{ path, want string }{
		"with git":    {os.Getenv("PATH"), "ok: Hello, Ada!"},
		"without git": {toolsWithout(t, "git"), "not in a git repository"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, home := t.TempDir(), t.TempDir()
			shell := func(command string) string {
				cmd := exec.Command("/bin/bash", "-c", command)
				cmd.Dir = dir
				cmd.Env = []string{
					"HOME=" + home, "PATH=" + c.path, "GIT_CONFIG_NOSYSTEM=1",
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
	for _, name := range []string{"git", "sh", "dirname", "ls", "mkdir", "cat"} {
		if path, err := exec.LookPath(name); err == nil && name != unwanted {
			if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}
