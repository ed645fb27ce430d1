//go:build linux

// Command up measures `berth up --env dev` on a deployment where there is nothing to do, and counts what it asks AWS: an emulator, where
// the real CDK CLI has deployed the stack, and whose repository has an image of random bytes under the tag that the real one would have.
//
//	go run ./bench/up [-runs 10]
//
// It needs what `make setup` installs, and no Docker.
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
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth/internal/cloud/awstest"
	"berth/internal/contract"
	"berth/internal/image"
)

func main() {
	runs := flag.Int("runs", 10, "how often it is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "bench/up:", err)
		os.Exit(1) //nolint:gocritic // what was deferred only stops listening for signals
	}
}

func run(ctx context.Context, runs int) (err error) {
	home, err := os.MkdirTemp("", "berth-up-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	emulator, err := awstest.StartEmulator(ctx, ".", home, os.Environ())
	if err != nil {
		return err
	}
	defer func() {
		said, failed := emulator.Stop()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("the emulator: %w; it said:\n%s", failed, said))
		}
	}()
	proxy, err := awstest.NewRecorder(emulator.URL, nil)
	if err != nil {
		return err
	}
	defer proxy.Close()
	b := &bench{proxy: proxy, env: append(os.Environ(), image.EnvRegistry+"="+proxy.Address(), "AWS_ENDPOINT_URL="+proxy.URL(),
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true")}
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", "bin/", "./cmd/berth").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, output)
	}
	return b.measure(ctx, runs)
}

type bench struct {
	proxy *awstest.Recorder
	env   []string
}

// measure deploys without an image, which ends with an error that says so, pushes one, has it rolled out, and measures from then on.
func (b *bench) measure(ctx context.Context, runs int) error {
	repository := (contract.Names{Project: "claude-code", Environment: "dev"}).Stack()
	if err := b.command(ctx, "node_modules/.bin/cdk", "deploy", "--require-approval", "never").Run(); err != nil {
		return fmt.Errorf("cdk deploy: %w", err)
	}
	if err := b.push(ctx, repository); err != nil {
		return err
	}
	first, _, err := b.up(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("rolled out in %.2f s\n", first.Seconds())
	var took []time.Duration
	for range runs {
		b.proxy.Forget()
		each, said, err := b.up(ctx)
		if err != nil {
			return err
		}
		count, mutating := b.proxy.Calls()
		if len(mutating) > 0 {
			return fmt.Errorf("with nothing to do it called %q:\n%s", mutating, said)
		}
		if len(took) == 0 {
			fmt.Printf("with nothing to do: %d requests, none of which changes anything\n", count)
		}
		took = append(took, each)
	}
	slices.Sort(took)
	fmt.Printf("median %.2f s, fastest %.2f s, slowest %.2f s of %d\n", took[len(took)/2].Seconds(), took[0].Seconds(), took[len(took)-1].Seconds(), len(took))
	return nil
}

// push pushes an image under the tag that `berth up` looks for.
func (b *bench) push(ctx context.Context, repository string) error {
	to := image.Repository{URI: "registry/" + repository, Endpoint: b.proxy.Address()}
	wanted, _, err := image.Find(ctx, to, image.Request{Architecture: "amd64", Source: ".", Getenv: os.Getenv})
	if err != nil {
		return err
	}
	made, err := random.Image(1024, 1)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(b.proxy.Address() + "/" + repository + ":" + wanted.Tag)
	if err != nil {
		return err
	}
	return remote.Write(tag, made, remote.WithContext(ctx))
}

// up runs the command, and returns how long it took and what it said.
func (b *bench) up(ctx context.Context) (time.Duration, string, error) {
	program := b.command(ctx, "bin/berth", "up", "--env", "dev", "--key-file", "-", "--no-smoke")
	program.Stdin = strings.NewReader("sk-ant-none\n")
	var said bytes.Buffer
	program.Stdout, program.Stderr = &said, &said
	started := time.Now()
	if err := program.Run(); err != nil {
		return 0, "", fmt.Errorf("berth up: %w\n%s", err, said.String())
	}
	return time.Since(started), said.String(), nil
}

func (b *bench) command(ctx context.Context, words ...string) *exec.Cmd {
	program := exec.CommandContext(ctx, words[0], words[1:]...)
	program.Env = b.env
	return program
}
