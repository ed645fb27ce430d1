package workspace_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/api"
	"berth/internal/workspace"
)

// hostile are addresses that git must never see, with what is said about them.
var hostile = map[string]string{
	"-u":                                     "begins with '-'",
	"--upload-pack=touch /tmp/x":             "begins with '-'",
	"ext::sh -c touch% /tmp/x":               "space",
	"ext::sh":                                `transport "ext::"`,
	"EXT::sh":                                "transport",
	"fd::3":                                  "transport",
	"https::https://example.com/x":           "transport",
	"foo+bar::x":                             "transport",
	"file:///etc":                            "name the path instead",
	"FILE:///etc":                            "name the path instead",
	"File://localhost/etc":                   "name the path instead",
	"git://example.com/x":                    "genuine",
	"ftp://example.com/x":                    `"ftp://"`,
	"git+ssh://example.com/x":                "only https://",
	"javascript://x/y":                       "only https://",
	"https://user:pa55word@h/x":              "credentials must not be in the URL",
	"https://pa55word@h/x":                   "credentials must not be in the URL",
	"ssh://git:pa55word@h/x":                 "credentials must not be in the URL",
	"https://user:pa55word@h/x y":            "space",
	"https://user:pa55word@h:port/x":         "not a right URL",
	"user:pa55word@example.com/x":            "neither a URL nor an absolute path",
	"https://h/x?token=pa55word":             "'?'",
	"https://h/x#pa55word":                   "'?'",
	"https:///x":                             "not a right URL",
	"https://h":                              "no path",
	"https://-oProxyCommand=x/y":             "not the name of a host",
	"ssh://-oProxyCommand=x/y":               "not the name of a host",
	"ssh://-ox@h/y":                          "user's name",
	"ssh://%2doProxyCommand=x/y":             "",
	"ssh://h$(x)/y":                          "",
	"-oProxyCommand=x@h:y":                   "begins with '-'",
	"git@-oProxyCommand=x:y":                 "not the name of a host",
	"git@h:-x":                               "path in the repository's address begins with '-'",
	"git@h::x":                               "",
	"a;b@h:x":                                "user's name",
	"relative/path":                          "neither a URL nor an absolute path",
	"../up":                                  "neither a URL nor an absolute path",
	"~/x":                                    "neither",
	"host:path":                              "neither",
	".":                                      "neither",
	"https://h/a\nb":                         "control characters",
	"https://h/a\x00b":                       "control characters",
	"/tmp/\x1b[31m":                          "control characters",
	"https://h/\xff":                         "UTF-8",
	"https://h/a b":                          "space",
	"https://h/a\u00a0b":                     "space",
	"/no/such/repository":                    "no such file or directory",
	"https://h/" + strings.Repeat("x", 2048): "2058 bytes",
}

func TestCheckRefuses(t *testing.T) {
	for repo, says := range hostile {
		err := workspace.Source{Repo: repo}.Check()
		coded := new(api.Error)
		if !errors.As(err, &coded) || coded.Code != api.CodeBadRequest || !strings.Contains(coded.Message, says) {
			t.Errorf("%q: %v, want %q", repo, err, says)
			continue
		}
		if strings.Contains(coded.Message, "pa55word") || strings.ContainsAny(coded.Message, "\n\x00\x1b") || len(coded.Message) > 400 {
			t.Errorf("%q: the message is %q", repo, coded.Message)
		}
	}
	for _, source := range []workspace.Source{{Repo: "https://h/x", Ref: "-b"}, {Repo: "https://h/x", Ref: "a..b"}, {Ref: "main"}} {
		if err := source.Check(); err == nil {
			t.Errorf("%+v is allowed", source)
		}
	}
}

func TestCheckAllows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with a space")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{
		"", dir, "https://github.com/a/b.git", "HTTPS://github.com/a/b", "http://127.0.0.1:8080/x", "https://[::1]:8080/x", "ssh://git@example.com:22/~/x",
		"ssh://example.com/x", "git@github.com:a/b.git", "git@[::1]:x", "me.you@my_host:dir/x",
	} {
		if err := (workspace.Source{Repo: repo}).Check(t.TempDir()); err != nil {
			t.Errorf("%q: %v", repo, err)
		}
	}
}

func TestCheckClosesDirectories(t *testing.T) {
	root := t.TempDir()
	closed, open := filepath.Join(root, "volume"), filepath.Join(root, "open")
	mkdir(t, filepath.Join(closed, "repos", "x.git"))
	mkdir(t, open, filepath.Join(open, "gitfile"), filepath.Join(open, "gitlink"), filepath.Join(root, "volume-2"))
	link(t, closed, filepath.Join(root, "alias"))
	link(t, filepath.Join(closed, "repos"), filepath.Join(open, "link"))
	link(t, filepath.Join(closed, "repos", "x.git"), filepath.Join(open, "gitlink", ".git"))
	write(t, filepath.Join(open, "gitfile", ".git"), "gitdir: ../../volume/repos/x.git\n")
	for _, repo := range []string{
		closed, filepath.Join(closed, "repos"), closed + "/../volume/repos", root + "/alias", root + "/alias/repos/x.git",
		open + "/link", open + "/link/x.git", open + "/../volume", open + "/gitlink", open + "/gitfile",
	} {
		for _, dir := range []string{closed, filepath.Join(root, "alias")} {
			if err := (workspace.Source{Repo: repo}).Check("/nowhere", dir); err == nil || !strings.Contains(err.Error(), "agent's own") {
				t.Errorf("%s with %s closed: %v", repo, dir, err)
			}
		}
	}
	for _, repo := range []string{open, root, root + "/volume-2"} {
		if err := (workspace.Source{Repo: repo}).Check(closed); err != nil {
			t.Errorf("%s: %v", repo, err)
		}
	}
}

func FuzzSource(f *testing.F) {
	for repo := range hostile {
		f.Add(repo, "main")
	}
	f.Add("https://github.com/a/b.git", "v1")
	f.Add("git@github.com:a/b.git", "-x")
	f.Fuzz(func(t *testing.T, repo, ref string) {
		err := workspace.Source{Repo: repo, Ref: ref}.Check("/")
		if err != nil {
			coded := new(api.Error)
			if !errors.As(err, &coded) || strings.ContainsAny(coded.Message, "\n\r\x00\x1b") || len(coded.Message) > 1000 {
				t.Errorf("%q, %q: %q", repo, ref, err)
			}
			return
		}
		// What is allowed is one of the forms that git understands in one way only.
		if strings.HasPrefix(repo, "-") || strings.HasPrefix(ref, "-") || strings.ContainsAny(repo+ref, " \t\n\x00") || len(repo) > 2048 {
			t.Errorf("%q, %q is allowed", repo, ref)
		}
		lower := strings.ToLower(repo)
		url := strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "ssh://")
		if before, _, found := strings.Cut(repo, ":"); repo != "" && !url && (!found || strings.ContainsAny(before, "/:") || !strings.Contains(before, "@")) {
			t.Errorf("%q is allowed", repo)
		}
	})
}

func mkdir(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
