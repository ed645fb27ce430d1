package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Builder is a program on this machine that builds images from a Dockerfile.
type Builder struct {
	Name string // docker, podman or buildah
	Path string
}

// builders are the programs that are known, the one to be preferred first.
var builders = []string{"docker", "podman", "buildah"}

// ErrNoBuilder says that no builder was found that works.
var ErrNoBuilder = errors.New("no program here can build an image")

// EnvBuilder names a builder, or its path, to use in place of the first that works.
const EnvBuilder = "BERTH_BUILDER"

// FindBuilder returns the first of docker, podman and buildah that is on the PATH and works: docker and podman may be there
// without a service that answers. The error says what was wrong with each one.
func FindBuilder(ctx context.Context, getenv func(string) string) (Builder, error) {
	wanted := builders
	if given := getenv(EnvBuilder); given != "" {
		if _, known := commands[strings.TrimSuffix(filepath.Base(given), ".exe")]; !known {
			return Builder{}, fmt.Errorf("%s=%q is none of %s", EnvBuilder, given, strings.Join(builders, ", "))
		}
		wanted = []string{given}
	}
	var problems []string
	for _, name := range wanted {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		builder := Builder{Name: strings.TrimSuffix(filepath.Base(name), ".exe"), Path: path}
		if err := builder.works(ctx); err != nil {
			problems = append(problems, err.Error())
			continue
		}
		return builder, nil
	}
	if len(problems) > 0 {
		return Builder{}, fmt.Errorf("%w: %s; start it, and try again", ErrNoBuilder, strings.Join(problems, "; "))
	}
	return Builder{}, fmt.Errorf("%w: install %s", ErrNoBuilder, strings.Join(wanted, ", or "))
}

// works asks the builder for something that takes its service, where it has one.
func (b Builder) works(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := b.output(ctx, commands[b.Name].ping...)
	return err
}

// commands are the words in which the builders differ.
var commands = map[string]struct {
	ping  []string
	build []string
	save  func(image, file string) []string
}{
	"docker": {
		ping:  []string{"version", "--format", "{{.Server.Version}}"},
		build: []string{"build"},
		save:  func(image, file string) []string { return []string{"save", "--output", file, image} },
	},
	"podman": {
		ping:  []string{"info", "--format", "{{.Host.Arch}}"},
		build: []string{"build", "--format", "docker"}, // the other format has no place for HEALTHCHECK
		save: func(image, file string) []string {
			return []string{"save", "--format", "docker-archive", "--output", file, image}
		},
	},
	"buildah": {
		ping:  []string{"version"},
		build: []string{"build", "--format", "docker"},
		save:  func(image, file string) []string { return []string{"push", image, "docker-archive:" + file} },
	},
}

// build runs the builder on a directory with a Dockerfile, and returns the image's id. What the builder says goes to progress.
func (b Builder) build(ctx context.Context, source string, flags []string, progress io.Writer) (id string, err error) {
	directory, err := os.MkdirTemp("", "berth-build-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	file := filepath.Join(directory, "id")
	words := append(append([]string{}, commands[b.Name].build...), "--iidfile", file)
	words = append(append(words, flags...), source)
	if err := b.run(ctx, progress, words...); err != nil {
		return "", fmt.Errorf("the image does not build: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s built an image and did not say which: %w", b.Name, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// save writes an image as an archive of Docker's kind.
func (b Builder) save(ctx context.Context, image, file string) error {
	if err := b.run(ctx, io.Discard, commands[b.Name].save(image, file)...); err != nil {
		return fmt.Errorf("%s does not give the image %s: %w", b.Name, image, err)
	}
	return nil
}

// run runs the builder. Of a failure it tells the last line that says something, as builders write it last.
func (b Builder) run(ctx context.Context, progress io.Writer, words ...string) error {
	program := b.command(ctx, words...)
	last := &lastLine{}
	both := io.MultiWriter(progress, last)
	program.Stdout, program.Stderr = both, both // the same one, so that it is written to by one goroutine
	return b.explain(ctx, program.Run(), last.String(), words[0])
}

func (b Builder) output(ctx context.Context, words ...string) (string, error) {
	program := b.command(ctx, words...)
	var stdout bytes.Buffer
	last := &lastLine{}
	program.Stdout, program.Stderr = &stdout, last
	err := b.explain(ctx, program.Run(), last.String(), words[0])
	return strings.TrimSpace(stdout.String()), err
}

func (b Builder) explain(ctx context.Context, err error, last, verb string) error {
	switch {
	case err == nil:
		return nil
	case context.Cause(ctx) != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return context.Cause(ctx)
	case ctx.Err() != nil:
		return fmt.Errorf("`%s %s` does not answer", b.Name, verb)
	case last == "":
		return fmt.Errorf("`%s %s`: %w", b.Name, verb, err)
	default:
		return fmt.Errorf("`%s %s`: %w: %s", b.Name, verb, err, last)
	}
}

func (b Builder) command(ctx context.Context, words ...string) *exec.Cmd {
	program := exec.CommandContext(ctx, b.Path, words...)
	program.Env = append(os.Environ(), "DOCKER_BUILDKIT=1", "BUILDKIT_PROGRESS=plain")
	// Interrupted, a builder tells its service to stop as well.
	program.Cancel = func() error { return program.Process.Signal(os.Interrupt) }
	program.WaitDelay = 10 * time.Second
	return program
}

// lastLine keeps the last line written to it that is not blank, and is not a rule across the screen.
type lastLine struct{ line, partial string }

const lineKept = 4096

func (l *lastLine) Write(text []byte) (int, error) {
	lines := strings.Split(l.partial+string(text), "\n")
	for _, line := range lines[:len(lines)-1] {
		l.take(line)
	}
	l.partial = lines[len(lines)-1]
	if len(l.partial) > lineKept {
		l.partial = l.partial[len(l.partial)-lineKept:]
	}
	return len(text), nil
}

func (l *lastLine) take(line string) {
	if line = strings.TrimSpace(line); strings.Trim(line, "-=") != "" {
		l.line = line
	}
}

// String returns the line, at most 500 bytes of it.
func (l *lastLine) String() string {
	l.take(l.partial)
	if len(l.line) > 500 {
		return l.line[:500] + "…"
	}
	return l.line
}
