package dockertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Refused says what this machine's kernel refuses of that which any Docker daemon needs; "" if containers can be run here. It asks the
// kernel itself, and knows nothing of Docker: a daemon that is missing or broken is no refusal.
func Refused(ctx context.Context) (what string, err error) {
	if os.Geteuid() != 0 {
		return "this is not root, whom alone the kernel lets mount(2)", nil
	}
	directory, err := os.MkdirTemp("", "berth-probe-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(directory)) }()
	output, err := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--ipc", "--uts", "--net", "sh", "-ec", likeAContainer, "sh", directory).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) && ctx.Err() == nil {
		return "the machine refuses a process what a container has: " + strings.TrimSpace(string(output)), nil
	}
	if err != nil {
		return "", err
	}
	return refusedGroups()
}

// likeAContainer gives a process a root directory of its own, with a file system and a device in it, in namespaces of its own.
const likeAContainer = `mount -t tmpfs tmpfs "$1"; mknod "$1/null" c 1 3; echo >"$1/null"; mkdir "$1/root"; mount --bind / "$1/root"; chroot "$1/root" true`

// refusedGroups makes and removes a control group of each kind that limits a container.
func refusedGroups() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	wanted := []string{"memory", "cpu", "devices", "pids"}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(kind) < 3 || kind[0] != "cgroup" && (kind[0] != "cgroup2" || place[4] != "/sys/fs/cgroup") {
			continue
		}
		group := filepath.Join(place[4], "berth-probe-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(group, 0o750); err != nil {
			return fmt.Sprintf("the machine refuses a control group: %v", err), nil
		}
		if err := os.Remove(group); err != nil {
			return "", err
		}
		if kind[0] == "cgroup2" {
			return refusedControllers(place[4]), nil
		}
		wanted = slices.DeleteFunc(wanted, func(each string) bool { return slices.Contains(strings.Split(kind[2], ","), each) })
	}
	if len(wanted) > 0 {
		return "the machine has no control groups for " + strings.Join(wanted, ", "), nil
	}
	return "", nil
}

// refusedControllers has the groups below a root of the second version be limited, as a daemon does.
func refusedControllers(root string) string {
	for _, each := range []string{"memory", "cpu", "pids"} {
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+each), 0o600); err != nil {
			return fmt.Sprintf("the machine refuses control groups for %s: %v", each, err)
		}
	}
	return ""
}
