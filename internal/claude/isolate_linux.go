package claude

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// needed are the rights that it takes to have users for sessions, by the names that containers are given them with.
var needed = map[string]int{
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "FOWNER": unix.CAP_FOWNER,
	"KILL": unix.CAP_KILL, "SETUID": unix.CAP_SETUID, "SETGID": unix.CAP_SETGID,
}

// everybodys are the directories that everybody can write on the usual systems.
var everybodys = []string{"/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var/lock", "/run/shm", "/dev/mqueue", "/var/crash"}

// find finds out how sessions can be isolated. Its error says why they cannot.
func (i *Isolation) find(ctx context.Context) error {
	if err := rights(); err != nil {
		return err
	}
	if err := i.prepare(); err != nil {
		return err
	}
	uids, err := usableRange()
	if err != nil {
		return err
	}
	i.uids, i.private = uids, true
	if err := i.try(ctx); err != nil {
		i.private = false
		if err := i.try(ctx); err != nil {
			return err
		}
	}
	if closed := closedTo(filepath.Join(i.places.Work, "x")); closed != "" && !i.private {
		return fmt.Errorf("no other user can enter %s: choose another work dir, or open that directory (chmod o+x)", closed)
	}
	return nil
}

// rights reports an error if this process lacks one that is needed.
func rights() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	var lacking []string
	for name, bit := range needed {
		if have[0].Effective&(1<<bit) == 0 {
			lacking = append(lacking, name)
		}
	}
	slices.Sort(lacking)
	if len(lacking) > 0 {
		return fmt.Errorf("the agent lacks the capabilities %s", strings.Join(lacking, ", "))
	}
	return nil
}

// prepare makes the directories ready, and finds out which ones matter.
func (i *Isolation) prepare() (err error) {
	if err := os.MkdirAll(i.places.Work, 0o711); err != nil { //nolint:gosec // users have to go through it
		return err
	}
	if i.places.Work, err = filepath.EvalSymlinks(i.places.Work); err != nil {
		return err
	}
	if err := os.Chmod(i.places.Work, 0o711); err != nil { //nolint:gosec // likewise
		return err
	}
	box := &i.sandbox
	for _, dir := range i.places.Hidden {
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return err
		}
		mode := os.FileMode(0o700)
		if within(i.places.Work, dir) {
			mode = 0o711
		}
		if err := os.Chmod(dir, mode); err != nil {
			return err
		}
		box.Hide = append(box.Hide, dir)
	}
	box.Hide = append(box.Hide, i.places.Work)
	for _, path := range []string{filepath.Join(i.places.Work, "x"), i.places.CLI} {
		if closed := closedTo(path); closed != "" && closed != "/" && !slices.Contains(box.Hide, closed) {
			box.Hide = append(box.Hide, closed)
		}
	}
	for _, dir := range everybodys {
		info, err := os.Lstat(dir)
		if err == nil && info.IsDir() && info.Mode().Perm()&0o002 != 0 {
			box.Shared = append(box.Shared, dir)
		}
	}
	i.shared = box.Shared
	box.Keep = i.program()
	return nil
}

// program lists what has to be seen to run the CLI: its directory, which may have parts of it, unless that has something
// hidden in it.
func (i *Isolation) program() (list []string) {
	names := []string{i.places.CLI}
	if real, err := filepath.EvalSymlinks(i.places.CLI); err == nil && real != i.places.CLI {
		names = append(names, real)
	}
	for _, name := range names {
		dir := filepath.Dir(name)
		covered := func(each string) bool { return within(each, dir) }
		if slices.ContainsFunc(i.sandbox.Hide, covered) || slices.ContainsFunc(i.sandbox.Shared, covered) {
			dir = name
		}
		if _, err := os.Stat(dir); err == nil {
			list = append(list, dir)
		}
	}
	return list
}

// tryTime bounds a try. It takes some 10 ms.
const tryTime = 20 * time.Second

// try does with a program what would be done with sessions.
func (i *Isolation) try(ctx context.Context) error {
	user, _, remove, err := i.scratch()
	if err != nil {
		return err
	}
	defer remove()
	limited, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	command := exec.CommandContext(limited, ownProgram(), modeTry, user.box.String())
	var said bytes.Buffer
	command.Env, command.Stderr, command.WaitDelay = []string{}, &said, time.Second
	output, err := command.Output()
	if err != nil {
		if text := strings.TrimPrefix(strings.TrimSpace(said.String()), "berthd: "); text != "" {
			err = errors.New(text)
		}
		return err
	}
	i.open = slices.Collect(strings.SplitSeq(strings.TrimSuffix(string(output), "\n"), "\n"))
	if len(output) == 0 {
		i.open = nil
	}
	return nil
}
