package awstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Emulator is an emulator of AWS that runs.
type Emulator struct {
	URL string

	process *exec.Cmd
	said    bytes.Buffer
	ended   chan error
}

// StartEmulator starts the emulator of the checkout in root, with the environment env, and returns when it accepts requests, or when ctx is
// done. It keeps its files in a directory of the caller's, and ends with this process as well, should that be killed.
func StartEmulator(ctx context.Context, root, directory string, env []string) (*Emulator, error) {
	file := filepath.Join(directory, "endpoint.json")
	e := &Emulator{ended: make(chan error, 1)}
	e.process = exec.Command(filepath.Join(root, ".venv/bin/python"), filepath.Join(root, "emulator/launch.py"), "--endpoint-file", file, "--with-parent")
	e.process.Env, e.process.Stderr = env, &e.said
	if err := e.process.Start(); err != nil {
		return nil, fmt.Errorf("starting the emulator, which `make setup` installs: %w", err)
	}
	go func() { e.ended <- e.process.Wait() }()
	for {
		var endpoint struct{ URL string }
		if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &endpoint) == nil {
			e.URL = endpoint.URL
			return e, nil
		}
		select {
		case err := <-e.ended:
			return nil, fmt.Errorf("the emulator ended before it accepted requests: %w; it said:\n%s", err, e.said.String())
		case <-ctx.Done():
			said, err := e.Stop()
			return nil, fmt.Errorf("waiting for the emulator: %w; it said:\n%s", errors.Join(ctx.Err(), err), said)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stopTime is how long the emulator may take to end.
const stopTime = 20 * time.Second

// Stop ends it, and returns what it has said.
func (e *Emulator) Stop() (said string, err error) {
	err = e.process.Process.Signal(syscall.SIGTERM)
	select {
	case problem := <-e.ended:
		err = errors.Join(err, problem)
	case <-time.After(stopTime):
		err = errors.Join(err, errors.New("it did not end on SIGTERM"), e.process.Process.Kill(), <-e.ended)
	}
	return e.said.String(), err
}
