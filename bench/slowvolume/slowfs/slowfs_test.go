//go:build linux

package slowfs_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/bench/slowvolume/slowfs"
)

// mount mounts a new directory. Where this machine does not let us, it sees that nothing is left of the attempt.
func mount(t *testing.T, delay, cached time.Duration) (v *slowfs.Volume, directory string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	directory = t.TempDir()
	v, err := slowfs.Mount(directory, slowfs.Options{Delay: delay, Cached: cached, Flush: true})
	if err == nil {
		return v, directory
	}
	if file, openErr := os.OpenFile("/dev/fuse", os.O_RDWR, 0); openErr == nil && os.Geteuid() == 0 {
		_ = file.Close()
		t.Fatal(err)
	}
	left(t)
	return nil, ""
}

// left sees that no mount and no directory of one is left.
func left(t *testing.T) {
	t.Helper()
	if found, _ := filepath.Glob(filepath.Join(os.TempDir(), "slowvolume-*")); len(found) > 0 {
		t.Errorf("%q is left", found)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(table), " "+os.TempDir()) {
		t.Errorf("a mount is left below %s, %v", os.TempDir(), err)
	}
}

func TestOperationsAreSlowAndCounted(t *testing.T) {
	const delay = 20 * time.Millisecond
	v, directory := mount(t, delay, 0)
	if v == nil {
		return
	}
	began := time.Now()
	if err := os.WriteFile(filepath.Join(v.Path, "a"), []byte("text"), 0o600); err != nil {
		t.Error(err)
	}
	if err := os.Rename(filepath.Join(v.Path, "a"), filepath.Join(v.Path, "b")); err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	counts, programs := v.Counts()
	for _, kind := range []string{"lookup", "create", "write", "flush", "rename"} {
		if counts[kind] == 0 {
			t.Errorf("no %s among %v", kind, counts)
		}
	}
	if own, err := os.ReadFile("/proc/self/comm"); err != nil || programs[strings.TrimSpace(string(own))] == 0 {
		t.Errorf("it was %v, want %s", programs, own)
	}
	if took < 5*delay {
		t.Errorf("five operations took %s", took)
	}
	v.SetDelay(0)
	for _, where := range []string{v.Path, directory} {
		if text, err := os.ReadFile(filepath.Join(where, "b")); string(text) != "text" || err != nil {
			t.Errorf("%s has %q, %v", where, text, err)
		}
	}
	if counts, _ := v.Counts(); counts["open"] != 1 || counts["read"] == 0 || counts["create"] != 0 {
		t.Errorf("reading was %v", counts)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	left(t)
}

// A name that is not there is asked for once, as long as the kernel may remember it.
func TestMissingNamesAreRemembered(t *testing.T) {
	v, _ := mount(t, 0, time.Hour)
	if v == nil {
		return
	}
	for range 3 {
		if _, err := os.Stat(filepath.Join(v.Path, "none")); !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	if counts, _ := v.Counts(); counts["lookup"] != 1 {
		t.Errorf("it was %v", counts)
	}
	if err := os.WriteFile(filepath.Join(v.Path, "none"), []byte("text"), 0o600); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(v.Path, "none")); string(text) != "text" || err != nil {
		t.Errorf("it has %q, %v", text, err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	left(t)
}

func TestCloseWhileInUse(t *testing.T) {
	v, _ := mount(t, 0, 0)
	if v == nil {
		return
	}
	file, err := os.Create(filepath.Join(v.Path, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	left(t)
}

// A program that is killed leaves its mount; the next one takes it away, and leaves that of one that runs.
func TestMountsOfKilledProgramsAreTakenAway(t *testing.T) {
	if directory := os.Getenv("SLOWFS_TEST_MOUNT"); directory != "" {
		v, err := slowfs.Mount(directory, slowfs.Options{})
		fmt.Println(v.Path, err)
		select {}
	}
	v, directory := mount(t, 0, 0)
	if v == nil {
		return
	}
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	command.Env = append(os.Environ(), "SLOWFS_TEST_MOUNT="+directory)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(output).ReadString('\n')
	dead, said, _ := strings.Cut(strings.TrimSpace(line), " ")
	_ = command.Process.Kill()
	_ = command.Wait()
	if said != "<nil>" {
		t.Fatalf("it said %q", line)
	}
	next, err := slowfs.Mount(directory, slowfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the mount is left: %v", err)
	}
	if _, err := os.ReadDir(v.Path); err != nil {
		t.Errorf("another program's is not: %v", err)
	}
	for _, each := range []*slowfs.Volume{next, v} {
		if err := each.Close(); err != nil {
			t.Error(err)
		}
	}
	left(t)
}
