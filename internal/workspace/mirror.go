package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// mirror is one of the bare repositories on the volume.
//
//	refs/heads/*, refs/tags/*   the origin's, as of the last fetch
//	HEAD                        the origin's default branch
//	refs/berth/<id>             a session's last checkpoint
//	refs/delivered/<id>         the commit that was last pushed for it
//
// Beside it, <hash>.lock is held while it is fetched or made, and <hash>.use, shared, by everybody who
// reads or writes it: who holds that alone may take for stale whatever locks git has left.
type mirror struct {
	*Mirrors
	path string
	from string // its origin's address, for people; empty without one
}

// fetching is what the callers of one process know of each other's fetches of a mirror.
type fetching struct {
	free  chan struct{}
	began time.Time // of the last one that succeeded
	says  *origin   // what the origin said then; nil if it was not heard
}

// mirror finds the mirror of a source. It looks at the address alone: the origin may be gone.
func (m *Mirrors) mirror(source Source) (*mirror, error) {
	key := ""
	switch {
	case source.Repo == "":
	case filepath.IsAbs(source.Repo):
		key = filepath.Clean(source.Repo)
	default:
		from, err := source.parse(nil)
		if err != nil {
			return nil, err
		}
		key = normalise(from)
	}
	sum := sha256.Sum256([]byte(key))
	return &mirror{Mirrors: m, path: filepath.Join(m.dir, hex.EncodeToString(sum[:16])+".git"), from: source.Repo}, nil
}

// normalise makes one of the ways to write an address.
func normalise(from address) string {
	parsed, err := url.Parse(from.text)
	if err != nil || parsed.Host == "" {
		return strings.TrimRight(from.text, "/") // user@host:path
	}
	parsed.Host = strings.ToLower(parsed.Host)
	for scheme, port := range map[string]string{"https": ":443", "http": ":80", "ssh": ":22"} {
		if parsed.Scheme == scheme {
			parsed.Host = strings.TrimSuffix(parsed.Host, port)
		}
	}
	parsed.Path = strings.TrimRight(parsed.Path, "/")
	if parsed.Host == "github.com" {
		parsed.Path = strings.TrimSuffix(parsed.Path, ".git")
	}
	parsed.RawPath = ""
	return parsed.String()
}

// git works in the mirror. It runs elsewhere: a directory on the volume would be looked up again and again.
func (r *mirror) git() git { return git{dir: "/", env: []string{"GIT_DIR=" + r.path}} }

func (r *mirror) exists() bool {
	info, err := os.Stat(filepath.Join(r.path, "objects"))
	return err == nil && info.IsDir()
}

// use keeps others from repairing or replacing the mirror; alone, from using it at all.
func (r *mirror) use(ctx context.Context, alone bool) (*os.File, error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of mirrors: %w", err)
	}
	return lockFile(ctx, r.base()+".use", alone)
}

func (r *mirror) base() string { return strings.TrimSuffix(r.path, ".git") }

// update makes the mirror, or brings it up to date with its origin, and returns what that says; nil if it was not heard.
// Callers of one process that wait for each other share a fetch, if it began after they asked.
func (r *mirror) update(ctx context.Context, from address) (*origin, error) {
	asked := time.Now()
	r.mu.Lock()
	turn := r.fetch[r.path]
	if turn == nil {
		turn = &fetching{free: make(chan struct{}, 1)}
		r.fetch[r.path] = turn
	}
	r.mu.Unlock()
	select {
	case turn.free <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-turn.free }()
	if turn.began.After(asked) {
		return turn.says, nil
	}
	began := time.Now()
	says, err := r.updateNow(ctx, from)
	if err != nil {
		return nil, err
	}
	turn.began, turn.says = began, says
	return says, nil
}

func (r *mirror) updateNow(ctx context.Context, from address) (*origin, error) {
	if r.from == "" {
		return nil, r.locked(ctx, func() error { return r.ensure(ctx) })
	}
	// What a clone or a fetch brings is not older than what is said before it. So the origin is asked first.
	says, err := r.ask(ctx, from)
	if err != nil || r.upToDate(says) {
		return says, err
	}
	return says, r.locked(ctx, func() error {
		if !r.exists() {
			return r.create(ctx, from)
		}
		if err := r.mend(); err != nil {
			return err
		}
		err := r.fetchInto(ctx, from, says)
		if err == nil || ctx.Err() != nil || errors.As(err, new(*originError)) {
			return err
		}
		if _, gone := r.ask(ctx, from); gone != nil {
			return gone
		}
		r.log.Warn("repairing a mirror", "path", r.path, "origin", r.from, "err", err)
		return r.repair(ctx, from)
	})
}

