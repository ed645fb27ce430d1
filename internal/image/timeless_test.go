package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// builtAt puts an image of always the same files in the builder's place, as if it had been built then, by somebody.
func (w *world) builtAt(when time.Time, somebody string) {
	w.t.Helper()
	var layer bytes.Buffer
	files := tar.NewWriter(&layer)
	for _, header := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "usr/program", Mode: 0o4755, Size: 5, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "caps"}},
		{Typeflag: tar.TypeLink, Name: "usr/again", Linkname: "usr/program", Mode: 0o4755},
		{Typeflag: tar.TypeSymlink, Name: "usr/" + strings.Repeat("long", 40), Linkname: "program"},
		{Typeflag: tar.TypeReg, Name: "usr/.wh.gone"},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1733, Uid: 7, Gid: 8},
	} {
		header.ModTime, header.AccessTime, header.Uname, header.Format = when, when, somebody, tar.FormatPAX
		err := files.WriteHeader(&header)
		if err == nil && header.Size > 0 {
			_, err = files.Write([]byte("runs\n"))
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		w.t.Fatal(err)
	}
	opened, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		w.t.Fatal(err)
	}
	image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: opened, History: v1.History{Created: v1.Time{Time: when}, CreatedBy: "RUN make"}})
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		w.t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created, config.Container = "linux", "arm64", v1.Time{Time: when}, somebody
	config.Config.Labels = map[string]string{"kept": "yes"}
	tag, err := name.NewTag("claude-code-agent:latest")
	if err != nil {
		w.t.Fatal(err)
	}
	if image, err = mutate.ConfigFile(image, config); err == nil {
		err = tarball.WriteToFile(filepath.Join(w.bin, "image.tar"), tag, image)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// What is built again from the same is the same: it is not sent again, and nothing is rolled out.
func TestAnImageBuiltAgainIsTheSame(t *testing.T) {
	w := newWorld(t)
	w.builtAt(time.Unix(1_700_000_000, 123_000_000), "somebody")
	first, err := w.ensure(nil)
	if err != nil || !first.Built {
		t.Fatalf("%+v, %v", first, err)
	}
	image := w.pulled(first.Digest)
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	config, err := image.ConfigFile()
	if err != nil || !config.Created.IsZero() && !config.Created.Equal(epoch) || config.Container != "" || config.Config.Labels["kept"] != "yes" || config.History[0].CreatedBy != "RUN make" {
		t.Errorf("%+v, %v", config, err)
	}

	w.builtAt(time.Unix(1_800_000_000, 0), "another")
	w.write(filepath.Join(w.source, "cmd/agent/main.go"), "package main // other inputs, and the same program\n")
	w.requests = nil
	again, err := w.ensure(nil)
	if err != nil || !again.Built || again.Tag == first.Tag || again.Digest != first.Digest {
		t.Errorf("%+v, %v; the first was %+v", again, err, first)
	}
	for _, request := range w.requests {
		if strings.Contains(request, "/blobs/") && !strings.HasPrefix(request, "HEAD ") {
			t.Errorf("a layer was sent again: %s", request)
		}
	}

	// Somebody's own image is left as it is.
	given, err := w.ensure(func(r *Request) { r.Image = "ours:1" })
	if err != nil || given.Digest == first.Digest {
		t.Fatalf("%+v, %v", given, err)
	}
	if config, err := w.pulled(given.Digest).ConfigFile(); err != nil || config.Created.Unix() != 1_800_000_000 || config.Container != "another" {
		t.Errorf("%+v, %v", config, err)
	}
}

func TestTimelessKeepsWhatCounts(t *testing.T) {
	w := newWorld(t)
	w.builtAt(time.Unix(1_700_000_000, 0), "somebody")
	result, err := w.ensure(nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := w.pulled(result.Digest).Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close() //nolint:errcheck // it is read
	var got []tar.Header
	for files := tar.NewReader(content); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Size > 0 {
			if text, err := io.ReadAll(files); err != nil || string(text) != "runs\n" {
				t.Errorf("%s: %q, %v", header.Name, text, err)
			}
		}
		got = append(got, tar.Header{
			Typeflag: header.Typeflag, Name: header.Name, Linkname: header.Linkname, Mode: header.Mode, Uid: header.Uid, Gid: header.Gid,
			ModTime: header.ModTime.UTC(), Uname: header.Uname, PAXRecords: header.PAXRecords,
		})
	}
	long := "usr/" + strings.Repeat("long", 40)
	want := []tar.Header{
		{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755, ModTime: epoch},
		{Typeflag: tar.TypeReg, Name: "usr/program", Mode: 0o4755, ModTime: epoch, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "caps"}},
		{Typeflag: tar.TypeLink, Name: "usr/again", Linkname: "usr/program", Mode: 0o4755, ModTime: epoch},
		{Typeflag: tar.TypeSymlink, Name: long, Linkname: "program", ModTime: epoch, PAXRecords: map[string]string{"path": long}},
		{Typeflag: tar.TypeReg, Name: "usr/.wh.gone", ModTime: epoch},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1733, Uid: 7, Gid: 8, ModTime: epoch},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := timeless(io.Discard, strings.NewReader("no archive, but long enough to be the beginning of one: "+strings.Repeat("x", 1024))); err == nil {
		t.Error("what is no archive is copied")
	}
}
