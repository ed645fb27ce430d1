//go:build e2e

package cloud

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth/internal/contract"
)

// repository is the deployment's, at the emulator's registry.
func (x *story) repository() string { return x.proxy.Address() + "/" + names.Stack() }

// pulled is an image as the registry has it.
func (x *story) pulled(digest string) v1.Image {
	x.t.Helper()
	ref, err := name.NewDigest(x.repository() + "@" + digest)
	if err != nil {
		x.t.Fatal(err)
	}
	pulled, err := remote.Image(ref)
	if err != nil {
		x.t.Fatal(err)
	}
	return pulled
}

// searchImage searches all of the image that runs, layer by layer, for the secrets that lay about while it was built.
func (x *story) searchImage() {
	x.t.Helper()
	pulled := x.pulled(x.first.Image)
	raw, err := pulled.RawConfigFile()
	if err != nil {
		x.t.Fatal(err)
	}
	searchFor(x.t, "the image's configuration and history", bytes.NewReader(raw))
	config, err := pulled.ConfigFile()
	if err != nil {
		x.t.Fatal(err)
	}
	if got := config.Config.Labels["org.opencontainers.image.revision"]; len(got) < 40 {
		x.t.Errorf("the label of the revision is %q", got)
	}
	if config.Config.Healthcheck == nil || config.Config.StopSignal != "SIGTERM" || len(config.Config.Volumes) != 4 {
		x.t.Errorf("health check, stop signal and volumes: %+v", config.Config)
	}
	layers, err := pulled.Layers()
	if err != nil {
		x.t.Fatal(err)
	}
	files := map[string]bool{}
	for i, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			x.t.Fatal(err)
		}
		content, err := layer.Uncompressed()
		if err != nil {
			x.t.Fatal(err)
		}
		count := readLayer(x.t, content, files)
		x.t.Logf("layer %d: %5.1f MB, %5d entries", i+1, float64(size)/1e6, count)
	}
	for _, wanted := range []string{"usr/local/bin/berthd", "usr/local/bin/claude", "usr/share/berth/bill.cdx.json", "usr/bin/git", "usr/bin/rg", "usr/bin/gh", "etc/ssl/certs/ca-certificates.crt"} {
		if !files[wanted] {
			x.t.Errorf("%s is missing", wanted)
		}
	}
	for file := range files {
		switch base := path.Base(file); {
		case base == "node", base == "npm", base == ".npmrc", base == ".env", base == ".git", base == "id_rsa", strings.HasSuffix(file, "/go/bin/go"):
			x.t.Errorf("%s has no business in the image", file)
		}
	}
}

// readLayer searches all files of a layer for secrets, and notes their names.
func readLayer(t *testing.T, content io.ReadCloser, files map[string]bool) (count int) {
	t.Helper()
	defer content.Close() //nolint:errcheck // it was only read
	for archive := tar.NewReader(content); ; count++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			t.Fatal(err)
		}
		file := strings.TrimPrefix(header.Name, "./")
		files[file] = true
		searchFor(t, file, archive)
	}
}

// buffers are what searchFor reads into: an image has thousands of files.
var buffers = sync.Pool{New: func() any { return make([]byte, 1<<20) }}

// searchFor searches a text of any size for the secrets that lay about while the image was built.
func searchFor(t *testing.T, where string, text io.Reader) {
	t.Helper()
	const overlap = 64
	buffer := buffers.Get().([]byte)
	defer buffers.Put(buffer) //nolint:staticcheck // a slice's header is little beside what it holds
	kept := 0
	for {
		n, err := io.ReadFull(text, buffer[kept:])
		for _, secret := range []string{modelKey, secondKey, githubSecret, apiSecret, taskToken, credentialSecret} {
			if bytes.Contains(buffer[:kept+n], []byte(secret)) {
				t.Errorf("%s holds the secret %.6s…", where, secret)
			}
		}
		if err != nil {
			return
		}
		kept = copy(buffer, buffer[len(buffer)-overlap:])
	}
}

// bill compares the image's bill of materials with what the container has.
func (x *story) bill() {
	x.t.Helper()
	text := x.agent().inside("cat /usr/share/berth/bill.cdx.json; echo; echo ====; dpkg-query -W -f '${Package} ${Version}\\n'; HOME=/tmp claude --version; " + contract.DaemonPath + " --version")
	bill, installed, _ := strings.Cut(text, "====\n")
	var read struct {
		Components []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal([]byte(bill), &read); err != nil {
		x.t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, each := range read.Components {
		listed[each.Name+" "+each.Version] = true
		if strings.Contains(each.Purl, "claude-code") && !strings.Contains(installed, each.Version+" (Claude Code)") {
			x.t.Errorf("the bill has %s %s, which is not what `claude --version` says:\n%s", each.Name, each.Version, installed)
		}
	}
	count := 0
	for line := range strings.Lines(installed) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] != "berthd" {
			count++
			if !listed[fields[0]+" "+fields[1]] {
				x.t.Errorf("%s is installed, and not in the bill", strings.TrimSpace(line))
			}
		}
	}
	if count < 80 {
		x.t.Errorf("only %d packages are installed: were they read?", count)
	}
}

// pushAnother pushes the image with another label, under the tag "other".
func (x *story) pushAnother(first string) (digest string) {
	x.t.Helper()
	pulled := x.pulled(first)
	config, err := pulled.ConfigFile()
	if err != nil {
		x.t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Labels["other"] = "yes"
	other, err := mutate.ConfigFile(pulled, config)
	if err != nil {
		x.t.Fatal(err)
	}
	tag, err := name.NewTag(x.repository() + ":other")
	if err != nil {
		x.t.Fatal(err)
	}
	if err := remote.Write(tag, other); err != nil {
		x.t.Fatal(err)
	}
	sum, err := other.Digest()
	if err != nil {
		x.t.Fatal(err)
	}
	return sum.String()
}
