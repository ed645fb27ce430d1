package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"berth/internal/api"
)

// Pull is the verb `berth pull`: it brings a session's work into a clone, as a branch.
type Pull struct {
	Target
	ID     *string `arg:"" optional:"" help:"The session, by its id or a part of it; the newest if left out."`
	Branch *string `name:"branch" short:"b" placeholder:"NAME" help:"The branch to put it on; berth/ and the end of the session's id without it."`
	Full   bool    `name:"full" help:"Fetch all of the history. It is done by itself where this clone lacks what the session started from."`
	Force  bool    `name:"force" help:"Move the branch even if it has commits that the work lacks."`
}

// Help is the long help.
func (Pull) Help() string {
	return `Run it in a clone of the session's repository, or in any repository of git. The branch has what the session had at
its last checkpoint, committed or not. It is made, or moved, and never checked out; a branch that somebody else has
moved since the last pull is moved forward only. Its name is all that goes to standard output.

Examples:
  berth pull
  git switch $(berth pull 7a63ffb1e2f5)
  berth pull 7a63ffb1e2f5 --branch fix-parser

Exit codes: 0 the branch has the work; 1 failed: no repository here, nothing to fetch yet, or the branch has commits that
the work lacks; 2 the branch's name or the id cannot be used; 3 the agent cannot be reached.`
}

// Run fetches the work.
func (p *Pull) Run(ctx context.Context, stdio Stdio) error {
	git, err := findClone(ctx)
	if err != nil {
		return err
	}
	if p.Branch != nil {
		if err := git.checkBranch(ctx, *p.Branch); err != nil {
			return &UsageError{err}
		}
	}
	client, session, err := p.connected(ctx, stdio, p.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	branch := "berth/" + shortID(session.ID)
	if p.Branch != nil {
		branch = *p.Branch
	}
	commit, err := p.fetch(ctx, stdio, git, client, session)
	if err != nil {
		return err
	}
	if err := git.place(ctx, branch, commit, session.ID, p.Force); err != nil {
		return err
	}
	fmt.Fprintf(stdio.Err, "berth: branch %s has the work of session %s, at %.10s; next: %s\n", branch, shortID(session.ID), commit, git.next(ctx, branch))
	if len(session.Nested) > 0 {
		fmt.Fprintf(stdio.Err, "berth: not on it are the repositories within the session's files, which are kept with the session: %s\n", oneLine(strings.Join(session.Nested, ", "), 1000))
	}
	_, err = fmt.Fprintln(stdio.Out, branch)
	return err
}

// fetch takes the work out of a bundle into the clone's objects, and returns its commit.
func (p *Pull) fetch(ctx context.Context, stdio Stdio, git clone, client *api.Client, session *api.Session) (string, error) {
	dir, err := os.MkdirTemp("", "berth-pull-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "bundle")
	for full := p.Full; ; full = true {
		if err := download(ctx, client, session.ID, full, file); err != nil {
			if said := new(api.Error); errors.As(err, &said) && said.Code == api.CodeConflict {
				return "", fmt.Errorf("nothing to pull yet: %w; follow it with `berth logs -f %s%s`", err, shortID(session.ID), p.flags())
			}
			return "", err
		}
		_, lacks := git.run(ctx, "bundle", "verify", "--quiet", file)
		if lacks == nil {
			return git.unbundle(ctx, file)
		}
		if full || ctx.Err() != nil {
			return "", errors.Join(ctx.Err(), fmt.Errorf("the bundle that the agent made cannot be used: %w", lacks))
		}
		fmt.Fprintln(stdio.Err, "berth: this repository lacks what the session started from; fetching all of the history")
	}
}

// download writes a bundle to a file.
func download(ctx context.Context, client *api.Client, id string, full bool, name string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = client.Bundle(ctx, id, full, file)
	return errors.Join(err, file.Close())
}

// unbundle takes what is in a bundle into the clone's objects. No name in the clone changes.
func (g clone) unbundle(ctx context.Context, file string) (string, error) {
	heads, err := g.run(ctx, "bundle", "list-heads", file)
	if err != nil {
		return "", fmt.Errorf("the bundle that the agent made cannot be read: %w", err)
	}
	for line := range strings.Lines(heads) {
		commit, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(ref, "refs/heads/") || strings.ContainsAny(ref, ":*") { // those would be more than a name
			continue
		}
		// No submodules: their addresses are the session's.
		_, err := g.run(ctx, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", "--no-recurse-submodules", "--", file, ref)
		if err != nil {
			return "", fmt.Errorf("the bundle that the agent made cannot be fetched: %w", err)
		}
		return commit, nil
	}
	return "", errors.New("the bundle that the agent made has no branch in it; look at `berth logs`")
}
