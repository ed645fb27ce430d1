package workspace

import "syscall"

// processAttributes gives a command a process group of its own, and a death with ours.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
