package ops

import (
	"context"
	"fmt"
	"time"

	"berth/internal/cloud"
	"berth/internal/contract"
)

// Pause is the verb `berth pause`: no task runs, and the data stays.
type Pause struct {
	Target
	Timeout time.Duration `name:"timeout" default:"10m" help:"How long the task may take to end."`
}

// Help is the long help.
func (Pause) Help() string {
	return `The task ends, and with it what it costs; volume, image, key and backups stay. Sessions are interrupted and go on after
berth unpause. The stack's parameter DesiredCount keeps it so, whatever is deployed meanwhile.

Examples:
  berth pause --env dev

Exit codes: 0 no task runs; 1 failed; 2 a flag cannot be used; 130 Ctrl-C, the task goes on ending.`
}

// Run sets the number of tasks to 0 and waits until none runs.
func (v *Pause) Run(ctx context.Context, stdio Stdio) (err error) {
	if err := v.needsEnv("pause"); err != nil {
		return err
	}
	d, err := v.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	defer d.orInterrupted(ctx, &err)
	if err := d.rollOut(ctx, map[string]string{contract.ParamDesiredCount: "0"}, v.Timeout); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdio.Out, "%s is paused; `berth unpause %s` has it go on\n", d.names.Stack(), d.flags())
	return err
}

// Unpause is the verb `berth unpause`.
type Unpause struct {
	Target
	Timeout time.Duration `name:"timeout" default:"20m" help:"How long the service may take to be steady."`
}

// Help is the long help.
func (Unpause) Help() string {
	return `A task starts with the image that ran before the pause; sessions that were interrupted go on.

Examples:
  berth unpause --env dev

Exit codes: 0 it runs; 1 failed; 2 a flag cannot be used; 130 Ctrl-C, the task goes on starting.`
}

// Run sets the number of tasks to 1 and waits until the service is steady.
func (v *Unpause) Run(ctx context.Context, stdio Stdio) (err error) {
	if err := v.needsEnv("unpause"); err != nil {
		return err
	}
	d, err := v.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	defer d.orInterrupted(ctx, &err)
	if d.stack.Parameters[contract.ParamImageRef] == contract.DefaultImageRef {
		return &cloud.Error{What: d.names.Stack() + " has had no image rolled out yet", Next: "`berth up " + d.flags() + "` builds one and rolls it out"}
	}
	if err := d.rollOut(ctx, map[string]string{contract.ParamDesiredCount: "1"}, v.Timeout); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdio.Out, "%s runs\n", d.names.Stack())
	return err
}
