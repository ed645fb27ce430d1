package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// captured is a checkpoint in the making.
type captured struct {
	about   about
	wrapper string   // its tree
	tree    string   // the files as git would commit them
	parents []string // what it has to reach
}

// capture describes the state of the place's tree, and puts whatever is new into scratch. Nothing else is
// written.
func (s *scratch) capture(ctx context.Context) (*captured, error) {
	root, err := openTree(s.place.Tree)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // of a directory
	return s.captureIn(ctx, root)
}

func (s *scratch) captureIn(ctx context.Context, root *os.Root) (c *captured, err error) {
	if s.depth == 0 {
		s.listed.again()
	}
	s.findObjects()
	s.more = nil
	c = &captured{about: about{Version: aboutVersion, Gone: s.objects == ""}}
	refs, index := &localRefs{}, ""
	staged := func() ([]entry, error) { return nil, nil }
	if c.about.Gone {
		c.leaveOut("the repository: " + s.place.Tree + "/.git is gone, or no directory; of commits the checkpoint has those of the last one")
	} else {
		if refs, err = readRefs(root, ".git"); err != nil {
			return nil, err
		}
		c.about.LeftOut = append(c.about.LeftOut, refs.leftOut...)
		s.unfinished(root, c)
		staged = s.stagedMeanwhile(ctx, c, &index)
	}
	found, err := s.files(ctx, root, staged)
	if err != nil {
		return nil, err
	}
	c.about.Modes, c.about.Dirs, c.tree = found.modes, found.dirs, found.asGit
	c.about.LeftOut = append(c.about.LeftOut, found.leftOut...)
	if err := s.remembered(ctx); err != nil {
		return nil, err
	}
	c.about.Base = s.base
	if !c.about.Gone {
		c.about.Config = s.settings(ctx, root)
	}
	if err := s.nested(ctx, root, found.nested, c); err != nil {
		return nil, err
	}
	return c, s.wrap(ctx, c, found, refs, index)
}

func (c *captured) leaveOut(line string) { c.about.LeftOut = append(c.about.LeftOut, line) }

// remembered reads scratch's own refs.
func (s *scratch) remembered(ctx context.Context) error {
	s.base, s.baseTree, s.last, s.lastTree = "", "", "", ""
	listing, err := s.git().run(ctx, "for-each-ref", "--format=%(refname) %(objectname) %(tree)", "refs/base", "refs/last")
	if err != nil {
		return err
	}
	for line := range strings.Lines(listing) {
		switch words := strings.Fields(line); {
		case len(words) != 3:
		case words[0] == "refs/base":
			s.base, s.baseTree = words[1], words[2]
		case words[0] == "refs/last":
			s.last, s.lastTree = words[1], words[2]
		}
	}
	return nil
}

// stagedMeanwhile reads the session's index while somebody else looks at the files, and fills in index and c before what it
// returns does.
func (s *scratch) stagedMeanwhile(ctx context.Context, c *captured, index *string) func() ([]entry, error) {
	var entries []entry
	wait := meanwhile(func() (err error) {
		entries, *index, err = s.staged(ctx, c)
		return err
	})
	return func() ([]entry, error) {
		err := wait()
		return entries, err
	}
}

// meanwhile does something while its caller goes on, who has to wait for it. A fault that it meets with goes on in whoever waits, as if it
// had been done there.
func meanwhile(do func() error) (wait func() error) {
	var err error
	var fault any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { fault = recover() }()
		err = do()
	}()
	return func() error {
		<-done
		if fault != nil {
			panic(fault)
		}
		return err
	}
}

