package workspace

import (
	"context"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// setting is one of a repository's configuration.
type setting struct {
	Key   rawValue `json:"key"`
	Value rawValue `json:"value"`
}

// rawValue is text of any bytes, in JSON as a rawPath is.
type rawValue string

// MarshalJSON writes what is not UTF-8 in base64.
func (v rawValue) MarshalJSON() ([]byte, error) { return rawPath(v).MarshalJSON() }

// UnmarshalJSON reads what MarshalJSON wrote.
func (v *rawValue) UnmarshalJSON(text []byte) error {
	plain, err := decodeRaw(text)
	*v = rawValue(plain)
	return err
}

// keptSettings are those that a session may miss and that run nothing: who it is, what its branches follow, and its remotes.
var keptSettings = regexp.MustCompile(`^(user\.(name|email)|branch\.[^\x00-\x1f]+\.(remote|merge|rebase)|remote\.[^\x00-\x1f]+\.(url|fetch))$`)

const maxSettings = 200

// settings reads what is kept of a session's configuration. Git reads it as a list of words, and does nothing of it.
func (s *scratch) settings(ctx context.Context, root *os.Root) (kept []setting) {
	text, err := readSmall(root, ".git/config", 1<<20)
	if err != nil {
		return nil
	}
	listing, err := git{dir: "/", stdin: text}.run(ctx, "config", "--no-includes", "--file=-", "--list", "-z")
	if err != nil {
		return nil // what is no right configuration is of no use to anybody
	}
	for one := range strings.SplitSeq(listing, "\x00") {
		key, value, found := strings.Cut(one, "\n")
		if !found || !keptSettings.MatchString(key) || len(kept) >= maxSettings || s.depth == 0 && strings.HasPrefix(key, "remote.origin.") {
			continue
		}
		if parsed, err := url.Parse(value); err == nil && strings.HasSuffix(key, ".url") {
			if _, secret := parsed.User.Password(); secret {
				continue
			}
		}
		kept = append(kept, setting{rawValue(key), rawValue(value)})
	}
	return kept
}

// fillSettings gives them to a fresh tree.
func (f *fresh) fillSettings(ctx context.Context, known *about) error {
	for number, one := range known.Config {
		key, value := string(one.Key), string(one.Value)
		if !keptSettings.MatchString(key) || strings.ContainsRune(value, 0) || number >= maxSettings {
			continue
		}
		if _, err := f.git().run(ctx, "config", "--file="+f.path+"/.git/config", "--add", key, value); err != nil {
			return err
		}
	}
	return nil
}
