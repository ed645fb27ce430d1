//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/bench/slowvolume/slowfs"
	"berth/internal/workspace"
)

// mount mounts a directory for a test, if this machine lets us. Names and attributes are remembered for so long.
func mount(t *testing.T, directory string, cached time.Duration) *slowfs.Volume {
	t.Helper()
	volume, err := slowfs.Mount(directory, slowfs.Options{Cached: cached})
	if err != nil {
		if file, openErr := os.OpenFile("/dev/fuse", os.O_RDWR, 0); openErr == nil && os.Geteuid() == 0 {
			_ = file.Close() // nothing was done with it
			t.Fatal(err)
		}
		t.Skipf("this machine mounts nothing: %v", err)
	}
	t.Cleanup(func() {
		if err := volume.Close(); err != nil {
			t.Error(err)
		}
	})
	return volume
}

// What the first session's clone has brought is written to the volume and not read there again: git, which reads much, does not see
// the volume at all.
func TestTheFirstCloneReadsNothingBack(t *testing.T) {
	directory, work := t.TempDir(), t.TempDir()
	volume := mount(t, directory, time.Hour)
	repository := filepath.Join(work, "origin")
	for _, command := range []string{
		"git init --quiet " + repository,
		"git -C " + repository + " -c user.name=n -c user.email=e@localhost commit --quiet --allow-empty -m first",
		"git -C " + repository + " tag v1",
	} {
		if output, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, output)
		}
	}
	mirrors := workspace.NewMirrors(filepath.Join(volume.Path, "repos"), workspace.MirrorConfig{Temporary: t.TempDir()})
	volume.Counts()
	_, err := mirrors.Prepare(t.Context(), workspace.Place{
		ID: "01890a5d-ac96-774b-bcce-b302099a8057", Source: workspace.Source{Repo: repository}, Branch: "berth/01890a5d",
		Tree: filepath.Join(work, "tree"), Scratch: filepath.Join(work, "scratch"),
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds, programs := volume.Counts()
	for program := range programs {
		if strings.HasPrefix(program, "git") {
			t.Errorf("%s works on the volume: %v", program, programs)
		}
	}
	if kinds["read"] > 0 {
		t.Errorf("%d parts of files are read: %v", kinds["read"], kinds)
	}
}
