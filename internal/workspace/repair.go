package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// mend puts right what git needs to take a directory for a repository at all: files that are always the same. It costs
// two reads if they are right.
func (r *mirror) mend() error {
	head, err := os.ReadFile(filepath.Join(r.path, "HEAD"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !rightHead.Match(head) {
		if err := writeFile(filepath.Join(r.path, "HEAD"), "ref: refs/heads/main\n"); err != nil {
			return err
		}
	}
	config, err := os.ReadFile(filepath.Join(r.path, "config"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if want := r.format().config(); string(config) != want {
		if err := writeFile(filepath.Join(r.path, "config"), want); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(r.path, "refs", "heads"), 0o700)
}

var rightHead = regexp.MustCompile(`^(ref: refs/heads/[^\x00-\x20]+|[0-9a-f]{40}|[0-9a-f]{64})\n$`)

// format is how long a repository's object names are.
type format string

const (
	sha1Format   format = "sha1"
	sha256Format format = "sha256"
)

// config is all of a mirror's configuration; the rest is in settings.
func (f format) config() string {
	if f == sha256Format {
		return "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n"
	}
	return "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
}

// emptyTree is the tree without a file.
func emptyTree(as format) string {
	if as == sha256Format {
		return "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"
	}
	return "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
}

// formatOf tells the format of an object's name.
func formatOf(oid string) format {
	if len(oid) == 64 {
		return sha256Format
	}
	return sha1Format
}

// format tells that of a mirror, by the names of its packs if its configuration is broken.
func (r *mirror) format() format {
	config, err := os.ReadFile(filepath.Join(r.path, "config"))
	if err == nil && strings.HasPrefix(string(config), "[core]") {
		if strings.Contains(strings.ToLower(string(config)), "objectformat = sha256") {
			return sha256Format
		}
		return sha1Format
	}
	for _, pack := range packsOf(r.path) {
		return formatOf(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(pack), "pack-"), ".pack"))
	}
	return sha1Format
}

// repair makes a mirror work again in which git fails. The caller holds the lock.
func (r *mirror) repair(ctx context.Context, from address) error {
	alone, err := r.use(ctx, true)
	if err != nil {
		return err
	}
	defer unlock(alone)
	if r.removeLocks() > 0 && r.sound(ctx) { // they may have been all that was wrong
		if _, err := r.network(ctx, r.git(), from, "fetch", "--quiet", "--prune", "--force", "--no-tags", "--no-recurse-submodules",
			"--no-write-fetch-head", "--", from.text, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"); err == nil {
			return nil
		}
	}
	unfinished, _, err := r.beside()
	if err != nil {
		return err
	}
	fresh, err := r.freshMirror(ctx, from, unfinished)
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	return r.swap(ctx, fresh)
}

// asideInfix comes between a mirror's name and a number, in the name of one that was put aside.
const asideInfix = ".damaged-"

// swap puts a fresh mirror in the place of one that is there, with the checkpoints that can be saved from it. If some
// cannot, the old one stays beside it. The caller uses the mirror alone.
func (r *mirror) swap(ctx context.Context, fresh string) error {
	aside := fmt.Sprintf("%s%s%d", r.base(), asideInfix, time.Now().UnixNano())
	lostRefs, err := r.salvage(ctx, r.path, fresh)
	if err == nil {
		err = markDamaged(fresh, lostRefs, aside)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(r.path, aside); err != nil {
		return err
	}
	if err := os.Rename(fresh, r.path); err != nil {
		return err
	}
	if err := syncDir(r.dir); err != nil {
		return err
	}
	if len(lostRefs) > 0 {
		r.log.Error("checkpoints are damaged", "kept", aside, "refs", lostRefs)
		return nil
	}
	return os.RemoveAll(aside)
}

// salvageAside saves checkpoints from mirrors that were put aside, by somebody who then was killed.
func (r *mirror) salvageAside(ctx context.Context, aside []string, fresh string) error {
	for _, dir := range aside {
		lostRefs, err := r.salvage(ctx, dir, fresh)
		if err == nil {
			err = markDamaged(fresh, lostRefs, dir)
		}
		if err != nil {
			return err
		}
		if len(lostRefs) == 0 {
			_ = os.RemoveAll(dir) // it has nothing that is needed
		}
	}
	return nil
}

// A session whose checkpoint was damaged is not one that never had any: a file in the mirror tells, until there is a new
// checkpoint. It says where the damaged one is.
const damagedDir = "berth-damaged"

func markDamaged(dir string, refs []string, kept string) error {
	for _, name := range refs {
		id, found := strings.CutPrefix(name, "refs/berth/")
		if !found {
			continue
		}
		path := filepath.Join(dir, damagedDir, id)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), writeFile(path, kept+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// damaged returns the file that tells of a session's damaged checkpoint, and what it says.
func (r *mirror) damaged(id string) (path, kept string) {
	path = filepath.Join(r.path, damagedDir, id)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", ""
	}
	return path, strings.TrimSpace(string(text))
}

// sound reports whether everything that the mirror's refs need is there.
func (r *mirror) sound(ctx context.Context) bool {
	_, err := r.git().run(ctx, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
	return err == nil
}

// removeLocks removes the locks that a killed git has left, and returns how many there were. The caller uses the
// mirror alone.
func (r *mirror) removeLocks() (found int) {
	_ = filepath.WalkDir(r.path, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what cannot be read has no locks that can be removed
		case entry.IsDir() && entry.Name() == "objects":
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".lock"):
			if os.Remove(path) == nil { //nolint:gosec // no session can reach a mirror
				found++
			}
		}
		return nil
	})
	return found
}

// salvage copies the refs of sessions from a mirror to another, each with all that it needs. It returns those that
// could not be saved.
func (r *mirror) salvage(ctx context.Context, old, fresh string) (lostRefs []string, err error) {
	to := git{dir: "/", env: []string{"GIT_DIR=" + fresh}}
	tips, err := originTips(ctx, to)
	if err != nil {
		return nil, err
	}
	// Objects that are missing in the old one may be in the fresh one.
	from := git{dir: "/", env: append(to.env, "GIT_OBJECT_DIRECTORY="+filepath.Join(old, "objects"), alternates(filepath.Join(fresh, "objects")))}
	for name, oid := range sessionRefs(old) {
		from.stdin = oid + "\n" + exclude(tips)
		if _, err := to.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name); err == nil {
			continue // a newer one
		}
		_, err := pipe(ctx, from, packObjects, to, indexPack)
		if err == nil {
			_, err = to.run(ctx, "update-ref", name, oid)
		}
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			r.log.Error("a checkpoint is damaged", "ref", name, "err", err)
			lostRefs = append(lostRefs, name)
		}
	}
	return lostRefs, nil
}

// sessionRefs reads the refs of sessions in a mirror that git may not be able to read.
func sessionRefs(dir string) map[string]string {
	found := map[string]string{}
	if text, err := os.ReadFile(filepath.Join(dir, "packed-refs")); err == nil {
		for line := range strings.Lines(string(text)) {
			oid, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			if commitID.MatchString(oid) && (strings.HasPrefix(name, "refs/berth/") || strings.HasPrefix(name, "refs/delivered/")) {
				found[name] = oid
			}
		}
	}
	for _, space := range []string{"refs/berth", "refs/delivered"} {
		entries, err := os.ReadDir(filepath.Join(dir, space))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			text, err := os.ReadFile(filepath.Join(dir, space, entry.Name()))
			if oid := strings.TrimSpace(string(text)); err == nil && commitID.MatchString(oid) {
				found[space+"/"+entry.Name()] = oid
			}
		}
	}
	return found
}

// writeFile replaces a small file as a whole.
func writeFile(path, text string) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // it has another name, or is of no use
	_, err = temporary.WriteString(text)
	if err := errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
