package claude

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownProgram is the program of this process, also if its file has been replaced.
func ownProgram() string { return "/proc/self/exe" }

// memoryClosed is whether Undumpable does what it says.
const memoryClosed = true

const (
	// A session's processes and threads: as many as a large build has, and not all that a machine has.
	maxProcesses = 4096
	maxOpenFiles = 65536
	// oomScore has the kernel end sessions before the agent, when memory is out (proc_pid_oom_score_adj(5)).
	oomScore = 500
)

// Undumpable closes this process's memory and environment to other processes of its user, which may be sessions, and
// keeps it from leaving core files (PR_SET_DUMPABLE). Programs that it starts are not affected.
func Undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing the memory to other processes: %w", err)
	}
	return nil
}

// preferForOOM has the kernel end a process before others when memory is out.
func preferForOOM(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(oomScore)), 0)
}

// runAs becomes a session's user, and then a program. It returns only if it cannot.
func runAs(text string, args []string) (status int, err error) {
	box, err := parseSandbox(text)
	if err != nil || len(args) < 2 || args[0] != "--" {
		return 2, errors.Join(errors.New("this mode is for berthd's own use"), err)
	}
	program, err := exec.LookPath(args[1])
	if err != nil {
		return 127, err
	}
	if err := box.enter(); err != nil {
		return 126, err
	}
	err = syscall.Exec(program, args[1:], os.Environ()) //nolint:gosec // to run what it is told is what it is for
	return 126, &os.PathError{Op: "exec", Path: program, Err: err}
}

// tryAs becomes a session's user, and says which of the directories that are hidden from it it can read all the same.
func tryAs(text string) error {
	box, err := parseSandbox(text)
	if err == nil {
		err = box.enter()
	}
	if err != nil {
		return err
	}
	for _, dir := range box.Hide {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && !box.Private {
			fmt.Println(dir)
		}
	}
	return nil
}

// enter makes this process a session's: with its mounts, its limits, its user, and without any rights. What is a
// thread's is this one's, and the program's that it becomes.
func (b *sandbox) enter() error {
	runtime.LockOSThread()
	parent := os.Getppid()
	_ = preferForOOM(os.Getpid()) // it can do without
	leaveTerminal()
	syscall.Umask(0o022) // so that the user can go through what is made for it
	if b.Private {
		if err := b.mount(); err != nil {
			return fmt.Errorf("giving the session mounts of its own: %w", err)
		}
	}
	for _, standard := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if info, err := standard.Stat(); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
			_ = standard.Chown(b.UID, b.UID) // or it could not be opened again as /dev/stderr
		}
	}
	if err := limit(); err != nil {
		return err
	}
	if err := b.drop(); err != nil {
		return err
	}
	// Another user's process has lost this with the change.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != parent {
		return errors.New("whoever started this has ended")
	}
	return nil
}

// leaveTerminal gives the controlling terminal up: a session could type into it.
func leaveTerminal() {
	if _, err := syscall.Setsid(); err == nil {
		return
	}
	if terminal, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0); err == nil {
		_ = unix.IoctlSetInt(int(terminal.Fd()), unix.TIOCNOTTY, 0)
		_ = terminal.Close()
	}
}

func limit() error {
	for resource, most := range map[int]uint64{
		unix.RLIMIT_NPROC: maxProcesses, unix.RLIMIT_NOFILE: maxOpenFiles, unix.RLIMIT_CORE: 0,
	} {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return err
		}
		most = min(most, now.Max)
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limiting what the session may use: %w", err)
		}
	}
	return nil
}

// drop gives every right up, for good, and becomes the user.
func (b *sandbox) drop() error {
	_, _ = unix.KeyctlJoinSessionKeyring("") // else the agent's keys are inherited; some containers have none
	// What cannot be had again needs no bounding set: without CAP_SETPCAP it stays, and has no effect (no_new_privs).
	for capability := range uintptr(64) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			break
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new rights: %w", err)
	}
	if err := syscall.Setgroups([]int{}); err != nil {
		return fmt.Errorf("leaving all groups: %w", err)
	}
	if err := syscall.Setresgid(b.UID, b.UID, b.UID); err != nil {
		return fmt.Errorf("becoming group %d: %w", b.UID, err)
	}
	if err := syscall.Setresuid(b.UID, b.UID, b.UID); err != nil {
		return fmt.Errorf("becoming user %d: %w", b.UID, err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none, left [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("giving up all rights: %w", err)
	}
	if err := unix.Capget(&header, &left[0]); err != nil {
		return err
	}
	if left != none || syscall.Setuid(0) == nil {
		return errors.New("giving up all rights had no effect")
	}
	return nil
}
