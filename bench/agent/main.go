// Command agent measures what berth adds to Claude Code: the time of a session, of forty at four places, and
// memory. Each figure is a ratio of two things taken in turns in this run, or a count. The model is scripted,
// and answers at once. It needs bin/berth, bin/berthd and the Claude Code CLI; `make bench` sees to that.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

const key = "key-for-the-scripted-model"

// targets are what the figures may be at most.
const (
	oneTarget     = 1.10
	manyTarget    = 1.05
	idleTargetMB  = 30
	eightTargetMB = 60
)

func main() {
	runs := flag.Int("runs", 10, "how many sessions to take the median of")
	rounds := flag.Int("rounds", 3, "how many times to run forty")
	flag.Parse()
	if err := measure(context.Background(), *runs, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the measurements share.
type bench struct {
	root, dir  string // the checkout, and a temporary directory
	cli, berth string
	model      string // the scripted model's URL
	made       int    // directories so far
}

func measure(ctx context.Context, runs, rounds int) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-agent-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := scripted.New(scripted.Options{Scripts: scripts(), Key: key})
	if err != nil {
		return err
	}
	url, stop, err := server.Listen(ctx, "")
	if err != nil {
		return err
	}
	defer stop()
	b := &bench{
		root: root, dir: dir, model: url,
		cli: filepath.Join(root, "node_modules", ".bin", "claude"), berth: filepath.Join(root, "bin", "berth"),
	}
	if err := b.one(ctx, runs); err != nil {
		return err
	}
	if err := b.many(ctx, rounds); err != nil {
		return err
	}
	return b.memory(ctx)
}

// scripts are a session of five steps, and one that stays until it is stopped.
func scripts() []scripted.Script {
	var steps []scripted.Step
	for number := range 4 {
		steps = append(steps, scripted.Use(scripted.Bash(fmt.Sprintf("echo %d >> steps.txt; cat steps.txt", number))))
	}
	return []scripted.Script{
		{Name: "stay", Match: "^stay", Steps: []scripted.Step{
			scripted.Use(scripted.Bash("touch here; for i in $(seq 1200); do sleep 0.1; done")), scripted.Text("Done."),
		}},
		{Name: "work", Steps: append(steps, scripted.Text("Done."))},
	}
}

// one compares `berth run` with `claude -p`, in turns.
func (b *bench) one(ctx context.Context, runs int) error {
	agent, err := b.start(ctx, 4)
	if err != nil {
		return err
	}
	defer agent.stop()
	var ours, bare []time.Duration
	for range runs {
		ours = append(ours, timed(&err, func() error { return agent.command(ctx, "run", "work").Run() }))
		bare = append(bare, timed(&err, func() error { return b.claude(ctx).Run() }))
		if err != nil {
			return err
		}
	}
	report("`berth run` : `claude -p`, one session of 5 replies", median(ours), median(bare), oneTarget)
	return nil
}

// many compares forty sessions at four places with xargs -P4 and claude -p, in turns.
func (b *bench) many(ctx context.Context, rounds int) error {
	agent, err := b.start(ctx, 4)
	if err != nil {
		return err
	}
	defer agent.stop()
	const sessions = 40
	var ours, bare []time.Duration
	for range rounds {
		ours = append(ours, timed(&err, func() error { return agent.runAll(ctx, sessions, "work") }))
		bare = append(bare, timed(&err, func() error { return b.xargs(ctx, sessions) }))
		if err != nil {
			return err
		}
	}
	report("40 sessions in 4 places : `xargs -P4 claude -p`", median(ours), median(bare), manyTarget)
	return nil
}

// memory reports what berthd takes idle, and with eight sessions that run.
func (b *bench) memory(ctx context.Context) error {
	agent, err := b.start(ctx, 8)
	if err != nil {
		return err
	}
	defer agent.stop()
	idle, err := resident(agent.process.Process.Pid)
	if err != nil {
		return err
	}
	for range 8 {
		if _, err := agent.client.Create(ctx, api.NewSession{Prompt: "stay"}); err != nil {
			return err
		}
	}
	if err := agent.until(ctx, func(sessions []api.Session) bool {
		return !slices.ContainsFunc(sessions, func(s api.Session) bool {
			_, err := os.Stat(filepath.Join(s.WorkDir, "here"))
			return s.WorkDir == "" || err != nil
		})
	}); err != nil {
		return err
	}
	busy, err := resident(agent.process.Process.Pid)
	if err != nil {
		return err
	}
	reapers, shares, err := reaperMemory(agent.process.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Printf("memory of berthd, idle                      %5.1f MB            target ≤ %d MB\n", idle, idleTargetMB)
	fmt.Printf("memory of berthd, 8 running sessions        %5.1f MB            target ≤ %d MB\n", busy, eightTargetMB)
	fmt.Printf("  and of its 8 reapers                      %5.1f MB resident, %.1f MB if shared pages are counted once\n", reapers, shares)
	return nil
}

// claude is the bare CLI, in a directory and with a configuration of its own, as a session has.
func (b *bench) claude(ctx context.Context) *exec.Cmd {
	command := exec.CommandContext(ctx, b.cli, "-p", "work", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions")
	b.made++
	command.Dir = filepath.Join(b.dir, "bare-"+strconv.Itoa(b.made))
	command.Env = b.environment(command.Dir)
	// A session starts in a git repository, and the CLI asks git more there.
	if output, err := exec.CommandContext(ctx, "git", "init", "--quiet", command.Dir).CombinedOutput(); err != nil {
		command.Err = fmt.Errorf("git init: %w: %s", err, output)
	}
	return command
}

func (b *bench) environment(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CLAUDE_CONFIG_DIR=" + filepath.Join(home, ".claude"), "IS_SANDBOX=1",
		contract.EnvAnthropicBaseURL + "=" + b.model, contract.EnvAnthropicAPIKey + "=" + key,
		"DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
	}
}

func (b *bench) xargs(ctx context.Context, sessions int) error {
	b.made++
	base := filepath.Join(b.dir, "xargs-"+strconv.Itoa(b.made))
	if err := os.MkdirAll(base, 0o700); err != nil {
		return err
	}
	script := `git init --quiet "$1" && cd "$1" && HOME=$PWD CLAUDE_CONFIG_DIR=$PWD/.claude exec "$CLI" -p work --output-format stream-json --verbose --dangerously-skip-permissions >out`
	command := exec.CommandContext(ctx, "xargs", "-P4", "-I{}", "sh", "-c", script, "sh", "{}")
	command.Dir, command.Env = base, append(b.environment(base), "CLI="+b.cli)
	var numbers strings.Builder
	for number := range sessions {
		fmt.Fprintln(&numbers, number)
	}
	command.Stdin, command.Stderr = strings.NewReader(numbers.String()), os.Stderr
	return command.Run()
}

func timed(failed *error, do func() error) time.Duration {
	start := time.Now()
	if err := do(); err != nil && *failed == nil {
		*failed = err
	}
	return time.Since(start)
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func report(what string, ours, bare time.Duration, target float64) {
	fmt.Printf("%s\n  %.2f s : %.2f s = %.3f            target ≤ %.2f\n", what, ours.Seconds(), bare.Seconds(), ours.Seconds()/bare.Seconds(), target)
}
