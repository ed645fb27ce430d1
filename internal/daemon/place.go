package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/contract"
	"berth/internal/session"
	"berth/internal/workspace"
)

const (
	// checkpointTime bounds the checkpoint of a session that has ended. It has to fit, with all else, into the time
	// between SIGTERM and SIGKILL of a task.
	checkpointTime = 45 * time.Second
	// deliveryTime bounds a delivery.
	deliveryTime = 2 * time.Minute

	diskFile = ".disk"
)

// diskID returns the id of the work disk: what is on another one is not there.
func diskID(work string) (string, error) {
	file := filepath.Join(work, diskFile)
	text, err := os.ReadFile(file)
	if id := strings.TrimSpace(string(text)); id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(work, 0o711); err != nil { //nolint:gosec // sessions' users have to get to their own directories below it
		return "", err
	}
	id := uuid.NewString()
	return id, renameio.WriteFile(file, []byte(id+"\n"), 0o600, renameio.WithTempDir(work))
}

const temporaryPrefix = ".agent-"

// temporary makes a directory on the work disk that no session can enter, and removes those that killed daemons have left. It
// is this daemon's as long as the lock is open.
func temporary(work string) (dir string, lock *os.File, err error) {
	left, err := fs.Glob(os.DirFS(work), temporaryPrefix+"*") // the directory may be called as a pattern is
	if err != nil {
		return "", nil, err
	}
	for _, name := range left {
		old := filepath.Join(work, name)
		held, err := os.Open(old)
		if err == nil && unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(old) // it is tried again at the next start
		}
		_ = held.Close() // it was only locked
	}
	if dir, err = os.MkdirTemp(work, temporaryPrefix); err != nil {
		return "", nil, err
	}
	if lock, err = os.Open(dir); err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	return dir, lock, err
}

func (d *Daemon) dirs(id string) claude.Dirs {
	return claude.DirsBelow(filepath.Join(d.config.Work, id))
}

// place is where a session works. Only its owner may make anything there.
func (d *Daemon) place(record *session.Record, user *claude.User) workspace.Place {
	dirs := d.dirs(record.ID)
	place := workspace.Place{
		ID: record.ID, Source: workspace.Source{Repo: record.Repo, Ref: record.Ref}, Branch: record.Branch,
		Tree: dirs.Tree, Scratch: filepath.Join(dirs.Root, "scratch"), Run: user.Command(),
	}
	if place.Branch == "" {
		place.Branch = branchOf(record)
	}
	if user != nil {
		place.Own = func(path string) error { return user.Own(path) }
	}
	return place
}

// branchOf is the branch that a session works on.
func branchOf(record *session.Record) string {
	if record.Repo == "" {
		return "main"
	}
	return branchName(record)
}

// prepare makes the session's work dir, or makes it anew from its last checkpoint if it is not on this disk. Nothing of
// the session may run.
func (r *run) prepare(ctx context.Context) error {
	record := r.session.Record()
	r.place = r.daemon.place(&record, r.user)
	if record.Prepared && record.Disk == r.daemon.disk {
		if _, err := os.Lstat(r.dirs.Tree); err == nil {
			return r.daemon.mirrors.Resume(ctx, r.place)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// An attempt that was cut off may have left something, or an earlier time on this disk.
	err := errors.Join(os.RemoveAll(r.dirs.Tree), os.RemoveAll(r.dirs.Home), os.RemoveAll(r.dirs.Config),
		os.RemoveAll(r.dirs.Temp), os.RemoveAll(r.place.Scratch))
	if err == nil {
		err = errors.Join(r.dirs.Make(), r.user.Own(r.dirs.Home, r.dirs.Config, r.dirs.Temp))
	}
	if err != nil {
		return err
	}
	event := api.Event{Type: api.EventPrepared, WorkDir: r.dirs.Tree, Disk: r.daemon.disk}
	if record.Prepared {
		event.Type = api.EventRestore
		err = r.restore(ctx, &record, &event)
	} else {
		event.Branch = r.place.Branch
		event.Base, err = r.daemon.mirrors.Prepare(ctx, r.place)
	}
	if err != nil {
		if full := writable(r.dirs.Root); full != nil {
			return fmt.Errorf("the work disk cannot be written: %w", full) // which is no fault of the session's
		}
		return err
	}
	return r.session.Append(event)
}

// restore makes the work dir from the last checkpoint, or from what the session started from if there never was one.
func (r *run) restore(ctx context.Context, record *session.Record, event *api.Event) (err error) {
	if event.Checkpoint, err = r.daemon.mirrors.Restore(ctx, r.place); err != nil || event.Checkpoint != nil {
		return err
	}
	if record.Checkpoint != "" {
		return api.Errorf(api.CodeWorkspaceLost, "the session's files are lost: its checkpoint %s is not on the volume any more; bring %s back from a backup, or start another session",
			record.Checkpoint, r.daemon.mirrors.Dir())
	}
	again := r.place
	if record.Base != "" {
		again.Source.Ref = record.Base // the branch may have gone on
	}
	_, err = r.daemon.mirrors.Prepare(ctx, again)
	return err
}

// writable returns what is wrong with writing to a directory.
func writable(dir string) error {
	file, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, 64<<10))
	return errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name()))
}

