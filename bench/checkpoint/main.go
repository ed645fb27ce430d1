// Command checkpoint measures what a checkpoint of a session's files takes, beside `git add -A && git commit` in a copy
// of the same tree, in turns, in this run; and how many operations it is on the volume. Tree: 10,000 files, 200 MB;
// 100 of them change each time. It needs git, and strace for the operations.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/internal/workspace"
)

// targets are what the figures may be at most.
const (
	timeTarget       = 500 * time.Millisecond
	operationsTarget = 40
)

const (
	files   = 10_000
	size    = 20 << 10
	changed = 100
)

func main() {
	runs := flag.Int("runs", 10, "how many checkpoints to take the median of")
	one := flag.String("two", "", "make two checkpoints of the session in this directory, and nothing else")
	flag.Parse()
	var err error
	if *one != "" {
		err = two(context.Background(), *one)
	} else {
		err = measure(context.Background(), *runs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// place is the session's in a directory, with its volume beside it.
func place(dir string) (*workspace.Mirrors, workspace.Place) {
	mirrors := workspace.NewMirrors(filepath.Join(dir, "volume"), workspace.MirrorConfig{Temporary: dir})
	return mirrors, workspace.Place{
		ID: "01890a5d-ac96-774b-bcce-b302099a8057", Source: workspace.Source{Repo: filepath.Join(dir, "origin")}, Branch: "berth/01890a5d",
		Tree: filepath.Join(dir, "tree"), Scratch: filepath.Join(dir, "scratch"),
	}
}

// two makes two checkpoints, as an agent does: the first of a process looks more closely at what the volume has. The
// mark tells where the second begins.
func two(ctx context.Context, dir string) error {
	mirrors, session := place(dir)
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same files each time
	for range 2 {
		if err := change(random, session.Tree); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(dir, mark)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is there: %w", mark, err)
		}
		if err := checkpoint(ctx, mirrors, session); err != nil {
			return err
		}
	}
	return nil
}

const mark = "a checkpoint begins"

func checkpoint(ctx context.Context, mirrors *workspace.Mirrors, session workspace.Place) error {
	saved, err := mirrors.Checkpoint(ctx, session)
	if err == nil && saved == nil {
		return errors.New("nothing has changed")
	}
	return err
}

func measure(ctx context.Context, runs int) error {
	dir, err := os.MkdirTemp("", "bench-checkpoint-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same files each time
	if err := makeOrigin(ctx, filepath.Join(dir, "origin"), random); err != nil {
		return err
	}
	mirrors, session := place(dir)
	if _, err := mirrors.Prepare(ctx, session); err != nil {
		return err
	}
	plain := filepath.Join(dir, "plain")
	if err := command(ctx, dir, "cp", "-a", session.Tree, plain); err != nil {
		return err
	}
	if err := command(ctx, plain, "git", "status", "--porcelain"); err != nil { // its index knows the copies
		return err
	}
	var first time.Duration
	var ours, theirs []time.Duration
	for run := range runs + 1 {
		if err := change(random, session.Tree, plain); err != nil {
			return err
		}
		one := timed(&err, func() error { return checkpoint(ctx, mirrors, session) })
		bare := timed(&err, func() error {
			return errors.Join(command(ctx, plain, "git", "add", "-A"), command(ctx, plain, "git", "commit", "--quiet", "-m", "checkpoint"))
		})
		if err != nil {
			return err
		}
		if run == 0 {
			first = one
			continue
		}
		ours, theirs = append(ours, one), append(theirs, bare)
	}
	nothing := timed(&err, func() error { _, err := mirrors.Checkpoint(ctx, session); return err })
	if err != nil {
		return err
	}
	mine, git := median(ours), median(theirs)
	fmt.Printf("checkpoint : `git add -A && git commit`, %d of %d files\n  %.0f ms : %.0f ms = %.2f            target ≤ %d ms\n",
		changed, files, ms(mine), ms(git), ms(mine)/ms(git), timeTarget.Milliseconds())
	fmt.Printf("  the first one %.0f ms, one of nothing new %.0f ms\n", ms(first), ms(nothing))
	count, err := operations(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("operations on the volume, of one checkpoint  %d            target ≤ %d\n", count, operationsTarget)
	return nil
}

// operations counts the system calls that name a file on the volume, or sync one.
func operations(ctx context.Context, dir string) (count int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	trace := filepath.Join(dir, "trace")
	if err := command(ctx, dir, "strace", "-f", "-y", "-qq", "-o", trace, "-e", "trace=%file,fsync,fdatasync,flock", self, "-two", dir); err != nil {
		return 0, err
	}
	file, err := os.Open(trace)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if strings.Contains(lines.Text(), filepath.Join(dir, "volume")) && !strings.Contains(lines.Text(), "execve(") && !strings.Contains(lines.Text(), "resumed>") {
			count++
		}
		if strings.Contains(lines.Text(), mark) {
			count = 0
		}
	}
	return count, lines.Err()
}

func makeOrigin(ctx context.Context, dir string, random *rand.Rand) error {
	for number := range files {
		if err := writeFile(random, filepath.Join(dir, name(number))); err != nil {
			return err
		}
	}
	return errors.Join(
		command(ctx, dir, "git", "init", "--quiet", "--initial-branch=main"),
		command(ctx, dir, "git", "config", "gc.auto", "0"), // it would pack in the background, for half a minute
		command(ctx, dir, "git", "add", "-A"),
		command(ctx, dir, "git", "commit", "--quiet", "-m", "files"),
	)
}

func name(number int) string {
	return filepath.Join(fmt.Sprintf("d%02d", number%100), fmt.Sprintf("e%d", number/100%10), fmt.Sprintf("f%d", number))
}

// writeFile writes half of it random and half of it not, as source code is to git.
func writeFile(random *rand.Rand, path string) error {
	text := make([]byte, size)
	for i := range size / 2 {
		text[i] = byte(random.Uint32()) //nolint:gosec // its last byte
	}
	for i := size / 2; i < size; i++ {
		text[i] = "a line of text\n"[i%15]
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as a repository's are
		return err
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // likewise
}

// change changes the same files in some trees.
func change(random *rand.Rand, trees ...string) error {
	for range changed {
		path := name(random.IntN(files))
		seed := random.Uint64()
		for _, tree := range trees {
			if err := writeFile(rand.New(rand.NewPCG(seed, 0)), filepath.Join(tree, path)); err != nil { //nolint:gosec // the same in each
				return err
			}
		}
	}
	return nil
}

func command(ctx context.Context, dir, program string, args ...string) error {
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@localhost", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@localhost")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", program, args, err, output)
	}
	return nil
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

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
