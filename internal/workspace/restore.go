package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/api"
)

// Restore makes a place's tree, which must not exist or be empty, from the session's last checkpoint: its files, staged
// or not, its branches and commits, everything but what LeftOut named. It does not need the origin. Without a
// checkpoint it returns nil, and does nothing. Errors are an *api.Error with the code workspace_lost, or wrap ctx's.
func (m *Mirrors) Restore(ctx context.Context, place Place) (*api.Checkpoint, error) {
	began := time.Now()
	if err := sessionID.check(place.ID); err != nil {
		return nil, err
	}
	r, err := m.mirror(place.Source)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, CloneTime, errTooSlow)
	defer cancel()
	restored, err := r.restore(ctx, place)
	if coded := new(api.Error); err != nil && !errors.As(err, &coded) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cannot restore the session's files to %s: %w", place.Tree, context.Cause(ctx))
		}
		return nil, lost("cannot restore the session's files to %s: %v", place.Tree, err)
	}
	if err != nil || restored == nil {
		return nil, err
	}
	restored.Seconds = time.Since(began).Seconds()
	return restored, nil
}

func (r *mirror) restore(ctx context.Context, place Place) (*api.Checkpoint, error) {
	if !r.exists() {
		if len(namedIn(r.dir, filepath.Base(r.base())+asideInfix, "")) == 0 {
			return nil, nil
		}
		if err := r.make(ctx); err != nil { // somebody was killed over its repair
			return nil, err
		}
	}
	if err := r.mend(); err != nil {
		return nil, err
	}
	shared, err := r.use(ctx, false)
	if err != nil {
		return nil, err
	}
	defer unlock(shared)
	commit, err := r.sessionRef(ctx, "refs/berth/"+place.ID)
	if err != nil {
		return nil, err
	}
	if commit == "" {
		if _, kept := r.damaged(place.ID); kept != "" {
			return nil, lost("the checkpoint of the session is damaged, and could not be saved: what there is of it is in %s", kept)
		}
		return nil, nil
	}
	fresh, err := newTree(place)
	if err != nil {
		return nil, err
	}
	defer fresh.remove()
	if err := fresh.init(ctx, formatOf(commit), "main", r.originAddress(place.Source)); err != nil {
		return nil, err
	}
	tips, err := originTips(ctx, r.git())
	if err != nil {
		return nil, err
	}
	wanted := []string{commit}
	for _, tip := range tips {
		wanted = append(wanted, tip.oid)
	}
	if err := r.copyObjects(ctx, fresh, wanted); err != nil {
		return nil, err
	}
	r.know(place.ID, &known{commit: commit, whole: true}) // git could read all of it
	about, err := fresh.fill(ctx, commit)
	if err != nil {
		return nil, err
	}
	if err := fresh.fillNested(ctx, about, 1); err != nil {
		return nil, err
	}
	if err := fresh.handOver(ctx, about.Base); err != nil {
		return nil, err
	}
	if err := fresh.remember(ctx, commit); err != nil {
		return nil, err
	}
	tree, err := r.bare(commit).line(ctx, "rev-parse", "--verify", "--end-of-options", commit+":tree")
	return &api.Checkpoint{Commit: commit, Tree: tree, Head: about.Commit, LeftOut: about.LeftOut, Nested: nestedPaths(about.Nested)}, err
}

// originAddress is what a clone is told of its origin.
func (r *mirror) originAddress(source Source) string {
	if source.Repo == "" || filepath.IsAbs(source.Repo) {
		return source.Repo
	}
	from, err := source.parse(nil)
	if err != nil {
		return source.Repo
	}
	return from.text
}

// remember has scratch know the checkpoint that the tree was made from.
func (f *fresh) remember(ctx context.Context, commit string) error {
	if f.place.Scratch == "" {
		return nil
	}
	s := openScratch(f.place)
	s.findObjects()
	_, err := s.git().run(ctx, "update-ref", "refs/last", commit)
	return err
}

