package claude

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// reapGrace is how long the CLI has between SIGTERM and SIGKILL when its daemon has gone. It writes its transcript
// and exits within 0.2 s.
const reapGrace = time.Second

const (
	controlFD = 3 // a pipe that nothing is ever written to: it ends when the daemon wants an end, or has gone
	lockFD    = 4 // the claim, held by this process too
)

// What cannot be caught up with process by process, in so many looks, is killed with all else that its user runs; then
// once in so many looks, in case there was no memory to do it. The agent's own work on the session's files would be hit too.
const (
	killAllAfter = 100
	killAllEvery = 200
)

// Reap runs a program below itself and returns its exit status, 128 + n if signal n ended it. It is the
// main function of a process of its own. SIGINT and SIGTERM are passed on to the program. When the
// program has ended, or file descriptor 3 has, whatever it started is killed, in whatever process group or
// session it is: on Linux as a "child subreaper" (prctl(2)), which orphans come back to; elsewhere only what
// is still in the program's process group. With User.arguments before the program, it is run as that user, and everything
// of the user's is killed in the end.
func Reap(program string, args []string) int {
	runtime.LockOSThread() // the program is told to die with the thread that started it
	syscall.CloseOnExec(controlFD)
	syscall.CloseOnExec(lockFD)
	if err := becomeSubreaper(); err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", err)
		return 1
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	path, user, err := toRun(program, args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", err)
		return 127
	}
	argv := append([]string{program}, args...)
	if user != 0 {
		argv = append([]string{path}, argv...)
	}
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{ //nolint:gosec // to run what it is told is what it is for
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: childAttributes(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", &os.PathError{Op: "exec", Path: path, Err: err})
		return 126
	}
	if user == 0 {
		_ = preferForOOM(pid) // it can do without
	}
	// The program's alone: what it leaves behind could otherwise hold them open after it.
	for _, standard := range []*os.File{os.Stdin, os.Stdout} {
		_ = standard.Close()
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = os.NewFile(controlFD, "control").Read(make([]byte, 1))
	}()
	ended := make(chan syscall.WaitStatus, 1)
	all := make(chan struct{})
	go waitForAll(pid, ended, all)
	status := attend(pid, signals, gone, ended)
	finish(pid, user, all)
	if status.Signaled() { //nolint:misspell // syscall spells it so
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// toRun returns the path of what is to be run, and the user that it will be; 0 for this process's own.
func toRun(program string, args []string) (path string, user int, err error) {
	if program != modeAs {
		path, err = exec.LookPath(program)
		return path, 0, err
	}
	if len(args) == 0 {
		return "", 0, errors.New("there is no user")
	}
	box, err := parseSandbox(args[0])
	if err != nil {
		return "", 0, err
	}
	// This process may do what the user may not, so it is closed even to others of its own user.
	return ownProgram(), box.UID, Undumpable()
}

// attend passes signals on to the program until it has ended.
func attend(pid int, signals <-chan os.Signal, gone <-chan struct{}, ended <-chan syscall.WaitStatus) syscall.WaitStatus {
	var kill <-chan time.Time
	for {
		select {
		case status := <-ended:
			return status
		case received := <-signals:
			if number, ok := received.(syscall.Signal); ok {
				_ = syscall.Kill(pid, number)
			}
		case <-gone:
			gone = nil
			_ = syscall.Kill(pid, syscall.SIGTERM)
			kill = time.After(reapGrace)
		case <-kill:
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// waitForAll reaps children, adopted ones too, until there are none.
func waitForAll(pid int, ended chan<- syscall.WaitStatus, all chan<- struct{}) {
	defer close(all)
	for {
		var status syscall.WaitStatus
		child, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return
		case child == pid && (status.Exited() || status.Signaled()): //nolint:misspell // syscall spells it so
			ended <- status
		}
	}
}

// finish kills what the program left behind, until nothing is.
func finish(pid, user int, all <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		switch {
		case user == 0 || n < killAllAfter:
			killLeftBehind(pid)
		case (n-killAllAfter)%killAllEvery == 0:
			_ = killAll(user).Start() // waitForAll waits for it, and there is a next time
		}
		select {
		case <-all:
			return
		case <-tick.C:
		}
	}
}
