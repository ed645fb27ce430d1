package session

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// machine identifies this start of the machine, and the space of process ids.
func machine() (boot, space string) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", ""
	}
	space, err = os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", ""
	}
	return strings.TrimSpace(string(text)), space
}

// started is when a process was started, in the machine's own reckoning; "" if there is none (proc(5), /proc/pid/stat). One
// that has ended but was not waited for does not live any more.
func started(pid int) string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The program's name, in parentheses, may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const state, start = 0, 19 // fields 3 and 22
	if len(fields) <= start || fields[state][0] == 'Z' || fields[state][0] == 'X' {
		return ""
	}
	return string(fields[start])
}
