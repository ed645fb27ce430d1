package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"berth/internal/api"
)

// Down is the verb `berth down`: it ends the agent.
type Down struct {
	Target
}

// Help is the long help.
func (Down) Help() string {
	return `Sessions that run are interrupted, and go on when the agent is up again. Nothing is deleted.

Examples:
  berth down --local

Exit codes: 0 no agent runs; 1 it could not be ended.`
}

// Run ends the agent and waits until it has gone.
func (d *Down) Run(ctx context.Context, stdio Stdio) error {
	client, err := d.connect(ctx, stdio)
	var status *api.Status
	if err == nil {
		status, err = client.Status(ctx)
	}
	if errors.Is(err, api.ErrUnreachable) {
		fmt.Fprintln(stdio.Err, "berth: no agent runs")
		return nil
	}
	if err != nil {
		return err
	}
	// The agent itself said so, to somebody who has the token. Of a number below 2 a signal would reach others.
	if status.PID < 2 {
		return fmt.Errorf("the agent does not tell its process: it says %d; are berth and berthd of the same version?", status.PID)
	}
	if err := syscall.Kill(status.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending the agent, process %d: %w", status.PID, err)
	}
	if running := status.Sessions[api.Running] + status.Sessions[api.Preparing]; running > 0 {
		fmt.Fprintf(stdio.Err, "berth: %s interrupted; what was interrupted goes on when the agent is up again\n", plural(running, "running session is", "running sessions are"))
	}
	ticker, late := time.NewTicker(lookEvery), time.NewTimer(downTime)
	defer ticker.Stop()
	defer late.Stop()
	for {
		select {
		case <-ticker.C:
			if gone(status.PID) {
				fmt.Fprintln(stdio.Err, "berth: the agent has ended")
				return nil
			}
		case <-late.C:
			return fmt.Errorf("the agent, process %d, has not ended after %v; its log is %s", status.PID, downTime, filepath.Join(status.Data, logFile))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gone reports whether a process has ended. One that has, and that nobody has asked for its exit status, still
// has its number: in a container, process 1 often asks nobody.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist) && runtime.GOOS == "linux"
	}
	// The state follows the name, which is in parentheses and may have some of its own (proc(5)).
	_, state, found := strings.Cut(string(stat[max(strings.LastIndex(string(stat), ")"), 0):]), ") ")
	return found && (strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X"))
}
