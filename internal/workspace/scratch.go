package workspace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// scratch is a repository of our own beside a session's: it has the objects of that one, and its work tree, and
// nothing else of it. So git does its work there and never reads what the session configured.
//
//	Scratch/git/       the repository; refs/base is where the session started, refs/last its last checkpoint
//	Scratch/git/index  the files as they are, kept from one checkpoint to the next: only what changed is read again
//	Scratch/as-git/    its twin that converts files as .gitattributes asks, with an index of its own
//	Scratch/staged     a copy of the session's index
//
// Where sessions have users of their own it belongs to the session's, who may do with it as he likes: what comes out
// of it is checked as what comes out of the tree. Only its configuration has to be ours, for that could name programs, which
// git would start for a session that has ended: if it is not, scratch is made anew.
type scratch struct {
	place   Place
	objects string   // the session's; empty if it has none that can be used
	more    []string // of repositories within the tree
	depth   int      // of repositories around it

	base, baseTree, last, lastTree string // what its refs say, once it was captured

	added      int64 // bytes of files that were captured since it was opened
	suspicious bool  // something is broken: what refs lead to is looked at closely

	listed *listed // of the checkpoint or diff that it is opened for
}

// rawAttributes keep git from converting anything.
const rawAttributes = "* -text -crlf -eol -ident -filter -working-tree-encoding\n"

func (p Place) gitDir() string { return filepath.Join(p.Scratch, "git") }

// openScratch takes a place's scratch as it is.
func openScratch(place Place) *scratch { return &scratch{place: place} }

// left are the locks that a git leaves which is killed, for its time is up or its agent was: whoever asks next would take them for
// another git at work. There is none, for a place is locked as long as one may be.
var left = []string{"staged.lock", "git/index.lock", "git/packed-refs.lock", "git/refs/base.lock", "git/refs/last.lock", "as-git/index.lock"}

// there reports whether it has been made, and is still configured as it was. What is left of a git that was killed is gone
// then. The place has to be locked.
func (s *scratch) there() bool {
	if _, err := os.Lstat(filepath.Join(s.place.gitDir(), "objects")); err != nil {
		return false
	}
	root, err := openTree(s.place.Scratch)
	if err != nil {
		return false
	}
	defer func() { _ = root.Close() }() // of a directory
	for _, name := range twins {
		info, err := root.Lstat(name)
		if err != nil || !info.IsDir() {
			return false
		}
		config, err := readSmall(root, name+"/config", maxRefFile)
		if err != nil || config != sha1Format.config() && config != sha256Format.config() {
			return false
		}
		if _, err := root.Lstat(name + "/commondir"); err == nil { // it would have another one's configuration (gitrepository-layout(5))
			return false
		}
	}
	for _, lock := range left {
		_ = root.Remove(lock) // if it stays, git names it
	}
	removeHalf(root)
	return true
}

// removeHalf removes what git leaves of a large file that changed while it was read, which may come with every checkpoint.
func removeHalf(root *os.Root) {
	const packs = "git/objects/pack"
	entries, err := fs.ReadDir(dirsOf{root}, packs)
	if err != nil {
		return // there are none
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "tmp_") {
			_ = root.Remove(packs + "/" + entry.Name()) // the next checkpoint tries again
		}
	}
}

// twins are its repositories.
var twins = []string{"git", "as-git"}

// create makes it anew, and gives it to nobody yet.
func (s *scratch) create(ctx context.Context, format format) error {
	dir := s.place.Scratch
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	for _, name := range twins {
		path := filepath.Join(dir, name)
		_, err := git{dir: dir}.run(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+string(format), "--", path)
		if err = errors.Join(err, os.WriteFile(filepath.Join(path, "config"), []byte(format.config()), 0o600)); err != nil {
			return err
		}
	}
	info := filepath.Join(s.place.gitDir(), "info")
	return errors.Join(os.MkdirAll(info, 0o700), os.WriteFile(filepath.Join(info, "attributes"), []byte(rawAttributes), 0o600))
}

// findObjects looks where the objects of the session's repository are.
func (s *scratch) findObjects() {
	objects, err := objectStore(s.place.Tree)
	if err != nil {
		objects = ""
	}
	s.objects = objects
}

// git works on the files as they are.
func (s *scratch) git() git {
	dirs := s.more
	if s.objects != "" {
		dirs = append([]string{s.objects}, dirs...)
	}
	return git{
		dir: "/", inside: s.place.Tree, before: s.place.Run,
		config: []string{"core.fsync=none", "core.looseCompression=1", "core.bigFileThreshold=32m", "core.untrackedCache=false"},
		env: []string{
			"GIT_DIR=" + s.place.gitDir(), "GIT_WORK_TREE=" + s.place.Tree, "HOME=" + s.place.Scratch, "TMPDIR=" + s.place.Scratch,
			"GIT_INDEX_FILE=" + filepath.Join(s.place.gitDir(), "index"), alternates(dirs...),
		},
	}
}

