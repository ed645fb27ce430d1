//go:build !linux

package claude

import "syscall"

func becomeSubreaper() error { return nil }

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killLeftBehind kills what is still in the program's process group. There is no way to find what left it.
func killLeftBehind(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// sweep finds nothing: no system but Linux shows the environment of a process.
func sweep(string, int) int { return 0 }
