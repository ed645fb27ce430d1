package workspace

import (
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzAddress reads an address that is anything. What is accepted is of a kind that is allowed, is read by git as that kind
// and as nothing else, holds no secret, and is read again as the same.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"https://github.com/a/b.git", "HTTPS://h/x", "http://127.0.0.1:8080/x", "https://[::1]:8080/x", "https://[fe80::1%25lo]/x", "ssh://git@h:22/~/x", "ssh://h/x",
		"git@github.com:a/b.git", "git@[::1]:x", "a@b:c:d", "a@b:-x", "-u@h:x", "/", "/tmp", "/tmp/../tmp", "//h/x", "ext::sh -c x", "file:///x", "git://h/x",
		"https://u:p@h/x", "https://h", "https://h/?q", "https://h/x#f", "https://h/%00", "https://h/%2e%2e/x", "https://-h/x", "ssh://-oProxyCommand=x/y",
		"https://h:/x", "https://h:99999/x", "https://h/\u00e9", "https://h/x\\y", "https:///x", "https:h/x", "ssh://u@-h/x", "ssh://h/-x", "u@h:~x", "https://h/a|b",
		"https://\u0131/x", "https://h\u3002com/x", "https://h/x\x7f", "https://h/\u202ex", "ssh://a%40b@h/x", "ssh://u@h:x/y", "https://1.2.3/x", "https://h./x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, repo string) {
		source := Source{Repo: repo}
		got, err := source.parse(nil)
		if err != nil {
			if message := err.Error(); strings.ContainsFunc(message, unicode.IsControl) || !utf8.ValidString(message) || len(message) > 1200 {
				t.Fatalf("%q is refused with %q", repo, message)
			}
			return
		}
		if strings.ContainsFunc(got.text, unicode.IsControl) || !utf8.ValidString(got.text) || strings.HasPrefix(got.text, "-") || strings.Contains(got.text, "::") && got.kind != local && !strings.Contains(got.text, "[") {
			t.Fatalf("%q becomes %q", repo, got.text)
		}
		switch got.kind {
		case local:
			if got.text[0] != '/' {
				t.Fatalf("%q becomes the path %q", repo, got.text)
			}
		case https, plain, ssh:
			remote(t, repo, got)
		default:
			t.Fatalf("%q is of the kind %q", repo, got.kind)
		}
		if again, err := (Source{Repo: got.text}).parse(nil); err != nil || again != got {
			t.Fatalf("%q becomes %v, and that %v: %v", repo, got, again, err)
		}
	})
}

// remote sees that an address is a URL of its kind, or an scp-like one of ssh.
func remote(t *testing.T, repo string, got address) {
	t.Helper()
	if strings.ContainsFunc(got.text, unicode.IsSpace) {
		t.Fatalf("%q becomes %q", repo, got.text)
	}
	rest, isURL := strings.CutPrefix(got.text, string(got.kind)+"://")
	if !isURL {
		user, path, _ := strings.Cut(got.text, "@")
		if got.kind != ssh || user == "" || path == "" || strings.ContainsAny(user, "/:") || strings.HasPrefix(path, "-") {
			t.Fatalf("%q becomes %q", repo, got.text)
		}
		return
	}
	parsed, err := url.Parse(got.text)
	if err != nil || parsed.Host == "" || strings.HasPrefix(rest, "-") || strings.HasPrefix(parsed.Hostname(), "-") {
		t.Fatalf("%q becomes %q: %v", repo, got.text, err)
	}
	if _, secret := parsed.User.Password(); secret || parsed.User != nil && got.kind != ssh || parsed.RawQuery != "" || parsed.Fragment != "" {
		t.Fatalf("%q becomes %q", repo, got.text)
	}
}