// asGit works on the files as git would commit them.
func (s *scratch) asGit() git {
	g := s.git()
	twin := filepath.Join(s.place.Scratch, "as-git")
	g.env = append(g.env, "GIT_DIR="+twin, "GIT_INDEX_FILE="+filepath.Join(twin, "index"), "GIT_OBJECT_DIRECTORY="+filepath.Join(s.place.gitDir(), "objects"))
	return g
}

// withIndex works on another index.
func withIndex(g git, path string) git {
	g.env = append(g.env[:len(g.env):len(g.env)], "GIT_INDEX_FILE="+path)
	return g
}

// copyFile copies a file that a session may have replaced, as the session's user.
func (s *scratch) copyFile(ctx context.Context, from, to string) error {
	_, err := s.git().tool(ctx, "cp", "cp", "-p", "--", from, to)
	return err
}

// manyLoose is how many files may be in one of the 256 directories of objects before they are packed, as git has it
// (gc.auto).
const manyLoose = 27

// scratchSlack is how many bytes of files checkpoints may add to a scratch before what the last one does not need is dropped: a
// large file that changes all the time would fill the disk.
const scratchSlack = 512 << 20

// tidy packs the objects that checkpoints have made one by one, and drops those that the last one does not need, if there are many,
// or if they are large.
func (s *scratch) tidy(ctx context.Context, large bool) error {
	root, err := openTree(s.place.Scratch)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // of a directory
	if loose, err := fs.ReadDir(dirsOf{root}, "git/objects/17"); !large && (err != nil || len(loose) <= manyLoose) {
		return nil //nolint:nilerr // there are none
	}
	g := s.git()
	g.config = append(g.config, "repack.writeBitmaps=false", "repack.updateServerInfo=false", "pack.compression=1")
	if _, err := g.run(ctx, "repack", "-a", "-d", "-l", "--quiet", "--window=0"); err != nil {
		return err
	}
	_, err = g.run(ctx, "prune", "--expire=now")
	return err
}

// scratch makes the scratch of a tree that is about to be handed over. Its indexes begin as copies of the tree's, so
// that the first checkpoint need not read every file.
func (f *fresh) scratch(ctx context.Context, base string) error {
	s := openScratch(f.place)
	format, err := f.git().line(ctx, "rev-parse", "--show-object-format")
	if err != nil {
		return err
	}
	if err := s.create(ctx, sha(format)); err != nil {
		return err
	}
	// The files have another name as yet, and nobody else's hands on them.
	o := &scratch{place: Place{Tree: f.path, Scratch: f.place.Scratch}, objects: filepath.Join(f.path, ".git", "objects")}
	index := filepath.Join(f.path, ".git", "index")
	err = copyKeepingTime(index, filepath.Join(f.place.Scratch, "as-git", "index"))
	if _, exact := os.Stat(f.rawIndex()); err == nil && exact == nil {
		err = copyKeepingTime(f.rawIndex(), filepath.Join(f.place.Scratch, "git", "index"))
	} else if err == nil {
		if err = copyKeepingTime(index, filepath.Join(f.place.Scratch, "git", "index")); err == nil {
			err = o.forgetConverted(ctx)
		}
	}
	if err != nil {
		return err
	}
	if base != "" {
		if _, err := o.git().run(ctx, "update-ref", "refs/base", base); err != nil {
			return err
		}
	}
	return f.place.own(f.place.Scratch)
}

func sha(name string) format {
	if name == string(sha256Format) {
		return sha256Format
	}
	return sha1Format
}

// copyKeepingTime copies an index; git tells by its time which files it must look at again. That there is none is no
// error.
func copyKeepingTime(from, to string) error {
	info, err := os.Stat(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, text, 0o600), os.Chtimes(to, info.ModTime(), info.ModTime()))
}

// forgetConverted takes those files out of the index of the files as they are that git has converted for the tree:
// what the index has of them is not what is on disk.
func (s *scratch) forgetConverted(ctx context.Context) error {
	entries, err := s.list(ctx, s.git())
	if err != nil {
		return err
	}
	var paths strings.Builder
	attributes := false
	for _, one := range entries {
		attributes = attributes || isAttributes(one.path)
		paths.WriteString(one.path + "\x00")
	}
	if !attributes {
		return nil
	}
	asker := s.asGit()
	asker.stdin, asker.most = paths.String(), 512<<20
	answer, err := asker.run(ctx, "check-attr", "-z", "--stdin", "eol", "crlf", "ident", "working-tree-encoding")
	if err != nil {
		return err
	}
	var converted strings.Builder
	words := strings.Split(answer, "\x00")
	for i := 0; i+2 < len(words); i += 3 {
		if value := words[i+2]; value != "unspecified" && value != "unset" && value != "lf" {
			converted.WriteString("0 " + strings.Repeat("0", len(entries[0].oid)) + "\t" + words[i] + "\x00")
		}
	}
	if converted.Len() == 0 {
		return nil
	}
	return s.changeIndex(ctx, s.git(), converted.String())
}

func isAttributes(path string) bool {
	return path == ".gitattributes" || strings.HasSuffix(path, "/.gitattributes")
}
