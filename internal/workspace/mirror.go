package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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

	local *cloned // what the mirror was just made from, as long as its caller is at it
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
			return r.createFrom(ctx, from, says)
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

// create makes the mirror under another name, so that a crash leaves none that is half made. What a mirror that was
// put aside had of sessions comes with it. The caller holds the lock.
func (r *mirror) create(ctx context.Context, from address) error {
	unfinished, aside, err := r.beside()
	if err != nil {
		return err
	}
	fresh, err := r.freshMirror(ctx, from, unfinished)
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := r.salvageAside(ctx, aside, fresh); err != nil {
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
	if err := rename(fresh, r.path); err != nil {
		return err
	}
	return syncDir(r.dir)
}

// createFrom is create for an origin that says what it has: if the clone has just that, nobody need look.
func (r *mirror) createFrom(ctx context.Context, from address, says *origin) error {
	if err := r.create(ctx, from); err != nil {
		return err
	}
	r.mirrored(says, r.local.tips)
	return nil
}

// freshPrefix begins the names of mirrors that are being made.
func (r *mirror) freshPrefix() string { return ".new-" + filepath.Base(r.base()) + "-" }

// beside lists what there is of the mirror beside it: those that were being made when somebody was killed, and those that were put aside. The
// caller holds the lock.
func (r *mirror) beside() (unfinished, aside []string, err error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		path := filepath.Join(r.dir, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), r.freshPrefix()):
			unfinished = append(unfinished, path)
		case strings.HasPrefix(path, r.base()+asideInfix):
			aside = append(aside, path)
		}
	}
	return unfinished, aside, nil
}

// freshMirror makes a mirror beside the others, under a name that is none: a clone of the origin, or an empty one without an
// origin. It removes those that are unfinished.
func (r *mirror) freshMirror(ctx context.Context, from address, unfinished []string) (string, error) {
	for _, dir := range unfinished {
		_ = os.RemoveAll(dir) // the next one tries again
	}
	fresh, err := os.MkdirTemp(r.dir, r.freshPrefix())
	if err != nil {
		return "", err
	}
	if from.text == "" {
		_, err = git{dir: "/"}.run(ctx, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", fresh)
	} else {
		r.forgetLocal()
		r.local, err = r.clone(ctx, from, fresh)
	}
	if err != nil {
		_ = os.RemoveAll(fresh) // freshMirror tells of the other error
		return "", err
	}
	return fresh, nil
}

// forgetLocal is for whoever is done with what may have made the mirror.
func (r *mirror) forgetLocal() {
	r.local.remove()
	r.local = nil
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
