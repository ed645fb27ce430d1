//go:build linux

package harness

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Memory is what a process takes, in MB (proc(5)): all of its pages, the most that these ever were, and with each
// shared page counted in proportion.
type Memory struct{ RSS, Peak, PSS float64 }

// Memory is what the agent takes now.
func (a *Agent) Memory() (m Memory, err error) {
	for _, each := range []struct {
		file, name string
		to         *float64
	}{{"status", "VmRSS:", &m.RSS}, {"status", "VmHWM:", &m.Peak}, {"smaps_rollup", "Pss:", &m.PSS}} {
		if *each.to, err = a.field(each.file, each.name); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m Memory) String() string {
	return fmt.Sprintf("%.1f MB resident, %.1f MB with shared pages in proportion, %.1f MB at most", m.RSS, m.PSS, m.Peak)
}

// field reads a figure in kB of a file in /proc, as MB.
func (a *Agent) field(file, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", a.PID(), file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			number, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return number / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", a.PID(), file, name)
}

// CPU is how much processor time the agent has taken, without its children (proc(5), stat: utime and stime, in ticks,
// of which Linux has a hundred a second for every program).
func (a *Agent) CPU() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.PID()))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const user, system, tick = 11, 12, 10 * time.Millisecond
	if len(fields) <= system {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", a.PID(), len(fields))
	}
	var sum int64
	for _, field := range fields[user : system+1] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += ticks
	}
	return time.Duration(sum) * tick, nil
}
