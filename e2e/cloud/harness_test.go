//go:build e2e

package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/dockertest"
)

// patience ends a wait that would otherwise never end. Nothing is measured with it.
const patience = 10 * time.Minute

// What may be in no argument, no log, and no layer of the image.
const (
	modelKey     = "sk-ant-the-key-that-nobody-may-see"
	githubSecret = "ghp_TheGitHubTokenThatNobodyMaySee01234"
	apiSecret    = "the-api-token-that-only-clients-may-see"
	secondKey    = "sk-ant-another-key-that-nobody-may-see"
)

// machine is what the tests run on: a Docker daemon with the bases, and a clone of what is committed.
type machine struct {
	root   string // the checkout
	base   string // temporary
	clone  string // of HEAD, with secrets lying about in it that are not committed
	docker *dockertest.Daemon
	bases  func() error // waits until they are made
}

var shared machine

// envNotRun names a file that is to have the reason why none of these tests ran, if none did; `make test` ends with it.
const envNotRun = "BERTH_NOT_RUN"

// TestMain reports the tests as not run where the kernel lets nobody run a container. Whatever else is missing makes them fail.
func TestMain(m *testing.M) {
	refused, err := dockertest.Refused(context.Background())
	if err == nil && refused != "" {
		reason := "NOT RUN HERE: e2e/cloud, the tests of the image and of a deployment with it, because " + refused + "\n"
		fmt.Fprint(os.Stderr, reason)
		if file := os.Getenv(envNotRun); file != "" {
			err = os.WriteFile(file, []byte(reason), 0o600)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/cloud:", err)
		os.Exit(1)
	}
	if refused != "" {
		return
	}
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/cloud:", err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	if shared.root, err = filepath.Abs("../.."); err != nil {
		return 0, err
	}
	if shared.base, err = os.MkdirTemp("", "berth-cloud-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(shared.base)) }()
	if err := shared.checkOut(ctx); err != nil {
		return 0, err
	}
	// Kept from run to run, Docker remembers what it has built.
	if shared.docker, err = dockertest.Start(ctx, cmp.Or(os.Getenv("BERTH_TEST_DOCKER"), filepath.Join(shared.base, "docker"))); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, shared.docker.Stop()) }()
	made := make(chan error, 1)
	go func() { made <- shared.docker.Bases(ctx, shared.root) }() // while what is not built from them is made ready
	shared.bases = sync.OnceValue(func() error { return <-made })
	defer func() { err = errors.Join(err, shared.bases()) }()
	return m.Run(), nil
}

// checkOut clones what is committed, and leaves secrets where people leave them: in files that are not committed.
func (m *machine) checkOut(ctx context.Context) error {
	m.clone = filepath.Join(m.base, "clone")
	if output, err := exec.CommandContext(ctx, "git", "clone", "--quiet", "--no-hardlinks", m.root, m.clone).CombinedOutput(); err != nil {
		return fmt.Errorf("git clone: %w: %s", err, output)
	}
	for _, file := range []string{".env", ".npmrc", ".berth/token", "infra/key.txt", "secrets/key"} {
		path := filepath.Join(m.clone, file)
		text := strings.Join([]string{modelKey, githubSecret, apiSecret}, "\n")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.Tick(100 * time.Millisecond); !holds(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
