//go:build e2e

package cloud

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watchCommandLines looks at the arguments of all processes of this machine, containers' as well, until the test ends: no secret may be
// among them. What it returns adds a secret.
func watchCommandLines(t *testing.T) (add func(string)) {
	t.Helper()
	var (
		mu      sync.Mutex
		secrets = map[string]bool{modelKey: true, secondKey: true, githubSecret: true, apiSecret: true, taskToken: true, credentialSecret: true}
		looks   int
		ended   = make(chan struct{})
		stopped = make(chan struct{})
		buffer  = make([]byte, 1<<18) // arguments are longer only if somebody hands a file on in them
		kernel  = map[string]bool{}   // its threads, which are there from the beginning and have no arguments
	)
	for _, pid := range processes() {
		kernel[pid] = len(arguments(pid, buffer)) == 0
	}
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		for _, pid := range processes() {
			if kernel[pid] {
				continue
			}
			text := arguments(pid, buffer)
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
		for tick := time.Tick(40 * time.Millisecond); ; look() {
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
		t.Logf("the arguments of all processes were looked at %d times", looks)
		if looks < 10 {
			t.Error("that is not often enough")
		}
	})
	return func(secret string) {
		mu.Lock()
		defer mu.Unlock()
		secrets[secret] = true
	}
}

// processes are the numbers of all processes.
func processes() (list []string) {
	directory, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer directory.Close() //nolint:errcheck // it was only read
	entries, _ := directory.Readdirnames(0)
	for _, name := range entries {
		if name[0] >= '1' && name[0] <= '9' {
			list = append(list, name)
		}
	}
	return list
}

// arguments are a process', in a buffer. They are read without the runtime's poller: this is done a thousand times a second.
func arguments(pid string, buffer []byte) []byte {
	fd, err := unix.Open(filepath.Join("/proc", pid, "cmdline"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	n, _ := unix.Read(fd, buffer)
	return buffer[:max(n, 0)]
}
