// Command synth times the synthesis of the stack: by bin/infra, and by its twin in TypeScript, run the
// way TypeScript projects run theirs (npx ts-node) and compiled beforehand.
//
//	go run ./bench/synth [-rounds 5]
//
// It sets up what is missing, checks that all of them write the same template, and fails if they do not,
// or if bin/infra takes more than a third of the time of npx ts-node. Every run is a new process that
// writes to a directory of its own. They take turns, so that a busy spell of the machine hits them alike.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// target is the most that bin/infra may take, as a share of what npx ts-node takes.
const target = 1.0 / 3

const twinDir = "bench/typescript"

// contender is one way to synthesise the stack.
type contender struct {
	name    string
	dir     string // where it runs, from the repository's root
	command []string
}

var (
	tsNode   = contender{"TypeScript, npx ts-node", twinDir, []string{"npx", "ts-node", "--prefer-ts-exts", "bin/app.ts"}}
	compiled = contender{"TypeScript, compiled beforehand", twinDir, []string{"node", "dist/bin/app.js"}}
	binary   = contender{"Go, bin/infra", ".", []string{"bin/infra"}}

	contenders = []contender{tsNode, binary, compiled}
)

func main() {
	rounds := flag.Int("rounds", 5, "times that each is measured, after a run that is not")
	flag.Parse()
	if err := run(*rounds); err != nil {
		fmt.Fprintln(os.Stderr, "synth:", err)
		os.Exit(1)
	}
}

func run(rounds int) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if rounds < 1 {
		return errors.New("-rounds: use 1 or more")
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	text, err := os.ReadFile("cdk.json")
	if err != nil {
		return fmt.Errorf("run it in the repository's root: %w", err)
	}
	var project struct{ Context json.RawMessage }
	if err := json.Unmarshal(text, &project); err != nil {
		return fmt.Errorf("cdk.json: %w", err)
	}
	// exec looks a command up on this process's own path.
	if err := os.Setenv("PATH", filepath.Join(root, "node_modules", ".bin")+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		return err
	}
	b := bench{root: root, env: environment(project.Context)}
	if err := b.setUp(ctx); err != nil {
		return err
	}
	return b.compare(ctx, rounds)
}

// environment is what every contender runs with: the project's context and no AWS credentials, so that
// the network is the placeholder.
func environment(context json.RawMessage) []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "CDK_") || strings.HasPrefix(variable, "CONTEXT_OVERFLOW_LOCATION=")
	})
	return append(env, "CDK_CONTEXT_JSON="+string(context))
}

type bench struct {
	root string
	env  []string
}

// setUp installs what is missing, and builds both apps.
func (b bench) setUp(ctx context.Context) error {
	for _, dir := range []string{".", twinDir} {
		if _, err := os.Stat(filepath.Join(b.root, dir, "node_modules")); err == nil {
			continue
		}
		if err := b.exec(ctx, dir, nil, "npm", "ci"); err != nil {
			return err
		}
	}
	if err := b.exec(ctx, twinDir, nil, "npx", "tsc"); err != nil {
		return err
	}
	return b.exec(ctx, ".", nil, "go", "build", "-o", "bin/infra", "./infra")
}

// checkTemplates runs every contender once, which also warms the caches, and fails if two of them disagree.
func (b bench) checkTemplates(ctx context.Context) error {
	var first any
	for i, c := range contenders {
		_, template, err := b.synthesise(ctx, c)
		if err != nil {
			return err
		}
		if i == 0 {
			first = template
		}
		if diff := cmp.Diff(first, template); diff != "" {
			return fmt.Errorf("the templates of %q (-) and %q (+) differ:\n%s", contenders[0].name, c.name, diff)
		}
	}
	return nil
}

// compare times all contenders, prints the table, and holds the result against the target.
func (b bench) compare(ctx context.Context, rounds int) error {
	node, err := exec.CommandContext(ctx, "node", "--version").Output()
	if err != nil {
		return fmt.Errorf("node --version: %w", err)
	}
	if err := b.checkTemplates(ctx); err != nil {
		return err
	}
	times := make([][]time.Duration, len(contenders))
	for range rounds {
		for i, c := range contenders {
			took, _, err := b.synthesise(ctx, c)
			if err != nil {
				return err
			}
			times[i] = append(times[i], took)
		}
	}

	fmt.Printf("Node.js %s, %d CPUs, %d runs each; all write the same template.\n\n", strings.TrimSpace(string(node)), runtime.NumCPU(), rounds)
	fmt.Printf("%-33s %8s %8s %8s\n", "", "median", "fastest", "slowest")
	medians := make(map[string]time.Duration)
	for i, c := range contenders {
		slices.Sort(times[i])
		medians[c.name] = median(times[i])
		fmt.Printf("%-33s %6.2f s %6.2f s %6.2f s\n", c.name, medians[c.name].Seconds(), times[i][0].Seconds(), times[i][rounds-1].Seconds())
	}
	ratio := float64(medians[binary.name]) / float64(medians[tsNode.name])
	fmt.Printf("\nbin/infra takes %.2f of the time of npx ts-node (target: at most %.2f).\n", ratio, target)
	if ratio > target {
		return errors.New("the target is missed")
	}
	return nil
}

// synthesise runs a contender once and returns how long it took, and the one template that it wrote.
func (b bench) synthesise(ctx context.Context, c contender) (time.Duration, any, error) {
	out, err := os.MkdirTemp("", "berth-synth-*")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(out)
	start := time.Now()
	if err := b.exec(ctx, c.dir, []string{"CDK_OUTDIR=" + out}, c.command...); err != nil {
		return 0, nil, err
	}
	took := time.Since(start)

	found, err := filepath.Glob(filepath.Join(out, "*.template.json"))
	if err != nil || len(found) != 1 {
		return 0, nil, fmt.Errorf("%s wrote %d templates, not 1", c.name, len(found))
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		return 0, nil, err
	}
	var template any
	if err := json.Unmarshal(text, &template); err != nil {
		return 0, nil, fmt.Errorf("%s wrote no JSON: %w", c.name, err)
	}
	return took, template, nil
}

// exec runs a command in a directory of the repository, silent unless it fails.
func (b bench) exec(ctx context.Context, dir string, env []string, command ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = filepath.Join(b.root, dir)
	cmd.Env = slices.Concat(b.env, env)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s, in %s: %w\n%s", strings.Join(command, " "), dir, err, output.Bytes())
	}
	return nil
}

// median is the middle one of times in order, or the mean of the two in the middle.
func median(times []time.Duration) time.Duration {
	n := len(times)
	return (times[(n-1)/2] + times[n/2]) / 2
}
