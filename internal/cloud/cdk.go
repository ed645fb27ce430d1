package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// CDK is the pinned CDK CLI of a project: berth's checkout, or an unpacked release.
type CDK struct {
	Root    string // where cdk.json is; the CLI runs there
	Program string // node_modules/.bin/cdk
}

// FindCDK finds the project around a directory, else the one that this executable is in. Never another CDK CLI than the pinned
// one: a newer one cannot read what the app writes.
func FindCDK(directory string) (*CDK, error) {
	// A relative place would come first on the PATH of the CLI's app, and what is found through such a one is refused.
	directory, err := filepath.Abs(directory)
	if err != nil {
		return nil, err
	}
	places := []string{directory}
	if executable, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(executable); err == nil {
			places = append(places, filepath.Dir(resolved))
		}
	}
	root := ""
	for _, place := range places {
		for {
			if _, err := os.Stat(filepath.Join(place, "cdk.json")); err == nil {
				root = place
				break
			}
			parent := filepath.Dir(place)
			if parent == place {
				break
			}
			place = parent
		}
		if root != "" {
			break
		}
	}
	if root == "" {
		return nil, &Error{What: "no cdk.json is in this directory, above it, or above berth itself", Next: "run this in a checkout of berth"}
	}
	found := &CDK{root, filepath.Join(root, "node_modules", ".bin", "cdk")}
	if _, err := os.Stat(found.Program); err != nil {
		return nil, &Error{What: "the pinned CDK CLI is not installed: there is no " + found.Program, Next: "run `npm ci` in " + root, Cause: err}
	}
	return found, nil
}

// env is the CLI's environment: the client's region and profile, and the pinned Node.js before the machine's.
func (k *CDK) env(c *Client) []string {
	environment := append(os.Environ(),
		"PATH="+filepath.Dir(k.Program)+string(os.PathListSeparator)+os.Getenv("PATH"),
		"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=1")
	if c != nil {
		environment = append(environment, "AWS_REGION="+c.Region, "AWS_DEFAULT_REGION="+c.Region)
	}
	return environment
}

// Run runs the CLI with its output on out (where it writes what people read; stdout too). On Ctrl-C it is told to end, and may
// take a while: what CloudFormation has begun goes on without it. The error has the CLI's last words.
func (k *CDK) Run(ctx context.Context, c *Client, out io.Writer, args ...string) error {
	command := exec.CommandContext(ctx, k.Program, args...)
	command.Dir, command.Env = k.Root, k.env(c)
	var last tail
	command.Stdout = io.MultiWriter(out, &last)
	command.Stderr = command.Stdout
	// A group of its own, so that a terminal's Ctrl-C reaches the CLI once, by Cancel, and the app that it runs too.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	err := command.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		return fmt.Errorf("running %s: %w", k.Program, err)
	}
	return &CDKError{Verb: args[0], Last: last.line(), Cause: err}
}

// CDKError is how the CLI failed: its last words, which say why.
type CDKError struct {
	Verb, Last string
	Cause      error
}

func (e *CDKError) Error() string {
	if e.Last == "" {
		return fmt.Sprintf("cdk %s failed: %v", e.Verb, e.Cause)
	}
	return fmt.Sprintf("cdk %s failed: %s", e.Verb, e.Last)
}

func (e *CDKError) Unwrap() error { return e.Cause }

// Context are the flags -c of options, in order.
func Context(options map[string]string) []string {
	var flags []string
	for _, name := range slices.Sorted(maps.Keys(options)) {
		flags = append(flags, "-c", name+"="+options[name])
	}
	return flags
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 16 << 10
	t.text = append(t.text, p...)
	if len(t.text) > most {
		t.text = bytes.Clone(t.text[len(t.text)-most:])
	}
	return len(p), nil
}

// line is the line that says why: the last that speaks of a failure, else the last.
func (t *tail) line() string {
	last, why := "", ""
	for line := range strings.Lines(string(t.text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "at ") {
			continue
		}
		last = line
		if strings.HasPrefix(line, "berth: ") {
			why = strings.TrimPrefix(line, "berth: ")
		} else if lower := strings.ToLower(line); (strings.Contains(lower, "error") || strings.Contains(lower, "failed") || strings.Contains(line, "❌")) && !strings.HasPrefix(why, "option ") {
			why = line
		}
	}
	if why == "" {
		why = last
	}
	return strings.TrimSpace(strings.TrimLeft(why, "❌ "))
}
