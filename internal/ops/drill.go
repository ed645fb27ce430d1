package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"berth/internal/cloud"
	"berth/internal/contract"
)

// drill is a backup restored to a file system of its own, and a task that looks at it. What it makes it can take away again.
type drill struct {
	client *cloud.Client
	stack  *cloud.Stack
	stdio  Stdio
	every  time.Duration

	fileSystem string
	targets    []string // mount targets
	definition string   // task definition
	task       string
}

// verified is what berthd found in the restored volume.
type verified struct {
	Volume   string         `json:"verified"`
	Sessions int            `json:"sessions"`
	Events   int            `json:"events"`
	States   map[string]int `json:"states"`
	Newest   time.Time      `json:"newest"`
	Broken   []string       `json:"broken"`
	Mirrors  int            `json:"mirrors"`
}

// restore restores a recovery point to a new file system.
func (d *drill) restore(ctx context.Context, point *cloud.RecoveryPoint, token string) error {
	id, err := d.client.StartRestore(ctx, d.stack, point, token)
	if err != nil && (ctx.Err() != nil || errors.Is(err, cloud.ErrNetwork)) { // the answer may have been lost, and not the request
		return also(err, "if it began all the same, `aws backup list-restore-jobs"+d.client.RegionFlag()+"` shows it; it makes a file system that is paid for until `aws efs delete-file-system` deletes it")
	}
	if err != nil {
		return err
	}
	onward := fmt.Sprintf("restore job %s goes on in AWS and makes a file system that is paid for: `aws backup describe-restore-job --restore-job-id %s%s` names it, `aws efs delete-file-system` deletes it", id, id, d.client.RegionFlag())
	job, err := waitForJob(ctx, d.stdio, d.client, "restore", onward, func(ctx context.Context) (*cloud.Job, error) {
		job, err := d.client.RestoreJob(ctx, id)
		if err == nil && job.Made != "" {
			d.fileSystem = path.Base(job.Made)
		}
		return job, err
	})
	if err == nil && d.fileSystem == "" {
		err = fmt.Errorf("restore job %s is done, and names no file system", job.ID)
	}
	return err
}

// check mounts the restored file system in a one-off task, in which berthd reads its sessions. With place it also moves the volume
// to where the agent looks.
func (d *drill) check(ctx context.Context, place bool) (*verified, error) {
	if err := d.mount(ctx); err != nil {
		return nil, err
	}
	command := []string{"verify", contract.VolumePath, d.stack.Names.Stack()}
	if place {
		command = append(command, "--place")
	}
	var err error
	if d.definition, err = d.client.OneOff(ctx, d.stack, d.fileSystem, command); err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		id, ended, err := d.runTask(ctx)
		if err != nil {
			return nil, err
		}
		if tries == mountTries || !unresolved(&ended) {
			return d.report(ctx, id, &ended)
		}
		tell(d.stdio.Err, "the name of file system %s is not known yet, and another task is started", d.fileSystem)
		if err := pause(ctx, d.every); err != nil {
			return nil, err
		}
	}
}

// mountTries is how many tasks are to mount the restored file system. A mount target's name takes up to 90 s to be known, and a task most of that to start.
const mountTries = 5

// unresolved reports whether a task did not start because the file system's name is not known yet.
func unresolved(task *cloud.Task) bool {
	return task.StopCode == "TaskFailedToStart" && strings.Contains(strings.ToLower(task.Why()), "failed to resolve")
}

// runTask runs the task that looks, to its end.
func (d *drill) runTask(ctx context.Context) (id string, ended cloud.Task, err error) {
	if d.task, err = d.client.RunOneOff(ctx, d.stack, d.definition); err != nil {
		return "", ended, err
	}
	id = path.Base(d.task)
	tell(d.stdio.Err, "task %s reads the restored volume", id)
	missed := 0 // ECS may not know it yet
	err = untilTold(ctx, d.every, "the task is stopped", func(ctx context.Context) (bool, error) {
		task, ok, err := d.client.TaskByARN(ctx, d.stack, d.task)
		if err == nil && !ok {
			if missed++; missed < outage {
				return false, nil
			}
			err = errors.New("ECS has forgotten the task that was to look")
		}
		ended = task
		return err == nil && task.Status == "STOPPED", err
	})
	if err == nil {
		d.task = ""
	}
	return id, ended, err
}

