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
	"strings"
	"syscall"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
)

// agent is a berthd of this run.
type agent struct {
	bench   *bench
	process *exec.Cmd
	data    string
	client  *api.Client
}

func (b *bench) start(ctx context.Context, places int) (*agent, error) {
	b.made++
	a := &agent{bench: b, data: filepath.Join(b.dir, "volume-"+strconv.Itoa(b.made))}
	a.process = exec.CommandContext(ctx, filepath.Join(b.root, "bin", "berthd"))
	a.process.Env = append(b.environment(b.dir),
		contract.EnvData+"="+a.data, contract.EnvClaude+"="+b.cli, contract.EnvListen+"=127.0.0.1:0", contract.EnvMaxSessions+"="+strconv.Itoa(places))
	var output bytes.Buffer
	a.process.Stderr = &output
	if err := a.process.Start(); err != nil {
		return nil, err
	}
	err := poll(ctx, func() bool {
		endpoint, err := api.ReadEndpoint(a.data)
		a.client = api.NewClient(endpoint)
		return err == nil
	})
	if err != nil {
		a.stop()
		return nil, fmt.Errorf("berthd does not answer: %w: %s", err, output.String())
	}
	return a, nil
}

func (a *agent) stop() {
	_ = a.process.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = a.process.Wait()
}

func (a *agent) command(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, a.bench.berth, args...)
	command.Env = append(a.bench.environment(a.bench.dir), contract.EnvData+"="+a.data)
	return command
}

// runAll hands in so many tasks at once and waits until all have succeeded.
func (a *agent) runAll(ctx context.Context, count int, prompt string) error {
	for range count {
		if _, err := a.client.Create(ctx, api.NewSession{Prompt: prompt}); err != nil {
			return err
		}
	}
	var failed error
	err := a.until(ctx, func(sessions []api.Session) bool {
		for _, each := range sessions {
			if each.State.Ended() && each.State != api.Succeeded {
				failed = fmt.Errorf("session %s is %s", each.ID, each.State)
			}
			if !each.State.Ended() {
				return false
			}
		}
		return true
	})
	return errors.Join(err, failed)
}

// until waits until the sessions are as they should be.
func (a *agent) until(ctx context.Context, done func([]api.Session) bool) error {
	var failed error
	err := poll(ctx, func() bool {
		sessions, err := a.client.Sessions(ctx)
		failed = err
		return err != nil || done(sessions)
	})
	return errors.Join(err, failed)
}

// poll asks again every 100 ms, for ten minutes at most.
func poll(ctx context.Context, done func() bool) error {
	limited, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-limited.Done():
			return limited.Err()
		}
	}
	return nil
}

// resident is a process's resident memory in MB (proc(5), VmRSS).
func resident(pid int) (float64, error) { return field(pid, "status", "VmRSS:") }

// reaperMemory is the resident memory of a process's children in MB, and the same with each shared page
// counted in proportion (proc(5), Pss).
func reaperMemory(parent int) (rss, pss float64, err error) {
	children := map[string]bool{}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		return 0, 0, err
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			return 0, 0, err
		}
		for _, pid := range strings.Fields(string(text)) {
			children[pid] = true
		}
	}
	for child := range children {
		pid, err := strconv.Atoi(child)
		if err != nil {
			return 0, 0, err
		}
		own, err := resident(pid)
		if err != nil {
			return 0, 0, err
		}
		share, err := field(pid, "smaps_rollup", "Pss:")
		if err != nil {
			return 0, 0, err
		}
		rss, pss = rss+own, pss+share
	}
	return rss, pss, nil
}

// field reads a figure in kB of a file in /proc, as MB.
func field(pid int, file, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			number, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return number / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", pid, file, name)
}