// checkpointing saves the work dir now and then. One checkpoint is made at a time; a wish for one that comes meanwhile is
// granted after it.
type checkpointing struct {
	cancel context.CancelFunc
	wish   chan struct{}
	ended  chan struct{}
	fault  any // what it met with, if it ended by itself; known when ended is closed
}

// keepCheckpoints begins to make checkpoints, until end.
func (r *run) keepCheckpoints() *checkpointing {
	ctx, cancel := context.WithCancel(context.Background())
	c := &checkpointing{cancel: cancel, wish: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		defer func() {
			// Beyond the reach of guarded, it would take all sessions with it.
			if c.fault = recover(); c.fault != nil {
				r.log.Error("a checkpoint has met with a fault of the agent's own", contract.LogFieldError, fmt.Sprint(c.fault), "stack", string(debug.Stack()))
				r.end(faulty)
			}
		}()
		ticker := time.NewTicker(r.daemon.config.CheckpointEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case _, more := <-c.wish:
				if !more {
					return
				}
			}
			r.checkpoint(ctx)
		}
	}()
	return c
}

// now has a checkpoint made soon.
func (c *checkpointing) now() {
	select {
	case c.wish <- struct{}{}:
	default:
	}
}

// end ends it, when the checkpoint that is being made has been made, or given up in a hurry. A fault that one met with goes on here.
func (c *checkpointing) end(hurry bool) {
	c.stop(hurry)
	if c.fault != nil {
		panic(c.fault)
	}
}

// stop is end, for whoever has a fault already.
func (c *checkpointing) stop(hurry bool) {
	if hurry {
		c.cancel()
	}
	close(c.wish)
	<-c.ended
	c.cancel()
}

// checkpoint saves the work dir. A failure costs no session: the next one may succeed.
//
// One that finds nothing changed is written down too if a tool has ended since the last one: whoever restores it need not
// fear that something is missing.
func (r *run) checkpoint(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTime)
	defer cancel()
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	changed := r.changed
	r.changed = false
	r.mu.Unlock()
	err := r.session.Verify() // another agent's checkpoint must not be replaced
	if err == nil {
		var made *api.Checkpoint
		made, err = r.daemon.mirrors.Checkpoint(ctx, r.place)
		if made == nil && changed {
			made = r.saved
		}
		if err == nil && made != nil {
			r.saved = made
			err = r.session.Append(api.Event{Type: api.EventCheckpoint, Checkpoint: made})
		}
	}
	if err != nil && changed {
		r.mu.Lock()
		r.changed = true
		r.mu.Unlock()
	}
	if errors.Is(err, session.ErrLost) {
		return // which the run is told
	}
	if errors.Is(err, workspace.ErrOvertaken) {
		r.log.Warn("no checkpoint was made", contract.LogFieldError, err)
		r.end(fenced)
		return
	}
	text := ""
	if r.noRoom = nil; workspace.Full(err) {
		r.noRoom = err
	} else {
		r.daemon.solved(unsavedPart + r.session.ID())
	}
	if err != nil {
		text = err.Error()
		r.log.Warn("no checkpoint was made", contract.LogFieldError, err)
	}
	if text != "" && text != r.unsaved {
		r.notice("its files could not be saved on the volume: " + oneLine(text))
	}
	r.unsaved = text
}

// deliver brings the work of a session that has ended to its origin. It reports false if the agent went down meanwhile.
func (r *run) deliver() bool {
	record := r.session.Record()
	if record.Repo == "" || r.session.Verify() != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), deliveryTime)
	defer cancel()
	go func() {
		select {
		case <-r.daemon.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	r.log.Info("the work is being delivered")
	delivery := r.daemon.mirrors.Deliver(ctx, r.place, workspace.Request{Title: title(record.Prompt), Body: body(&record), Base: record.Base})
	select {
	case <-r.daemon.gone:
		return delivery.Problem == ""
	default:
	}
	if delivery == (api.Delivery{}) {
		return true
	}
	r.log.Info("the work is delivered", "branch", delivery.Branch, "commit", delivery.Commit, "problem", delivery.Problem)
	if err := r.session.Append(api.Event{Type: api.EventDelivery, Delivery: &delivery}); err != nil {
		r.log.Warn("a delivery is not in the session's events", contract.LogFieldError, err)
	}
	return true
}

// title is the first line of a prompt, fit for a commit.
func title(prompt string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(prompt), "\n")
	const most = 72
	if runes := []rune(strings.TrimSpace(first)); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return strings.TrimSpace(first)
}

// body is the text of a pull request: what was asked for, and what Claude Code said in the end.
func body(record *session.Record) string {
	const most = 8000
	var text strings.Builder
	for line := range strings.Lines(cut(record.Prompt, most)) {
		text.WriteString("> " + strings.TrimRight(line, "\n") + "\n")
	}
	text.WriteString("\n" + cut(record.Result, most) + "\n\nMade by Claude Code in berth session " + record.ID + ".\n")
	return text.String()
}

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
