//go:build linux

// Command restart measures how long a session stands still when berthd is killed in the middle of its turn: from the
// start of the next berthd until the session's first request arrives at the model, with its files on the work disk as
// they were, and with the work disk gone, so that they are restored from the checkpoint. Beside it, in turns: what the
// bare Claude Code takes from its start to its first request when it resumes a session. The model is scripted. It needs
// git and the Claude Code CLI; `make bench` sees to that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"berth/bench/harness"
	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// target is how long a session may stand still.
const target = 3 * time.Second

// patience bounds each wait.
const patience = 90 * time.Second

func main() {
	rounds := flag.Int("rounds", 5, "how many restarts of each kind")
	files := flag.Int("files", 1000, "files of the repository")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, max(*rounds, 1), max(*files, 1))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the measurements share.
type bench struct {
	programs harness.Programs
	place    harness.Place
	repo     string
	asked    chan scripted.Record // requests of the main conversations
}

func measure(ctx context.Context, rounds, files int) error {
	dir, err := os.MkdirTemp("", "bench-restart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{repo: filepath.Join(dir, "repository"), asked: make(chan scripted.Record, 1000)}
	if b.programs, err = harness.Build(ctx, dir); err != nil {
		return err
	}
	if err := makeRepository(ctx, b.repo, files); err != nil {
		return err
	}
	model, err := scripted.New(scripted.Options{Scripts: scripts(), Key: harness.Key, OnRequest: func(r scripted.Record) {
		if !r.Side {
			b.asked <- r
		}
	}})
	if err != nil {
		return err
	}
	url, stop, err := model.Listen(ctx, "")
	if err != nil {
		return err
	}
	defer stop()
	b.place = harness.Place{
		Home: filepath.Join(dir, "home"), Data: filepath.Join(dir, "volume"), Model: url,
		Env: []string{contract.EnvCheckpoint + "=1", "IS_SANDBOX=1"},
	}
	if err := os.Mkdir(b.place.Home, 0o711); err != nil { //nolint:gosec // sessions' users have to get to their own directories below it
		return err
	}
	return b.compare(ctx, filepath.Join(dir, "bare"), rounds)
}

// scripts are a session that has done something, and then works on for two minutes, or until Claude Code is gone.
func scripts() []scripted.Script {
	work := "for i in $(seq 240); do date >> log.txt; sleep 0.5; kill -0 $PPID 2>/dev/null || exit; done"
	return []scripted.Script{{Name: "work", Endless: true, Steps: []scripted.Step{
		scripted.Use(scripted.Write("{{cwd}}/notes.md", "What was done.\n")),
		scripted.Use(scripted.Bash("echo 1 >> notes.md")),
		scripted.Use(scripted.Bash(work)),
	}}}
}

func (b *bench) compare(ctx context.Context, bareDir string, rounds int) error {
	agent, err := b.programs.Start(ctx, b.place)
	if err != nil {
		return err
	}
	defer func() { agent.Stop() }()
	made, err := agent.Client.Create(ctx, api.NewSession{Prompt: "work", Repo: b.repo})
	if err != nil {
		return err
	}
	if err := b.inMidTurn(ctx, agent, made.ID, 0); err != nil {
		return err
	}
	plain, err := b.newBare(ctx, bareDir)
	if err != nil {
		return err
	}
	fmt.Printf("restarts of berthd with a session in mid-turn, %d rounds of each kind\n", rounds)
	var kept, restored, bare []stages
	for round := range rounds {
		for _, deleted := range []bool{false, true} {
			var s stages
			if agent, s, err = b.restart(ctx, agent, made.ID, deleted); err != nil {
				return err
			}
			if deleted {
				restored = append(restored, s)
			} else {
				kept = append(kept, s)
			}
		}
		took, err := plain.resume(ctx, b)
		if err != nil {
			return err
		}
		bare = append(bare, stages{asked: took})
		k, r := kept[len(kept)-1], restored[len(restored)-1]
		fmt.Printf("  round %d: as it was %.2f s (Claude Code after %.2f s), gone %.2f s (%.2f s), bare %.2f s\n",
			round+1, k.asked.Seconds(), k.started.Seconds(), r.asked.Seconds(), r.started.Seconds(), took.Seconds())
	}
	report(kept, restored, bare)
	return nil
}

// stages are when something came about after the start of the process.
type stages struct{ answered, started, asked time.Duration }

// restart kills the agent, starts it again, and waits until the session is in the middle of a turn again.
func (b *bench) restart(ctx context.Context, agent *harness.Agent, id string, deleted bool) (*harness.Agent, stages, error) {
	before, err := agent.Client.Session(ctx, id)
	if err != nil {
		return agent, stages{}, err
	}
	agent.Kill()
	if deleted {
		if err := removeAll(ctx, b.place.Work()); err != nil {
			return agent, stages{}, err
		}
	}
	b.forget()
	next, err := b.programs.Start(ctx, b.place)
	if err != nil {
		return agent, stages{}, err
	}
	record, err := b.request(ctx, id)
	if err != nil {
		return next, stages{}, err
	}
	s := stages{answered: next.Took, asked: record.Time.Sub(next.Started)}
	running, restores, err := history(ctx, next, id, before.Events)
	if err != nil {
		return next, stages{}, err
	}
	if s.started = running.Sub(next.Started); deleted != (restores > 0) {
		return next, stages{}, fmt.Errorf("the files were restored %d times, with the work disk gone: %t", restores, deleted)
	}
	return next, s, b.inMidTurn(ctx, next, id, before.Events)
}

// history tells when the session was last started, and how often it was restored, in its events from an index on.
func history(ctx context.Context, agent *harness.Agent, id string, from int) (running time.Time, restores int, err error) {
	for event, err := range agent.Client.Events(ctx, id, from, false) {
		if err != nil {
			return running, restores, err
		}
		switch {
		case event.Type == api.EventState && event.State == api.Running:
			running = event.Time
		case event.Type == api.EventRestore:
			restores++
		}
	}
	return running, restores, nil
}

// inMidTurn waits until Claude Code has a tool at work, and a checkpoint was made since.
func (b *bench) inMidTurn(ctx context.Context, agent *harness.Agent, id string, from int) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	works := false
	for event, err := range agent.Client.Events(limited, id, from, true) {
		switch {
		case err != nil:
			return err
		case event.Type == api.EventClaude && strings.Contains(string(event.Claude), `"tool_use"`) && strings.Contains(string(event.Claude), "log.txt"):
			works = true
		case event.Type == api.EventCheckpoint && works:
			return nil
		}
	}
	return errors.New("the session has ended")
}

