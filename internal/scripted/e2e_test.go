//go:build e2e

package scripted_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/scripted"
)

func one(steps ...scripted.Step) scripted.Options {
	return scripted.Options{Scripts: []scripted.Script{{Name: "main", Steps: steps}}}
}

func (w *world) exists(name string) bool {
	_, err := os.Stat(filepath.Join(w.work, name))
	return err == nil
}

// written returns what the tools wrote into the file f; "" if there is none.
func (w *world) written() string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.work, "f"))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return string(data)
}

// succeeded sees that a turn ended well, with a text.
func (w *world) succeeded(p *process, want string) {
	w.t.Helper()
	result, code := p.finish()
	if code != 0 || result.IsError || result.Subtype != "success" || result.Result != want {
		w.t.Errorf("exit %d, result %s, want %q; asked:%s\nstderr: %s", code, result.line, want, w.logged(), &p.stderr)
	}
}

// steps lists the steps that were sent whole, in order.
func (w *world) steps() string {
	var list []string
	for _, r := range w.server.Requests() {
		if r.Whole && r.Script != "" {
			list = append(list, fmt.Sprint(r.Script, " ", r.Step))
		}
	}
	return strings.Join(list, ", ")
}

func isStep(number int) func(scripted.Record) bool {
	return func(r scripted.Record) bool { return r.Script != "" && r.Step == number }
}

func TestCLIUsesTools(t *testing.T) {
	t.Parallel()
	w := newWorld(t, one(
		scripted.Step{
			Thinking: "Two at once.", Text: "I count.", Chunk: 3,
			Tools: []scripted.Tool{scripted.Bash("echo 1 >> f"), scripted.Write("{{cwd}}/g", "héllo\n")},
		},
		scripted.Use(scripted.Read("{{cwd}}/g"), scripted.Bash("cat g >> f")),
		scripted.Text("done with {{prompt}} in step {{step}} of {{session}}"),
	))
	p := w.first("count\n\nplease")
	w.succeeded(p, "done with count\n\nplease in step 3 of "+w.session)
	if got := w.written(); got != "1\nhéllo\n" {
		t.Errorf("the tools wrote %q", got)
	}
	if got := w.steps(); got != "main 0, main 1, main 2" {
		t.Errorf("steps %s", got)
	}
	var all strings.Builder
	for _, e := range p.all {
		all.Write(e.Message.Content)
	}
	for _, want := range []string{`"thinking":"Two at once."`, `"text":"I count."`} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("the CLI does not show %s:\n%s", want, all.String())
		}
	}
	if got := w.server.Sessions()[w.session]; got.Requests != 3 || got.Steps != 3 || got.Refused+got.Broken != 0 {
		t.Errorf("counts %+v", got)
	}
}

func TestCLITakesUpPrompts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, one(
		scripted.Use(scripted.Bash("until [ -e go ]; do for i in 1; do sleep 0.1; done; done")),
		scripted.Text("done: {{prompts}}"),
	))
	p := w.first("first")
	await(t, w.replies, isStep(0))
	p.say("second")
	p.say("third")
	if err := os.WriteFile(filepath.Join(w.work, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, w.replies, isStep(1))
	result, code := p.finish()
	if code != 0 || !strings.Contains(result.Result, `"first", "second"`) {
		t.Errorf("exit %d, result %s%s", code, result.line, w.logged())
	}
}

func TestCLIResumesAfterKill(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]scripted.Step{
		"waiting":     {Text: "again", Tools: []scripted.Tool{scripted.Bash("echo 2 >> f")}, Faults: []scripted.Fault{scripted.StallAfter(1)}},
		"in a text":   {Text: "again", Tools: []scripted.Tool{scripted.Bash("echo 2 >> f")}, Faults: []scripted.Fault{scripted.StallAfter(6)}},
		"in a tool":   {Text: "again", Tools: []scripted.Tool{scripted.Bash("[ -e g ] && echo 2 >> f || { touch g; while [ -e g ]; do sleep 0.1; done; }")}},
		"first reply": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := []scripted.Step{scripted.Use(scripted.Bash("echo 1 >> f")), cut, scripted.Text("done")}
			at, whole := 1, "main 0, main 1, main 2"
			switch name {
			case "first reply":
				steps = []scripted.Step{{Text: "a", Tools: []scripted.Tool{scripted.Bash("echo 1 >> f; echo 2 >> f")}, Faults: []scripted.Fault{scripted.StallAfter(2)}}, scripted.Text("done")}
				at, whole = 0, "main 0, main 1"
			case "in a tool":
				whole = "main 0, main 1, main 1, main 2"
			}
			w := newWorld(t, one(steps...))
			p := w.first("count")
			await(t, w.replies, isStep(at))
			switch name {
			case "in a tool":
				w.until("g", func() bool { return w.exists("g") })
			case "first reply":
				w.transcribed("count")
			}
			if at > 0 {
				w.transcribed("tool_result")
			}
			p.kill()
			w.succeeded(w.resume(), "done")
			if got := w.written(); got != "1\n2\n" {
				t.Errorf("the tools wrote %q%s", got, w.logged())
			}
			if got := w.steps(); got != whole {
				t.Errorf("steps %s, want %s", got, whole)
			}
		})
	}
}

func TestCLIRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		faults  []scripted.Fault
		refused int
		broken  int
	}{
		"overloaded": {[]scripted.Fault{scripted.Status(529)}, 1, 0},
		"rate limit": {[]scripted.Fault{{Kind: scripted.Refuse, Status: 429, RetryAfter: 1e9}}, 1, 0},
		"cut":        {[]scripted.Fault{scripted.CutAfter(5)}, 0, 1},
		"cut early":  {[]scripted.Fault{scripted.CutAfter(0)}, 0, 1},
		"reset":      {[]scripted.Fault{scripted.ResetConnection()}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, one(
				scripted.Step{Text: "a", Tools: []scripted.Tool{scripted.Bash("echo 1 >> f")}, Faults: c.faults},
				scripted.Text("done"),
			))
			w.succeeded(w.first("count"), "done")
			got := w.server.Sessions()[w.session]
			if w.written() != "1\n" || w.steps() != "main 0, main 1" || got.Refused != c.refused || got.Broken != c.broken || got.Requests != 2+c.refused+c.broken {
				t.Errorf("wrote %q, steps %s, counts %+v", w.written(), w.steps(), got)
			}
		})
	}
}

func TestCLIHasTheWrongKey(t *testing.T) {
	t.Parallel()
	o := one(scripted.Text("done"))
	o.Key = "another"
	w := newWorld(t, o)
	result, code := w.first("count", "CLAUDE_CODE_MAX_RETRIES=0").finish()
	if code != 1 || !result.IsError || w.steps() != "" {
		t.Errorf("exit %d, result %s, steps %q", code, result.line, w.steps())
	}
	for _, r := range w.server.Requests() {
		if r.KeyRight || r.Status != 401 {
			t.Errorf("record %+v", r)
		}
	}
}

func TestCLIStopsAnEndlessScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scripted.Options{Scripts: []scripted.Script{{Endless: true, Steps: []scripted.Step{scripted.Use(scripted.Bash("echo {{step}} >> f"))}}}})
	p := w.start(nil, "--session-id", w.session, "--max-turns", "4")
	p.say("go on for ever")
	result, code := p.finish()
	if code != 1 || result.Subtype != "error_max_turns" || w.written() != "1\n2\n3\n4\n" {
		t.Errorf("exit %d, result %s, wrote %q", code, result.line, w.written())
	}
}

func TestCLIInManySessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, one(scripted.Use(scripted.Bash("pwd")), scripted.Text("{{session}} {{prompt}}")))
	var running []*process
	var worlds []*world
	for number := range 8 {
		other := *w
		other.home, other.work = t.TempDir(), t.TempDir()
		other.session = fmt.Sprintf("%s%d", w.session[:len(w.session)-1], number)
		worlds = append(worlds, &other)
		running = append(running, other.first(fmt.Sprint("prompt ", number)))
	}
	for number, p := range running {
		worlds[number].succeeded(p, fmt.Sprint(worlds[number].session, " prompt ", number))
		if got := w.server.Sessions()[worlds[number].session]; got.Steps != 2 || got.Requests != 2 {
			t.Errorf("session %d: %+v", number, got)
		}
	}
}

func TestDemoEndToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, scripted.Options{Scripts: scripted.Demo()})
	git := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = w.work
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.home}
		output, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v: %s", args, err, output)
		}
		return string(output)
	}
	git("init", "-q")
	p := w.first("Say \"hello\" to `everybody`; rm -rf $HOME\nand more")
	result, code := p.finish()
	if code != 0 || result.IsError || !strings.Contains(result.Result, "You had asked: “Say \"hello\" to `everybody`; rm -rf $HOME”") {
		t.Errorf("exit %d, result %s", code, result.line)
	}
	var tested bool
	for _, e := range p.all {
		tested = tested || e.Type == "user" && strings.Contains(e.line, "ok: Hello, Ada!")
		if strings.Contains(e.line, `"is_error":true`) {
			t.Errorf("a tool failed: %s", e.line)
		}
	}
	if !tested {
		t.Error("the test was not seen to pass")
	}
	if log := git("log", "--stat", "--format=%s"); !strings.Contains(log, "Add a greeting") || strings.Count(log, "greeting-") != 2 {
		t.Errorf("the log is %s", log)
	}
	if status := git("status", "--short"); status != "" {
		t.Errorf("left over: %s", status)
	}
}
