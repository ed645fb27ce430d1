//go:build !linux

package workspace

import "syscall"

// processAttributes gives a command a process group of its own. Only Linux can have it die with us.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