// report reads what the task wrote.
func (d *drill) report(ctx context.Context, id string, ended *cloud.Task) (*verified, error) {
	lines, err := d.client.TaskLog(ctx, d.stack, id)
	var found *verified
	for _, line := range lines {
		var each verified
		if json.Unmarshal([]byte(line), &each) == nil && each.Volume != "" {
			found = &each
		}
	}
	if ended.ExitCode != nil && *ended.ExitCode == 0 && found != nil {
		return found, nil
	}
	why := ended.Why()
	if len(lines) > 0 {
		why += "; its last line: " + oneLine(lines[len(lines)-1], 300)
	} else if err != nil {
		why += "; its log cannot be read: " + err.Error()
	}
	return found, errors.New("the restored volume did not pass: " + why)
}

// mount gives the restored file system mount targets like the live one's, where tasks may run.
func (d *drill) mount(ctx context.Context) error {
	live, err := d.client.MountTargets(ctx, d.stack.Outputs[contract.OutputFileSystemID])
	if err != nil {
		return err
	}
	for _, target := range live {
		if !slices.Contains(d.stack.Subnets(), target.Subnet) {
			continue
		}
		id, err := d.client.Mount(ctx, d.fileSystem, target.Subnet, target.Groups)
		if err != nil {
			return err
		}
		d.targets = append(d.targets, id)
	}
	if len(d.targets) == 0 {
		return fmt.Errorf("file system %s has no mount target in the stack's subnets, so there is none to make the restored one's like", d.stack.Outputs[contract.OutputFileSystemID])
	}
	return untilTold(ctx, d.every, "the mount targets are removed again", func(ctx context.Context) (bool, error) {
		targets, err := d.client.MountTargets(ctx, d.fileSystem)
		ready := len(targets) >= len(d.targets)
		for _, each := range targets {
			ready = ready && each.State == "available"
		}
		return ready, err
	})
}

// cleanTime bounds the cleaning up, which goes on after Ctrl-C.
const cleanTime = 10 * time.Minute

// clean takes away what the drill made; with keep the file system stays. What cannot be taken away is named.
func (d *drill) clean(ctx context.Context, keep bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	var failed []error
	var left []string
	try := func(what string, err error) bool {
		if err != nil {
			failed, left = append(failed, err), append(left, what)
		}
		return err == nil
	}
	if d.task != "" {
		if try("task "+d.task, d.client.StopTask(ctx, d.stack, d.task, "berth: the drill was interrupted")) {
			d.task = ""
		}
	}
	if d.definition != "" && try("task definition "+path.Base(d.definition), d.client.DropTaskDefinition(ctx, d.definition)) {
		d.definition = ""
	}
	unmounted := true
	if len(d.targets) > 0 {
		err := d.unmount(ctx)
		unmounted = try("mount targets "+strings.Join(d.targets, ", "), err)
	}
	if d.fileSystem != "" && !keep {
		if !unmounted {
			left = append(left, "file system "+d.fileSystem)
		} else if try("file system "+d.fileSystem, d.deleteFileSystem(ctx)) {
			d.fileSystem = ""
		}
	}
	if len(failed) == 0 {
		return nil
	}
	if keep {
		left = append(left, "file system "+d.fileSystem+", restored")
	}
	return fmt.Errorf("%w; still there: %s", failed[0], strings.Join(left, "; "))
}

// deleteFileSystem deletes the file system, some moments after its last mount target if need be.
func (d *drill) deleteFileSystem(ctx context.Context) error {
	for looks := 1; ; looks++ {
		inUse, err := d.client.DeleteFileSystem(ctx, d.fileSystem)
		if !inUse || looks == inUseLooks {
			return err
		}
		if err := pause(ctx, d.every); err != nil {
			return err
		}
	}
}

// inUseLooks is how often a file system is to be deleted that EFS says is in use.
const inUseLooks = 20

// unmount removes the drill's mount targets, and waits until they have gone: before that the file system cannot go either.
func (d *drill) unmount(ctx context.Context) error {
	for _, target := range d.targets {
		if err := d.client.Unmount(ctx, target); err != nil {
			return err
		}
	}
	err := until(ctx, d.every, func(ctx context.Context) (bool, error) {
		targets, err := d.client.MountTargets(ctx, d.fileSystem)
		return len(targets) == 0, err
	})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("they have not gone after %v", cleanTime)
	case err == nil:
		d.targets = nil
	}
	return err
}
