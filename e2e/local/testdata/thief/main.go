// Command thief runs in a session, and looks for secrets wherever a program can look. It is told what to look for in a
// form that is no secret, and says where it found which, never the secret itself.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Task is what the thief is told, as JSON in its first argument.
type Task struct {
	Secrets map[string][]byte // by name, each byte xor 0x5a
	Dirs    []string          // that may have something
	URLs    []string          // of servers on loopback
	Inner   bool              // it runs in a user namespace of its own
}

// Found is a secret, or something else that should not have been possible.
type Found struct {
	Way   string `json:"way"`
	Where string `json:"where"`
	What  string `json:"what"`
}

// Report is what the thief says, as JSON on its output.
type Report struct {
	Found []Found        `json:"found"`
	Tried map[string]int `json:"tried"` // attempts by way
	Read  map[string]int `json:"read"`  // those that gave something to read
}

type thief struct {
	task   Task
	report Report
}

func main() {
	if os.Args[1] == "bare" {
		bare()
	}
	t := &thief{report: Report{Found: []Found{}, Tried: map[string]int{}, Read: map[string]int{}}}
	if err := json.Unmarshal([]byte(os.Args[1]), &t.task); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for name, masked := range t.task.Secrets {
		plain := bytes.Clone(masked)
		for i := range plain {
			plain[i] ^= 0x5a
		}
		t.task.Secrets[name] = plain
	}
	t.look("environment", "own", []byte(strings.Join(os.Environ(), "\n")))
	t.processes()
	t.files()
	t.git()
	t.become()
	if !t.task.Inner {
		t.network()
		t.namespace()
	}
	_ = json.NewEncoder(os.Stdout).Encode(t.report)
}

// bare runs a program with the rights that root has in a container of Docker's, if nobody says otherwise.
func bare() {
	runtime.LockOSThread()
	const drop = 24 // PR_CAPBSET_DROP
	kept := []uintptr{0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
	for capability := range uintptr(41) {
		if !slices.Contains(kept, capability) {
			_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, drop, capability, 0)
		}
	}
	fmt.Fprintln(os.Stderr, syscall.Exec(os.Args[2], os.Args[2:], os.Environ()))
	os.Exit(1)
}

// look searches for secrets in what a way gave.
func (t *thief) look(way, where string, text []byte) {
	t.report.Tried[way]++
	if len(text) > 0 {
		t.report.Read[way]++
	}
	for name, secret := range t.task.Secrets {
		if bytes.Contains(text, secret) {
			t.found(way, where, name)
		}
	}
}

func (t *thief) found(way, where, what string) {
	t.report.Found = append(t.report.Found, Found{way, where, what})
}

// processes reads all that /proc has of every process but this one, and tries to trace it.
func (t *thief) processes() {
	most := 1 << 15
	if text, err := os.ReadFile("/proc/sys/kernel/pid_max"); err == nil {
		_, _ = fmt.Sscan(string(text), &most)
	}
	for pid := 1; pid <= most; pid++ {
		// Whoever hides processes in /proc answers kill(2) all the same.
		dir := "/proc/" + strconv.Itoa(pid)
		if syscall.Kill(pid, 0) == syscall.ESRCH || t.own(dir) {
			continue
		}
		for _, name := range []string{"environ", "cmdline", "status", "maps", "stack", "auxv"} {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			t.look("proc "+name, dir, text)
		}
		t.descriptors(dir)
		t.memory(dir)
		t.trace(pid)
		for _, name := range []string{"root", "cwd"} {
			for _, wanted := range t.task.Dirs {
				entries, err := os.ReadDir(filepath.Join(dir, name, wanted))
				t.look("proc "+name, dir, fmt.Append(nil, entries, err == nil))
			}
		}
	}
}

// own reports whether a process or a thread is the thief's, which knows the secrets.
func (t *thief) own(dir string) bool {
	text, _ := os.ReadFile(filepath.Join(dir, "status"))
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		if (t.task.Inner || pid == os.Getpid()) && bytes.Contains(text, fmt.Appendf(nil, "\nTgid:\t%d\n", pid)) {
			return true
		}
	}
	return false
}

func (t *thief) descriptors(dir string) {
	entries, _ := os.ReadDir(filepath.Join(dir, "fd"))
	t.report.Tried["proc fd"]++
	for _, entry := range entries {
		path := filepath.Join(dir, "fd", entry.Name())
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		buffer := make([]byte, 1<<16)
		n, _ := syscall.Pread(fd, buffer, 0)
		t.look("proc fd", path, buffer[:max(n, 0)])
		_ = syscall.Close(fd)
	}
}

