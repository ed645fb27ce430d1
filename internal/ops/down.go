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

// Down is the verb `berth down`: it ends the agent on this machine, or deletes a deployment.
type Down struct {
	Target
	Yes   bool `name:"yes" short:"y" help:"With --env: do not ask for the stack's name."`
	Force bool `name:"force" help:"With --env: also while sessions run, or wait to."`
	Purge bool `name:"purge" help:"With --env: leave nothing, no data and no backup either."`
}

// Help is the long help.
func (Down) Help() string {
	return `On this machine sessions that run are interrupted, and go on when the agent is up again. Nothing is deleted.

With --env the deployment in AWS is deleted: it says what goes and what stays, and asks for the stack's name. In prod a last backup
is taken first, and file system, backups, images and log lines stay; elsewhere they go. berth pause stops the costs of
the task, and deletes nothing. --purge leaves nothing, in prod too, also of a deployment whose stack is gone. After either, berth up
makes a new one. Interrupted or failed, the same command goes on.

Examples:
  berth down --local
  berth down --env dev
  berth down --env prod --purge --yes

Exit codes: 0 it is gone; 1 failed, or sessions run; 2 a flag or the name cannot be used; 130 Ctrl-C.`
}

// Run ends the agent and waits until it has gone; or the deployment.
func (d *Down) Run(ctx context.Context, stdio Stdio) error {
	if err := d.check(); err != nil {
		return err
	}
	if d.inCloud() {
		return d.tearDown(ctx, stdio)
	}
	if d.Yes || d.Force || d.Purge {
		return &UsageError{errors.New("--yes, --force and --purge go with --env; on this machine nothing is deleted")}
	}
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
