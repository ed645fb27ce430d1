package workspace

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// store brings a commit and what it needs from scratch to the mirror, and makes it the session's checkpoint. Objects
// come first, synced, then the ref: a crash anywhere leaves the last checkpoint or this one.
func (r *mirror) store(ctx context.Context, s *scratch, id, commit, last string, has *state) error {
	return r.storeThen(ctx, s, id, commit, last, has, func() (string, error) { return commit, nil })
}

// storeThen has then tell, once the objects are in the mirror, which commit is to be the checkpoint.
func (r *mirror) storeThen(ctx context.Context, s *scratch, id, commit, last string, has *state, then func() (string, error)) error {
	if !r.exists() {
		if err := r.make(ctx); err != nil {
			return err
		}
	}
	shared, err := r.use(ctx, false)
	if err != nil {
		return err
	}
	defer func() { unlock(shared) }()
	// If this process knows what the mirror has whole, it need not look; else the mirror checks that nothing is missing that
	// the new one needs. That reads all of its packs' indexes, many small reads on the volume.
	if there := r.has(id, last); len(there) > 0 && last == s.last {
		err = r.storePack(ctx, s, commit, there)
	} else {
		err = r.storeObjects(ctx, s, commit, last)
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Join(r.path, "objects", "pack")); err != nil {
		return err
	}
	if commit, err = then(); err != nil {
		return err
	}
	now := &known{commit: last, next: commit}
	defer func() { r.know(id, now) }()
	if err := r.moveRef(id, now); errors.Is(err, os.ErrExist) {
		// Somebody was killed over it, for a session has one owner at a time.
		unlock(shared)
		if shared, err = r.use(ctx, true); err != nil {
			return err
		}
		r.removeLocks()
		if err := r.moveRef(id, now); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	now = &known{commit: commit, whole: true, state: has}
	if last == "" {
		if damaged, _ := r.damaged(id); damaged != "" {
			return os.Remove(damaged)
		}
	}
	return nil
}

// make makes an empty mirror for a checkpoint whose mirror is gone.
func (r *mirror) make(ctx context.Context) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	held, err := lockFile(ctx, r.base()+".lock", true)
	if err != nil {
		return err
	}
	defer unlock(held)
	return r.ensure(ctx)
}

// storeObjects sends the mirror what it lacks. What it has is told by the last checkpoint, or by the origin's
// branches before there is one. If it turns out to be damaged it gets everything.
func (r *mirror) storeObjects(ctx context.Context, s *scratch, commit, last string) error {
	var have []string
	if last != "" && last == s.last { // else scratch was made anew, and does not have it
		have = append(have, last)
	} else if tips, err := originTips(ctx, r.git()); err == nil {
		for _, tip := range tips {
			have = append(have, tip.oid)
		}
	}
	known, err := s.exclude(ctx, have)
	if err != nil {
		return err
	}
	from := s.git()
	from.stdin = commit + "\n" + known
	err = r.takePack(ctx, from, commit)
	if err == nil || ctx.Err() != nil || known == "" || Full(err) {
		return err
	}
	r.log.Warn("sending a mirror all of a checkpoint, for it seems to be damaged", "path", r.path, "err", err)
	if err := r.mend(); err != nil {
		return err
	}
	from.stdin = commit + "\n"
	return r.takePack(ctx, from, commit)
}

// takePack stores what from packs. Where git itself chooses the names, it leaves what it could not finish, as on a volume that has become full
// by it, which then stays full.
func (r *mirror) takePack(ctx context.Context, from git, commit string) error {
	dir := filepath.Join(r.path, "objects", "pack")
	name := rand.Text()
	pack, index := filepath.Join(dir, "tmp_pack_"+name), filepath.Join(dir, "tmp_idx_"+name)
	to := r.bare(commit)
	to.config = append(to.config, "pack.writeReverseIndex=false")
	said, err := pipe(ctx, from, packObjects, to, append(slices.Clip(indexPack), "-o", index, pack))
	if err == nil {
		kind, id, _ := strings.Cut(strings.TrimSpace(said), "\t")
		if kind != "pack" || !commitID.MatchString(id) {
			err = fmt.Errorf("git index-pack says %.80q", said)
		} else {
			// Git takes a pack for there when its index is.
			whole := filepath.Join(dir, "pack-"+id)
			err = errors.Join(os.Rename(pack, whole+".pack"), os.Rename(index, whole+".idx"))
		}
	}
	if err != nil {
		_, _ = os.Remove(pack), os.Remove(index) // or they are removed later
	}
	return err
}

// exclude names objects as what need not be packed, as far as they are there. The trees of what the files are
// like are named too: git looks at that of a commit only if a wanted one descends from it, and under the same path.
func (s *scratch) exclude(ctx context.Context, have []string) (string, error) {
	there, err := kinds(ctx, s.git(), have)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, oid := range have {
		if there[oid] == "" {
			continue
		}
		text.WriteString("^" + oid + "\n")
		if oid == s.last || oid == s.base {
			text.WriteString("^" + oid + "^{tree}\n")
		}
	}
	return text.String(), nil
}

// storePack does the same with few operations on the volume: the pack is made and checked on local disk, and copied.
// What is in has need not be in the pack.
func (r *mirror) storePack(ctx context.Context, s *scratch, commit string, has []string) error {
	known, err := s.exclude(ctx, has)
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(r.config.Temporary, "berth-pack-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := errors.Join(os.MkdirAll(filepath.Join(temporary, "objects", "pack"), 0o700), makeBare(temporary, formatOf(commit))); err != nil {
		return err
	}
	from, to := s.git(), git{dir: "/", env: []string{"GIT_DIR=" + temporary}, config: []string{"core.fsync=none", "pack.writeReverseIndex=false"}}
	from.stdin = commit + "\n" + known
	if _, err := pipe(ctx, from, packNew, to, []string{"index-pack", "--stdin"}); err != nil {
		return err
	}
	made := packsOf(temporary)
	if len(made) != 1 {
		return fmt.Errorf("git made %d packs instead of one", len(made))
	}
	return r.copyPack(made[0])
}

// packsOf lists the packs of a repository.
func packsOf(repository string) []string {
	return namedIn(filepath.Join(repository, "objects", "pack"), "pack-", ".pack")
}

// namedIn lists what there is in a directory that can be read, of which the names begin and end so. The directory may be called as a pattern is.
func namedIn(dir, prefix, suffix string) (paths []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) && strings.HasSuffix(entry.Name(), suffix) {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	return paths
}

// copyPack copies a pack and its index to the mirror, each under another name until it is whole and synced: side by side, but git takes
// a pack for there when its index is, so that comes last.
func (r *mirror) copyPack(pack string) error {
	dir := filepath.Join(r.path, "objects", "pack")
	names := []string{pack, strings.TrimSuffix(pack, ".pack") + ".idx"}
	temporary := make([]string, len(names))
	var copies errgroup.Group
	for i, name := range names {
		temporary[i] = filepath.Join(dir, "tmp_pack_"+rand.Text()) // git, too, removes what is left under such a name
		copies.Go(func() error { return copySynced(name, temporary[i]) })
	}
	err := copies.Wait()
	for i, name := range names {
		if err == nil {
			err = rename(temporary[i], filepath.Join(dir, filepath.Base(name)))
		}
		if err != nil {
			_ = os.Remove(temporary[i]) // or it is removed later
		}
	}
	return err
}

// rename is os.Rename, which asks the volume first whether a directory is in the way.
func rename(from, to string) error {
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
