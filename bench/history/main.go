//go:build linux

// Command history measures what ten thousand sessions that have ended cost an agent: how long it takes to start, beside
// the same on an empty volume, in turns; its memory; and `berth ps`. And how long the start takes when each operation on
// the volume takes 5 ms longer, which needs root and /dev/fuse.
//
// One session is real, of the Claude Code CLI and a scripted model. The others are its copies, under ids of their own:
// so that each has its snapshot, its log and its transcript as the store writes them.
package main

import (
	"bytes"
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

	"github.com/google/uuid"

	"berth/bench/harness"
	"berth/bench/slowvolume/slowfs"
	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// settings are what the command line says.
type settings struct {
	sessions, rounds int
	delay, cached    time.Duration
}

func main() {
	var set settings
	flag.IntVar(&set.sessions, "sessions", 10_000, "how many sessions have ended")
	flag.IntVar(&set.rounds, "rounds", 5, "how many starts, and lists, to take the median of")
	flag.DurationVar(&set.delay, "delay", 5*time.Millisecond, "what each operation on the slow volume takes longer; 0 leaves it out")
	flag.DurationVar(&set.cached, "cached", time.Second, "how long the kernel remembers the slow volume's names and attributes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, set)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is what the measurements share.
type bench struct {
	settings
	programs    harness.Programs
	empty, full harness.Place
}

func measure(ctx context.Context, set settings) error {
	if set.sessions < 1 || set.rounds < 1 {
		return errors.New("there have to be sessions and rounds")
	}
	dir, err := os.MkdirTemp("", "bench-history-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{settings: set}
	if b.programs, err = harness.Build(ctx, dir); err != nil {
		return err
	}
	model, err := scripted.New(scripted.Options{Key: harness.Key, Scripts: []scripted.Script{{Steps: []scripted.Step{
		scripted.Use(scripted.Write("{{cwd}}/notes.md", "What was done.\n")), scripted.Use(scripted.Bash("cat notes.md")), scripted.Text("Done."),
	}}}})
	if err != nil {
		return err
	}
	url, stop, err := model.Listen(ctx, "")
	if err != nil {
		return err
	}
	defer stop()
	for name, place := range map[string]*harness.Place{"empty": &b.empty, "full": &b.full} {
		*place = harness.Place{Home: filepath.Join(dir, name), Data: filepath.Join(dir, name+"-volume"), Model: url}
		if err := os.Mkdir(place.Home, 0o711); err != nil { //nolint:gosec // sessions' users have to get to their own directories below it
			return err
		}
	}
	if err := b.fill(ctx); err != nil {
		return err
	}
	if err := errors.Join(b.starts(ctx), b.lists(ctx)); err != nil || set.delay == 0 {
		return err
	}
	return b.slow(ctx)
}

// fill runs a session, and copies it.
func (b *bench) fill(ctx context.Context) error {
	agent, err := b.programs.Start(ctx, b.full)
	if err != nil {
		return err
	}
	defer agent.Stop()
	made, err := agent.Client.Create(ctx, api.NewSession{Prompt: "Write down what was done, and show it"})
	if err != nil {
		return err
	}
	if _, err := agent.Ended(ctx, made.ID, 2*time.Minute); err != nil {
		return err
	}
	agent.Stop()
	sessions := filepath.Join(b.full.Data, "sessions")
	files := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(sessions, made.ID))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if files[entry.Name()], err = os.ReadFile(filepath.Join(sessions, made.ID, entry.Name())); err != nil {
			return err
		}
	}
	for range b.sessions - 1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := write(sessions, made.ID, files); err != nil {
			return err
		}
	}
	return nil
}

// write writes a copy of a session. The snapshot names it; the log does not, so that the snapshot's sum of it holds.
func write(sessions, from string, files map[string][]byte) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	dir := filepath.Join(sessions, id.String())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if name == "session.json" {
			text = bytes.ReplaceAll(text, []byte(from), []byte(id.String()))
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// started is what starts took.
type started struct {
	times  []time.Duration
	cpu    []time.Duration
	memory harness.Memory // after the last one
}

// start starts an agent once more, and sees that it knows all its sessions.
func (b *bench) start(ctx context.Context, place harness.Place, want int, to *started) error {
	agent, err := b.programs.Start(ctx, place)
	if err != nil {
		return err
	}
	defer agent.Stop()
	cpu, err := agent.CPU()
	if err != nil {
		return err
	}
	status, err := agent.Client.Status(ctx)
	if err != nil {
		return err
	}
	if got := status.Sessions[api.Succeeded]; got != want {
		return fmt.Errorf("the agent knows %d sessions that succeeded, of %d", got, want)
	}
	to.times, to.cpu = append(to.times, agent.Took), append(to.cpu, cpu)
	to.memory, err = agent.Memory()
	return err
}

// starts compares starts on the two volumes.
func (b *bench) starts(ctx context.Context) error {
	var empty, full started
	for range b.rounds {
		if err := errors.Join(b.start(ctx, b.empty, 0, &empty), b.start(ctx, b.full, b.sessions, &full)); err != nil {
			return err
		}
	}
	ours, reference := harness.Median(full.times).Seconds(), harness.Median(empty.times).Seconds()
	fmt.Printf("start of berthd until it answers, %d sessions that have ended : none, medians of %d\n", b.sessions, b.rounds)
	fmt.Printf("  %.2f s : %.2f s = %.2f, worst %.2f s; %.0f µs more for each, processor time %.2f s : %.2f s\n",
		ours, reference, ours/reference, harness.Worst(full.times).Seconds(), (ours-reference)*1e6/float64(b.sessions),
		harness.Median(full.cpu).Seconds(), harness.Median(empty.cpu).Seconds())
	fmt.Printf("  memory with them: %s\n  memory with none: %s\n", full.memory, empty.memory)
	return nil
}

// lists measures `berth ps`.
func (b *bench) lists(ctx context.Context) error {
	for _, args := range [][]string{{"ps"}, {"ps", "--all"}, {"ps", "--json"}} {
		var medians []float64
		for _, each := range []struct {
			place harness.Place
			rows  int
		}{{b.full, b.sessions}, {b.empty, 0}} {
			took, err := b.list(ctx, each.place, each.rows, args)
			if err != nil {
				return err
			}
			medians = append(medians, took.Seconds())
		}
		fmt.Printf("`berth %s`, %d sessions : none, medians of %d\n  %.3f s : %.3f s = %.1f\n",
			strings.Join(args, " "), b.sessions, b.rounds, medians[0], medians[1], medians[0]/medians[1])
	}
	return nil
}

// list is the median of what a list takes.
func (b *bench) list(ctx context.Context, place harness.Place, rows int, args []string) (time.Duration, error) {
	agent, err := b.programs.Start(ctx, place)
	if err != nil {
		return 0, err
	}
	defer agent.Stop()
	var times []time.Duration
	for range b.rounds {
		command := exec.CommandContext(ctx, b.programs.Berth, append([]string{args[0], "--local"}, args[1:]...)...)
		command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + place.Home, contract.EnvData + "=" + place.Data}
		began := time.Now()
		output, err := command.Output()
		if err != nil {
			return 0, fmt.Errorf("berth %v: %w", args, err)
		}
		times = append(times, time.Since(began))
		if lines := bytes.Count(output, []byte("\n")); len(args) == 2 && args[1] == "--all" && rows > 0 && lines != rows+1 {
			return 0, fmt.Errorf("berth %v wrote %d lines for %d sessions", args, lines, rows)
		}
	}
	return harness.Median(times), nil
}

// slow reports the start with a volume on which every operation takes longer.
func (b *bench) slow(ctx context.Context) error {
	var medians []float64
	for _, each := range []struct {
		place harness.Place
		rows  int
	}{{b.full, b.sessions}, {b.empty, 0}} {
		took, operations, err := b.slowStart(ctx, each.place, each.rows)
		if err != nil {
			return err
		}
		fmt.Printf("start with %s for each operation on the volume, %d sessions: %.2f s, %d operations\n", b.delay, each.rows, took.Seconds(), operations)
		medians = append(medians, took.Seconds())
	}
	fmt.Printf("  %.2f s : %.2f s = %.1f\n", medians[0], medians[1], medians[0]/medians[1])
	return nil
}

func (b *bench) slowStart(ctx context.Context, place harness.Place, rows int) (took time.Duration, operations int, err error) {
	volume, err := slowfs.Mount(place.Data, slowfs.Options{Delay: b.delay, Cached: b.cached})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, volume.Close()) }()
	place.Direct, place.Data = place.Data, volume.Path
	var start started
	if err := b.start(ctx, place, rows, &start); err != nil {
		return 0, 0, err
	}
	kinds, _ := volume.Counts()
	for _, count := range kinds {
		operations += count
	}
	return start.times[0], operations, nil
}
