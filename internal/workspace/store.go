package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// store brings a commit and what it needs from scratch to the mirror, and makes it the session's checkpoint. Objects
// come first, synced, then the ref: a crash anywhere leaves the last checkpoint or this one.
func (r *mirror) store(ctx context.Context, s *scratch, id, commit, last string) error {
	return r.storeThen(ctx, s, id, commit, last, func() (string, error) { return commit, nil })
}

// storeThen has then tell, once the objects are in the mirror, which commit is to be the checkpoint.
func (r *mirror) storeThen(ctx context.Context, s *scratch, id, commit, last string, then func() (string, error)) error {
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
	// The last checkpoint is known to be whole if it was stored by this process; else the mirror checks that nothing
	// is missing that the new one needs. That reads all of its packs' indexes, many small reads on the volume.
	if last == s.last && r.knows(id, last) {
		err = r.storePack(ctx, s, commit, last)
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
	name := "refs/berth/" + id
	if err := r.writeRef(name, commit); errors.Is(err, os.ErrExist) {
		// Somebody was killed over it, for a session has one owner at a time.
		unlock(shared)
		if shared, err = r.use(ctx, true); err != nil {
			return err
		}
		r.removeLocks()
		if err := r.writeRef(name, commit); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	r.know(id, commit)
	if last == "" {
		if damaged, _ := r.damaged(id); damaged != "" {
			return os.Remove(damaged)
		}
	}
	return nil
}

// knows reports whether a checkpoint was stored by this process.
func (r *mirror) knows(id, commit string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return commit != "" && r.stored[r.path+" "+id] == commit
}

// know remembers a checkpoint; or forgets it, if it is empty.
func (r *mirror) know(id, commit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if commit == "" {
		delete(r.stored, r.path+" "+id)
	} else {
		r.stored[r.path+" "+id] = commit
	}
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
	there, err := kinds(ctx, s.git(), have)
	if err != nil {
		return err
	}
	var known strings.Builder
	for _, oid := range have {
		if there[oid] != "" {
			known.WriteString("^" + oid + "\n")
			if oid == last {
				known.WriteString(excludeTree(last))
			}
		}
	}
	from := s.git()
	from.stdin = commit + "\n" + known.String()
	err = pipe(ctx, from, packObjects, r.git(), indexPack)
	if err == nil || ctx.Err() != nil || known.Len() == 0 {
		return err
	}
	r.log.Warn("sending a mirror all of a checkpoint, for it seems to be damaged", "path", r.path, "err", err)
	if err := r.mend(); err != nil {
		return err
	}
	from.stdin = commit + "\n"
	err = pipe(ctx, from, packObjects, r.git(), indexPack)
	return err
}

// excludeTree names the files of a checkpoint as what need not be packed: git looks at the trees of a commit only if a
// wanted one descends from it.
func excludeTree(commit string) string { return "^" + commit + "^{tree}\n" }

// storePack does the same with few operations on the volume: the pack is made and checked on local disk, and copied.
func (r *mirror) storePack(ctx context.Context, s *scratch, commit, last string) error {
	temporary, err := os.MkdirTemp(r.config.Temporary, "berth-pack-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	packs := filepath.Join(temporary, "objects", "pack")
	if err := errors.Join(os.MkdirAll(packs, 0o700), os.MkdirAll(filepath.Join(temporary, "refs"), 0o700),
		os.WriteFile(filepath.Join(temporary, "HEAD"), []byte("ref: refs/heads/main\n"), 0o600),
		os.WriteFile(filepath.Join(temporary, "config"), []byte(formatOf(commit).config()), 0o600)); err != nil {
		return err
	}
	from, to := s.git(), git{dir: "/", env: []string{"GIT_DIR=" + temporary}, config: []string{"core.fsync=none", "pack.writeReverseIndex=false"}}
	from.stdin = commit + "\n^" + last + "\n" + excludeTree(last)
	if err := pipe(ctx, from, packNew, to, []string{"index-pack", "--stdin"}); err != nil {
		return err
	}
	made, err := filepath.Glob(filepath.Join(packs, "pack-*.pack"))
	if err != nil || len(made) != 1 {
		return fmt.Errorf("git made %d packs instead of one: %w", len(made), err)
	}
	// Git takes a pack for there when its index is.
	index := strings.TrimSuffix(made[0], ".pack") + ".idx"
	return errors.Join(r.copyPack(made[0]), r.copyPack(index))
}

// copyPack copies a file to the mirror's packs, under another name until it is whole and synced.
func (r *mirror) copyPack(path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it was only read
	dir := filepath.Join(r.path, "objects", "pack")
	to, err := os.CreateTemp(dir, "tmp_pack_*") // git, too, removes what is left under such a name
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Chmod(0o444), to.Sync(), to.Close())
	if err == nil {
		err = os.Rename(to.Name(), filepath.Join(dir, filepath.Base(path)))
	}
	if err != nil {
		_ = os.Remove(to.Name()) // or it is removed later
	}
	return err
}

// writeRef sets a ref of the mirror as `git update-ref` does, in a tenth of the operations on the volume. The error is
// os.ErrExist if somebody else has it locked.
func (r *mirror) writeRef(name, oid string) error {
	path := filepath.Join(r.path, filepath.FromSlash(name))
	lock, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			lock, err = os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = lock.WriteString(oid + "\n")
	err = errors.Join(err, lock.Sync(), lock.Close())
	if err == nil {
		err = os.Rename(path+".lock", path)
	}
	if err != nil {
		_ = os.Remove(path + ".lock") // the next one removes it
		return err
	}
	return syncDir(filepath.Dir(path))
}
