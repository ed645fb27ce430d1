package ops

import (
	"context"
	"fmt"

	"berth/internal/contract"
)

// Push builds the agent's image and pushes it to a deployment's repository; nothing is rolled out.
type Push struct {
	Target
	Image string `name:"image" placeholder:"REF" help:"Push this image, which the builder has, in place of building one."`
}

// Help is the long help.
func (Push) Help() string {
	return `The image is built with docker, podman or buildah, for the architecture of the stack's tasks, from the checkout that this runs in;
one that the repository has already is neither built nor sent again. BERTH_BUILDER names the builder where there are several, and
BERTH_BUILD_FLAGS holds more flags for it, such as --build-arg BASE=mirror.example/debian:12.11-slim. Nothing is rolled out:
the service runs what it ran, until berth deploy.

Examples:
  berth push --env dev
  berth push --env dev --image our-agent:1

Exit codes: 0 the repository has it; 1 failed; 2 a flag or an argument cannot be used; 130 Ctrl-C, what was sent stays.`
}

// Run prints the image's address, by its digest.
func (p Push) Run(ctx context.Context, stdio Stdio) error {
	if err := p.needsEnv("push"); err != nil {
		return err
	}
	d, err := p.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	if err := d.findCDK(); err != nil { // the image is built from the same checkout
		return err
	}
	ref, err := d.ensureImage(ctx, stdio, p.Image)
	if err != nil {
		return err
	}
	d.say("the repository has it; `berth deploy %s %s` rolls it out", d.flags(), ref[1:])
	_, err = fmt.Fprintln(stdio.Out, d.stack.Outputs[contract.OutputRepositoryURI]+ref)
	return err
}
