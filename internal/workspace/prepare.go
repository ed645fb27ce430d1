package workspace

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"berth/internal/api"
)

// Prepare makes a place's tree, which must not exist or be empty, a work tree of its source: the mirror is
// brought up to date with the origin, the tree is cloned from it with Ref checked out on the place's branch, and
// its remote origin is the real one. It returns the commit that the branch starts from; base is empty if there is
// none yet. Without a repository the tree is an empty one of git's, on the branch main.
//
// Either tree is whole afterwards, or it is as it was. Errors are an *api.Error with the code clone_failed, or
// wrap ctx's.
func (m *Mirrors) Prepare(ctx context.Context, place Place) (base string, err error) {
	// A directory may have been closed, or a link changed, since the task was accepted.
	if err := place.Source.Check(m.config.Closed...); err != nil {
		return "", asCloneFailed(err)
	}
	from, err := place.Source.address(m.config.Closed)
	if err != nil {
		return "", asCloneFailed(err)
	}
	r, err := m.mirror(place.Source)
	if err != nil {
		return "", asCloneFailed(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, CloneTime, errTooSlow)
	defer cancel()
	what := "clone " + from.text
	if place.Source.Repo == "" {
		what = "make an empty repository"
	}
	fresh, err := newTree(place)
	if err != nil {
		return "", err
	}
	defer fresh.remove()
	if _, err := r.begin(ctx, place.ID); err != nil {
		return "", explain(ctx, what, err)
	}
	defer r.forgetLocal()
	says, err := r.update(ctx, from)
	if err != nil {
		if from.kind == local && ctx.Err() == nil && !isRepository(from.text) {
			return "", notRepository(from.text)
		}
		return "", explain(ctx, what, err)
	}
	base, err = r.cloneTo(ctx, fresh, place, from, says)
	if failure := new(gitError); errors.As(err, &failure) && ctx.Err() == nil && !Full(err) {
		// Whatever git could not read, it was in the mirror.
		m.log.Warn("repairing a mirror", "path", r.path, "origin", r.from, "err", err)
		if err = r.rebuild(ctx, from); err == nil {
			err = fresh.again()
		}
		if err == nil {
			base, err = r.cloneTo(ctx, fresh, place, from, nil)
		}
	}
	if coded := new(api.Error); err != nil && !errors.As(err, &coded) {
		err = explain(ctx, what, err)
	}
	if err != nil {
		return "", err
	}
	return base, fresh.handOver(ctx, base)
}

// asCloneFailed makes the refusal of a source, which nobody waits for any more, the failure of a session.
func asCloneFailed(err error) error {
	if coded := new(api.Error); errors.As(err, &coded) {
		return failed("cannot clone the repository: %s", coded.Message)
	}
	return err
}

// address is where a source is cloned from; the zero one without a repository.
func (s Source) address(closed []string) (address, error) {
	if s.Repo == "" {
		return address{}, nil
	}
	return s.parse(closed)
}

// rebuild repairs a mirror in which git fails.
func (r *mirror) rebuild(ctx context.Context, from address) error {
	held, err := lockFile(ctx, r.base()+".lock", true)
	if err != nil {
		return err
	}
	defer unlock(held)
	return r.repair(ctx, from)
}

// cloneTo clones the mirror into a fresh tree, and checks the source's ref out. What its origin says spares it looking
// for that in the mirror, if this process knows that it has that.
func (r *mirror) cloneTo(ctx context.Context, fresh *fresh, place Place, from address, says *origin) (base string, err error) {
	shared, err := r.use(ctx, false)
	if err != nil {
		return "", err
	}
	defer unlock(shared)
	branch := place.Branch
	if place.Source.Repo == "" {
		return "", fresh.init(ctx, r.format(), "main", "")
	}
	has, commit, err := r.source(ctx, from, place.Source.Ref, says)
	if err != nil {
		return "", err
	}
	wanted := make([]string, 0, len(has.tips)+1)
	for _, tip := range has.tips {
		wanted = append(wanted, tip.oid)
	}
	if commit != "" {
		wanted = append(wanted, commit)
	}
	as := r.format
	if len(wanted) > 0 {
		as = func() format { return formatOf(wanted[0]) }
	}
	if err := fresh.init(ctx, as(), branch, from.text); err != nil {
		return "", err
	}
	if err := r.copyObjects(ctx, fresh, wanted); err != nil {
		return "", err
	}
	r.saw(place.ID, wanted)
	r.mirrored(says, has.tips)
	if err := fresh.writeRefs(has.remoteRefs()); err != nil {
		return "", err
	}
	if commit == "" {
		return "", nil
	}
	_, err = fresh.git().run(ctx, "checkout", "--quiet", "--no-track", "-B", branch, commit, "--")
	return commit, err
}

// source tells what the mirror has of its origin, and which commit a ref of that names.
func (r *mirror) source(ctx context.Context, from address, name string, says *origin) (has *origin, commit string, err error) {
	if says != nil && r.upToDate(says) {
		if commit = says.find(name); commit == "" {
			commit, err = r.resolve(ctx, from, name)
		}
		return says, commit, err
	}
	if commit, err = r.resolve(ctx, from, name); err != nil {
		return nil, "", err
	}
	has = &origin{}
	if head, err := os.ReadFile(filepath.Join(r.path, "HEAD")); err == nil {
		has.head = strings.TrimPrefix(strings.TrimSpace(string(head)), "ref: ")
	}
	has.tips, err = originTips(ctx, r.git())
	return has, commit, err
}

// copyObjects gives a fresh tree what some objects of the mirror reach, as one pack: so a session can reach nothing
// else in the mirror, nor the volume.
func (r *mirror) copyObjects(ctx context.Context, fresh *fresh, wanted []string) error {
	if len(wanted) == 0 {
		return nil
	}
	if r.local.has(wanted) && r.local.moveTo(fresh) {
		return nil
	}
	source := r.bare(wanted[0])
	source.stdin = strings.Join(wanted, "\n") + "\n"
	_, err := pipe(ctx, source, packObjects, fresh.git(), []string{"-c", "core.fsync=none", "index-pack", "--stdin"})
	return err
}

// remoteRefs are the refs that a clone of an origin has: branches as those of the remote origin, and tags.
func (o *origin) remoteRefs() []ref {
	var refs []ref
	for _, tip := range o.tips {
		name := tip.name
		if short, isBranch := strings.CutPrefix(name, "refs/heads/"); isBranch {
			name = "refs/remotes/origin/" + short
			if tip.name == o.head {
				refs = append(refs, ref{name: "refs/remotes/origin/HEAD", symbolic: name})
			}
		}
		refs = append(refs, ref{name: name, oid: tip.oid})
	}
	slices.SortFunc(refs, func(a, b ref) int { return strings.Compare(a.name, b.name) })
	return refs
}

// resolve finds the commit that a ref names in the mirror: as a branch of the origin, a tag, or a commit, or HEAD, which no name
// stands for as well. It is empty if the repository is, and none of those was named.
func (r *mirror) resolve(ctx context.Context, from address, name string) (string, error) {
	commit := func(of string) (string, error) {
		return r.git().line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", of+"^{commit}")
	}
	if name == "" || name == "HEAD" {
		head, err := commit("HEAD")
		if fatal(err) {
			return "", err
		}
		if err != nil { // no commit, or HEAD names a branch that is not there
			return "", r.empty(ctx, from)
		}
		return head, nil
	}
	names := []string{"refs/heads/" + name, "refs/tags/" + name}
	if strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/") {
		names = append(names, name)
	}
	for _, full := range names {
		if found, err := commit(full); err == nil {
			return found, nil
		} else if ctx.Err() != nil {
			return "", err
		}
	}
	if isHex(name) {
		if found, err := r.resolveCommit(ctx, from, name, commit); err == nil || ctx.Err() != nil {
			return found, err
		}
	}
	return "", failed("cannot clone %s: it has no branch, tag or commit %.80q; name one that it has, or leave the ref out", from.text, name)
}

