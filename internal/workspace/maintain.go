package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	manyPacks    = 12             // in a mirror: every git that reads it opens the index of each
	unneeded     = "2.weeks.ago"  // what no ref leads to for so long is dropped
	sweepAfter   = 24 * time.Hour // leftovers of somebody who was killed, and how often what is unneeded is looked for
	maintainTime = 30 * time.Minute
)

// Maintain tidies the mirrors that have become slow to read: it joins packs, and once a day drops what no
// checkpoint has needed for two weeks. With nothing to do it costs a listing of each mirror; call it every minute or
// so, from one goroutine. Sessions may go on meanwhile.
func (m *Mirrors) Maintain(ctx context.Context) error {
	entries, err := os.ReadDir(m.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot tidy the mirrors: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if info, err := entry.Info(); strings.HasPrefix(name, ".new-") && err == nil && time.Since(info.ModTime()) > sweepAfter {
			_ = os.RemoveAll(filepath.Join(m.dir, name)) // the next one tries again
		}
		if !strings.HasSuffix(name, ".git") {
			continue
		}
		r := &mirror{Mirrors: m, path: filepath.Join(m.dir, name)}
		if problem := r.maintain(ctx); problem != nil {
			err = errors.Join(err, fmt.Errorf("cannot tidy the mirror %s: %w", name, problem))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return err
}

// maintain tidies one mirror, unless somebody else does.
func (r *mirror) maintain(ctx context.Context) error {
	packs := r.sweepPacks()
	stamp := filepath.Join(r.path, "berth-repacked")
	info, err := os.Stat(stamp)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(stamp, nil, 0o600); err != nil {
			return err
		}
		if info, err = os.Stat(stamp); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	thorough := time.Since(info.ModTime()) > sweepAfter
	if packs < 2 || packs < manyPacks && !thorough {
		return nil
	}
	file, err := os.OpenFile(r.base()+".tidy", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer unlock(file)
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, maintainTime)
	defer cancel()
	shared, err := r.use(ctx, false)
	if err != nil {
		return err
	}
	defer unlock(shared)
	if !thorough {
		return r.repack(ctx, "--geometric=2")
	}
	err = r.repack(ctx, "-a", "--cruft", "--cruft-expiration="+unneeded)
	if err != nil && ctx.Err() == nil && r.dropDamaged(ctx) {
		err = r.repack(ctx, "-a", "--cruft", "--cruft-expiration="+unneeded)
	}
	now := time.Now()
	return errors.Join(err, os.Chtimes(stamp, now, now))
}

func (r *mirror) repack(ctx context.Context, how ...string) error {
	g := r.git()
	g.config = []string{"repack.updateServerInfo=false", "repack.writeBitmaps=false", "core.bigFileThreshold=32m", "pack.writeReverseIndex=false"}
	_, err := g.run(ctx, append([]string{"repack", "-d", "--quiet"}, how...)...)
	return err
}

// sweepPacks removes what somebody who was killed has left among the packs, and counts them.
func (r *mirror) sweepPacks() (packs int) {
	dir := filepath.Join(r.path, "objects", "pack")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0 // a damaged mirror is repaired when it is used
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, ".pack") {
			packs++
		}
		if strings.HasPrefix(name, "tmp_") || strings.HasPrefix(name, ".tmp-") {
			if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > sweepAfter {
				_ = os.Remove(filepath.Join(dir, name)) // the next one tries again
			}
		}
	}
	return packs
}

// dropDamaged gives up checkpoints of which parts are missing; they would keep git from tidying anything. A session that
// still runs saves everything anew. It reports whether there were any.
func (r *mirror) dropDamaged(ctx context.Context) (found bool) {
	for name, oid := range sessionRefs(r.path) {
		_, err := r.git().run(ctx, "rev-list", "--quiet", "--objects", oid, "--")
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.log.Error("giving up a damaged checkpoint", "path", r.path, "ref", name, "commit", oid, "err", err)
		if markDamaged(r.path, []string{name}, "commit "+oid+" of "+r.path) != nil {
			continue
		}
		if _, err := r.git().run(ctx, "update-ref", "-d", name, oid); err == nil {
			found = true
		}
	}
	return found
}
