package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"berth/internal/api"
)

const (
	maxNested = 100 // repositories within a tree
	maxDepth  = 3   // of repositories within repositories
)

// nested makes a checkpoint of each repository within the tree, as of the tree itself, and a parent of this one.
// What git clone has made of a submodule has its repository elsewhere: of that only the commit is kept.
func (s *scratch) nested(ctx context.Context, root *os.Root, dirs []string, c *captured) error {
	s.more = nil
	var size int64
	for number, dir := range dirs {
		info, err := root.Lstat(filepath.Join(dir, ".git"))
		if err != nil {
			continue // it vanished just now
		}
		if !info.IsDir() {
			c.leaveOut(dir + "/: it is a submodule or a work tree of another repository; of a submodule the commit is kept")
			continue
		}
		size += packedSize(root, dir)
		switch {
		case number >= maxNested:
			c.leaveOut(fmt.Sprintf("%s/: the limit is %d repositories within the tree", dir, maxNested))
			continue
		case s.depth >= maxDepth:
			c.leaveOut(fmt.Sprintf("%s/: the limit of repositories within repositories is %d", dir, maxDepth))
			continue
		case size > MaxNew:
			c.leaveOut(fmt.Sprintf("%s/ (a repository): it makes %s with the others, and the limit is %s", dir, mib(size), mib(MaxNew)))
			continue
		}
		if err := s.nestedOne(ctx, root, dir, c); err != nil {
			if ctx.Err() != nil {
				return err
			}
			c.leaveOut(dir + "/ (a repository): " + strings.SplitN(err.Error(), "\n", 2)[0])
		}
	}
	return nil
}

// nestedPaths names them, for people.
func nestedPaths(all []nested) (paths []string) {
	for _, one := range all {
		paths = append(paths, strings.ToValidUTF8(string(one.Path), "?")+"/")
	}
	return paths
}

// nestedNote says what is not on a branch, and how to get it there.
func nestedNote(all []nested) string {
	return "no branch can have what lies in repositories within the tree, " + strings.Join(nestedPaths(all), ", ") +
		": it is kept and restored with the session, which has to push it from there, or copy its files"
}

// packedSize is how large a repository's packs are.
func packedSize(root *os.Root, dir string) (size int64) {
	names, err := fs.ReadDir(dirsOf{root}, path.Join(dir, ".git", "objects", "pack"))
	if err != nil {
		return 0
	}
	for _, name := range names {
		if info, err := name.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

func (s *scratch) nestedOne(ctx context.Context, root *os.Root, dir string, c *captured) error {
	sum := sha256.Sum256([]byte(dir))
	place := s.place
	place.Tree, place.Scratch = filepath.Join(s.place.Tree, dir), filepath.Join(s.place.Scratch, "nested", hex.EncodeToString(sum[:8]))
	sub := &scratch{place: place, depth: s.depth + 1, suspicious: s.suspicious, listed: s.listed}
	within, err := root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = within.Close() }() // of a directory
	if !sub.there() {
		if err := sub.createWithin(ctx, s); err != nil {
			return err
		}
	}
	found, err := sub.captureIn(ctx, within)
	if err != nil {
		return err
	}
	commit, err := sub.commit(ctx, found, "0 +0000") // the same state has the same name, wherever it is restored
	if err != nil {
		return err
	}
	for _, line := range found.about.LeftOut {
		c.leaveOut(dir + "/" + line)
	}
	c.about.Nested = append(c.about.Nested, nested{Path: rawPath(dir), Commit: commit})
	c.parents = append(c.parents, commit)
	s.more = append(s.more, filepath.Join(place.gitDir(), "objects"))
	if sub.objects != "" {
		s.more = append(s.more, sub.objects)
	}
	s.more = append(s.more, sub.more...)
	return nil
}

// createWithin makes a scratch within another, as the session's user, to whom that belongs.
func (s *scratch) createWithin(ctx context.Context, outer *scratch) error {
	tool := outer.git()
	tool.inside = ""
	format, err := outer.git().line(ctx, "rev-parse", "--show-object-format")
	if err != nil {
		return err
	}
	info := filepath.Join(s.place.gitDir(), "info")
	if _, err := tool.tool(ctx, "rm", "rm", "-rf", "--", s.place.Scratch); err != nil { // it is not as it was made
		return err
	}
	if _, err := tool.tool(ctx, "mkdir", "mkdir", "-p", "--", info); err != nil {
		return err
	}
	for _, name := range twins {
		init := tool
		init.env = []string{"HOME=" + outer.place.Scratch}
		if _, err := init.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+format, "--", filepath.Join(s.place.Scratch, name)); err != nil {
			return err
		}
		if err := outer.copyFile(ctx, filepath.Join(outer.place.gitDir(), "config"), filepath.Join(s.place.Scratch, name, "config")); err != nil {
			return err
		}
	}
	return outer.copyFile(ctx, filepath.Join(outer.place.gitDir(), "info", "attributes"), filepath.Join(info, "attributes"))
}

// fillNested makes the repositories within a fresh tree.
func (f *fresh) fillNested(ctx context.Context, known *about, depth int) error {
	if depth > maxDepth {
		return nil
	}
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // of a directory
	for _, one := range known.Nested {
		dir := string(one.Path)
		if !commitID.MatchString(one.Commit) || slices.Contains(strings.Split(dir, "/"), ".git") || dir == "." {
			return api.Errorf(api.CodeWorkspaceLost, "the checkpoint has the repository %.80q", dir)
		}
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if linked(root, dir) {
			return api.Errorf(api.CodeWorkspaceLost, "the checkpoint has the repository %.80q behind a link", dir)
		}
		sub := &fresh{temporary: f.temporary, path: filepath.Join(f.path, dir), inner: true}
		if err := sub.init(ctx, formatOf(one.Commit), "main", ""); err != nil {
			return err
		}
		from := f.git()
		from.stdin = one.Commit + "\n"
		if _, err := pipe(ctx, from, packObjects, sub.git(), []string{"-c", "core.fsync=none", "index-pack", "--stdin"}); err != nil {
			return err
		}
		within, err := sub.fill(ctx, one.Commit)
		if err == nil {
			err = sub.fillNested(ctx, within, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linked reports whether a link is on the way to a path.
func linked(root *os.Root, name string) bool {
	for dir := name; dir != "."; dir = filepath.Dir(dir) {
		if info, err := root.Lstat(dir); err != nil || !info.IsDir() {
			return true
		}
	}
	return false
}