// readAbout reads a checkpoint's about.json.
func (r *mirror) readAbout(ctx context.Context, commit string) (*about, error) {
	return readAbout(ctx, r.bare(commit), commit)
}

func readAbout(ctx context.Context, g git, commit string) (*about, error) {
	g.most = maxAbout
	text, err := g.run(ctx, "cat-file", "blob", commit+":about.json")
	if err != nil {
		return nil, err
	}
	return parseAbout(commit, text)
}

func parseAbout(commit, text string) (*about, error) {
	known := &about{}
	if err := json.Unmarshal([]byte(text), known); err != nil {
		return nil, fmt.Errorf("the checkpoint %s is not a right one: %w", commit, err)
	}
	if known.Version > aboutVersion {
		return nil, fmt.Errorf("the checkpoint %s was made by a newer berthd: start that one", commit)
	}
	if known.Base != "" && !commitID.MatchString(known.Base) {
		known.Base = ""
	}
	if known.Commit != "" && !commitID.MatchString(known.Commit) {
		known.Commit = ""
	}
	return known, nil
}

// fill makes the state of a checkpoint, whose objects are there, in a fresh tree.
func (f *fresh) fill(ctx context.Context, commit string) (*about, error) {
	known, err := readAbout(ctx, f.git(), commit)
	if err != nil {
		return nil, err
	}
	if err := f.fillRefs(ctx, commit, known); err != nil {
		return nil, err
	}
	if err := f.fillFiles(ctx, commit, known); err != nil {
		return nil, err
	}
	if err := f.fillIndex(ctx, commit, known); err != nil {
		return nil, err
	}
	return known, f.fillSettings(ctx, known)
}

// part reads one of a checkpoint's files; nothing if it has none of that name.
func (f *fresh) part(ctx context.Context, commit, name string) (string, error) {
	g := f.git()
	g.most = 512 << 20
	listed, err := g.line(ctx, "ls-tree", "--name-only", commit, "--", name)
	if err != nil || listed == "" {
		return "", err
	}
	return g.run(ctx, "cat-file", "blob", commit+":"+name)
}

// fillRefs makes its refs, and HEAD.
func (f *fresh) fillRefs(ctx context.Context, commit string, known *about) error {
	objects, err := f.part(ctx, commit, "objects")
	if err != nil {
		return err
	}
	if err := f.writeTags(ctx, objects); err != nil {
		return err
	}
	text, err := f.part(ctx, commit, "refs")
	if err != nil {
		return err
	}
	refs := parseRefs(text)
	sort.Slice(refs, func(i, j int) bool { return refs[i].name < refs[j].name })
	if err := f.writeRefs(refs); err != nil {
		return err
	}
	log, err := f.part(ctx, commit, "stash")
	if err != nil {
		return err
	}
	gitDir := filepath.Join(f.path, ".git")
	if log != "" {
		logs := filepath.Join(gitDir, "logs", "refs")
		if err := errors.Join(os.MkdirAll(logs, 0o700), os.WriteFile(filepath.Join(logs, "stash"), []byte(log), 0o600)); err != nil {
			return err
		}
	}
	if head, symbolic := parseRef(known.Head); head != "" && (symbolic || known.Commit != "") {
		return os.WriteFile(filepath.Join(gitDir, "HEAD"), []byte(head+"\n"), 0o600)
	}
	return nil
}

// writeTags makes annotated tags that the mirror does not have.
func (f *fresh) writeTags(ctx context.Context, batch string) error {
	objects := parseBatch(batch)
	oids := make([]string, len(objects))
	for i, one := range objects {
		oids[i] = one.oid
	}
	have, err := kinds(ctx, f.git(), oids)
	if err != nil {
		return err
	}
	for _, one := range objects {
		if have[one.oid] != "" || one.kind != "tag" {
			continue
		}
		writer := f.git()
		writer.stdin = one.text
		if _, err := writer.run(ctx, "hash-object", "-t", "tag", "-w", "--literally", "--stdin"); err != nil {
			return err
		}
	}
	return nil
}

