package ops

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever comes second waits, and may start an agent when the first one is done, however that went.
func TestOnlyOneStartsAnAgent(t *testing.T) {
	data := filepath.Join(t.TempDir(), "new")
	unlock, err := lockUp(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		unlock, err := lockUp(t.Context(), data)
		if err == nil {
			defer unlock()
		}
		second <- err
	}()
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if _, err := lockUp(t.Context(), "/dev/null/x"); err == nil {
		t.Error("a volume that cannot be made is locked")
	}
}

func TestWaitingForAnotherUpEnds(t *testing.T) {
	data := t.TempDir()
	file, err := os.Create(filepath.Join(data, upLock))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it is empty
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if _, err := lockUp(t.Context(), data); err == nil || !strings.Contains(err.Error(), "another `berth up` is still starting an agent: it holds "+data) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(begun); waited != upTime+10*time.Second {
			t.Errorf("it waited for %v", waited)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := lockUp(ctx, data); !errors.Is(err, context.Canceled) {
			t.Errorf("called off: %v", err)
		}
	})
}

func TestAgentEnv(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{"BERTH_WORK": "w", "GITHUB_TOKEN_FILE": "/t"}
	environment, err := agentEnv(func(name string) string { return given[name] }, "/data", "/claude")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(environment[len(os.Environ()):], " ")
	if want := "BERTH_DATA=/data BERTH_CLAUDE=/claude BERTH_WORK=" + here + "/w GITHUB_TOKEN_FILE=/t"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What berthd logged last is the reason why it ended.
func TestLastLine(t *testing.T) {
	log := filepath.Join(t.TempDir(), logFile)
	if err := os.WriteFile(log, append(bytes.Repeat([]byte("an earlier agent\n"), 3), "one\nberthd: \x1b[31mtwo\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := &startedAgent{log: log, from: 51}
	if got := agent.lastLine(errors.New("exit status 1")); got != "two" {
		t.Errorf("got %q", got)
	}
	agent.from = 1000
	if got := agent.lastLine(errors.New("exit status 1")); got != "exit status 1; its log is "+log {
		t.Errorf("got %q", got)
	}
}
