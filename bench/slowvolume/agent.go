//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"berth/bench/slowvolume/slowfs"
	"berth/internal/api"
	"berth/internal/contract"
)

const key = "key-for-the-scripted-model"

// startTime is how long berthd may take until it answers, and sessionTime how long a session may take.
const (
	startTime   = 2 * time.Minute
	sessionTime = 15 * time.Minute
)

// bench is what the measurements share.
type bench struct {
	settings
	dir   string // a temporary directory on the local disk
	repo  string
	cli   string
	model string // the scripted model's URL
}

// agent is a berthd, with a volume of its own.
type agent struct {
	bench   *bench
	name    string
	process *exec.Cmd
	gone    chan struct{}  // closed when the process has ended
	output  bytes.Buffer   // to be read when it has
	volume  *slowfs.Volume // nil: it is a directory
	client  *api.Client
}

// start starts a berthd. Where it works is on the local disk in any case.
func (b *bench) start(ctx context.Context, name string, slow bool) (a *agent, err error) {
	a = &agent{bench: b, name: name, gone: make(chan struct{})}
	home, directory := filepath.Join(b.dir, name), filepath.Join(b.dir, name, "volume")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	data := directory
	if slow {
		if a.volume, err = slowfs.Mount(directory, b.delay, b.cached); err != nil {
			return nil, err
		}
		data = a.volume.Path
	}
	a.process = exec.CommandContext(ctx, b.berthd)
	a.process.Cancel = func() error { return a.process.Process.Signal(syscall.SIGTERM) }
	a.process.WaitDelay = time.Minute
	a.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // also when this program is killed
	a.process.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "IS_SANDBOX=1", "DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		contract.EnvData + "=" + data, contract.EnvWork + "=" + filepath.Join(home, "work"), contract.EnvListen + "=127.0.0.1:0",
		contract.EnvClaude + "=" + b.cli, contract.EnvAnthropicBaseURL + "=" + b.model, contract.EnvAnthropicAPIKey + "=" + key,
	}
	a.process.Stdout, a.process.Stderr = &a.output, &a.output
	if err := a.process.Start(); err != nil {
		return nil, errors.Join(err, a.unmount())
	}
	go func() {
		defer close(a.gone)
		_ = a.process.Wait() // whoever asks sees it in what it says
	}()
	err = a.poll(ctx, startTime, func() (bool, error) {
		endpoint, err := api.ReadEndpoint(directory) // not by way of the mount: that would count
		if err != nil {
			return false, nil
		}
		a.client = api.NewClient(endpoint)
		return true, nil
	})
	if err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return a, nil
}

// stop ends it, and unmounts its volume.
func (a *agent) stop() error {
	_ = a.process.Process.Signal(syscall.SIGTERM) // it may have ended
	<-a.gone
	return a.unmount()
}

func (a *agent) unmount() error {
	if a.volume == nil {
		return nil
	}
	return a.volume.Close()
}

// session runs a session with all its messages, and returns how long it took from the first until the last is answered.
func (a *agent) session(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	made, err := a.client.Create(ctx, api.NewSession{Prompt: "message 1", Repo: a.bench.repo})
	if err != nil {
		return 0, err
	}
	for message := 1; ; message++ {
		if err := a.ended(ctx, made.ID); err != nil {
			return 0, err
		}
		if message == a.bench.messages {
			break
		}
		if _, err := a.client.Send(ctx, made.ID, api.NewMessage{Text: "message " + strconv.Itoa(message+1)}); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	session, err := a.client.Session(ctx, made.ID)
	if err != nil {
		return 0, err
	}
	// Each message has a reply after those that edit.
	if want := a.bench.turns/a.bench.messages*a.bench.messages + a.bench.messages; session.Turns != want {
		return 0, fmt.Errorf("the session had %d replies of the model, want %d", session.Turns, want)
	}
	return took, nil
}

// ended waits until a session has succeeded.
func (a *agent) ended(ctx context.Context, id string) error {
	return a.poll(ctx, sessionTime, func() (bool, error) {
		session, err := a.client.Session(ctx, id)
		if err != nil {
			return false, err
		}
		if session.State.Ended() && session.State != api.Succeeded {
			why := ""
			if session.Error != nil {
				why = session.Error.Message
			}
			return false, fmt.Errorf("the session is %s: %s", session.State, why)
		}
		return session.State.Ended(), nil
	})
}

// poll asks again every 20 ms, as long as berthd runs.
func (a *agent) poll(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if finished, err := done(); finished || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-a.gone:
			return fmt.Errorf("berthd has ended: %s", &a.output)
		case <-limited.Done():
			return fmt.Errorf("berthd with the %s volume takes more than %s: %w", a.name, limit, limited.Err())
		}
	}
}
