package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"berth/internal/api"
)

// CheckpointTime is how long a checkpoint may take.
const CheckpointTime = 2 * time.Minute

var errCheckpointTooSlow = fmt.Errorf("it took longer than %v; leave large files out with .gitignore", CheckpointTime)

var sessionID = rightID{}

// rightID tells what can be a part of a ref's name.
type rightID struct{}

func (rightID) check(id string) error {
	if !rightRefName("refs/berth/"+id) || strings.Contains(id, "/") {
		return fmt.Errorf("%.80q is no session's id", id)
	}
	return nil
}

// Checkpoint saves the state of a place's tree in the mirror, as refs/berth/<id>. It returns nil if nothing has
// changed since the last one. The session may go on meanwhile, and nothing of its repository is changed. What
// cannot be saved is named in LeftOut. Errors wrap ctx's, or ErrOvertaken if the last checkpoint is not this run's (see
// Resume), or are an *api.Error with the code workspace_lost if the tree is gone; Full tells whether there is no room for it. After any error the last checkpoint is as
// it was.
func (m *Mirrors) Checkpoint(ctx context.Context, place Place) (*api.Checkpoint, error) {
	began := time.Now()
	if err := sessionID.check(place.ID); err != nil {
		return nil, err
	}
	r, err := m.mirror(place.Source)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, CheckpointTime, errCheckpointTooSlow)
	defer cancel()
	unlock, err := m.lockPlace(ctx, place.Scratch)
	if err != nil {
		return nil, err
	}
	defer unlock()
	saved, err := r.checkpoint(ctx, place)
	if coded := new(api.Error); err != nil && !errors.As(err, &coded) {
		return nil, fmt.Errorf("cannot save the files in %s: %w", place.Tree, err)
	}
	if err != nil || saved == nil {
		return nil, err
	}
	saved.Seconds = time.Since(began).Seconds()
	return saved, nil
}

func (r *mirror) checkpoint(ctx context.Context, place Place) (*api.Checkpoint, error) {
	s := openScratch(place)
	defer s.unplug(ctx)()
	s.listed = r.listings.begin()
	defer s.listed.done()
	c, err := r.captureAgain(ctx, place, s)
	if err != nil {
		return nil, err
	}
	saved, err := r.save(ctx, place, s, c)
	if err == nil || ctx.Err() != nil || !errors.As(err, new(*gitError)) || Full(err) {
		return saved, err
	}
	// Something is missing in the session's repository. All that is there is saved.
	r.log.Warn("saving a session's files anew", "session", place.ID, "err", err)
	if err := r.newScratch(ctx, s); err != nil {
		return nil, err
	}
	s.suspicious = true
	r.mu.Lock()
	r.suspects[place.Scratch] = true
	r.mu.Unlock()
	if c, err = s.capture(ctx); err != nil {
		return nil, err
	}
	return r.save(ctx, place, s, c)
}

// save brings what was captured to the mirror, unless it is there already.
func (r *mirror) save(ctx context.Context, place Place, s *scratch, c *captured) (*api.Checkpoint, error) {
	last, err := r.last(ctx, place.ID)
	if err != nil {
		return nil, err
	}
	if last != "" && last == s.last && c.wrapper == s.lastTree {
		return nil, nil
	}
	if c.about.Gone {
		return r.checkpointGone(ctx, place.ID, s, c, last)
	}
	date := now()
	commit, err := s.commit(ctx, c, date)
	if err != nil {
		return nil, err
	}
	if err := r.store(ctx, s, place.ID, commit, last, &state{about: c.about, tree: c.tree, date: date, base: s.baseTree}); err != nil {
		return nil, err
	}
	r.remember(ctx, s, commit)
	return &api.Checkpoint{Commit: commit, Tree: c.tree, Head: c.about.Commit, LeftOut: c.about.LeftOut, Nested: nestedPaths(c.about.Nested)}, nil
}

// captureAgain captures the state of a tree, and if that fails, which may be for what is left of a git that was killed,
// once more with a new scratch.
func (r *mirror) captureAgain(ctx context.Context, place Place, s *scratch) (*captured, error) {
	r.mu.Lock()
	s.suspicious = r.suspects[place.Scratch]
	r.mu.Unlock()
	if s.there() {
		c, err := s.capture(ctx)
		if err == nil || final(ctx, err) {
			return c, err
		}
		r.log.Warn("making a session's scratch anew", "session", place.ID, "err", err)
	}
	if err := r.newScratch(ctx, s); err != nil {
		return nil, err
	}
	c, err := s.capture(ctx)
	if err != nil && !final(ctx, err) {
		s.suspicious = true
		c, err = s.capture(ctx)
	}
	return c, err
}

