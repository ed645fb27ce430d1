package workspace

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // git's names of objects
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var (
	// packObjects writes a pack of what the revisions on its standard input reach. Without --thin, for what a thin
	// pack leaves out would be put in again where it is stored.
	packObjects = []string{"-c", "core.bigFileThreshold=32m", "-c", "pack.compression=1", "pack-objects", "--revs", "--no-sparse", "--stdout", "--quiet", "--delta-base-offset"}

	// packNew is for what a session has done since its last checkpoint. To look for what is like each other among it is
	// left to Maintain: it would take half of the time.
	packNew = append(slices.Clip(packObjects), "--sparse", "--window=0")

	// indexPack stores a pack, if every object in it is right and none that they name is missing. Objects that git
	// once made or let pass, though it would not now, are in the history of many repositories.
	indexPack = []string{"-c", "core.bigFileThreshold=32m", "index-pack", "--stdin", "--strict=" + strings.Join([]string{
		"badDate=ignore", "badDateOverflow=ignore", "badEmail=ignore", "badName=ignore", "badTimezone=ignore", "duplicateEntries=ignore",
		"missingEmail=ignore", "missingNameBeforeEmail=ignore", "missingSpaceBeforeDate=ignore", "missingSpaceBeforeEmail=ignore",
		"missingTaggerEntry=ignore", "multipleAuthors=ignore", "treeNotSorted=ignore", "zeroPaddedDate=ignore", "zeroPaddedFilemode=ignore",
		"gitmodulesBlob=ignore", "gitmodulesLarge=ignore", "gitmodulesMissing=ignore", "gitmodulesName=ignore", "gitmodulesParse=ignore",
		"gitmodulesPath=ignore", "gitmodulesSymlink=ignore", "gitmodulesUpdate=ignore", "gitmodulesUrl=ignore",
		"gitattributesBlob=ignore", "gitattributesLarge=ignore", "gitattributesLineLength=ignore", "gitattributesMissing=ignore",
	}, ",")}
)

// alternates is the variable that adds directories of objects to a repository's own.
func alternates(dirs ...string) string {
	quoted := make([]string, len(dirs))
	for i, dir := range dirs {
		quoted[i] = dir
		if strings.ContainsAny(dir, `:"\`) || dir != "" && dir[0] == '"' {
			quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(dir) + `"`
		}
	}
	return "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + strings.Join(quoted, string(filepath.ListSeparator))
}

// bare works on the mirror's objects alone, of which one is named. The repository around them is ours, on local disk: to find
// the mirror's own configuration and refs, and that there is nothing else, is dozens of operations on the volume.
func (r *mirror) bare(oid string) git { return r.around(r.path, oid) }

// around is bare, for any repository.
func (r *mirror) around(repository, oid string) git {
	whole := git{dir: "/", env: []string{"GIT_DIR=" + repository}}
	dir := filepath.Join(r.config.Temporary, "around-"+string(formatOf(oid)))
	if r.config.Temporary == "" {
		return whole
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if makeBare(dir, formatOf(oid)) != nil {
		return whole
	}
	return git{dir: "/", env: []string{"GIT_DIR=" + dir, "GIT_OBJECT_DIRECTORY=" + filepath.Join(repository, "objects")}}
}

// makeBare makes an empty repository without objects, as little as git takes for one, if it is not there.
func makeBare(dir string, format format) error {
	if _, err := os.Lstat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	return errors.Join(os.MkdirAll(filepath.Join(dir, "refs"), 0o700),
		os.WriteFile(filepath.Join(dir, "config"), []byte(format.config()), 0o600),
		os.WriteFile(filepath.Join(dir, "HEAD"), []byte("ref: refs/heads/main\n"), 0o600))
}

// writeCommit puts a commit into the mirror, synced, and returns its name (git-hash-object(1)): with git that would be five
// times the operations on the volume.
func (r *mirror) writeCommit(text string, as format) (string, error) {
	whole := fmt.Appendf(nil, "commit %d\x00%s", len(text), text)
	sum := sha1.New() //nolint:gosec // git's name for it
	if as == sha256Format {
		sum = sha256.New()
	}
	_, _ = sum.Write(whole) // a hash takes everything
	oid := hex.EncodeToString(sum.Sum(nil))
	dir := filepath.Join(r.path, "objects", oid[:2])
	path := filepath.Join(dir, oid[2:])
	if _, err := os.Lstat(path); err == nil {
		return oid, nil
	}
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return "", err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return "", err
	}
	// Git removes what is left under such a name.
	file, err := os.OpenFile(filepath.Join(dir, "tmp_obj_"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444) //nolint:gosec // as git makes them
	if err != nil {
		return "", err
	}
	var packed bytes.Buffer
	writer := zlib.NewWriter(&packed)
	_, err = writer.Write(whole)
	err = errors.Join(err, writer.Close())
	if err == nil {
		_, err = file.Write(packed.Bytes())
	}
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // or it is removed later
		return "", err
	}
	return oid, syncDir(dir)
}

// tip is a ref of a mirror's origin, as the mirror names it.
type tip struct{ oid, peeled, name string }

// originTips lists the origin's branches and tags in a mirror. A session may see these, and no other session's.
func originTips(ctx context.Context, g git) ([]tip, error) {
	g.most = 64 << 20
	listing, err := g.run(ctx, "for-each-ref", "--format=%(objectname) %(*objectname) %(refname)", "refs/heads", "refs/tags")
	if err != nil {
		return nil, err
	}
	var tips []tip
	for line := range strings.Lines(listing) {
		if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3); len(parts) == 3 {
			tips = append(tips, tip{oid: parts[0], peeled: parts[1], name: parts[2]})
		}
	}
	return tips, nil
}

// exclude names tips as what packObjects need not pack.
func exclude(tips []tip) string {
	var text strings.Builder
	for _, tip := range tips {
		text.WriteString("^" + tip.oid + "\n")
	}
	return text.String()
}
