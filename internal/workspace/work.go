package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"berth/internal/api"
)

// work is a session's work as one commit, ready to be handed out.
type work struct {
	commit string
	base   string // where the session started
	none   bool   // it changed nothing
	nested []nested
}

// state is what a checkpoint has that becomes a session's work.
type state struct {
	about about
	tree  string // its files as git would commit them
	date  string // of the checkpoint
	base  string // the tree of about.Base, if that is known
}

// stateOf reads it, unless it is known.
func (r *mirror) stateOf(ctx context.Context, id, checkpoint string) (*state, error) {
	if k, found := r.knows(id); found && k.commit == checkpoint && k.state != nil {
		return k.state, nil
	}
	reader := r.bare(checkpoint)
	reader.stdin, reader.most = checkpoint+"\n"+checkpoint+":about.json\n"+checkpoint+":tree\n", 2*maxAbout
	text, err := reader.run(ctx, "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	parts := parseBatch(text)
	if len(parts) != 3 {
		return nil, fmt.Errorf("the checkpoint %s is damaged: parts of it are not there", checkpoint)
	}
	known, err := parseAbout(checkpoint, parts[1].text)
	if err != nil {
		return nil, err
	}
	return &state{about: *known, tree: parts[2].oid, date: dateOf(parts[0].text)}, nil
}

// workOf makes the commit that has a session's work: the one that its HEAD is at, or one more on top with what it has
// not committed. The same checkpoint and title make the same commit.
func (r *mirror) workOf(ctx context.Context, id, checkpoint, base, title string) (*work, error) {
	has, err := r.stateOf(ctx, id, checkpoint)
	if err != nil {
		return nil, err
	}
	w := &work{base: has.about.Base, nested: has.about.Nested}
	if commitID.MatchString(base) {
		w.base = base
	}
	var parents []string
	switch {
	case has.about.Commit != "":
		parents = []string{has.about.Commit}
	case w.base != "":
		parents = []string{w.base}
	case has.tree == emptyTree(formatOf(has.tree)):
		w.none = true
		return w, nil
	}
	for _, parent := range parents {
		committed := has.base
		if committed == "" || parent != has.about.Base {
			if committed, err = r.bare(parent).line(ctx, "rev-parse", "--verify", "--end-of-options", parent+"^{tree}"); err != nil {
				return nil, err
			}
		}
		if committed == has.tree {
			w.commit, w.none = parent, parent == w.base
			return w, nil
		}
	}
	message := strings.TrimSpace(strings.ReplaceAll(title, "\x00", ""))
	w.commit, err = r.writeCommit(commitText(has.tree, parents, "Claude <noreply@anthropic.com>", has.date, message), formatOf(has.tree))
	return w, err
}

// dateOf returns the date of a commit's text, as git writes it there.
func dateOf(text string) string {
	header, _, _ := strings.Cut(text, "\n\n")
	for line := range strings.Lines(header) {
		if words := strings.Fields(line); len(words) > 3 && words[0] == "committer" {
			return strings.Join(words[len(words)-2:], " ")
		}
	}
	return "0 +0000"
}

func defaultTitle(id string) string { return "Work of session " + id[:min(len(id), 8)] }

// Bundle writes a git bundle with the session's last checkpoint as refs/heads/<branch>, as Deliver pushes it: with
// all of its history if full, else with what base lacks. Errors are an *api.Error with the code not_found if there
// is no checkpoint, or nothing in it that base lacks.
func (m *Mirrors) Bundle(ctx context.Context, id string, source Source, branch, base string, full bool, w io.Writer) error {
	if err := sessionID.check(id); err != nil {
		return err
	}
	if !rightRefName("refs/heads/" + branch) {
		return api.Errorf(api.CodeBadRequest, "%.80q is no name of a branch", branch)
	}
	r, err := m.mirror(source)
	if err != nil {
		return err
	}
	if !r.exists() {
		return noCheckpoint(id)
	}
	shared, err := r.use(ctx, false)
	if err != nil {
		return err
	}
	defer unlock(shared)
	checkpoint, err := r.sessionRef(ctx, "refs/berth/"+id)
	if err != nil {
		return err
	}
	if checkpoint == "" {
		return noCheckpoint(id)
	}
	found, err := r.delivered(ctx, id, checkpoint, base)
	if err != nil {
		return err
	}
	if (found.commit == "" || found.none && !full) && len(found.nested) > 0 {
		return api.Errorf(api.CodeNotFound, "there is nothing to bundle of the session %s: %s", id, nestedNote(found.nested))
	}
	if found.commit == "" || found.none && !full {
		return api.Errorf(api.CodeNotFound, "the session %s has changed nothing: there is nothing to bundle", id)
	}
	return r.bundle(ctx, found, branch, full, w)
}

func noCheckpoint(id string) error {
	return api.Errorf(api.CodeNotFound, "there is no checkpoint of the session %s: it has not worked yet", id)
}

// delivered makes the commit with a session's work; the one that was pushed, if that is it.
func (r *mirror) delivered(ctx context.Context, id, checkpoint, base string) (*work, error) {
	title := defaultTitle(id)
	pushed, err := r.sessionRef(ctx, deliveredRef(id))
	if err != nil {
		return nil, err
	}
	if pushed != "" {
		if subject, err := r.bare(pushed).line(ctx, "log", "-1", "--format=%B", pushed, "--"); err == nil {
			title = subject
		}
	}
	return r.workOf(ctx, id, checkpoint, base, title)
}

// bundle writes it from a repository of its own that has the branch and the mirror's objects.
func (r *mirror) bundle(ctx context.Context, found *work, branch string, full bool, w io.Writer) error {
	temporary, err := os.MkdirTemp(r.config.Temporary, "berth-bundle-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	name := filepath.Join(temporary, "refs", "heads", filepath.FromSlash(branch))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.MkdirAll(filepath.Join(temporary, "objects"), 0o700),
		os.WriteFile(name, []byte(found.commit+"\n"), 0o600),
		os.WriteFile(filepath.Join(temporary, "HEAD"), []byte("ref: refs/heads/"+branch+"\n"), 0o600),
		os.WriteFile(filepath.Join(temporary, "config"), []byte(formatOf(found.commit).config()), 0o600)); err != nil {
		return err
	}
	g := git{dir: "/", env: []string{"GIT_DIR=" + temporary, alternates(filepath.Join(r.path, "objects"))}, to: w}
	args := []string{"bundle", "create", "--quiet", "-", "refs/heads/" + branch}
	if !full && found.base != "" {
		args = append(args, "^"+found.base)
	}
	_, err = g.run(ctx, args...)
	return err
}

// Forget removes a session's checkpoint. That there is none is no error.
func (m *Mirrors) Forget(ctx context.Context, source Source, id string) error {
	if err := sessionID.check(id); err != nil {
		return err
	}
	r, err := m.mirror(source)
	if err != nil {
		return err
	}
	if !r.exists() {
		return nil
	}
	held, err := r.use(ctx, false)
	if err != nil {
		return err
	}
	defer func() { unlock(held) }()
	r.know(id, nil)
	g := r.git()
	g.stdin = "delete refs/berth/" + id + "\ndelete " + deliveredRef(id) + "\n"
	_, err = g.run(ctx, "update-ref", "--stdin")
	if failure := new(gitError); errors.As(err, &failure) && ctx.Err() == nil {
		unlock(held)
		if held, err = r.use(ctx, true); err != nil {
			return err
		}
		if r.removeLocks() == 0 { // of somebody who was killed
			return failure
		}
		_, err = g.run(ctx, "update-ref", "--stdin")
	}
	return err
}
