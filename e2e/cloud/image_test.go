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
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"berth/internal/contract"
	"berth/internal/image"
)

// pulled is the image as the registry has it.
func (b built) pulled(t *testing.T) v1.Image {
	t.Helper()
	ref, err := name.NewDigest(b.registry + "/claude-code-dev" + b.result.Ref())
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	return pulled
}

func TestWhatIsInTheImage(t *testing.T) {
	b := needImage(t)
	pulled := b.pulled(t)
	raw, err := pulled.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	searchFor(t, "the image's configuration and history", bytes.NewReader(raw))
	searchFor(t, "what is told of the build", strings.NewReader(b.said))
	config, err := pulled.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config.Labels["org.opencontainers.image.revision"]; len(got) < 40 {
		t.Errorf("the label of the revision is %q", got)
	}
	if config.Config.Healthcheck == nil || config.Config.StopSignal != "SIGTERM" || len(config.Config.Volumes) != 4 {
		t.Errorf("health check, stop signal and volumes: %+v", config.Config)
	}
	layers, err := pulled.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for i, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			t.Fatal(err)
		}
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		count := readLayer(t, content, files)
		t.Logf("layer %d: %5.1f MB, %5d entries", i+1, float64(size)/1e6, count)
	}
	for _, wanted := range []string{"usr/local/bin/berthd", "usr/local/bin/claude", "usr/share/berth/bill.cdx.json", "usr/bin/git", "usr/bin/rg", "usr/bin/gh", "etc/ssl/certs/ca-certificates.crt"} {
		if !files[wanted] {
			t.Errorf("%s is missing", wanted)
		}
	}
	for file := range files {
		switch base := path.Base(file); {
		case base == "node", base == "npm", base == ".npmrc", base == ".env", base == ".git", base == "id_rsa", strings.HasSuffix(file, "/go/bin/go"):
			t.Errorf("%s has no business in the image", file)
		}
	}
}

// readLayer searches all files of a layer for secrets, and notes their names.
func readLayer(t *testing.T, content io.ReadCloser, files map[string]bool) (count int) {
	t.Helper()
	defer content.Close()
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

// searchFor searches a text of any size for the secrets that lay about while the image was built.
func searchFor(t *testing.T, where string, text io.Reader) {
	t.Helper()
	const overlap = 64
	buffer := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := io.ReadFull(text, buffer[kept:])
		for _, secret := range []string{modelKey, secondKey, githubSecret, apiSecret} {
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

// What the image is built from decides on its tag: nothing is built, and nothing sent, the second time.
func TestTheImageIsThere(t *testing.T) {
	b := needImage(t)
	var said strings.Builder
	again, err := image.Ensure(t.Context(), b.repository(), b.request(&said))
	if err != nil || again.Built || again.Pushed || again.Digest != b.result.Digest || said.Len() > 0 {
		t.Errorf("%+v, %v\n%s", again, err, said.String())
	}
}

// The bill of materials has what the image has.
func TestTheBill(t *testing.T) {
	b := needImage(t)
	text, err := shared.docker.Docker(t.Context(), "run", "--rm", "--network=none", "--entrypoint", "/bin/sh", b.name, "-c",
		"cat /usr/share/berth/bill.cdx.json; echo; echo ====; dpkg-query -W -f '${Package} ${Version}\\n'; claude --version; "+contract.DaemonPath+" --version")
	if err != nil {
		t.Fatal(err)
	}
	bill, installed, _ := strings.Cut(text, "====\n")
	var read struct {
		Components []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal([]byte(bill), &read); err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, each := range read.Components {
		listed[each.Name+" "+each.Version] = true
		if strings.Contains(each.Purl, "claude-code") && !strings.Contains(installed, each.Version+" (Claude Code)") {
			t.Errorf("the bill has %s %s, which is not what `claude --version` says:\n%s", each.Name, each.Version, installed)
		}
	}
	count := 0
	for line := range strings.Lines(installed) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] != "berthd" {
			count++
			if !listed[fields[0]+" "+fields[1]] {
				t.Errorf("%s is installed, and not in the bill", strings.TrimSpace(line))
			}
		}
	}
	if count < 80 {
		t.Errorf("only %d packages are installed: were they read?", count)
	}
}