// locked does something that nobody else does to the mirror at once.
func (r *mirror) locked(ctx context.Context, do func() error) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of mirrors: %w", err)
	}
	held, err := lockFile(ctx, r.base()+".lock", true)
	if err != nil {
		return err
	}
	defer unlock(held)
	return do()
}

// originError is a failure of the origin, rather than of the mirror.
type originError struct{ error }

func (e *originError) Unwrap() error { return e.error }

// fetchInto fetches branches and tags into an existing mirror: into a repository on local disk that has the mirror's objects,
// and from there what came. In the mirror git would need hundreds of operations on the volume.
func (r *mirror) fetchInto(ctx context.Context, from address, says *origin) error {
	shared, err := r.use(ctx, false)
	if err != nil {
		return err
	}
	defer unlock(shared)
	before, err := r.tipsNow(ctx)
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(r.config.Temporary, "berth-fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := errors.Join(makeBare(temporary, r.format()), os.MkdirAll(filepath.Join(temporary, "objects", "pack"), 0o700),
		os.WriteFile(filepath.Join(temporary, "packed-refs"), []byte(packedRefs(before)), 0o600)); err != nil {
		return err
	}
	here := git{
		dir: "/", env: []string{"GIT_DIR=" + temporary, alternates(filepath.Join(r.path, "objects"))},
		config: []string{"core.fsync=none", "core.alternateRefsCommand=true", "pack.writeReverseIndex=false"}, // the mirror's refs are known
	}
	if _, err = r.network(ctx, here, from, "fetch", "--quiet", "--prune", "--force", "--no-tags", "--no-recurse-submodules",
		"--no-write-fetch-head", "--", from.text, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"); err != nil {
		return err
	}
	after, err := originTips(ctx, here)
	if err != nil {
		return err
	}
	if err := r.takePacks(temporary); err != nil {
		return err
	}
	if err := r.moveTips(ctx, before, after); err != nil {
		return err
	}
	if err := r.setHead(ctx, from, says.head); err != nil {
		return err
	}
	r.mirrored(says, after)
	return nil
}

// tipsNow are those that the mirror has; if this process knows them, it does not look.
func (r *mirror) tipsNow(ctx context.Context) ([]tip, error) {
	r.mu.Lock()
	known := r.origins[r.path]
	r.mu.Unlock()
	if known != nil && r.upToDate(&known.origin) {
		return known.tips, nil
	}
	return originTips(ctx, r.git())
}

// packedRefs is the file of tips that are sorted by name (git-pack-refs(1)).
func packedRefs(tips []tip) string {
	var text strings.Builder
	for _, one := range tips {
		text.WriteString(one.oid + " " + one.name + "\n")
	}
	return text.String()
}

// takePacks copies the packs of a repository on local disk.
func (r *mirror) takePacks(from string) error {
	packs, err := filepath.Glob(filepath.Join(from, "objects", "pack", "pack-*.pack"))
	if err != nil || len(packs) == 0 {
		return err
	}
	for _, pack := range packs {
		if err := errors.Join(r.copyPack(pack), r.copyPack(strings.TrimSuffix(pack, ".pack")+".idx")); err != nil {
			return err
		}
	}
	return syncDir(filepath.Join(r.path, "objects", "pack"))
}

// moveTips makes the mirror's refs what a fetch has made of them.
func (r *mirror) moveTips(ctx context.Context, before, after []tip) error {
	gone := map[string]string{}
	for _, one := range before {
		gone[one.name] = one.oid
	}
	var moved []tip
	var text strings.Builder
	for _, one := range after {
		if gone[one.name] != one.oid {
			moved = append(moved, one)
			text.WriteString("update " + one.name + " " + one.oid + "\n")
		}
		delete(gone, one.name)
	}
	const few = 5 // that are faster done by hand
	if len(gone) == 0 && len(moved) <= few {
		err := error(nil)
		for _, one := range moved {
			err = errors.Join(err, r.writeRef(one.name, one.oid))
		}
		if err == nil {
			return nil
		}
	}
	deleter, mover := r.git(), r.git()
	for name := range gone {
		deleter.stdin += "delete " + name + "\n"
	}
	if deleter.stdin != "" { // first, for a name may be the directory of another one
		if _, err := deleter.run(ctx, "update-ref", "--stdin"); err != nil {
			return err
		}
	}
	mover.stdin = text.String()
	_, err := mover.run(ctx, "update-ref", "--stdin")
	return err
}