// fillFiles makes its files as they were, byte for byte, their modes, and the directories without one.
func (f *fresh) fillFiles(ctx context.Context, commit string, known *about) error {
	gitDir := filepath.Join(f.path, ".git")
	info := filepath.Join(gitDir, "info")
	if err := errors.Join(os.MkdirAll(info, 0o700), os.WriteFile(filepath.Join(info, "attributes"), []byte(rawAttributes), 0o600)); err != nil {
		return err
	}
	g := withIndex(f.git(), filepath.Join(gitDir, "index"))
	if _, err := g.run(ctx, "read-tree", commit+":files"); err != nil {
		return err
	}
	if _, err := g.run(ctx, "checkout-index", "--all", "--force", "--quiet"); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // of a directory
	if err := setModes(root, known); err != nil {
		return err
	}
	if _, err := g.run(ctx, "update-index", "-q", "--refresh"); fatal(err) {
		return err
	}
	return errors.Join(f.keepRaw(filepath.Join(gitDir, "index")), os.Remove(filepath.Join(info, "attributes")))
}

// setModes makes directories, and gives everything its permissions. What a checkpoint says may be hostile: nothing
// leads out of the root, and a mode is only given to what is no link.
func setModes(root *os.Root, known *about) error {
	for _, dir := range known.Dirs {
		if strings.HasPrefix(string(dir)+"/", ".git/") {
			continue
		}
		if err := root.MkdirAll(string(dir), 0o755); err != nil {
			return err
		}
	}
	except, err := known.Modes.exceptions()
	if err != nil {
		return err
	}
	var dirs []seen // they come last, from below: a closed one could not be entered
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		if path == ".git" {
			return fs.SkipDir
		}
		info, err := root.Lstat(path)
		if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
			return err
		}
		bits, err := modeOf(path, info, known.Modes, except)
		if err != nil {
			return err
		}
		if info.IsDir() {
			dirs = append(dirs, seen{path, bits})
			return nil
		}
		if bits == permissionOf(info.Mode()) {
			return nil
		}
		return root.Chmod(path, goMode(bits))
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := root.Chmod(dir.path, goMode(dir.mode)); err != nil {
			return err
		}
	}
	return nil
}

// exceptions are the modes by path.
func (m fileModes) exceptions() (map[string]uint32, error) {
	except := map[string]uint32{}
	for mode, paths := range m.Except {
		bits, err := parseOctal(mode)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			except[string(path)] = bits
		}
	}
	return except, nil
}

// modeOf is the permissions that a checkpoint has of a file or a directory.
func modeOf(path string, info fs.FileInfo, modes fileModes, except map[string]uint32) (uint32, error) {
	if bits, found := except[path]; found {
		return bits, nil
	}
	mode := permissionOf(info.Mode()) | unix.S_IFREG
	if info.IsDir() {
		mode = unix.S_IFDIR
	}
	return parseOctal(modes.usual(kindOf(mode)))
}

// fillIndex stages what was staged; after a merge with conflicts, nothing.
func (f *fresh) fillIndex(ctx context.Context, commit string, known *about) error {
	g := f.git()
	staged, err := g.line(ctx, "ls-tree", "--name-only", commit, "--", "index")
	if err != nil {
		return err
	}
	// First the index that knows the files as they are, then the trees of what is staged: entries that are the same
	// in both need not be read again.
	tree := commit + ":index"
	if staged == "" {
		tree = known.Commit
	}
	if tree == "" {
		return os.Remove(filepath.Join(f.path, ".git", "index"))
	}
	if _, err := g.run(ctx, "read-tree", "-i", "-m", tree); err != nil {
		return err
	}
	if len(known.Skipped) > 0 {
		marker := g
		for _, path := range known.Skipped {
			marker.stdin += string(path) + "\x00"
		}
		if _, err := marker.run(ctx, "update-index", "--skip-worktree", "-z", "--stdin"); err != nil {
			return err
		}
	}
	if _, err := g.run(ctx, "update-index", "-q", "--refresh"); fatal(err) {
		return err
	}
	return nil
}
