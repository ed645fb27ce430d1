package claude

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/contract"
)

// reaper starts a shell script below a reaper that is marked as a session's.
func reaper(t *testing.T, session, script string) (*exec.Cmd, *os.File) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	controlled, control, err := os.Pipe()
	must(t, err)
	command := exec.Command(self, "reap", "/bin/sh", "-c", script)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), contract.EnvSession + "=" + session}
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	must(t, err)
	command.ExtraFiles = []*os.File{controlled, lock}
	must(t, command.Start())
	must(t, controlled.Close())
	must(t, lock.Close())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = control.Close()
		sweep(session, 0)
	})
	return command, control
}

// left counts the processes of a session.
func left(session string) (count int) {
	for pid := range processes() {
		environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err == nil && bytes.Contains(environ, []byte(contract.EnvSession+"="+session)) {
			count++
		}
	}
	return count
}

func gone(t *testing.T, session string) {
	t.Helper()
	if count := left(session); count > 0 {
		t.Errorf("%d processes are left", count)
	}
}

func TestTheExitStatusIsTheProgrammes(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137, "kill -15 $$": 143} {
		command, _ := reaper(t, "status", script)
		_ = command.Wait() // its status is looked at
		if got := command.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: %d, not %d", script, got, want)
		}
	}
	self, err := os.Executable()
	must(t, err)
	if err := exec.Command(self, "reap", "/does/not/exist").Run(); err == nil || !strings.Contains(err.Error(), "127") {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	command, _ := reaper(t, "signals", `trap 'exit 3' INT; touch '`+ready+`'; while :; do sleep 0.01; done`)
	until(t, "start", func() bool { _, err := os.Stat(ready); return err == nil })
	must(t, command.Process.Signal(syscall.SIGINT))
	_ = command.Wait() // its status is looked at
	if got := command.ProcessState.ExitCode(); got != 3 {
		t.Errorf("the status is %d", got)
	}
}

// What ignores every signal that can be, in sessions of its own, is gone when the reaper is.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	stubborn := `trap '' TERM INT HUP; (trap '' TERM INT HUP; setsid sh -c "sleep 600 & exec sleep 600" &) ; setsid sleep 600 & `
	for name, end := range map[string]func(*exec.Cmd, *os.File){
		"its end":        nil,
		"the daemon's":   func(_ *exec.Cmd, control *os.File) { _ = control.Close() },
		"when it is hit": func(command *exec.Cmd, _ *os.File) { _ = command.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			session := strings.ReplaceAll(name, " ", "-")
			script := stubborn + "exit 0"
			if end != nil {
				script = "setsid sh -c 'trap \"\" TERM; sleep 600' & trap 'exit 0' TERM; while :; do sleep 0.01; done"
			}
			command, control := reaper(t, session, script)
			if end != nil {
				until(t, "start", func() bool { return left(session) >= 4 })
				end(command, control)
			}
			_ = command.Wait() // it has ended, however
			gone(t, session)
		})
	}
}

// A chain of processes that each start the next one and end is caught up with.
func TestAForkLoopIsEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "loop")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nsetsid "+script+" &\n"), 0o700))
	command, _ := reaper(t, "loop", script+"; exit 5")
	ended := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		gone(t, "loop")
	case <-time.After(8 * time.Second):
		must(t, os.Remove(script)) // which ends it
		t.Error("it goes on and on")
	}
}

// A killed reaper takes the program with it; what that left is found by its mark.
func TestTakeSweepsWhatEscaped(t *testing.T) {
	t.Parallel()
	const session = "0190d3a0-0000-7000-8000-0000000000cc"
	command, _ := reaper(t, session, "setsid sleep 600 & setsid sleep 600 & sleep 600")
	until(t, "start", func() bool { return left(session) >= 4 })
	must(t, command.Process.Kill())
	_ = command.Wait() // it was killed
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	claim, err := Take(ctx, session, testDirs(t))
	must(t, err)
	claim.Release()
	gone(t, session)
}

// Open files are counted in /proc.
func TestAFailedStartLeavesNothingOpen(t *testing.T) {
	claim, err := Take(t.Context(), "0190d3a0-0000-7000-8000-0000000000bb", testDirs(t))
	must(t, err)
	defer claim.Release()
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(entries)
	}
	before := count()
	for range 20 {
		if _, err := claim.Start(&Config{CLI: "x", Reaper: []string{"/does/not/exist"}}); err == nil {
			t.Fatal("it started")
		}
	}
	if after := count(); after > before+5 {
		t.Errorf("%d files are open, %d were", after, before)
	}
}
