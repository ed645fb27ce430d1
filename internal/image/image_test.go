package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A builder in the place of docker: it notes how it was called, and gives the archive beside it as its image.
const fakeDocker = `#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/calls"
[ ! -e "$here/silent" ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; }
case "$1" in
build)
	echo "#1 a step"
	[ ! -e "$here/broken" ] || { printf '#2 ERROR: no such package\n------\n' >&2; exit 1; }
	while [ "$1" != --iidfile ]; do shift; done
	echo sha256:abc >"$2" ;;
save) cp "$here/image.tar" "$3" ;;
esac
`

const password = "the-token-that-opens-the-registry"

// world is a checkout, a builder and a registry.
type world struct {
	t        *testing.T
	source   string
	bin      string
	registry *httptest.Server
	progress strings.Builder
	env      map[string]string

	mu       sync.Mutex
	requests []string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, source: t.TempDir(), bin: t.TempDir(), env: map[string]string{}}
	for file, text := range map[string]string{
		"Dockerfile": "FROM scratch\n", ".dockerignore": "*\n!go.mod\n!cmd/agent\n**/*_test.go\n", "go.mod": "module x\n",
		"cmd/agent/main.go": "package main\n", "cmd/agent/main_test.go": "package main\n", "cmd/other/main.go": "package main\n", "README": "",
	} {
		w.write(filepath.Join(w.source, file), text)
	}
	w.write(filepath.Join(w.bin, "docker"), fakeDocker)
	w.save("arm64")
	t.Setenv("PATH", w.bin+":/usr/bin:/bin")
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	w.registry = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			out.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			out.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.mu.Lock()
		w.requests = append(w.requests, r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		store.ServeHTTP(out, r)
	}))
	t.Cleanup(w.registry.Close)
	return w
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		w.t.Fatal(err)
	}
}

// save puts a new image in the builder's place.
func (w *world) save(architecture string) {
	w.t.Helper()
	image, err := random.Image(3000, 2)
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		w.t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	config.Config.Labels = map[string]string{"kept": "yes"}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		w.t.Fatal(err)
	}
	tag, err := name.NewTag("claude-code-agent:latest")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(w.bin, "image.tar"), tag, image); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) to() Repository {
	return Repository{
		URI:      "123456789012.dkr.ecr.eu-west-1.amazonaws.com/claude-code-dev",
		Endpoint: strings.TrimPrefix(w.registry.URL, "http://"),
		Login:    func(context.Context) (string, string, error) { return "AWS", password, nil },
	}
}

func (w *world) request() Request {
	return Request{Architecture: "arm64", Source: w.source, Progress: &w.progress, Getenv: func(name string) string { return w.env[name] }}
}

func (w *world) ensure(change func(*Request)) (Result, error) {
	request := w.request()
	if change != nil {
		change(&request)
	}
	return Ensure(w.t.Context(), w.to(), request)
}

