//go:build e2e && story

package cloud

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// watchCommandLines looks at the arguments of all processes of this machine until the test ends: no secret may be among them. What it
// returns adds a secret.
func watchCommandLines(t *testing.T) (add func(string)) {
	t.Helper()
	var (
		mu      sync.Mutex
		secrets = map[string]bool{modelKey: true, secondKey: true, githubSecret: true, apiSecret: true}
		looks   int
		ended   = make(chan struct{})
		stopped = make(chan struct{})
	)
	look := func() {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		mu.Lock()
		defer mu.Unlock()
		for _, file := range files {
			text, _ := os.ReadFile(file)
			for secret := range secrets {
				if bytes.Contains(text, []byte(secret)) {
					t.Errorf("a secret is among the arguments of %.60q", text)
				}
			}
		}
		looks++
	}
	go func() {
		defer close(stopped)
		for tick := time.Tick(20 * time.Millisecond); ; look() {
			select {
			case <-tick:
			case <-ended:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(ended)
		<-stopped
		if looks < 10 {
			t.Errorf("the arguments of processes were looked at %d times only", looks)
		}
	})
	return func(secret string) {
		mu.Lock()
		defer mu.Unlock()
		secrets[secret] = true
	}
}
