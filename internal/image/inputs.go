package image

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Inputs returns a hash over all that decides what an image is like and is in our hands: the Dockerfile, each file that the
// builder is given (the rules of .dockerignore hold), and the flags. Times and owners do not count, so two clones of one
// commit have the same. What the build fetches is pinned in those files, but for Debian's packages.
func Inputs(source string, flags ...string) (string, error) {
	sum := sha256.New()
	for _, flag := range flags {
		_, _ = fmt.Fprintf(sum, "flag %q\n", flag)
	}
	for _, name := range []string{"Dockerfile", ".dockerignore"} { // their own rules may leave them out
		if err := addFile(sum, source, name); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("%s has no %s: the image is built from a checkout of berth, or from a release's archive", source, name)
			}
			return "", err
		}
	}
	ignored, err := ignoreRules(source)
	if err != nil {
		return "", err
	}
	root := os.DirFS(source)
	err = fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		left, err := ignored.MatchesOrParentMatches(filepath.FromSlash(path))
		switch {
		case err != nil:
			return err
		case left && entry.IsDir() && !mayHoldMore(ignored, path):
			return fs.SkipDir
		case left || entry.IsDir():
			return nil
		default:
			return addFile(sum, source, path)
		}
	})
	if err != nil {
		return "", fmt.Errorf("read what the image is built from: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func ignoreRules(source string) (*patternmatcher.PatternMatcher, error) {
	file, err := os.Open(filepath.Join(source, ".dockerignore"))
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	rules, err := ignorefile.ReadAll(bufio.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf(".dockerignore: %w", err)
	}
	return patternmatcher.New(rules)
}

// mayHoldMore says whether an exception ("!cmd/berthd") leads into a directory that is left out itself.
func mayHoldMore(rules *patternmatcher.PatternMatcher, directory string) bool {
	for _, rule := range rules.Patterns() {
		if rule.Exclusion() && strings.HasPrefix(filepath.ToSlash(rule.String())+"/", directory+"/") {
			return true
		}
	}
	return false
}

// addFile adds a file's name, kind and content.
func addFile(sum io.Writer, source, name string) error {
	path := filepath.Join(source, filepath.FromSlash(name))
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		_, _ = fmt.Fprintf(sum, "link %q %q\n", name, target)
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	content := sha256.New()
	if _, err := io.Copy(content, file); err != nil {
		return err
	}
	_, err = fmt.Fprintf(sum, "file %q %t %x\n", name, info.Mode()&0o111 != 0, content.Sum(nil))
	return err
}

// Revision returns the commit that a checkout is at, with "-dirty" if what the image is built from differs from it; "unknown" outside of
// a checkout.
func Revision(source string) string {
	commit, err := exec.Command("git", "-C", source, "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	revision := strings.TrimSpace(string(commit))
	if exec.Command("git", "-C", source, "diff", "--quiet", "HEAD", "--").Run() != nil {
		revision += "-dirty"
	}
	return revision
}
