package daemon

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"berth/internal/contract"
	"berth/internal/session"
	"berth/internal/workspace"
)

// able looks at what every session needs, and holds the queue while it is not there: a session must not
// pay for what is wrong with the machine, the key or the agent's limits.
func (d *Daemon) able() bool {
	_, err := exec.LookPath(d.config.CLI)
	able := d.hold("claude", err, "the Claude Code CLI cannot be run: %v; sessions wait until it is there")
	able = d.hold("isolation", d.isolationProblem(), "%v; sessions wait: as root they could read every key") && able
	able = d.hold("git", workspace.Able(), "git cannot be run: %v; sessions wait until it can") && able
	able = d.hold("key", d.keyProblem(), "%v; sessions wait until there is a key that is taken") && able
	able = d.hold("spend", d.spendProblem(), "%v; sessions wait") && able
	d.forgetEnded()
	return d.goesAgain(volumePart, d.store.Probe) && d.goesAgain(workPart, func() error { return writable(d.config.Work) }) && able
}

// Parts whose failures are found out where they are used.
const (
	volumePart  = "volume"
	workPart    = "work"
	unsavedPart = "work of " // and a session's id
)

// forgetEnded forgets that the files of sessions could not be saved which have ended, as when somebody stopped them.
func (d *Daemon) forgetEnded() {
	d.mu.Lock()
	parts := slices.Collect(maps.Keys(d.problems))
	d.mu.Unlock()
	for _, part := range parts {
		id, is := strings.CutPrefix(part, unsavedPart)
		if !is {
			continue
		}
		if s := d.store.Get(id); s == nil || s.State().Ended() {
			d.solved(part)
		}
	}
}

// goesAgain reports whether a part can be used; one that could not is tried.
func (d *Daemon) goesAgain(part string, try func() error) bool {
	d.mu.Lock()
	failed := d.problems[part] != ""
	d.mu.Unlock()
	if !failed {
		return true // what fails at this moment stays noted
	}
	if try() != nil {
		return false
	}
	d.solved(part)
	return true
}

// isolationProblem says why sessions would run as root; nil if they do not.
func (d *Daemon) isolationProblem() error {
	if problem := d.config.Isolation.Problem(); problem != "" {
		return errors.New(problem)
	}
	return nil
}

// hold notes what a part's state is, and reports whether sessions can run with it.
func (d *Daemon) hold(part string, err error, text string) bool {
	if err != nil {
		d.problem(part, fmt.Sprintf(text, err))
		return false
	}
	d.solved(part)
	return true
}

func (d *Daemon) problem(part, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.problems[part] != text {
		d.config.Logger.Error(text)
	}
	d.problems[part] = text
}

func (d *Daemon) solved(part string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.problems[part] != "" {
		d.config.Logger.Info("no longer: " + d.problems[part])
		delete(d.problems, part)
	}
}

// volumeFailed notes that the volume cannot be written. That another daemon has a session is no fault of the volume.
func (d *Daemon) volumeFailed(err error) {
	var leased *session.LeasedError
	if errors.As(err, &leased) || errors.Is(err, session.ErrLost) {
		return
	}
	d.config.Logger.Warn("something was not written to the volume", contract.LogFieldError, err) // the problem may be known, and tells no file
	d.problem(volumePart, "the volume cannot be written: "+d.explain(err)+"; sessions wait until it can")
}

// workFailed notes that the disk that sessions work on cannot be written.
func (d *Daemon) workFailed(err error) {
	d.problem(workPart, "the work disk cannot be written: "+d.explain(err)+"; sessions wait until it can")
}

// explain is an error of the file system for people: of a full disk it says which one is.
func (d *Daemon) explain(err error) string {
	if !workspace.Full(err) {
		return err.Error()
	}
	disk, room := "the volume "+d.config.Data, volumeRoom(d.config.Data)
	if work := volumeRoom(d.config.Work); work.Free < room.Free {
		disk, room = "the work disk "+d.config.Work, work
	}
	return fmt.Sprintf("no space left on device: %s has %d MB free; make room", disk, room.Free/1_000_000)
}
