package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// Limits of what a checkpoint has.
const (
	MaxFile  = 100 << 20 // bytes of a file
	MaxFiles = 200_000   // files
	MaxNew   = 2 << 30   // bytes of files that are new or changed since the last one
)

// files is the state of a tree's files.
type files struct {
	raw     string // the tree of the files as they are
	asGit   string // the tree as git would commit it
	modes   fileModes
	dirs    []rawPath
	nested  []string // directories that are repositories
	leftOut []string
}

// files looks at the files. The index that we keep has git look again at those only that changed. staged gives the entries of
// the session's own index.
func (s *scratch) files(ctx context.Context, root *os.Root, staged func() ([]entry, error)) (*files, error) {
	found := &files{}
	entries, changed, err := s.look(ctx, root, found)
	own, problem := staged()
	if err = errors.Join(err, problem); err != nil {
		return nil, err
	}
	changed = append(changed, stagedOnly(root, own, entries, changed)...)
	without := s.limit(changed, found)
	if entries, err = s.update(ctx, root, entries, changed, own, without, found); err != nil {
		return nil, err
	}
	links := s.submodules(root, own, found)
	described := meanwhile(func() error { return s.describe(ctx, root, entries, found) }) // it and git read the same index
	found.raw, err = s.writeTree(ctx, s.git(), links)
	if err = errors.Join(err, described()); err != nil {
		return nil, err
	}
	found.asGit = found.raw
	if slices.ContainsFunc(entries, func(e entry) bool { return isAttributes(e.path) }) {
		found.asGit, err = s.converted(ctx, root, own, without, found, links)
	}
	return found, err
}

// limit returns what has to be left out: too large files, and what makes too much of all.
func (s *scratch) limit(changed []change, found *files) (without []string) {
	var total int64
	count := 0
	bySize := slices.Clone(changed)
	sort.SliceStable(bySize, func(i, j int) bool { return bySize[i].size < bySize[j].size })
	var tooMany []change
	for _, one := range bySize {
		if one.removed {
			continue
		}
		say := func(why string) {
			kept := ""
			if !one.isNew {
				kept = "; the checkpoint has it as it was before"
			}
			found.leftOut = append(found.leftOut, one.path+" ("+mib(one.size)+"): "+why+kept)
			without = append(without, one.path)
		}
		switch {
		case one.special:
			say("it is a pipe, a socket or a device")
		case one.size > MaxFile:
			say("the limit of a file is " + mib(MaxFile))
		case total+one.size > MaxNew:
			say("the limit of what is new in a checkpoint is " + mib(MaxNew))
		case one.isNew && count >= MaxFiles:
			tooMany = append(tooMany, one)
		default:
			total += one.size
			if one.isNew {
				count++
			}
		}
	}
	s.added += total
	without = append(without, leaveOutMany(tooMany, found)...)
	sort.Strings(found.leftOut)
	return without
}

// leaveOutMany names the directories of files that are too many.
func leaveOutMany(files []change, found *files) (without []string) {
	dirs := map[string]int{}
	for _, one := range files {
		dir, _, below := strings.Cut(one.path, "/")
		if below {
			dir += "/"
		}
		dirs[dir]++
	}
	for dir, count := range dirs {
		found.leftOut = append(found.leftOut, fmt.Sprintf("%s (%d files): the limit is %d files; leave it out with .gitignore", dir, count, MaxFiles))
		without = append(without, strings.TrimSuffix(dir, "/"))
	}
	sort.Strings(without)
	return without
}

func mib(size int64) string {
	if size >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(size)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", size>>20)
}

