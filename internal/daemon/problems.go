package daemon

import (
	"errors"
	"fmt"
	"os/exec"

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
	d.mu.Lock()
	failed := d.problems["volume"] != ""
	d.mu.Unlock()
	if failed {
		if err := d.store.Probe(); err != nil {
			return false
		}
		d.solved("volume")
	}
	return able
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
	d.problem("volume", "the volume cannot be written: "+err.Error()+"; sessions wait until it can")
}