func (t *thief) memory(dir string) {
	maps, _ := os.ReadFile(filepath.Join(dir, "maps"))
	memory, err := os.Open(filepath.Join(dir, "mem"))
	t.report.Tried["proc mem"]++
	if err != nil {
		return
	}
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x rw", &from, &to); err != nil || to-from > 64<<20 {
			continue
		}
		buffer := make([]byte, to-from)
		n, _ := memory.ReadAt(buffer, int64(from))
		t.look("proc mem", dir, buffer[:n])
	}
}

// trace seizes a process, without stopping it.
func (t *thief) trace(pid int) {
	t.report.Tried["ptrace"]++
	const seize, detach = 0x4206, 17
	if _, _, err := syscall.RawSyscall6(syscall.SYS_PTRACE, seize, uintptr(pid), 0, 0, 0, 0); err == 0 {
		t.found("ptrace", strconv.Itoa(pid), "a process")
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PTRACE, detach, uintptr(pid), 0, 0, 0, 0)
	}
	if syscall.Kill(pid, 0) == nil {
		t.found("kill", strconv.Itoa(pid), "a process")
	}
}

// files reads whatever it can of the directories.
func (t *thief) files() {
	for _, dir := range t.task.Dirs {
		t.report.Tried["files"]++
		_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil
			}
			text, err := os.ReadFile(path)
			if err == nil {
				t.look("files", path, text)
			}
			return nil
		})
		// By name, too: a directory may be closed and what is in it not.
		for _, name := range []string{"token", "endpoint.json", "lock", "sessions", "repos", "spool", "work"} {
			path := filepath.Join(dir, name)
			text, err := os.ReadFile(path)
			if entries, _ := os.ReadDir(path); err != nil && len(entries) > 0 {
				list := make([]string, len(entries))
				for i, entry := range entries {
					list[i] = entry.Name()
				}
				t.found("names", path, strings.Join(list, " "))
			}
			t.look("files", path, text)
			if file, err := os.OpenFile(filepath.Join(path, "planted"), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
				_ = file.Close()
				_ = os.Remove(file.Name())
				t.found("written", path, "a directory")
			}
		}
	}
}

func (t *thief) git() {
	for _, args := range [][]string{
		{"credential", "fill"}, {"config", "--list", "--show-origin"}, {"remote", "-v"}, {"ls-remote", "origin"},
	} {
		command := exec.Command("git", args...)
		command.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_TRACE_CURL=1", "GIT_ASKPASS=false")
		command.Stdin = strings.NewReader("protocol=https\nhost=github.com\n\n")
		output, _ := command.CombinedOutput()
		t.look("git", strings.Join(args, " "), output)
	}
}

// become tries to be somebody else.
func (t *thief) become() {
	t.report.Tried["become"]++
	if !t.task.Inner && syscall.Setuid(0) == nil {
		t.found("become", "setuid", "root")
	}
	for _, program := range []string{"su", "sudo", "passwd", "mount"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		command := exec.Command(path, "-c", "id -u")
		if program == "sudo" {
			command = exec.Command(path, "-n", "id", "-u")
		}
		if output, err := command.Output(); err == nil && strings.TrimSpace(string(output)) == "0" {
			t.found("become", program, "root")
		}
	}
}

// namespace tries all of it again as the root of a user namespace, where mounts can be undone that are one's own.
func (t *thief) namespace() {
	t.report.Tried["namespace"]++
	again := t.task
	again.Inner, again.Secrets = true, map[string][]byte{}
	for name, secret := range t.task.Secrets {
		masked := bytes.Clone(secret)
		for i := range masked {
			masked[i] ^= 0x5a
		}
		again.Secrets[name] = masked
	}
	text, err := json.Marshal(again)
	if err != nil {
		return
	}
	script := `for m in /proc /tmp /var/tmp /dev/shm "$@"; do umount -l "$m"; done 2>/dev/null; exec "$0" "$THIEF_TASK"`
	command := exec.Command("/bin/sh", append([]string{"-c", script, os.Args[0]}, t.task.Dirs...)...)
	command.Env = append(os.Environ(), "THIEF_TASK="+string(text))
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	output, err := command.Output()
	if err != nil {
		return // it is not allowed
	}
	var inner Report
	if json.Unmarshal(output, &inner) == nil {
		t.report.Read["namespace"]++
		for _, each := range inner.Found {
			t.found("namespace: "+each.Way, each.Where, each.What)
		}
	}
}
