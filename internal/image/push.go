package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// open reads an archive that a builder saved, and compresses its layers into files in a directory: each once, and always to the
// same bytes, so that the registry knows the layers that it has. With ours, it leaves out what is different in two builds of the same
// files; an image of somebody's own may need its times (Python's compiled files do).
func open(ctx context.Context, archive, directory string, ours bool) (v1.Image, error) {
	saved, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	config, err := saved.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the image's configuration: %w", err)
	}
	layers, err := saved.Layers()
	if err != nil {
		return nil, fmt.Errorf("read the image's layers: %w", err)
	}
	copied := func(to io.Writer, from io.Reader) error {
		_, err := io.Copy(to, from)
		return err
	}
	if ours {
		copied, config = timeless, timelessConfig(config)
	}
	packed := make([]v1.Layer, len(layers))
	work, ctx := errgroup.WithContext(ctx)
	for i, layer := range layers {
		work.Go(func() (err error) {
			packed[i], err = pack(ctx, layer, copied, filepath.Join(directory, fmt.Sprintf("layer%d.tar.gz", i)))
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, fmt.Errorf("compress the image: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, packed...)
	if err != nil {
		return nil, err
	}
	appended, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.RootFS = appended.RootFS
	return mutate.ConfigFile(image, config)
}

// packedLayer is a layer in a compressed file.
type packedLayer struct {
	file           string
	digest, diffID v1.Hash
	size           int64
}

// level is as small as the standard library's, of which this one takes two thirds of the time (decision 20).
const level = 7

func pack(ctx context.Context, layer v1.Layer, copied func(io.Writer, io.Reader) error, path string) (_ v1.Layer, err error) {
	content, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer content.Close() //nolint:errcheck // it was only read
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum, unzipped := sha256.New(), sha256.New()
	zip, err := gzip.NewWriterLevel(io.MultiWriter(file, sum), level)
	if err != nil {
		return nil, err
	}
	if err := copied(io.MultiWriter(zip, unzipped), reader{ctx, content}); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	hash := func(of hash.Hash) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(of.Sum(nil))} }
	return partial.CompressedToLayer(&packedLayer{file: path, digest: hash(sum), diffID: hash(unzipped), size: info.Size()})
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(into []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(into)
}

func (l *packedLayer) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l *packedLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *packedLayer) Size() (int64, error)                { return l.size, nil }
func (l *packedLayer) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }
func (l *packedLayer) Compressed() (io.ReadCloser, error)  { return os.Open(l.file) }

// Login returns a user and a password for a registry. Neither is ever an argument of a program.
type Login func(context.Context) (user, password string, err error)

// Repository is where images are pushed to.
type Repository struct {
	URI string // the stack's output EcrRepositoryUri

	// Endpoint is a host and port in the place of the one in URI: a registry on this machine's loopback, in tests and in trials. Others are
	// refused, since they would be given the password.
	Endpoint string

	// Login is asked once it is needed; nil is for a registry without passwords.
	Login Login
}

// EnvRegistry names Repository.Endpoint.
const EnvRegistry = "BERTH_REGISTRY"

// remote is a repository that was logged in to.
type repository struct {
	name.Repository
	options []remote.Option
}

func (r Repository) login(ctx context.Context) (repository, error) {
	uri := r.URI
	if r.Endpoint != "" {
		if !loopback(r.Endpoint) {
			return repository{}, fmt.Errorf("%s=%q is not on this machine's loopback, such as 127.0.0.1:5000", EnvRegistry, r.Endpoint)
		}
		_, path, found := strings.Cut(uri, "/")
		if !found {
			return repository{}, fmt.Errorf("%q is no address of a repository", uri)
		}
		uri = r.Endpoint + "/" + path
	}
	parsed, err := name.NewRepository(uri, name.StrictValidation)
	if err != nil {
		return repository{}, fmt.Errorf("%q is no address of a repository: %w", uri, err)
	}
	keychain := authn.Anonymous
	if r.Login != nil {
		user, password, err := r.Login(ctx)
		if err != nil {
			return repository{}, err
		}
		keychain = &authn.Basic{Username: user, Password: password}
	}
	return repository{parsed, []remote.Option{remote.WithAuth(keychain), remote.WithContext(ctx), remote.WithUserAgent("berth")}}, nil
}

// find returns the digest of a tag's image, "" if there is none.
func (r repository) find(tag string) (string, error) {
	found, err := remote.Head(r.Tag(tag), r.options...)
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", r.explain("look into", err)
	}
	return found.Digest.String(), nil
}

// push sends an image under a tag. Layers that the registry has are not sent.
func (r repository) push(ctx context.Context, image v1.Image, tag string, told func(done, total int64)) error {
	updates := make(chan v1.Update, 8)
	go func() { // remote.Write closes the channel
		for update := range updates {
			if update.Error == nil {
				told(update.Complete, update.Total)
			}
		}
	}()
	err := remote.Write(r.Tag(tag), image, append(r.options, remote.WithProgress(updates))...)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return r.explain("push to", err)
	}
	return nil
}

// explain says what a registry's refusal means.
func (r repository) explain(what string, err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return fmt.Errorf("%s %s: %w", what, r.Repository, err)
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%s %s: the registry has no such repository; `berth up` makes it: %w", what, r.Repository, err)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s %s: the registry refuses these credentials; they need ecr:GetAuthorizationToken, and the ecr actions to push: %w", what, r.Repository, err)
	default:
		return fmt.Errorf("%s %s: %w", what, r.Repository, err)
	}
}

// checkArchitecture refuses an image that the tasks cannot run, before anything is compressed or sent.
func checkArchitecture(archive, image string, request Request) error {
	saved, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	config, err := saved.ConfigFile()
	if err != nil {
		return fmt.Errorf("read the image's configuration: %w", err)
	}
	if config.OS != "linux" || config.Architecture != request.Architecture {
		return fmt.Errorf("the image %s is for %s/%s, and the stack's tasks run on %s: build it with --platform %[4]s, or deploy with another architecture",
			image, config.OS, config.Architecture, request.platform())
	}
	return nil
}
