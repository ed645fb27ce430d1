//go:build linux

// Command slowvolume measures what a slow volume costs: a session on a repository of many files, with the real Claude
// Code CLI and a scripted model that takes a second for each reply, once with the volume in a directory and once with
// the same kind of directory in which every operation takes 5 ms longer, in turns. It prints the times, their ratio,
// and how many operations on the volume a turn takes. What a client of NFS does not ask its server takes no longer. It
// needs root, /dev/fuse and the CLI (`make setup`).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"berth/bench/harness"
	"berth/internal/scripted"
)

// target is what the ratio of the times may be at most.
const target = 1.10

// settings are what the command line says.
type settings struct {
	rounds, turns, messages, files int
	delay, cached, think           time.Duration
	flush, changes, clones         bool
}

// bench is what the measurements share.
type bench struct {
	settings
	dir      string // a temporary directory on the local disk
	repo     string // each agent has a copy of it
	programs harness.Programs
	model    string // the scripted model's URL
}

func main() {
	var set settings
	flag.IntVar(&set.rounds, "rounds", 5, "how many sessions to take the median of, with each volume, after a first one")
	flag.IntVar(&set.turns, "turns", 20, "replies of the model in a session that edit files")
	flag.IntVar(&set.messages, "messages", 1, "how many messages the turns are spread over; each ends with a checkpoint")
	flag.IntVar(&set.files, "files", 10_000, "files of the repository")
	flag.DurationVar(&set.delay, "delay", 5*time.Millisecond, "what each operation on the slow volume takes longer")
	// NFS remembers attributes for three seconds at least (nfs(5), acregmin), and other FUSE file systems for one.
	flag.DurationVar(&set.cached, "cached", time.Second, "how long the kernel remembers the slow volume's names and attributes")
	flag.DurationVar(&set.think, "think", time.Second, "how long the model takes for a reply")
	flag.BoolVar(&set.flush, "flush", false, "have each closing of a file take longer, too, as if all had been written to")
	flag.BoolVar(&set.changes, "changes", false, "commit something to the origin before each session, so that it has to fetch")
	flag.BoolVar(&set.clones, "clones", false, "give each session an origin that is new to its agent, so that it has to clone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, set)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, set settings) (err error) {
	if set.rounds < 1 || set.messages < 1 || set.turns < set.messages || set.files < 1 {
		return errors.New("there have to be rounds, files, messages, and at least a turn for each")
	}
	dir, err := os.MkdirTemp("", "bench-slowvolume-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{settings: set, dir: dir}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	model, err := scripted.New(scripted.Options{Scripts: []scripted.Script{b.script()}, Key: harness.Key})
	if err != nil {
		return err
	}
	url, stop, err := model.Listen(ctx, "")
	if err != nil {
		return err
	}
	defer stop()
	b.model = url

	fast, err := b.start(ctx, "fast", false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fast.stop()) }()
	slow, err := b.start(ctx, "slow", true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, slow.stop()) }()
	return b.compare(ctx, fast, slow)
}

// compare runs sessions in turns, and prints what came out. The first one with each volume stands apart: it makes the
// mirror of the repository, once for all that come after it.
func (b *bench) compare(ctx context.Context, fast, slow *agent) error {
	fmt.Printf("a session of %d turns over %d messages, %d files, +%s for each operation; slow and fast in turns\n", b.turns, b.messages, b.files, b.delay)
	var plain, slowed []time.Duration
	var counted []counts
	for round := range b.rounds + 1 {
		first, second := fast, slow
		if round%2 == 1 { // neither always comes after the other
			first, second = slow, fast
		}
		times := map[*agent]time.Duration{}
		slow.volume.Counts() // what there was meanwhile is no session's
		var operations counts
		for _, each := range []*agent{first, second} {
			took, err := each.session(ctx)
			if err != nil {
				return fmt.Errorf("%s volume: %w", each.name, err)
			}
			times[each] = took
			if each == slow {
				operations.kinds, operations.programs = slow.volume.Counts()
			}
		}
		what := fmt.Sprintf("round %d", round)
		if round == 0 {
			what = "first session"
		} else {
			plain, slowed, counted = append(plain, times[fast]), append(slowed, times[slow]), append(counted, operations)
		}
		fmt.Printf("  %-13s  slow %.2f s, fast %.2f s, %d operations\n", what, times[slow].Seconds(), times[fast].Seconds(), operations.total())
	}
	s, f := harness.Median(slowed).Seconds(), harness.Median(plain).Seconds()
	fmt.Printf("slow : fast volume, medians of %d\n  %.2f s : %.2f s = %.3f            target ≤ %.2f\n", b.rounds, s, f, s/f, target)
	b.operations(counted)
	return nil
}

// counts are the operations of a session on the volume.
type counts struct{ kinds, programs map[string]int }

func (c counts) total() (sum int) {
	for _, count := range c.kinds {
		sum += count
	}
	return sum
}

// operations prints how many operations on the volume a turn took, in the session in the middle.
func (b *bench) operations(counted []counts) {
	slices.SortFunc(counted, func(x, y counts) int { return cmp.Compare(x.total(), y.total()) })
	middle := counted[len(counted)/2]
	fmt.Printf("operations on the volume per turn: %.1f\n", float64(middle.total())/float64(b.turns))
	for _, part := range []struct {
		by     string
		counts map[string]int
	}{{"by kind", middle.kinds}, {"by program", middle.programs}} {
		fmt.Println(part.by)
		names := slices.SortedFunc(maps.Keys(part.counts), func(x, y string) int {
			return cmp.Or(cmp.Compare(part.counts[y], part.counts[x]), cmp.Compare(x, y))
		})
		for _, name := range names {
			fmt.Printf("  %-18s %7.1f\n", name, float64(part.counts[name])/float64(b.turns))
		}
	}
}

// script edits a few files in each reply.
func (b *bench) script() scripted.Script {
	var steps []scripted.Step
	for turn := range b.turns / b.messages {
		edit := "for file in"
		for each := range 3 {
			edit += " " + fileName((turn*977+each*31)%b.files)
		}
		step := scripted.Use(
			scripted.Bash(fmt.Sprintf(`%s; do echo "turn %d" >> "$file"; done`, edit, turn+1)),
			scripted.Write(fmt.Sprintf("{{cwd}}/notes/turn-%d.md", turn+1), "What was done in this turn.\n"),
		)
		step.Delay = b.think
		steps = append(steps, step)
	}
	return scripted.Script{Name: "work", Steps: append(steps, scripted.Text("Done."))}
}

// prepare makes the repository, and builds the programs.
func (b *bench) prepare(ctx context.Context) (err error) {
	b.repo = filepath.Join(b.dir, "repository")
	line := "Nothing in this file means anything, but there has to be something in it to be read and written.\n"
	for number := range b.files {
		name := filepath.Join(b.repo, fileName(number))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(fmt.Sprintf("file %d\n", number)+line+line+line), 0o600); err != nil {
			return err
		}
	}
	for _, command := range [][]string{
		{"git", "-C", b.repo, "init", "--quiet"},
		{"git", "-C", b.repo, "add", "--all"},
		{"git", "-C", b.repo, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "-m", "Begin"},
	} {
		if err = run(ctx, command...); err != nil {
			return err
		}
	}
	b.programs, err = harness.Build(ctx, b.dir)
	return err
}

// fileName is the path of a file of the repository, by its number.
func fileName(number int) string { return fmt.Sprintf("part-%02d/file-%04d.txt", number/100, number) }
