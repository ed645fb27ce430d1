package workspace

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// What comes from an origin comes to local disk first, and is copied to the mirror: git opens, reads and syncs so many files that on
// the volume it would be seconds.

// cloned is a clone of an origin on local disk.
type cloned struct {
	dir  string // a repository, in a temporary directory of its own
	tips []tip  // its branches and tags
}

// remove removes it; nil is none.
func (c *cloned) remove() {
	if c != nil {
		_ = os.RemoveAll(filepath.Dir(c.dir)) // or whoever starts the agent does
	}
}

// has reports whether it has all that some objects reach, as far as that is known; nil has nothing.
func (c *cloned) has(oids []string) bool {
	if c == nil {
		return false
	}
	there := map[string]bool{}
	for _, one := range c.tips {
		there[one.oid], there[one.peeled] = true, true
	}
	return !slices.ContainsFunc(oids, func(oid string) bool { return !there[oid] })
}

// moveTo gives a fresh tree its objects, and reports whether it did. Nothing is lost if not: the mirror has them too.
func (c *cloned) moveTo(tree *fresh) bool {
	from, to := filepath.Join(c.dir, "objects", "pack"), filepath.Join(tree.path, ".git", "objects", "pack")
	if _, err := os.Lstat(filepath.Join(c.dir, "shallow")); err == nil {
		return false // parts of the history are missing, which is not to be passed over
	}
	packs := packsOf(c.dir)
	if len(packs) != 1 || os.MkdirAll(to, 0o700) != nil {
		return false
	}
	// Git takes a pack for there when its index is.
	for _, name := range []string{filepath.Base(packs[0]), strings.TrimSuffix(filepath.Base(packs[0]), ".pack") + ".idx"} {
		if os.Rename(filepath.Join(from, name), filepath.Join(to, name)) != nil { // it is another disk, say
			return false
		}
	}
	return true
}

// clone clones an origin: on local disk, for git would need thousands of operations on the volume, and then copies what came
// of it.
func (r *mirror) clone(ctx context.Context, from address, to string) (*cloned, error) {
	temporary, err := os.MkdirTemp(r.config.Temporary, "berth-clone-*")
	if err != nil {
		return nil, err
	}
	here := &cloned{dir: filepath.Join(temporary, "mirror.git")}
	_, err = r.network(ctx, git{dir: "/", config: []string{"core.fsync=none", "pack.writeReverseIndex=false"}}, from, "clone", "--quiet", "--bare",
		"--no-local", "--no-recurse-submodules", "--template=", "--", from.text, here.dir)
	if err != nil {
		err = &originError{err}
	} else if here.tips, err = originTips(ctx, git{dir: "/", env: []string{"GIT_DIR=" + here.dir}}); err == nil {
		// Git's own would name the origin, which is not looked for there, and be replaced by the next fetch.
		config := (&mirror{path: here.dir}).format().config()
		if err = os.WriteFile(filepath.Join(here.dir, "config"), []byte(config), 0o600); err == nil {
			err = copyRepository(ctx, here.dir, to)
		}
	}
	if err != nil {
		here.remove()
		return nil, err
	}
	return here, nil
}

// copyRepository copies a bare repository to an empty directory that nobody else knows of, synced. Directories without a file are
// left out, but those that git, or we, take for granted.
func copyRepository(ctx context.Context, from, to string) error {
	made := map[string]bool{".": true}
	var enter func(dir string) error
	enter = func(dir string) error { // each of its parents is synced, too
		if made[dir] {
			return nil
		}
		if err := enter(filepath.Dir(dir)); err != nil {
			return err
		}
		made[dir] = true
		return os.Mkdir(filepath.Join(to, dir), 0o700)
	}
	err := errors.Join(enter(filepath.Join("objects", "pack")), enter("refs"))
	if err != nil {
		return err
	}
	var copies errgroup.Group // side by side, for each waits for the volume again and again
	err = filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err == nil {
			err = enter(filepath.Dir(name))
		}
		if err == nil {
			copies.Go(func() error { return copySynced(path, filepath.Join(to, name)) })
		}
		return err
	})
	if err := errors.Join(err, copies.Wait()); err != nil {
		return err
	}
	for dir := range made {
		copies.Go(func() error { return syncDir(filepath.Join(to, dir)) })
	}
	return copies.Wait()
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
	err = copyInLarge(writer, reader)
	return errors.Join(err, writer.Sync(), writer.Close())
}

// copyInLarge copies in large pieces: each write is an operation on the volume.
func copyInLarge(to io.Writer, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	const most = 1 << 20
	// Files know better ways to be copied, which end in small pieces between file systems.
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, min(most, info.Size()+1)))
	return err
}

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
	packs := packsOf(from)
	if len(packs) == 0 {
		return nil
	}
	for _, pack := range packs {
		if err := r.copyPack(pack); err != nil {
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
