package workspace

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"
	"sort"
	"strings"
)

// Git's own programs read a repository's configuration before they read its refs, and a session may have written
// anything there. So the files are read here (gitrepository-layout(5)).

// localRefs are the refs of a session's repository.
type localRefs struct {
	head  string // "ref: <name>", or a commit
	refs  []ref  // sorted by name
	stash string // the log of refs/stash, in which all but its last entry are

	leftOut []string // what cannot be read: a pipe, say, or what is far too long
}

const (
	maxRefFile  = 4 << 10
	maxRefsFile = 64 << 20
)

// refName is a ref's name that is safe as a path (git-check-ref-format(1)).
var refName = regexp.MustCompile(`^refs(/[^\x00-\x20\x7f~^:?*\[\\/.][^\x00-\x20\x7f~^:?*\[\\/]*)+$`)

func rightRefName(name string) bool {
	return refName.MatchString(name) && !strings.Contains(name, "..") && !strings.Contains(name, "@{") && !strings.Contains(name+"/", ".lock/") &&
		!strings.HasSuffix(name, ".") && len(name) < 1024
}

// readRefs reads those of the repository whose .git a root has. What is no right ref is passed over, as git does. What cannot
// be read costs nothing but itself.
func readRefs(root *os.Root, gitDir string) (*localRefs, error) {
	found := &localRefs{}
	read := func(name string, most int64, what string) string {
		text, err := readSmall(root, path.Join(gitDir, name), most)
		if err != nil {
			found.leftOut = append(found.leftOut, what+": .git/"+name+" cannot be read ("+reason(err)+")")
		}
		return text
	}
	found.head, _ = parseRef(read("HEAD", maxRefFile, "the branch that it is on"))
	all := map[string]ref{}
	packed := read("packed-refs", maxRefsFile, "branches and tags")
	for line := range strings.Lines(packed) {
		if oid, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok && commitID.MatchString(oid) && rightRefName(name) {
			all[name] = ref{name: name, oid: oid}
		}
	}
	err := fs.WalkDir(dirsOf{root}, path.Join(gitDir, "refs"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // a session removes refs meanwhile
		}
		short := strings.TrimPrefix(name, gitDir+"/")
		text, err := readSmall(root, name, maxRefFile)
		if err != nil || !rightRefName(short) {
			return nil //nolint:nilerr // likewise
		}
		if value, symbolic := parseRef(text); symbolic {
			all[short] = ref{name: short, symbolic: strings.TrimPrefix(value, "ref: ")}
		} else if value != "" {
			all[short] = ref{name: short, oid: value}
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, one := range all {
		found.refs = append(found.refs, one)
	}
	sort.Slice(found.refs, func(i, j int) bool { return found.refs[i].name < found.refs[j].name })
	if _, stashed := all["refs/stash"]; stashed {
		found.stash = read("logs/refs/stash", maxRefsFile, "all of the stash but its last entry")
	}
	return found, nil
}

// parseRef returns what a ref's file says, in one way to write it; nothing if it is broken.
func parseRef(text string) (value string, symbolic bool) {
	text = strings.TrimSpace(text)
	if target, found := strings.CutPrefix(text, "ref:"); found {
		if target = strings.TrimSpace(target); rightRefName(target) {
			return "ref: " + target, true
		}
		return "", false
	}
	if commitID.MatchString(text) {
		return text, false
	}
	return "", false
}

// find returns the object that a ref leads to; nothing if it leads nowhere.
func (l *localRefs) find(name string) string {
	for range 5 { // as git does
		i := sort.Search(len(l.refs), func(i int) bool { return l.refs[i].name >= name })
		if i == len(l.refs) || l.refs[i].name != name {
			return ""
		}
		if l.refs[i].oid != "" {
			return l.refs[i].oid
		}
		name = l.refs[i].symbolic
	}
	return ""
}

// commit returns the commit that HEAD leads to; nothing on a branch without one.
func (l *localRefs) commit() string {
	if name, symbolic := strings.CutPrefix(l.head, "ref: "); symbolic {
		return l.find(name)
	}
	return l.head
}

// stashed are the commits of the log of stashes. Its lines are "old new name <address> time zone\tmessage".
func (l *localRefs) stashed() []string {
	var commits []string
	for line := range strings.Lines(l.stash) {
		if words := strings.SplitN(line, " ", 3); len(words) == 3 && commitID.MatchString(words[1]) {
			commits = append(commits, words[1])
		}
	}
	return commits
}

// text writes refs as a line each.
func refsText(refs []ref) string {
	var text strings.Builder
	for _, one := range refs {
		if one.symbolic != "" {
			text.WriteString("ref: " + one.symbolic + " " + one.name + "\n")
		} else {
			text.WriteString(one.oid + " " + one.name + "\n")
		}
	}
	return text.String()
}

// parseRefs reads what refsText wrote. A session could have had its hands in it.
func parseRefs(text string) (refs []ref) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if symbolic, found := strings.CutPrefix(line, "ref: "); found {
			if target, name, ok := strings.Cut(symbolic, " "); ok && rightRefName(name) && rightRefName(target) {
				refs = append(refs, ref{name: name, symbolic: target})
			}
		} else if oid, name, ok := strings.Cut(line, " "); ok && commitID.MatchString(oid) && rightRefName(name) {
			refs = append(refs, ref{name: name, oid: oid})
		}
	}
	return refs
}