// setHead makes the origin's HEAD the mirror's.
func (r *mirror) setHead(ctx context.Context, from address, head string) error {
	text, err := os.ReadFile(filepath.Join(r.path, "HEAD"))
	current := strings.TrimPrefix(strings.TrimSpace(string(text)), "ref: ")
	switch {
	case head == "" || err == nil && current == head:
		return nil
	case commitID.MatchString(head):
		if err := r.fetchCommit(ctx, from, "HEAD"); err != nil {
			return &originError{err}
		}
		_, err = r.git().run(ctx, "update-ref", "--no-deref", "HEAD", head)
	case strings.HasPrefix(head, "refs/heads/"):
		_, err = r.git().run(ctx, "symbolic-ref", "HEAD", head)
	}
	return err
}

// fetchCommit fetches what no branch or tag of the origin has to lead to.
func (r *mirror) fetchCommit(ctx context.Context, from address, name string) error {
	_, err := r.network(ctx, r.git(), from, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--", from.text, name)
	return err
}

// create makes the mirror under another name, so that a crash leaves none that is half made. What a mirror that was
// put aside had of sessions comes with it. The caller holds the lock.
func (r *mirror) create(ctx context.Context, from address) error {
	fresh, err := r.freshMirror(ctx, from)
	if err != nil {
		return err
	}
	defer os.RemoveAll(filepath.Dir(fresh))
	if err := r.salvageAside(ctx, fresh); err != nil {
		return err
	}
	alone, err := r.use(ctx, true)
	if err != nil {
		return err
	}
	defer unlock(alone)
	if _, err := os.Lstat(r.path); err == nil { // somebody's checkpoint was faster, or what is there is no mirror
		return r.swap(ctx, fresh)
	}
	if err := os.Rename(fresh, r.path); err != nil {
		return err
	}
	return syncDir(r.dir)
}

// freshMirror makes a mirror in a temporary directory of its own beside the others: a clone of the origin, or an
// empty one without an origin.
func (r *mirror) freshMirror(ctx context.Context, from address) (string, error) {
	prefix := ".new-" + filepath.Base(r.base()) + "-"
	if left, err := filepath.Glob(filepath.Join(r.dir, prefix+"*")); err == nil {
		for _, dir := range left { // of somebody who was killed: we hold the lock
			_ = os.RemoveAll(dir) // the next one tries again
		}
	}
	temporary, err := os.MkdirTemp(r.dir, prefix)
	if err != nil {
		return "", err
	}
	fresh := filepath.Join(temporary, "mirror.git")
	if from.text == "" {
		_, err = git{dir: "/"}.run(ctx, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", fresh)
	} else {
		err = r.clone(ctx, from, fresh)
	}
	if err != nil {
		_ = os.RemoveAll(temporary) // freshMirror tells of the other error
		return "", err
	}
	return fresh, nil
}

// clone clones an origin: on local disk, for git would need thousands of operations on the volume, and then copies what came
// of it.
func (r *mirror) clone(ctx context.Context, from address, to string) error {
	temporary, err := os.MkdirTemp(r.config.Temporary, "berth-clone-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	here := filepath.Join(temporary, "mirror.git")
	_, err = r.network(ctx, git{dir: "/", config: []string{"core.fsync=none"}}, from, "clone", "--quiet", "--bare", "--no-local", "--no-recurse-submodules",
		"--template=", "--", from.text, here)
	if err != nil {
		return &originError{err}
	}
	return copyRepository(ctx, here, to)
}

// copyRepository copies a bare repository that nobody else knows of, synced.
func copyRepository(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.Mkdir(filepath.Join(to, name), 0o700)
		}
		return copySynced(path, filepath.Join(to, name))
	})
}

// copySynced copies a file to where there is none.
func copySynced(from, to string) error {
	reader, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }() // it was only read
	info, err := reader.Stat()
	if err != nil {
		return err
	}
	writer, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(writer, reader)
	return errors.Join(err, writer.Sync(), writer.Close())
}

// ensure makes an empty mirror if there is none: for sessions without a repository, and for a checkpoint whose
// mirror is gone.
func (r *mirror) ensure(ctx context.Context) error {
	if r.exists() {
		return r.mend()
	}
	return r.create(ctx, address{})
}

// network runs git against an origin, with the credential that there is for it.
func (r *mirror) network(ctx context.Context, g git, from address, args ...string) (string, error) {
	g.protocol = from.kind
	g, done, err := r.withCredential(g, from)
	if err != nil {
		return "", err
	}
	defer done()
	return g.run(ctx, args...)
}

// syncDir makes what was renamed into a directory last.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