// request waits for a session's next request, and forget forgets those that came.
func (b *bench) request(ctx context.Context, id string) (scripted.Record, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		select {
		case record := <-b.asked:
			if record.Session == id {
				return record, nil
			}
		case <-limited.Done():
			return scripted.Record{}, fmt.Errorf("no request of session %s: %w", id, limited.Err())
		}
	}
}

func (b *bench) forget() {
	for {
		select {
		case <-b.asked:
		default:
			return
		}
	}
}

// removeAll removes the work disk, when those that still write to it are gone, as they would be with the machine.
func removeAll(ctx context.Context, dir string) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for clean := 0; ; {
		err := os.RemoveAll(dir)
		if clean++; err != nil {
			clean = 0
		}
		if clean > 10 { // nobody has made it anew for a second
			return nil
		}
		select {
		case <-ticker.C:
		case <-limited.Done():
			return fmt.Errorf("removing the work disk: %w", err)
		}
	}
}

func report(kept, restored, bare []stages) {
	of := func(list []stages, what func(stages) time.Duration) (times []time.Duration) {
		for _, s := range list {
			times = append(times, what(s))
		}
		return times
	}
	asked := func(s stages) time.Duration { return s.asked }
	reference := harness.Median(of(bare, asked))
	for _, line := range []struct {
		name   string
		stages []stages
	}{{"work disk as it was", kept}, {"work disk gone", restored}} {
		median := harness.Median(of(line.stages, asked))
		fmt.Printf("%s, until the first request\n  median %.2f s, worst %.2f s            target ≤ %.0f s\n",
			line.name, median.Seconds(), harness.Worst(of(line.stages, asked)).Seconds(), target.Seconds())
		fmt.Printf("  of it, medians: berthd answers after %.2f s, Claude Code is started after %.2f s\n",
			harness.Median(of(line.stages, func(s stages) time.Duration { return s.answered })).Seconds(),
			harness.Median(of(line.stages, func(s stages) time.Duration { return s.started })).Seconds())
		fmt.Printf("  to bare `claude -p --resume`: %.2f s : %.2f s = %.2f\n", median.Seconds(), reference.Seconds(), median.Seconds()/reference.Seconds())
	}
}

// makeRepository makes a repository of small files.
func makeRepository(ctx context.Context, dir string, files int) error {
	for number := range files {
		name := filepath.Join(dir, fmt.Sprintf("part-%02d/file-%04d.txt", number/100, number))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(strings.Repeat(fmt.Sprintf("file %d\n", number), 100)), 0o600); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"add", "--all"},
		{"-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "-m", "Begin"},
	} {
		if output, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("git %v: %w: %s", args, err, output)
		}
	}
	return nil
}