// final reports whether an error stays the same, however often it is tried.
func final(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.As(err, new(*api.Error)) || errors.Is(err, errTooMuchListed)
}

// newScratch makes a scratch for a tree that has been handed over. Its index is empty: it reads every file once.
func (r *mirror) newScratch(ctx context.Context, s *scratch) error {
	if _, err := os.Lstat(s.place.Tree); err != nil {
		return lost("the session's files in %s are gone: %s", s.place.Tree, reason(err))
	}
	if err := s.create(ctx, r.format()); err != nil {
		return err
	}
	if err := s.place.own(s.place.Scratch); err != nil {
		return err
	}
	last, err := r.last(ctx, s.place.ID)
	if err != nil || last == "" {
		return err
	}
	s.findObjects()
	if known, err := r.readAbout(ctx, last); err == nil && known.Base != "" {
		if _, err := s.git().run(ctx, "update-ref", "refs/base", known.Base); err != nil && ctx.Err() != nil {
			return err // if the session does not have it any more, it is forgotten
		}
	}
	return nil
}

// remember notes in scratch which checkpoint was stored last, and drops what that one does not need.
func (r *mirror) remember(ctx context.Context, s *scratch, commit string) {
	if _, err := s.git().run(ctx, "update-ref", "refs/last", commit); err != nil && ctx.Err() == nil {
		r.log.Warn("a checkpoint cannot be remembered; the next one begins anew", "session", s.place.ID, "err", err)
		return
	}
	large := r.grown(s)
	if err := s.tidy(ctx, large); err != nil && ctx.Err() == nil {
		r.log.Warn("a session's scratch cannot be tidied", "session", s.place.ID, "err", err)
	} else if large {
		r.mu.Lock()
		delete(r.added, s.place.Scratch)
		r.mu.Unlock()
	}
}

// grown notes how many bytes this checkpoint has added to its scratch, and reports whether those since it was tidied are too many, as far as
// this process knows.
func (r *mirror) grown(s *scratch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added[s.place.Scratch] += s.added
	return r.added[s.place.Scratch] > r.slack
}

// commit makes the checkpoint's commit in scratch.
func (s *scratch) commit(ctx context.Context, c *captured, date string) (string, error) {
	maker := s.git()
	maker.stdin = c.text(date)
	return maker.line(ctx, "hash-object", "-t", "commit", "-w", "--stdin")
}

// text is that of the checkpoint's commit.
func (c *captured) text(date string) string {
	return commitText(c.wrapper, c.parents, "berth <noreply@localhost>", date, "Checkpoint")
}

// commitText is a commit as git has it. Thousands of parents would be too many arguments for git commit-tree.
func commitText(tree string, parents []string, who, date, message string) string {
	var text strings.Builder
	text.WriteString("tree " + tree + "\n")
	for _, parent := range parents {
		text.WriteString("parent " + parent + "\n")
	}
	fmt.Fprintf(&text, "author %s %s\ncommitter %s %s\n\n%s\n", who, date, who, date, message)
	return text.String()
}

// now is the time, as git writes it in a commit.
func now() string { return fmt.Sprintf("%d +0000", time.Now().Unix()) }

// checkpointGone saves the files of a session that has lost its repository. The commits of the last checkpoint are all that is
// left of it, and only the mirror has them: so there the new one is put on top of the last that had a repository.
func (r *mirror) checkpointGone(ctx context.Context, id string, s *scratch, c *captured, last string) (*api.Checkpoint, error) {
	var parents []string
	if last != "" {
		if known, err := r.bare(last).line(ctx, "rev-parse", "--verify", "--end-of-options", last+"^{tree}"); err != nil || known == c.wrapper {
			return nil, err
		}
		parents = []string{last}
		if before, err := r.readAbout(ctx, last); err == nil && before.Gone {
			all, err := r.bare(last).line(ctx, "rev-parse", last+"^@")
			if err != nil {
				return nil, err
			}
			parents = strings.Fields(all)
		}
	}
	date := now()
	files, err := s.commit(ctx, c, date)
	if err != nil {
		return nil, err
	}
	s.last = "" // what it is known by is gone with the repository
	commit := files
	err = r.storeThen(ctx, s, id, files, last, nil, func() (string, error) {
		c.parents = append(c.parents, parents...)
		commit, err = r.writeCommit(c.text(date), formatOf(c.wrapper))
		return commit, err
	})
	return &api.Checkpoint{Commit: commit, Tree: c.tree, LeftOut: c.about.LeftOut, Nested: nestedPaths(c.about.Nested)}, err
}
