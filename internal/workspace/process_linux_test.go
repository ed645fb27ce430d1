package workspace_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An agent that is killed leaves no git behind.
func TestAKilledAgentTakesGitWithIt(t *testing.T) {
	asked := make(chan struct{}, 4)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	p := place(t, server.URL+"/x")
	agent := exec.Command(os.Args[0], filepath.Join(t.TempDir(), "repos"), p.Source.Repo, p.Tree, p.Scratch)
	agent.Env = append(os.Environ(), helper+"=prepare")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	running := func() (found []string) {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if text, err := os.ReadFile(line); err == nil && strings.Contains(string(text), server.URL) && strings.HasPrefix(string(text), "git\x00") {
				found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
			}
		}
		return found
	}
	if len(running()) == 0 {
		t.Error("git does not run")
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // it was killed
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); len(running()) > 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %q", running())
		}
	}
}
