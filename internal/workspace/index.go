package workspace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// entry is one of an index.
type entry struct {
	mode, oid, path string
	stage           int
	tag             byte // H, S if skipped, and lower case if taken for unchanged
}

const gitlink = "160000" // the mode of a submodule

// list reads an index.
func (s *scratch) list(ctx context.Context, g git) ([]entry, error) {
	g.most, g.listed = mostListed, s.listed
	listing, err := g.run(ctx, "ls-files", "--stage", "-v", "-z")
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, strings.Count(listing, "\x00"))
	for line := range strings.SplitSeq(listing, "\x00") {
		if one, right := parseEntry(line); right {
			entries = append(entries, one)
		}
	}
	return entries, nil
}

// parseEntry reads "<tag> <mode> <oid> <stage>\t<path>".
func parseEntry(line string) (one entry, right bool) {
	about, path, found := strings.Cut(line, "\t")
	tag, about, _ := strings.Cut(about, " ")
	mode, about, _ := strings.Cut(about, " ")
	oid, number, _ := strings.Cut(about, " ")
	stage, err := strconv.Atoi(number)
	if !found || len(tag) != 1 || err != nil {
		return entry{}, false
	}
	return entry{mode: mode, oid: oid, path: path, stage: stage, tag: tag[0]}, true
}

// changeIndex changes entries, given as `git ls-files --stage -z` prints them.
func (s *scratch) changeIndex(ctx context.Context, g git, entries string) error {
	g.stdin = entries
	_, err := g.run(ctx, "update-index", "-z", "--index-info")
	return err
}

// change is a file that is not as the index has it.
type change struct {
	path    string
	size    int64
	removed bool
	isNew   bool
	dir     bool // where there was a file
	special bool // a pipe, a socket or a device
}

// look lists our index, and what is not as it has it, in one go.
func (s *scratch) look(ctx context.Context, root *os.Root, found *files) (entries []entry, changed []change, err error) {
	lister := s.git()
	lister.most, lister.listed = mostListed, s.listed
	listing, err := lister.run(ctx, "ls-files", "-t", "-z", "--stage", "--others", "--modified", "--deleted", "--exclude-standard")
	if err != nil {
		return nil, nil, err
	}
	entries = make([]entry, 0, strings.Count(listing, "\x00"))
	at := map[string]bool{}
	for line := range strings.SplitSeq(listing, "\x00") {
		path, isNew := strings.CutPrefix(line, "? ")
		if !isNew {
			one, right := parseEntry(line)
			if !right {
				continue
			}
			if one.tag != 'R' && one.tag != 'C' { // removed, changed: those are listed a second time
				entries = append(entries, one)
				continue
			}
			path = one.path
		}
		if at[path] {
			continue
		}
		if dir, isDir := strings.CutSuffix(path, "/"); isDir {
			found.nested = append(found.nested, dir)
			continue
		}
		at[path] = true
		one := changeOf(root, path, isNew)
		if one.dir { // a repository where a file was
			if _, err := root.Lstat(filepath.Join(path, ".git")); err == nil {
				found.nested = append(found.nested, path)
			}
		}
		changed = append(changed, one)
	}
	return entries, changed, nil
}

func changeOf(root *os.Root, path string, isNew bool) change {
	one := change{path: path, isNew: isNew}
	info, err := root.Lstat(path)
	if err != nil {
		one.removed = true
		return one
	}
	one.dir = info.IsDir()
	one.special = info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice) != 0
	if info.Mode().IsRegular() {
		one.size = info.Size()
	}
	return one
}

// stagedOnly finds what the session has staged though it is ignored.
func stagedOnly(root *os.Root, own, entries []entry, changed []change) (found []change) {
	have := make(map[string]bool, len(entries)+len(changed))
	for _, one := range entries {
		have[one.path] = true
	}
	for _, one := range changed {
		have[one.path] = true
	}
	for _, one := range own {
		if have[one.path] || one.mode == gitlink {
			continue
		}
		have[one.path] = true
		if change := changeOf(root, one.path, true); !change.removed && !change.dir {
			found = append(found, change)
		}
	}
	return found
}

// update brings our index up to date with what has changed, and returns what it has then; of new entries the path alone. Git is
// told which files, so it need not look for them again. Where it stumbles, over a file that cannot be read or that has
// become something else meanwhile, and where there are repositories within the tree, it has to look itself.
func (s *scratch) update(ctx context.Context, root *os.Root, entries []entry, changed []change, own []entry, without []string, found *files) ([]entry, error) {
	linked := slices.ContainsFunc(entries, func(e entry) bool { return e.mode == gitlink })
	out := setOf(without)
	kept := slices.DeleteFunc(slices.Clone(changed), func(one change) bool { return below(one.path, out) })
	if len(kept) == 0 && !linked {
		return entries, nil
	}
	if !linked && len(found.nested) == 0 {
		updated, err := s.updateThese(ctx, entries, kept)
		if err == nil || ctx.Err() != nil || !errors.As(err, new(*gitError)) {
			return updated, err
		}
	}
	if err := s.add(ctx, s.git(), without, found.nested); err != nil {
		return nil, err
	}
	return s.settle(ctx, s.git(), root, own, without)
}

// below reports whether a path is one of some, or below one. A session can have a hundred thousand of each: they must not be compared one by one.
func below(path string, dirs map[string]bool) bool {
	for {
		if dirs[path] {
			return true
		}
		slash := strings.LastIndexByte(path, '/')
		if slash < 0 {
			return false
		}
		path = path[:slash]
	}
}

func setOf(paths []string) map[string]bool {
	set := make(map[string]bool, len(paths))
	for _, path := range paths {
		set[path] = true
	}
	return set
}

// updateThese takes files into our index, or out of it. All of them, or none if git ends with an error.
func (s *scratch) updateThese(ctx context.Context, entries []entry, changed []change) ([]entry, error) {
	gone := map[string]bool{}
	var first, then strings.Builder // where a directory has come for a file, the file has to go first
	for _, one := range changed {
		if one.removed || one.dir {
			gone[one.path] = true
			first.WriteString(one.path + "\x00")
		} else {
			then.WriteString(one.path + "\x00")
			if one.isNew {
				entries = append(entries, entry{path: one.path})
			}
		}
	}
	g := s.git()
	g.stdin = first.String() + then.String()
	// Refreshed, the index also learns which files were written anew as they had been; else they would be read each time.
	if _, err := g.run(ctx, "update-index", "-q", "--refresh", "--add", "--remove", "--replace", "-z", "--stdin"); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e entry) bool { return gone[e.path] }), nil
}
