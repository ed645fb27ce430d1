// Package workspace makes the directory that a session works in, and tells what the session changed.
//
// Git is told by its callers' users what to clone, and meets repositories that a session has filled with
// whatever it liked. So nothing is taken for granted: addresses are checked before git sees them, git
// takes no configuration but ours, and it never reads that of a session's repository.
package workspace

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"berth/internal/api"
)

// maxRepo is the length in bytes of the longest address of a repository.
const maxRepo = 2048

// Source is what a session starts from: a repository (a URL, an scp-like address or an absolute path) and
// a branch, tag or commit of it. Without a Ref it is the default branch; without a Repo, nothing.
type Source struct{ Repo, Ref string }

var (
	transport = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+.-]*::`)
	scheme    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+.-]*://`)
	scpLike   = regexp.MustCompile(`^([^/:@]+)@(\[[0-9A-Fa-f:.]+\]|[^/:@\[\]]+):([^:].*)$`)
	userName  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	hostName  = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?$`)
)

// Check says what is wrong with a source, as a bad_request *api.Error that never shows a password. Local
// repositories within one of the closed directories, wherever symbolic links lead, are refused: they are
// the agent's own, or another session's.
func (s Source) Check(closed ...string) error {
	if err := api.CheckRef(s.Ref); err != nil {
		return err
	}
	if s.Repo == "" {
		if s.Ref != "" {
			return refuse("the ref %.80q needs a repository: name one, or leave the ref out", s.Ref)
		}
		return nil
	}
	_, err := s.parse(closed)
	return err
}

// kind is how git reaches a repository: the name of its protocol.
type kind string

// The protocols that are allowed.
const (
	local kind = "file"
	https kind = "https"
	plain kind = "http"
	ssh   kind = "ssh"
)

// address is a repository that has been checked: what git is told, and how it gets there.
type address struct {
	kind kind
	text string
}

// parse checks the repository's address.
func (s Source) parse(closed []string) (address, error) {
	repo := s.Repo
	if len(repo) > maxRepo {
		return address{}, refuse("the repository's address has %d bytes, and at most %d are allowed", len(repo), maxRepo)
	}
	if !utf8.ValidString(repo) || strings.ContainsFunc(repo, unicode.IsControl) {
		return address{}, refuse("the repository's address has control characters in it, or is not UTF-8: type it again")
	}
	path := filepath.IsAbs(repo)
	switch {
	case strings.HasPrefix(repo, "-"):
		return address{}, refuse("the repository's address begins with '-': name a URL or an absolute path")
	case strings.ContainsFunc(repo, func(r rune) bool { return unicode.IsSpace(r) && (r != ' ' || !path) }):
		return address{}, refuse("the repository's address has a space in it: type it again")
	case path:
		return localAddress(repo, closed)
	case transport.MatchString(repo):
		name, _, _ := strings.Cut(repo, "::")
		return address{}, refuse("the repository's address uses the git transport %.40q: name an https or ssh URL, or an absolute path", name+"::")
	case scheme.MatchString(repo):
		return urlAddress(repo)
	}
	if parts := scpLike.FindStringSubmatch(repo); parts != nil {
		return scpAddress(repo, parts[1], parts[2], parts[3])
	}
	return address{}, refuse("the repository %.80q is neither a URL nor an absolute path: name one like https://host/path, git@host:path or /path", withoutSecret(repo))
}

// urlAddress checks a URL. What is wrong with it is said without it, for it may have a password in it.
func urlAddress(repo string) (address, error) {
	name, _, _ := strings.Cut(repo, "://")
	which := kind(strings.ToLower(name))
	switch which {
	case local:
		return address{}, refuse("file:// is not allowed for repositories: name the path instead")
	case "git":
		return address{}, refuse("git:// is not allowed for repositories, because nothing tells whether the answer is genuine: use https:// or ssh://")
	case https, plain, ssh:
	default:
		return address{}, refuse("the repository's address begins with %.40q: only https://, http:// and ssh:// are allowed", name+"://")
	}
	parsed, err := url.Parse(repo)
	if err != nil || parsed.Opaque != "" || parsed.Host == "" {
		return address{}, refuse("the repository's address is not a right URL: it has to be like %s://host/path", which)
	}
	if _, secret := parsed.User.Password(); secret || parsed.User != nil && which != ssh {
		return address{}, refuse("credentials must not be in the URL of the repository on %.80q: leave them out", parsed.Hostname())
	}
	if parsed.User != nil && !userName.MatchString(parsed.User.Username()) {
		return address{}, refuse("the user's name in the repository's address has characters that are not allowed")
	}
	if !rightHost(parsed.Hostname()) {
		return address{}, refuse("the repository's host %.80q is not the name of a host", parsed.Hostname())
	}
	if parsed.RawQuery != "" || parsed.ForceQuery || parsed.Fragment != "" {
		return address{}, refuse("the repository's address on %.80q has a '?' or a '#' in it: name the URL that git clones", parsed.Hostname())
	}
	if strings.Trim(parsed.Path, "/") == "" {
		return address{}, refuse("the repository's address names the host %.80q and no path", parsed.Hostname())
	}
	parsed.Scheme = string(which)
	return address{which, parsed.String()}, nil
}

func scpAddress(repo, user, host, path string) (address, error) {
	switch {
	case !userName.MatchString(user):
		return address{}, refuse("the user's name in the repository's address has characters that are not allowed")
	case !rightHost(strings.Trim(host, "[]")):
		return address{}, refuse("the repository's host %.80q is not the name of a host", host)
	case strings.HasPrefix(path, "-"):
		return address{}, refuse("the path in the repository's address begins with '-'")
	}
	return address{ssh, repo}, nil
}

func rightHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return hostName.MatchString(host)
}

// localAddress checks a path, and follows its symbolic links, so that what was checked is what is cloned.
func localAddress(path string, closed []string) (address, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return address{}, refuse("there is no repository at %.200q on the agent's machine: %s", path, reason(err))
	}
	// A work tree's .git may be a file or a link that leads elsewhere.
	for _, candidate := range []string{real, filepath.Join(real, ".git"), gitFile(real)} {
		target, err := filepath.EvalSymlinks(candidate)
		if err != nil {
			continue
		}
		for _, dir := range closed {
			if within(target, dir) {
				return address{}, refuse("the repository %.200q lies in a directory of the agent's own: clone it elsewhere first", path)
			}
		}
	}
	return address{local, real}, nil
}

// gitFile is the directory that a .git file names (gitrepository-layout(5)); empty if there is none.
func gitFile(tree string) string {
	name := filepath.Join(tree, ".git")
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<16 {
		return ""
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	target, found := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
	if !found {
		return ""
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(tree, target)
	}
	return target
}

// within reports whether path, which has no symbolic links, is dir or below it.
func within(path, dir string) bool {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	relative, err := filepath.Rel(dir, path)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator))
}

// withoutSecret shortens an address to what stands behind the last '@', if there is something that could
// be a password before it.
func withoutSecret(repo string) string {
	if at := strings.LastIndex(repo, "@"); at >= 0 && strings.Contains(repo[:at], ":") {
		return "…" + repo[at:]
	}
	return repo
}

func refuse(format string, args ...any) error { return api.Errorf(api.CodeBadRequest, format, args...) }