// add brings the index up to date. What vanishes or cannot be read meanwhile is passed over.
func (s *scratch) add(ctx context.Context, g git, without ...[]string) error {
	patterns := []string{"."}
	for _, path := range slices.Concat(without...) {
		patterns = append(patterns, ":(exclude,top,literal)"+path)
	}
	g.stdin = strings.Join(patterns, "\x00") + "\x00"
	_, err := g.run(ctx, "add", "--all", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul")
	if fatal(err) {
		return err
	}
	return nil
}

// settle puts right what git add does otherwise than a checkpoint needs it, and returns the index's entries: submodules
// go, since git would run `git status` in them with their own configuration; what the session has staged comes in though it
// is ignored.
func (s *scratch) settle(ctx context.Context, g git, root *os.Root, staged []entry, without []string) ([]entry, error) {
	entries, err := s.list(ctx, g)
	if err != nil {
		return nil, err
	}
	have := make(map[string]bool, len(entries))
	var links strings.Builder
	entries = slices.DeleteFunc(entries, func(e entry) bool {
		have[e.path] = true
		if e.mode == gitlink {
			links.WriteString("0 " + strings.Repeat("0", len(e.oid)) + "\t" + e.path + "\x00")
			return true
		}
		return false
	})
	if links.Len() > 0 {
		if err := s.changeIndex(ctx, g, links.String()); err != nil {
			return nil, err
		}
	}
	var missing strings.Builder
	out := setOf(without)
	for _, one := range staged {
		if have[one.path] || one.mode == gitlink || below(one.path, out) {
			continue
		}
		if info, err := root.Lstat(one.path); err == nil && !info.IsDir() {
			missing.WriteString(one.path + "\x00")
		}
	}
	if missing.Len() == 0 {
		return entries, nil
	}
	g.stdin = missing.String()
	if _, err := g.run(ctx, "update-index", "--add", "--remove", "-z", "--stdin"); err != nil && ctx.Err() != nil {
		return nil, err // if one of them vanished just now, the next checkpoint has the rest
	}
	g.stdin = ""
	return s.list(ctx, g)
}

// submodules are the entries that the session's index has of them, as far as their directories are there.
func (s *scratch) submodules(root *os.Root, staged []entry, found *files) (links []entry) {
	for _, one := range staged {
		if one.mode != gitlink || one.stage != 0 {
			continue
		}
		info, err := root.Lstat(one.path)
		if err != nil || !info.IsDir() {
			continue
		}
		if slices.Contains(found.nested, one.path) {
			if refs, err := readRefs(root, one.path+"/.git"); err == nil && len(refs.commit()) == len(one.oid) {
				one.oid = refs.commit()
			}
		}
		links = append(links, one)
	}
	return links
}

// writeTree makes a tree of an index, and of submodules, which are not in it.
func (s *scratch) writeTree(ctx context.Context, g git, links []entry) (string, error) {
	if len(links) == 0 {
		return g.line(ctx, "write-tree")
	}
	var lines strings.Builder
	for _, one := range links {
		lines.WriteString(one.mode + " " + one.oid + " 0\t" + one.path + "\x00")
	}
	index := filepath.Join(s.place.Scratch, "with-submodules")
	if err := s.copyFile(ctx, g.variable("GIT_INDEX_FILE"), index); err != nil {
		return "", err
	}
	g = withIndex(g, index)
	if err := s.changeIndex(ctx, g, lines.String()); err != nil {
		return "", err
	}
	return g.line(ctx, "write-tree")
}

// variable returns one of git's environment.
func (g git) variable(name string) (value string) {
	for _, one := range g.env {
		if text, found := strings.CutPrefix(one, name+"="); found {
			value = text
		}
	}
	return value
}

// converted makes the tree that git would commit. Attributes that cannot be carried out, such as an encoding that a
// file does not have, leave it as the files are.
func (s *scratch) converted(ctx context.Context, root *os.Root, staged []entry, without []string, found *files, links []entry) (string, error) {
	err := s.add(ctx, s.asGit(), without, found.nested)
	if err == nil {
		_, err = s.settle(ctx, s.asGit(), root, staged, without)
	}
	tree := found.raw
	if err == nil {
		tree, err = s.writeTree(ctx, s.asGit(), links)
	}
	if err != nil && ctx.Err() == nil && errors.As(err, new(*gitError)) {
		return found.raw, nil
	}
	return tree, err
}

// describe finds what git does not keep: permissions, and directories without a file.
func (s *scratch) describe(ctx context.Context, root *os.Root, entries []entry, found *files) error {
	lister := s.git()
	lister.most, lister.listed = mostListed, s.listed
	listing, err := lister.run(ctx, "ls-files", "-z", "--others", "--directory", "--exclude-standard")
	if err != nil {
		return err
	}
	paths := make([]string, len(entries))
	for i, one := range entries {
		paths[i] = one.path
	}
	all, err := modes(root, paths)
	if err != nil {
		return err
	}
	for path := range strings.SplitSeq(listing, "\x00") {
		dir, isDir := strings.CutSuffix(path, "/")
		if !isDir {
			s.unreadable(root, path, found)
			continue
		}
		if slices.Contains(found.nested, dir) {
			continue
		}
		below, err := dirsBelow(root, dir)
		if errors.Is(err, errTooManyDirs) {
			found.leftOut = append(found.leftOut, dir+"/: "+err.Error())
		} else if err != nil {
			return err
		}
		all = append(all, below...)
		for _, one := range below {
			found.dirs = append(found.dirs, rawPath(one.path))
		}
	}
	found.modes = newModes(all)
	return nil
}

// unreadable names a file that is not in the index because it cannot be read. One that is new since the index was
// made comes with the next checkpoint.
func (s *scratch) unreadable(root *os.Root, path string, found *files) {
	if len(s.place.Run) == 0 && os.Getuid() == 0 || path == "" {
		return
	}
	if info, err := root.Lstat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o400 == 0 {
		found.leftOut = append(found.leftOut, path+": it cannot be read")
	}
}
