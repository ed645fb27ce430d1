package workspace

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A checkpoint is a commit, refs/berth/<id> in the mirror. Its tree:
//
//	about.json   what follows here
//	files        the files as they are on disk, byte for byte
//	tree         the same as git would commit them; other than files only if .gitattributes has git convert some
//	index        what is staged; not there while a merge has conflicts
//	refs         the refs, a line each: "<oid> <name>", or "ref: <target> <name>"
//	objects      annotated tags, as `git cat-file --batch` prints them: a commit's parents can only be commits
//	stash        the log of refs/stash
//	extra-<oid>  trees and blobs that refs lead to
//
// Its parents are all commits that refs and the stash lead to, and the checkpoints of repositories within the tree.
// So git itself keeps and moves all that a checkpoint needs. The checkpoint before is not among them: what nobody needs any
// more can go.
type about struct {
	Version int       `json:"version"`
	Base    string    `json:"base,omitempty"`   // the commit that the session started from
	Head    string    `json:"head,omitempty"`   // "ref: <name>", or a commit
	Commit  string    `json:"commit,omitempty"` // that HEAD leads to
	Gone    bool      `json:"gone,omitempty"`   // the tree had no usable repository
	Modes   fileModes `json:"modes"`
	Dirs    []rawPath `json:"dirs,omitempty"`   // without a file
	Skipped []rawPath `json:"skip,omitempty"`   // entries of the index that a sparse checkout leaves out
	Nested  []nested  `json:"nested,omitempty"` // repositories within the tree
	Config  []setting `json:"config,omitempty"` // of the repository, as far as it does nothing
	LeftOut []string  `json:"left_out,omitempty"`
}

// aboutVersion is that of this layout. A checkpoint of a newer one cannot be restored.
const aboutVersion = 1

// maxAbout is the size in bytes of the largest about.json.
const maxAbout = 64 << 20

// nested is a repository within the tree, with a checkpoint of its own.
type nested struct {
	Path   rawPath `json:"path"`
	Commit string  `json:"commit"`
}

// fileModes are permissions: those that most have, and the exceptions by their octal mode.
type fileModes struct {
	File   string               `json:"file,omitempty"`
	Exec   string               `json:"exec,omitempty"`
	Dir    string               `json:"dir,omitempty"`
	Except map[string][]rawPath `json:"except,omitempty"`
}

// kindOf sorts files by what git knows of them: directory, executable or not. Links have no mode of their own.
func kindOf(mode uint32) string {
	switch {
	case mode&unix.S_IFMT == unix.S_IFDIR:
		return "dir"
	case mode&unix.S_IFMT != unix.S_IFREG:
		return ""
	case mode&0o100 != 0:
		return "exec"
	}
	return "file"
}

// newModes makes the shortest description of modes.
func newModes(all []seen) fileModes {
	count := map[string]map[uint32]int{"file": {}, "exec": {}, "dir": {}, "": {}}
	for _, one := range all {
		count[kindOf(one.mode)][one.mode&0o7777]++
	}
	most := func(kind string, usual uint32) string {
		best, times := usual, count[kind][usual]
		for mode, n := range count[kind] {
			if n > times || n == times && mode < best && best != usual {
				best, times = mode, n
			}
		}
		return octal(best)
	}
	found := fileModes{File: most("file", 0o644), Exec: most("exec", 0o755), Dir: most("dir", 0o755), Except: map[string][]rawPath{}}
	for _, one := range all {
		kind, mode := kindOf(one.mode), octal(one.mode&0o7777)
		if kind != "" && mode != found.usual(kind) {
			found.Except[mode] = append(found.Except[mode], rawPath(one.path))
		}
	}
	for _, paths := range found.Except {
		sort.Slice(paths, func(i, j int) bool { return paths[i] < paths[j] })
	}
	return found
}

func (m fileModes) usual(kind string) string {
	switch kind {
	case "dir":
		return m.Dir
	case "exec":
		return m.Exec
	}
	return m.File
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode) }

func parseOctal(text string) (uint32, error) {
	mode, err := strconv.ParseUint(text, 8, 16)
	if err != nil || mode > 0o7777 {
		return 0, fmt.Errorf("the checkpoint has the file mode %.20q", text)
	}
	return uint32(mode), nil
}

// rawPath is a path of any bytes. In JSON it is a string, if that says it.
type rawPath string

const base64Mark = "base64:"

// MarshalJSON writes what is not UTF-8 in base64.
func (p rawPath) MarshalJSON() ([]byte, error) {
	if !utf8.ValidString(string(p)) || strings.HasPrefix(string(p), base64Mark) {
		return json.Marshal(base64Mark + base64.StdEncoding.EncodeToString([]byte(p)))
	}
	return json.Marshal(string(p))
}

// UnmarshalJSON reads what MarshalJSON wrote. A path that leads out of the tree is an error.
func (p *rawPath) UnmarshalJSON(text []byte) error {
	plain, err := decodeRaw(text)
	if err != nil {
		return err
	}
	// fs.ValidPath wants UTF-8, which file systems do not.
	if strings.ContainsRune(plain, 0) || !fs.ValidPath(strings.ToValidUTF8(plain, "?")) {
		return fmt.Errorf("the checkpoint has the path %.80q", plain)
	}
	*p = rawPath(plain)
	return nil
}

func decodeRaw(text []byte) (string, error) {
	var plain string
	if err := json.Unmarshal(text, &plain); err != nil {
		return "", err
	}
	coded, found := strings.CutPrefix(plain, base64Mark)
	if !found {
		return plain, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(coded)
	return string(decoded), err
}
