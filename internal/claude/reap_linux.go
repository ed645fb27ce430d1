package claude

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/internal/contract"
)

func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a child subreaper: %w", err)
	}
	return nil
}

// childAttributes gives the program a process group of its own, and a death with the reaper's.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killLeftBehind kills every process below this one.
func killLeftBehind(int) {
	children := map[int][]int{}
	for pid, parent := range parents() {
		children[parent] = append(children[parent], pid)
	}
	var kill func(int)
	kill = func(parent int) {
		for _, child := range children[parent] {
			_ = syscall.Kill(child, syscall.SIGKILL)
			kill(child)
		}
	}
	kill(os.Getpid())
}

// parents returns the parent of every process.
func parents() map[int]int {
	found := map[int]int{}
	for pid := range processes() {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		// The name, in parentheses, may hold anything, parentheses too.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			found[pid] = parent
		}
	}
	return found
}

// sweep kills processes of a session that outlived their reaper, and returns how many there were. They are known by
// their user, if the session has one of its own, and by the environment that they were started with, which they can
// change.
func sweep(session string, user int) (found int) {
	if user != 0 {
		if found = len(runningAs(user)); found > 0 {
			_ = killAll(user).Run() // whoever calls looks again
		}
	}
	mark := []byte("\x00" + contract.EnvSession + "=" + session + "\x00")
	for pid := range processes() {
		environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err == nil && pid != os.Getpid() && bytes.Contains(append([]byte{0}, environ...), mark) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			found++
		}
	}
	return found
}

func processes() func(yield func(int) bool) {
	return func(yield func(int) bool) {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		for _, entry := range entries {
			if pid, err := strconv.Atoi(entry.Name()); err == nil && !yield(pid) {
				return
			}
		}
	}
}