func (w *world) calls() string {
	text, err := os.ReadFile(filepath.Join(w.bin, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(text)
}

// pulled is what somebody gets who pulls by the digest.
func (w *world) pulled(digest string) v1.Image {
	w.t.Helper()
	ref, err := name.NewDigest(strings.TrimPrefix(w.registry.URL, "http://") + "/claude-code-dev@" + digest)
	if err != nil {
		w.t.Fatal(err)
	}
	image, err := remote.Image(ref, remote.WithAuth(&authn.Basic{Username: "AWS", Password: password}))
	if err != nil {
		w.t.Fatal(err)
	}
	return image
}

func TestAnImageIsBuiltOnce(t *testing.T) {
	w := newWorld(t)
	first, err := w.ensure(nil)
	if err != nil || !first.Built || !first.Pushed || !strings.HasPrefix(first.Ref(), "@sha256:") {
		t.Fatalf("%+v, %v", first, err)
	}
	config, err := w.pulled(first.Digest).ConfigFile()
	if err != nil || config.Architecture != "arm64" || config.Config.Labels["kept"] != "yes" {
		t.Errorf("pulled: %+v, %v", config, err)
	}
	calls := w.calls()
	for _, want := range []string{"--platform linux/arm64", "--build-arg REVISION=unknown", "--tag claude-code-agent:" + first.Tag} {
		if !strings.Contains(calls, want) {
			t.Errorf("docker was called without %q:\n%s", want, calls)
		}
	}
	if strings.Contains(calls, password) || strings.Contains(w.progress.String(), password) {
		t.Error("the password is in the arguments or in what is told")
	}
	for _, want := range []string{"Building the image for linux/arm64 with docker.", "#1 a step", "100 % pushed"} {
		if !strings.Contains(w.progress.String(), want) {
			t.Errorf("%q is not told:\n%s", want, w.progress.String())
		}
	}

	w.requests = nil
	again, err := w.ensure(nil)
	if err != nil || again.Built || again.Pushed || again.Digest != first.Digest {
		t.Errorf("again: %+v, %v", again, err)
	}
	if w.calls() != calls {
		t.Errorf("docker was called again:\n%s", w.calls())
	}
	for _, request := range w.requests {
		if !strings.HasPrefix(request, "HEAD ") && request != "GET /v2/" {
			t.Errorf("a request to the registry: %s", request)
		}
	}
}

func TestInputsDecide(t *testing.T) {
	w := newWorld(t)
	hash := func(flags ...string) string {
		t.Helper()
		sum, err := Inputs(w.source, flags...)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := hash()
	for _, file := range []string{"README", "cmd/other/main.go", "cmd/agent/main_test.go", "cmd/new"} {
		w.write(filepath.Join(w.source, file), "other")
		if hash() != before {
			t.Errorf("%s counts, and the builder is not given it", file)
		}
	}
	if hash("--build-arg", "BASE=x") == before {
		t.Error("flags do not count")
	}
	for _, file := range []string{"Dockerfile", ".dockerignore", "go.mod", "cmd/agent/main.go", "cmd/agent/new.go"} {
		w.write(filepath.Join(w.source, file), "*\n!go.mod\n!cmd/agent\n!cmd/agent/main.go\n")
		after := hash()
		if after == before {
			t.Errorf("%s does not count", file)
		}
		before = after
	}
	if err := os.Remove(filepath.Join(w.source, "Dockerfile")); err != nil {
		t.Fatal(err)
	}
	if _, err := Inputs(w.source); err == nil || !strings.Contains(err.Error(), "has no Dockerfile") {
		t.Errorf("without a Dockerfile: %v", err)
	}
}

func TestOnlyTheNewLayersAreSent(t *testing.T) {
	w := newWorld(t)
	given := func(r *Request) { r.Image = "mine:latest" }
	first, err := w.ensure(given)
	if err != nil || first.Built || !first.Pushed {
		t.Fatalf("%+v, %v", first, err)
	}
	w.requests = nil
	again, err := w.ensure(given)
	if err != nil || again.Pushed || again.Digest != first.Digest {
		t.Errorf("the same image again: %+v, %v", again, err)
	}
	for _, request := range w.requests {
		if strings.HasPrefix(request, "POST") || strings.HasPrefix(request, "PUT") || strings.HasPrefix(request, "PATCH") {
			t.Errorf("the same image was sent again: %s", request)
		}
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*world, *Request, *Repository)
		want   string
	}{
		{"another architecture", func(w *world, _ *Request, _ *Repository) { w.save("amd64") }, "is for linux/amd64, and the stack's tasks run on linux/arm64: build it with --platform linux/arm64"},
		{"an unknown one", func(_ *world, r *Request, _ *Repository) { r.Architecture = "x86_64" }, "it is amd64 or arm64"},
		{"no builder", func(w *world, _ *Request, _ *Repository) { w.t.Setenv("PATH", w.t.TempDir()) }, "no program here can build an image: install docker, or podman, or buildah"},
		{"no daemon", func(w *world, _ *Request, _ *Repository) { w.write(filepath.Join(w.bin, "silent"), "") }, "Cannot connect to the Docker daemon; start it"},
		{"an unknown builder", func(w *world, _ *Request, _ *Repository) { w.env[EnvBuilder] = "make" }, `BERTH_BUILDER="make" is none of docker, podman, buildah`},
		{"a build that fails", func(w *world, _ *Request, _ *Repository) { w.write(filepath.Join(w.bin, "broken"), "") }, "does not build: `docker build`: exit status 1: #2 ERROR: no such package"},
		{"refused", func(_ *world, _ *Request, to *Repository) { to.Login = nil }, "refuses these credentials"},
		{"no token", func(_ *world, _ *Request, to *Repository) {
			to.Login = func(context.Context) (string, string, error) { return "", "", errors.New("access denied") }
		}, "access denied"},
		{"elsewhere", func(_ *world, _ *Request, to *Repository) { to.Endpoint = "registry.example.com:443" }, "is not on this machine's loopback"},
		{"no repository", func(_ *world, _ *Request, to *Repository) { to.URI = "None" }, "is no address of a repository"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			request, to := w.request(), w.to()
			test.change(w, &request, &to)
			result, err := Ensure(t.Context(), to, request)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), "\n") > 1 {
				t.Errorf("%+v, %v\nwanted: %s", result, err, test.want)
			}
			for _, request := range w.requests {
				if strings.HasPrefix(request, "PUT") {
					t.Errorf("something was pushed all the same: %s", request)
				}
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Ensure(ctx, w.to(), w.request()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestECR(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("AWS:" + password))
	user, got, err := ECR(tokens{&encoded})(t.Context())
	if user != "AWS" || got != password || err != nil {
		t.Errorf("%q, %q, %v", user, got, err)
	}
	bad := password
	for _, source := range []tokens{{nil}, {&bad}} {
		if _, _, err := ECR(source)(t.Context()); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%v", err)
		}
	}
}

type tokens struct{ token *string }

func (t tokens) GetAuthorizationToken(context.Context, *ecr.GetAuthorizationTokenInput, ...func(*ecr.Options)) (*ecr.GetAuthorizationTokenOutput, error) {
	return &ecr.GetAuthorizationTokenOutput{AuthorizationData: []ecrtypes.AuthorizationData{{AuthorizationToken: t.token}}}, nil
}

func TestLastLine(t *testing.T) {
	last := &lastLine{}
	for _, text := range []string{"one\ntw", "o\n\n", "-----\n", ""} {
		_, _ = fmt.Fprint(last, text)
	}
	if last.String() != "two" {
		t.Errorf("%q", last)
	}
	_, _ = io.WriteString(last, strings.Repeat("x", 10_000))
	if len(last.String()) > 600 {
		t.Errorf("%d bytes", len(last.String()))
	}
}
