package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/internal/api"
)

// ErrOvertaken is wrapped by the error of a checkpoint that would have replaced another agent's: the session is another
// agent's by now.
var ErrOvertaken = errors.New("another agent has stored a later checkpoint")

// known is what this process knows of the checkpoints of a session that it runs.
type known struct {
	commit string // the checkpoint that the next one may replace; empty if there was none
	next   string // one that is being stored, or whose storing ended in an error: the ref may lead there
	whole  bool   // commit was stored by this process: nothing of it is missing
	state  *state // what commit has, if it was stored by this process

	tips    []string    // until there is a checkpoint: what the mirror was seen to have whole
	objects os.FileInfo // where it has them
	since   time.Time
}

// Resume begins a run of a session in a tree that is there: until the next one begins, only the checkpoint that there is
// now, and those that follow from here, are replaced. Prepare and Restore do the same.
func (m *Mirrors) Resume(ctx context.Context, place Place) error {
	if err := sessionID.check(place.ID); err != nil {
		return err
	}
	r, err := m.mirror(place.Source)
	if err != nil {
		return err
	}
	_, err = r.begin(ctx, place.ID)
	return err
}

// begin looks which checkpoint a session has, for a run that begins.
func (r *mirror) begin(ctx context.Context, id string) (commit string, err error) {
	if commit, err = r.replaced(ctx, id); err != nil {
		return "", err
	}
	if before, found := r.knows(id); !found || before.commit != commit {
		r.know(id, &known{commit: commit})
	}
	return commit, nil
}

// last returns the session's checkpoint, which the next one is to replace. The error wraps ErrOvertaken if this run knows
// of another one. That there is none any more is no error: a damaged one is dropped, and the next one has everything.
func (r *mirror) last(ctx context.Context, id string) (commit string, err error) {
	before, found := r.knows(id)
	if !found {
		return r.begin(ctx, id)
	}
	if commit, err = r.replaced(ctx, id); err != nil {
		return "", err
	}
	return commit, before.check(id, commit)
}

// replaced reads the session's ref where the tree is there: one that is damaged can be replaced.
func (r *mirror) replaced(ctx context.Context, id string) (string, error) {
	commit, err := r.sessionRef(ctx, "refs/berth/"+id)
	if coded := new(api.Error); errors.As(err, &coded) {
		r.log.Warn("replacing a damaged ref", "session", id, "err", err)
		return "", nil
	}
	return commit, err
}

// check says whether a run that knows so much may replace a checkpoint.
func (k *known) check(id, commit string) error {
	if commit == "" || commit == k.commit || commit == k.next {
		return nil
	}
	return fmt.Errorf("%w of the session %s: %s, where this one knows %.40q; this agent's run of it ends here", ErrOvertaken, id, commit, k.commit)
}

// knows returns what is known of a session, which must not be changed.
func (r *mirror) knows(id string) (*known, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.known[r.path+" "+id]
	return found, found != nil
}

// know remembers it; or forgets it, if it is nil.
func (r *mirror) know(id string, what *known) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if what == nil {
		delete(r.known, r.path+" "+id)
	} else {
		r.known[r.path+" "+id] = what
	}
}

// saw remembers that the mirror has all that some objects reach.
func (r *mirror) saw(id string, tips []string) {
	before, found := r.knows(id)
	info, err := os.Stat(filepath.Join(r.path, "objects"))
	if !found || err != nil {
		return
	}
	r.know(id, &known{commit: before.commit, tips: slices.Clone(tips), objects: info, since: time.Now()})
}

// has returns what the mirror is known to have whole of a session whose last checkpoint is so: that one, or else what it
// was prepared from. What the origin has dropped since stays for longer than sweepAfter, unless the mirror is another one.
func (r *mirror) has(id, last string) (oids []string) {
	k, found := r.knows(id)
	switch {
	case !found || k.commit != last:
		return nil
	case last != "" && k.whole:
		return []string{last}
	case last == "" && len(k.tips) > 0 && time.Since(k.since) < sweepAfter:
		if info, err := os.Stat(filepath.Join(r.path, "objects")); err == nil && os.SameFile(info, k.objects) {
			return k.tips
		}
	}
	return nil
}

// sessionRef reads a ref of the mirror; nothing if there is none. Almost always it is a file of its own, and then
// that is one operation on the volume. A file that says nothing is an error: there was a checkpoint.
func (r *mirror) sessionRef(ctx context.Context, name string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	path := filepath.Join(r.path, filepath.FromSlash(name))
	text, err := os.ReadFile(path)
	if err == nil {
		oid := parseOID(string(text))
		if oid == "" {
			return "", lost("the ref of the checkpoint, %s, is damaged: it says %.80q; write the name of its commit there", path, text)
		}
		return oid, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cannot read a checkpoint's ref: %w", err)
	}
	packed, err := os.ReadFile(filepath.Join(r.path, "packed-refs")) // by somebody's `git gc`
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cannot read a checkpoint's ref: %w", err)
	}
	for line := range strings.Lines(string(packed)) {
		if oid, found := strings.CutSuffix(strings.TrimSpace(line), " "+name); found && commitID.MatchString(oid) {
			return oid, nil
		}
	}
	return "", nil
}

// parseOID returns the object's name that a ref's file says; nothing if it says none.
func parseOID(text string) string {
	if oid := strings.TrimSpace(text); commitID.MatchString(oid) {
		return oid
	}
	return ""
}