// staged reads the session's index, of which git may write only a copy.
func (s *scratch) staged(ctx context.Context, c *captured) (entries []entry, tree string, err error) {
	index := filepath.Join(s.place.Tree, ".git", "index")
	if info, err := os.Lstat(index); err != nil {
		return nil, "", nil //nolint:nilerr // nothing was ever staged
	} else if !info.Mode().IsRegular() {
		c.leaveOut("what is staged: the index is no file")
		return nil, "", nil
	}
	copied := filepath.Join(s.place.Scratch, "staged")
	if err := s.copyFile(ctx, index, copied); err != nil {
		if ctx.Err() != nil {
			return nil, "", err
		}
		c.leaveOut("what is staged: the index cannot be read")
		return nil, "", nil
	}
	g := withIndex(s.git(), copied)
	entries, err = s.list(ctx, g)
	if err == nil && slices.ContainsFunc(entries, func(e entry) bool { return e.stage != 0 }) {
		c.leaveOut("what is staged: a merge has conflicts that are not resolved")
		return entries, "", nil
	}
	for _, one := range entries {
		if one.tag == 'S' || one.tag == 's' {
			c.about.Skipped = append(c.about.Skipped, rawPath(one.path))
		}
	}
	if err == nil {
		tree, err = g.line(ctx, "write-tree")
	}
	if err != nil && ctx.Err() == nil && errors.As(err, new(*gitError)) {
		c.leaveOut("what is staged: " + err.Error())
		return entries, "", nil
	}
	return entries, tree, err
}

// unfinished names what git was in the middle of.
func (s *scratch) unfinished(root *os.Root, c *captured) {
	for _, state := range []struct{ name, what string }{
		{"MERGE_HEAD", "a merge"},
		{"rebase-merge", "a rebase"},
		{"rebase-apply", "a rebase"},
		{"CHERRY_PICK_HEAD", "a cherry-pick"},
		{"REVERT_HEAD", "a revert"},
		{"BISECT_LOG", "a bisection"},
	} {
		if _, err := root.Lstat(filepath.Join(".git", state.name)); err == nil {
			c.leaveOut("that git was in the middle of " + state.what + ": only the files, the branch and the commits are kept")
		}
	}
}

// wrap makes the checkpoint's tree, and finds its parents.
func (s *scratch) wrap(ctx context.Context, c *captured, found *files, refs *localRefs, index string) error {
	c.about.Head, c.about.Commit = refs.head, refs.commit()
	tips, err := s.tips(ctx, refs, c)
	if err != nil {
		return err
	}
	if !slices.Contains(tips.commits, c.about.Commit) {
		c.about.Commit = ""
	}
	text, err := json.Marshal(c.about)
	if err != nil {
		return err
	}
	lines := []string{}
	for _, part := range []struct{ name, text string }{
		{"about.json", string(text)}, {"refs", refsText(tips.refs)}, {"objects", tips.tags}, {"stash", tips.stash},
	} {
		if part.text == "" {
			continue
		}
		writer := s.git()
		writer.stdin = part.text
		oid, err := writer.line(ctx, "hash-object", "-w", "--stdin")
		if err != nil {
			return err
		}
		lines = append(lines, "100644 blob "+oid+"\t"+part.name)
	}
	lines = append(lines, "040000 tree "+found.raw+"\tfiles", "040000 tree "+found.asGit+"\ttree")
	if index != "" {
		lines = append(lines, "040000 tree "+index+"\tindex")
	}
	lines = append(lines, tips.extra...)
	maker := s.git()
	maker.stdin = strings.Join(lines, "\n") + "\n"
	if c.wrapper, err = maker.line(ctx, "mktree"); err != nil {
		return err
	}
	c.parents = append(c.parents, tips.commits...)
	return nil
}

// tips are what a repository's refs lead to.
type tips struct {
	refs    []ref
	commits []string
	tags    string   // as `git cat-file --batch` prints them
	extra   []string // lines for mktree
	stash   string
}