// resolveCommit finds a commit by its name, or the first digits of it. The mirror has commits of other sessions too:
// one counts only if a branch or a tag of the origin leads to it, or the origin gives it to somebody who has nothing.
func (r *mirror) resolveCommit(ctx context.Context, from address, name string, commit func(string) (string, error)) (string, error) {
	if found, err := commit(name); err == nil {
		leads, err := r.git().line(ctx, "for-each-ref", "--count=1", "--format=%(refname)", "--contains="+found, "refs/heads", "refs/tags")
		if err == nil && leads != "" {
			return found, nil
		}
	}
	if !commitID.MatchString(name) {
		return "", errors.New("no branch and no tag leads to it")
	}
	temporary, err := os.MkdirTemp(r.config.Temporary, "berth-proof-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	proof := git{dir: "/", env: []string{"GIT_DIR=" + temporary}}
	if _, err := proof.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+string(formatOf(name))); err != nil {
		return "", err
	}
	if _, err := r.network(ctx, proof, from, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", from.text, name); err != nil {
		return "", err
	}
	if err := r.fetchCommit(ctx, from, name); err != nil {
		return "", err
	}
	return commit(name)
}

// empty is asked when an origin seems to have no commit. A web page can look like that: git takes any answer without a
// line for an empty repository.
func (r *mirror) empty(ctx context.Context, from address) error {
	if from.kind != plain && from.kind != https {
		return nil
	}
	tips, err := originTips(ctx, r.git())
	if err != nil || len(tips) > 0 {
		return err
	}
	return r.speaksGit(ctx, from)
}
