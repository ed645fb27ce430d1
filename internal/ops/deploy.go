package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/internal/contract"
)

// Deploy is the verb `berth deploy`: it rolls out an image that the repository has.
type Deploy struct {
	Target
	Ref      *string       `arg:"" optional:"" help:"The image: sha256:… or a tag."`
	Rollback bool          `name:"rollback" help:"The image that ran before the present one."`
	Timeout  time.Duration `name:"timeout" default:"20m" help:"How long the service may take to be steady."`
}

// Help is the long help.
func (Deploy) Help() string {
	return `The image is rolled out by its digest, through the stack's parameter ImageRef; nothing else of the stack changes. Sessions
are interrupted and go on in the new task. A service that is paused stays so, and has the image when it goes on.

Examples:
  berth deploy --env dev v1.4
  berth deploy --env dev sha256:0123…
  berth deploy --env dev --rollback

Exit codes: 0 it runs; 1 failed; 2 a flag or an argument cannot be used; 130 Ctrl-C, the roll-out goes on.`
}

// Run rolls the image out, waits until the service is steady, and writes the digest to stdio.Out.
func (v *Deploy) Run(ctx context.Context, stdio Stdio) (err error) {
	if err := v.needsEnv("deploy"); err != nil {
		return err
	}
	if (v.Ref == nil) == !v.Rollback || v.Ref != nil && strings.TrimSpace(*v.Ref) == "" {
		return &UsageError{errors.New("give either an image (sha256:… or a tag) or --rollback")}
	}
	d, err := v.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	defer d.orInterrupted(ctx, &err)
	var digest string
	if v.Rollback {
		digest, err = d.client.PreviousImage(ctx, d.stack)
	} else {
		digest, err = d.client.FindImage(ctx, d.stack, strings.TrimPrefix(*v.Ref, "@"))
	}
	if err != nil {
		return err
	}
	if err := d.rollOut(ctx, map[string]string{contract.ParamImageRef: "@" + digest}, v.Timeout); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdio.Out, digest)
	return err
}

// rollOut sets parameters, unless they are so already, and waits until the service is steady.
func (d *deployment) rollOut(ctx context.Context, parameters map[string]string, limit time.Duration) error {
	changed := false
	for name, value := range parameters {
		changed = changed || d.stack.Parameters[name] != value
	}
	if changed {
		if d.stack.InProgress() { // it cleans up after the last update
			if _, err := d.settled(ctx); err != nil {
				return err
			}
		}
		if err := d.change(ctx, parameters); err != nil {
			return err
		}
	}
	return d.steady(ctx, limit)
}
