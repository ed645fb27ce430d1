//go:build linux

// Package harness builds, starts, kills and looks into berthd, for the programs that measure it as a whole.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
)

// Key is the API key that agents have, for the scripted model to ask for.
const Key = "key-for-the-scripted-model"

// startTime is how long berthd may take until it answers.
const startTime = 5 * time.Minute

// Programs are what is measured: berth and berthd of this checkout, and the Claude Code CLI.
type Programs struct{ Berth, Berthd, CLI string }

// Build builds the programs into a directory. It has to be called in the checkout's root.
func Build(ctx context.Context, dir string) (Programs, error) {
	cli, err := filepath.Abs(filepath.Join("node_modules", ".bin", "claude"))
	if err == nil {
		_, err = os.Stat(cli)
	}
	if err != nil {
		return Programs{}, fmt.Errorf("the Claude Code CLI is missing, run `make setup`: %w", err)
	}
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/berth", "./cmd/berthd").CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("go build: %w: %s", err, output)
	}
	return Programs{Berth: filepath.Join(dir, "berth"), Berthd: filepath.Join(dir, "berthd"), CLI: cli}, nil
}

// Place is where an agent is started.
type Place struct {
	Home   string // has its work disk
	Data   string // the volume
	Direct string // the volume, past whatever makes it slow; the same as Data if empty
	Model  string // the URL of the Messages API
	Env    []string
}

// Work is the work disk.
func (p Place) Work() string { return filepath.Join(p.Home, "work") }

func (p Place) direct() string {
	if p.Direct != "" {
		return p.Direct
	}
	return p.Data
}

// Agent is a berthd that answers, until it is stopped.
type Agent struct {
	Client  *api.Client
	Started time.Time     // when the process was started
	Took    time.Duration // from there until it answered

	process *exec.Cmd
	gone    chan struct{}
	output  bytes.Buffer // to be read when it is gone
}

// Start starts berthd, and waits until it answers.
func (p Programs) Start(ctx context.Context, place Place) (*Agent, error) {
	endpoint := filepath.Join(place.direct(), api.EndpointFile)
	if err := os.Remove(endpoint); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return nil, err
	}
	a := &Agent{gone: make(chan struct{})}
	a.process = exec.CommandContext(ctx, p.Berthd)
	a.process.Cancel = func() error { return a.process.Process.Signal(syscall.SIGTERM) }
	a.process.WaitDelay = time.Minute
	a.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // also when this program is killed
	a.process.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + place.Home, contract.EnvData + "=" + place.Data, contract.EnvWork + "=" + place.Work(),
		contract.EnvListen + "=127.0.0.1:0", contract.EnvClaude + "=" + p.CLI,
		contract.EnvAnthropicBaseURL + "=" + place.Model, contract.EnvAnthropicAPIKey + "=" + Key,
	}, place.Env...)
	a.process.Stdout, a.process.Stderr = &a.output, &a.output
	a.Started = time.Now()
	if err := a.process.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(a.gone)
		_ = a.process.Wait() // whoever asks sees it in what it says
	}()
	err := a.Poll(ctx, startTime, func() (bool, error) {
		found, err := api.ReadEndpoint(place.direct())
		if err != nil {
			return false, nil
		}
		a.Client = api.NewClient(found)
		_, err = a.Client.Status(ctx)
		return err == nil, nil
	})
	a.Took = time.Since(a.Started)
	if err != nil {
		a.Stop()
		return nil, err
	}
	return a, nil
}

// Stop asks the agent to end, and waits for it.
func (a *Agent) Stop() { a.signal(syscall.SIGTERM) }

// Kill ends the agent without warning.
func (a *Agent) Kill() { a.signal(syscall.SIGKILL) }

func (a *Agent) signal(signal syscall.Signal) {
	_ = a.process.Process.Signal(signal) // it may have ended
	<-a.gone
}

// PID is the agent's process id.
func (a *Agent) PID() int { return a.process.Process.Pid }

// Poll asks again every few milliseconds, as long as the agent runs.
func (a *Agent) Poll(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if finished, err := done(); finished || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-a.gone:
			return fmt.Errorf("berthd has ended: %s", strings.TrimSpace(a.output.String()))
		case <-limited.Done():
			return fmt.Errorf("nothing came of it in %s: %w", limit, limited.Err())
		}
	}
}

// Ended waits until a session has succeeded.
func (a *Agent) Ended(ctx context.Context, id string, limit time.Duration) (session *api.Session, err error) {
	err = a.Poll(ctx, limit, func() (bool, error) {
		if session, err = a.Client.Session(ctx, id); err != nil {
			return false, err
		}
		if session.State.Ended() && session.State != api.Succeeded {
			return false, Failed(session)
		}
		return session.State.Ended(), nil
	})
	return session, err
}

// Median returns the one in the middle.
func Median(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/2]
}

// Worst returns the longest.
func Worst(times []time.Duration) time.Duration { return slices.Max(times) }

// Failed says that a session ended otherwise than it should.
func Failed(session *api.Session) error {
	if session.Error != nil {
		return fmt.Errorf("the session is %s: %w", session.State, session.Error)
	}
	return fmt.Errorf("the session is %s", session.State)
}
