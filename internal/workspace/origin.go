package workspace

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// origin is what an origin says that it has.
type origin struct {
	head string // its HEAD: a branch's full name, a commit if it is on none, or nothing if there is no commit and it does not say
	tips []tip  // its branches and tags, sorted by name
}

// ask asks an origin what it has. The mirror is not looked at.
func (r *mirror) ask(ctx context.Context, from address) (*origin, error) {
	asker := git{dir: "/", most: 256 << 20}
	answer, err := r.network(ctx, asker, from, "ls-remote", "--symref", "--", from.text)
	if err != nil {
		return nil, &originError{err}
	}
	return parseOrigin(answer), nil
}

// parseOrigin reads what `git ls-remote --symref` prints: "<oid>\t<name>", "<oid>\t<tag>^{}", or "ref: <name>\tHEAD".
func parseOrigin(answer string) *origin {
	found, peeled := &origin{}, map[string]string{}
	for line := range strings.Lines(answer) {
		value, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		branch, symbolic := strings.CutPrefix(value, "ref: ")
		tag, isPeeled := strings.CutSuffix(name, "^{}")
		switch {
		case name == "HEAD" && symbolic:
			found.head = branch
		case name == "HEAD" && found.head == "":
			found.head = value
		case isPeeled:
			peeled[tag] = value
		case !symbolic && (strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/")):
			found.tips = append(found.tips, tip{oid: value, name: name})
		}
	}
	for i := range found.tips {
		found.tips[i].peeled = peeled[found.tips[i].name]
	}
	slices.SortFunc(found.tips, func(a, b tip) int { return strings.Compare(a.name, b.name) })
	return found
}

// fetched is what this process knows the mirror to have of its origin.
type fetched struct {
	origin
	objects os.FileInfo // where
	since   time.Time
}

// mirrored remembers that the mirror has all that its origin has; unless the two differ, for the origin may have changed in
// the middle of a fetch.
func (r *mirror) mirrored(says *origin, tips []tip) {
	info, err := os.Stat(filepath.Join(r.path, "objects"))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || says == nil || len(tips) == 0 || !slices.Equal(says.tips, tips) {
		delete(r.origins, r.path)
		return
	}
	if known := r.origins[r.path]; known != nil && known.head == says.head && slices.Equal(known.tips, says.tips) && os.SameFile(info, known.objects) && time.Since(known.since) < sweepAfter {
		return // some of it may be known from a push: after sweepAfter, somebody looks again
	}
	r.origins[r.path] = &fetched{origin: *says, objects: info, since: time.Now()}
}

// upToDate reports whether the mirror is known to have all that its origin has: if that says what it said before, a fetch
// would find nothing, with a hundred operations on the volume. What another agent's fetch drops meanwhile stays there for
// longer than sweepAfter, unless the mirror is another one.
func (r *mirror) upToDate(says *origin) bool {
	r.mu.Lock()
	known := r.origins[r.path]
	r.mu.Unlock()
	if known == nil || known.head != says.head || !slices.Equal(known.tips, says.tips) || time.Since(known.since) > sweepAfter {
		return false
	}
	info, err := os.Stat(filepath.Join(r.path, "objects"))
	return err == nil && os.SameFile(info, known.objects)
}

// find looks for a branch among what an origin has, or for the one that its HEAD is if the name is empty; nothing if it is
// no branch.
func (o *origin) find(name string) string {
	full := "refs/heads/" + name
	if name == "" {
		full = o.head
	}
	i, found := slices.BinarySearchFunc(o.tips, full, func(one tip, name string) int { return strings.Compare(one.name, name) })
	if !found || !strings.HasPrefix(full, "refs/heads/") {
		return ""
	}
	return o.tips[i].oid
}

// pushed remembers that an origin has a branch that was pushed from here: the mirror has its commit already, so it need not
// be fetched when the origin says so.
func (r *mirror) pushed(branch tip) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.origins[r.path]
	if before == nil {
		return
	}
	after := *before // others may be reading it
	after.tips = slices.Clone(before.tips)
	i, found := slices.BinarySearchFunc(after.tips, branch.name, func(one tip, name string) int { return strings.Compare(one.name, name) })
	if found {
		after.tips[i] = branch
	} else {
		after.tips = slices.Insert(after.tips, i, branch)
	}
	r.origins[r.path] = &after
}
