package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Request says which image a repository is to have.
type Request struct {
	// Architecture is what the tasks run on, in Docker's words: "amd64" or "arm64".
	Architecture string

	// Source is the directory with the Dockerfile that the image is built from. Version is for berthd and the image's label; empty, the
	// Dockerfile's own default holds.
	Source, Version string

	// Image names an image that the builder has, such as "claude-code-agent:latest", to be pushed in place of building one.
	Image string

	// Progress is where it is said what is done. Getenv reads the variables EnvBuilder and EnvBuildFlags.
	Progress io.Writer
	Getenv   func(string) string
}

// EnvBuildFlags are further flags for the builder, with blanks between them: a mirror for a base, another network.
const EnvBuildFlags = "BERTH_BUILD_FLAGS"

// Result is an image in a repository.
type Result struct {
	Digest string // "sha256:…"; the stack's parameter ImageRef is "@" and this
	Tag    string
	Built  bool // false: it was there, or it was given
	Pushed bool // false: it was there
}

// Ref is what the stack's parameter ImageRef is set to.
func (r Result) Ref() string { return "@" + r.Digest }

// localName is what images are called in the builder. Their tags are those in the registry.
const localName = "claude-code-agent"

// Find returns the image that Ensure would build, if the repository has it already. It changes nothing, and needs no builder.
func Find(ctx context.Context, to Repository, request Request) (result Result, found bool, err error) {
	result.Tag, err = request.tag()
	if err != nil {
		return result, false, err
	}
	in, err := to.login(ctx)
	if err != nil {
		return result, false, err
	}
	result.Digest, err = in.find(result.Tag)
	return result, result.Digest != "", err
}

// Ensure sees that a repository has an image: the one that is built from Source, unless it is there already, or the given one. It
// returns its digest. An image for another architecture is not pushed: its tasks would end with "exec format error".
func Ensure(ctx context.Context, to Repository, request Request) (Result, error) {
	if request.Image != "" {
		return pushGiven(ctx, to, request)
	}
	result, found, err := Find(ctx, to, request)
	if err != nil || found {
		return result, err
	}
	builder, err := FindBuilder(ctx, request.Getenv)
	if err != nil {
		return result, err
	}
	request.say("Building the image for %s with %s.", request.platform(), builder.Name)
	started := time.Now()
	name := localName + ":" + result.Tag
	flags := append(request.flags(), "--tag", name, "--build-arg", "REVISION="+Revision(request.Source))
	id, err := builder.build(ctx, request.Source, flags, request.Progress)
	if err != nil {
		return result, err
	}
	request.say("Built %s in %s.", name, time.Since(started).Round(time.Second))
	result.Built = true
	return send(ctx, to, request, builder, id, result)
}

// pushGiven pushes an image that the builder has.
func pushGiven(ctx context.Context, to Repository, request Request) (Result, error) {
	builder, err := FindBuilder(ctx, request.Getenv)
	if err != nil {
		return Result{}, err
	}
	return send(ctx, to, request, builder, request.Image, Result{})
}

// send takes an image from the builder and pushes it. Without a tag of the inputs it gets one of its own configuration.
func send(ctx context.Context, to Repository, request Request, builder Builder, image string, result Result) (_ Result, err error) {
	directory, err := os.MkdirTemp("", "berth-image-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	archive := filepath.Join(directory, "image.tar")
	if err := builder.save(ctx, image, archive); err != nil {
		return result, err
	}
	if err := checkArchitecture(archive, image, request); err != nil {
		return result, err
	}
	request.say("Compressing the image.")
	packed, err := open(ctx, archive, directory, result.Built)
	if err != nil {
		return result, err
	}
	digest, err := packed.Digest()
	if err != nil {
		return result, err
	}
	result.Digest = digest.String()
	if result.Tag == "" {
		result.Tag = "image-" + digest.Hex[:tagLength]
	}
	in, err := to.login(ctx)
	if err != nil {
		return result, err
	}
	if there, err := in.find(result.Tag); err != nil || there == result.Digest {
		return result, err
	}
	size, err := compressedSize(packed)
	if err != nil {
		return result, err
	}
	request.say("Pushing %s, %d MB, to %s:%s.", result.Digest, size/1e6, in.Repository, result.Tag)
	if err := in.push(ctx, packed, result.Tag, request.percent()); err != nil {
		return result, err
	}
	result.Pushed = true
	return result, nil
}

// compressedSize is what the registry stores of an image.
func compressedSize(image v1.Image) (size int64, err error) {
	manifest, err := image.Manifest()
	if err != nil {
		return 0, err
	}
	size = manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size, nil
}

// percent returns what says how far a push is, at each quarter.
func (r Request) percent() func(done, total int64) {
	said := int64(0)
	return func(done, total int64) {
		if total <= 0 {
			return
		}
		if quarter := done * 4 / total; quarter > said {
			said = quarter
			r.say("  %d %% pushed", quarter*25)
		}
	}
}

func (r Request) say(format string, values ...any) {
	_, _ = fmt.Fprintf(r.Progress, format+"\n", values...)
}

func (r Request) platform() string { return "linux/" + r.Architecture }

// flags decide what the image is like.
func (r Request) flags() []string {
	flags := []string{"--platform", r.platform()}
	if r.Version != "" {
		flags = append(flags, "--build-arg", "VERSION="+r.Version)
	}
	return append(flags, strings.Fields(r.Getenv(EnvBuildFlags))...)
}

const tagLength = 32 // hexadecimal digits; as good as none are the same by chance

func (r Request) tag() (string, error) {
	if r.Architecture != "amd64" && r.Architecture != "arm64" {
		return "", fmt.Errorf("there is no image for the architecture %q: it is amd64 or arm64", r.Architecture)
	}
	inputs, err := Inputs(r.Source, r.flags()...)
	if err != nil {
		return "", err
	}
	return "inputs-" + inputs[:tagLength], nil
}