// tips looks at every object that a ref leads to. A ref to what is not there is left out.
func (s *scratch) tips(ctx context.Context, refs *localRefs, c *captured) (*tips, error) {
	t := &tips{stash: refs.stash}
	var names []string
	for _, one := range refs.refs {
		if one.oid != "" {
			names = append(names, one.oid)
		}
	}
	stashed := refs.stashed()
	names = append(names, stashed...)
	for _, more := range []string{c.about.Base, refs.commit()} {
		if more != "" {
			names = append(names, more)
		}
	}
	types, err := kinds(ctx, s.git(), names)
	if err != nil {
		return nil, err
	}
	for _, one := range refs.refs {
		if one.oid != "" && types[one.oid] == "" {
			c.leaveOut(one.name + ": its object " + one.oid + " is not there")
			continue
		}
		t.refs = append(t.refs, one)
	}
	for _, oid := range stashed {
		if types[oid] != "commit" {
			t.stash = "" // the last entry is a ref of its own
		}
	}
	if err := s.peel(ctx, types, t); err != nil {
		return nil, err
	}
	for oid, kind := range types {
		switch kind {
		case "commit":
			t.commits = append(t.commits, oid)
		case "tree":
			t.extra = append(t.extra, "040000 tree "+oid+"\textra-"+oid)
		case "blob":
			t.extra = append(t.extra, "100644 blob "+oid+"\textra-"+oid)
		}
	}
	sort.Strings(t.commits)
	return t, s.whole(ctx, c, t)
}

// kinds tells the types of objects; nothing of those that are not there.
func kinds(ctx context.Context, asker git, oids []string) (map[string]string, error) {
	found := map[string]string{}
	if len(oids) == 0 {
		return found, nil
	}
	asker.stdin, asker.most = strings.Join(oids, "\n")+"\n", 64<<20
	answer, err := asker.run(ctx, "cat-file", "--batch-check=%(objectname) %(objecttype)")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(answer) {
		if oid, kind, ok := strings.Cut(strings.TrimSpace(line), " "); ok && kind != "missing" {
			found[oid] = kind
		}
	}
	return found, nil
}

// peel follows annotated tags to what they are of, and keeps them.
func (s *scratch) peel(ctx context.Context, types map[string]string, t *tips) error {
	done := map[string]bool{}
	for range 10 { // a tag of a tag of a tag …
		var tags []string
		for oid, kind := range types {
			if kind == "tag" && !done[oid] {
				tags = append(tags, oid)
				done[oid] = true
			}
		}
		if len(tags) == 0 {
			return nil
		}
		sort.Strings(tags)
		reader := s.git()
		reader.stdin, reader.most = strings.Join(tags, "\n")+"\n", 256<<20
		batch, err := reader.run(ctx, "cat-file", "--batch")
		if err != nil {
			return err
		}
		t.tags += batch
		var targets []string
		for _, object := range parseBatch(batch) {
			if target, found := strings.CutPrefix(strings.SplitN(object.text, "\n", 2)[0], "object "); found && commitID.MatchString(target) {
				targets = append(targets, target)
			}
		}
		more, err := kinds(ctx, s.git(), targets)
		if err != nil {
			return err
		}
		for oid, kind := range more {
			types[oid] = kind
		}
	}
	return errors.New("a tag leads to more than ten tags")
}

// object is one that `git cat-file --batch` printed.
type object struct{ oid, kind, text string }

// parseBatch reads "<oid> <type> <size>\n<content>\n" …
func parseBatch(batch string) (objects []object) {
	for batch != "" {
		header, rest, found := strings.Cut(batch, "\n")
		words := strings.Fields(header)
		if !found || len(words) != 3 {
			return objects
		}
		size, err := strconv.Atoi(words[2])
		if err != nil || size < 0 || size >= len(rest) {
			return objects
		}
		objects = append(objects, object{words[0], words[1], rest[:size]})
		batch = rest[size+1:]
	}
	return objects
}

// whole leaves out commits whose history is not all there: in a shallow clone, or after damage.
func (s *scratch) whole(ctx context.Context, c *captured, t *tips) error {
	if s.objects == "" {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(s.objects), "shallow")); err != nil && !s.suspicious {
		return nil //nolint:nilerr // the history of a repository that was cloned whole is there
	}
	broken := map[string]bool{}
	t.commits = slices.DeleteFunc(t.commits, func(oid string) bool {
		_, err := s.git().run(ctx, "rev-list", "--quiet", "--objects", oid, "--")
		broken[oid] = err != nil
		return err != nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(broken) == 0 {
		return nil
	}
	t.refs = slices.DeleteFunc(t.refs, func(one ref) bool {
		if broken[one.oid] {
			c.leaveOut(fmt.Sprintf("%s: parts of its history are not there; its files are", one.name))
		}
		return broken[one.oid]
	})
	return nil
}
