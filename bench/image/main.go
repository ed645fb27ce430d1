// Command image builds the agent's image twice, without what a builder remembers, and prints what it weighs, layer by layer, whether the
// second one has the same layers, and how long it takes from `docker run` to an agent that is ready.
//
//	go run ./bench/image [-starts 10] [-once]
//
// It needs root, Debian's docker.io and mmdebstrap, and what `make setup` installs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth/internal/contract"
	"berth/internal/dockertest"
	"berth/internal/image"
)

func main() {
	starts := flag.Int("starts", 10, "how often the container is started")
	once := flag.Bool("once", false, "do not build a second time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *starts, *once); err != nil {
		fmt.Fprintln(os.Stderr, "bench/image:", err)
		os.Exit(1) //nolint:gocritic // what was deferred only stops listening for signals
	}
}

func run(ctx context.Context, starts int, once bool) (err error) {
	directory, err := os.MkdirTemp("", "berth-image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	docker, err := dockertest.Start(ctx, filepath.Join(directory, "docker"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, docker.Stop()) }()
	if err := docker.Bases(ctx, "."); err != nil {
		return err
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	if err := errors.Join(os.Setenv("DOCKER_HOST", docker.Host), os.Setenv("PATH", "/usr/bin:"+os.Getenv("PATH"))); err != nil {
		return err
	}

	first, result, err := build(ctx, host, "one")
	if err != nil {
		return err
	}
	if err := layers(first); err != nil {
		return err
	}
	if !once {
		second, _, err := build(ctx, host, "two")
		if err != nil {
			return err
		}
		if err := compare(first, second); err != nil {
			return err
		}
	}
	return startOften(ctx, docker, "claude-code-agent:"+result.Tag, starts)
}

// build builds without the builder's memory, and pushes to a repository.
func build(ctx context.Context, host, repository string) (v1.Image, image.Result, error) {
	var said strings.Builder
	started := time.Now()
	result, err := image.Ensure(ctx, image.Repository{URI: "registry/" + repository, Endpoint: host}, image.Request{
		Architecture: runtime.GOARCH, Source: ".", Progress: &said, Getenv: func(name string) string {
			if name == image.EnvBuildFlags {
				return "--network=host --no-cache"
			}
			return ""
		},
	})
	if err != nil {
		return nil, result, fmt.Errorf("%w\n%s", err, said.String())
	}
	fmt.Printf("built, compressed and pushed in %.0f s\n", time.Since(started).Seconds())
	ref, err := name.NewDigest(host + "/" + repository + result.Ref())
	if err != nil {
		return nil, result, err
	}
	built, err := remote.Image(ref, remote.WithContext(ctx))
	return built, result, err
}

// layers prints the compressed and the plain size of each layer, and what made it.
func layers(of v1.Image) error {
	list, err := of.Layers()
	if err != nil {
		return err
	}
	config, err := of.ConfigFile()
	if err != nil {
		return err
	}
	made := slices.DeleteFunc(slices.Clone(config.History), func(step v1.History) bool { return step.EmptyLayer })
	var total, plain int64
	for i, layer := range list {
		size, err := layer.Size()
		if err != nil {
			return err
		}
		content, err := layer.Uncompressed()
		if err != nil {
			return err
		}
		length, err := io.Copy(io.Discard, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return err
		}
		by := "?"
		if i < len(made) {
			by = strings.Join(strings.Fields(made[i].CreatedBy), " ")
		}
		fmt.Printf("%6.1f MB compressed %7.1f MB  %.70s\n", float64(size)/1e6, float64(length)/1e6, by)
		total, plain = total+size, plain+length
	}
	fmt.Printf("%6.1f MB compressed %7.1f MB  in all\n", float64(total)/1e6, float64(plain)/1e6)
	return nil
}

func compare(first, second v1.Image) error {
	one, err := first.Layers()
	if err != nil {
		return err
	}
	two, err := second.Layers()
	if err != nil {
		return err
	}
	for i := range min(len(one), len(two)) {
		a, err := one[i].DiffID()
		if err != nil {
			return err
		}
		b, err := two[i].DiffID()
		if err != nil {
			return err
		}
		fmt.Printf("layer %d: the same in both builds: %t\n", i+1, a == b)
		if a != b {
			if err := differences(one[i], two[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// startOften measures from `docker run` to an agent that is ready for sessions, as the stack's task definition runs it.
func startOften(ctx context.Context, docker *dockertest.Daemon, imageName string, count int) error {
	template, err := os.ReadFile(filepath.Join("infra", "testdata", "golden", "dev.json"))
	if err != nil {
		return err
	}
	definition, err := dockertest.FromTemplate(template)
	if err != nil {
		return err
	}
	nowhere := httptest.NewServer(http.NotFoundHandler()) // in the place of the model and of AWS
	defer nowhere.Close()
	var started, ready []time.Duration
	for i := range count {
		volume, err := os.MkdirTemp("", "berth-volume-")
		if err != nil {
			return err
		}
		begun := time.Now()
		id, err := docker.Start(ctx, dockertest.Task{
			Definition: definition, Image: imageName, Name: fmt.Sprintf("start%d", i), Volume: volume,
			Secrets: map[string]string{contract.EnvAnthropicAPIKey: "sk-ant-none", contract.EnvAPIToken: "token-of-the-bench", contract.EnvGitHubToken: contract.SecretNotSet},
			Overrides: map[string]string{
				contract.EnvAnthropicBaseURL: nowhere.URL, "AWS_ENDPOINT_URL": nowhere.URL, "AWS_REGION": "us-east-1",
				"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
			},
		})
		if err != nil {
			return err
		}
		started = append(started, time.Since(begun))
		if err := untilReady(ctx); err != nil {
			logs, _ := docker.Docker(ctx, "logs", id)
			return fmt.Errorf("%w\n%s", err, logs)
		}
		ready = append(ready, time.Since(begun))
		if _, err := docker.Docker(ctx, "rm", "--force", "--volumes", id); err != nil {
			return err
		}
		if err := os.RemoveAll(volume); err != nil {
			return err
		}
	}
	if count > 0 {
		report("from `docker run` to /readyz", ready)
		report("of it until `docker run` returns", started)
	}
	return nil
}

func report(what string, took []time.Duration) {
	slices.Sort(took)
	fmt.Printf("%s, %d times: median %.2f s, fastest %.2f s, slowest %.2f s\n", what, len(took), took[len(took)/2].Seconds(), took[0].Seconds(), took[len(took)-1].Seconds())
}

// untilReady waits until the agent is ready for sessions.
func untilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+contract.Listen+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			err = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent does not become ready: %w", errors.Join(ctx.Err(), err))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
