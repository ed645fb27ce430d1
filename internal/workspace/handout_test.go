package workspace_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/api"
	"berth/internal/workspace"
)

func TestBundle(t *testing.T) {
	from, commits := bareOrigin(t)
	m, p := mirrors(t), place(t, from)
	bundle := func(full bool, base string) (string, error) {
		file, err := os.CreateTemp(t.TempDir(), "*.bundle")
		if err != nil {
			t.Fatal(err)
		}
		return file.Name(), errors.Join(m.Bundle(t.Context(), id, p.Source, p.Branch, base, full, file), file.Close())
	}
	notFound := func(full bool, base string) {
		t.Helper()
		_, err := bundle(full, base)
		if coded := new(api.Error); !errors.As(err, &coded) || coded.Code != api.CodeNotFound {
			t.Error(err)
		}
	}
	notFound(true, "")
	base := prepared(t, m, p)
	notFound(true, base)
	saved(t, m, p)
	notFound(false, base)
	work(t, p)
	saved(t, m, p)
	delivered := m.Deliver(t.Context(), p, workspace.Request{Title: "T"})
	for name, full := range map[string]bool{"full": true, "thin": false} {
		file, err := bundle(full, base)
		if err != nil {
			t.Fatal(name, err)
		}
		into := filepath.Join(t.TempDir(), "clone")
		if full {
			run(t, t.TempDir(), "init", "--quiet", into)
		} else {
			run(t, t.TempDir(), "clone", "--quiet", from, into)
			run(t, into, "checkout", "--quiet", commits["two"])
		}
		run(t, into, "bundle", "verify", file)
		run(t, into, "fetch", "--quiet", file, "+refs/heads/"+p.Branch+":refs/heads/got")
		if got := run(t, into, "rev-parse", "got"); got != delivered.Commit {
			t.Errorf("%s: %s, want %s", name, got, delivered.Commit)
		}
	}
	if err := m.Bundle(t.Context(), id, p.Source, "../x", base, true, &bytes.Buffer{}); err == nil {
		t.Error("a hostile branch was allowed")
	}
}

// A patch can be applied, binary files too, whether it was made from the tree or from the checkpoint.
func TestDiffCanBeApplied(t *testing.T) {
	from, _ := origin(t)
	m, p := mirrors(t), place(t, from)
	base := prepared(t, m, p)
	work(t, p)
	write(t, filepath.Join(p.Tree, "binary"), "\x00\x01\x02\xff")
	if err := os.Chmod(filepath.Join(p.Tree, "one"), 0o755); err != nil {
		t.Fatal(err)
	}
	live, err := m.Diff(t.Context(), p, base)
	if err != nil {
		t.Fatal(err)
	}
	saved(t, m, p)
	want := picture(t, p.Tree)
	stored, err := m.Diff(t.Context(), elsewhere(t, p), base)
	if err != nil || stored != live {
		t.Fatalf("%v: %s", err, cmp.Diff(live, stored))
	}
	clone := filepath.Join(t.TempDir(), "clone")
	run(t, from, "clone", "--quiet", from, clone)
	patch := filepath.Join(t.TempDir(), "patch")
	write(t, patch, stored)
	run(t, clone, "apply", "--index", patch)
	got := picture(t, clone)
	for _, name := range []string{"binary", "one", "committed", "uncommitted"} {
		if got[name] != want[name] {
			t.Errorf("%s: %q, want %q", name, got[name], want[name])
		}
	}
	if _, err := m.Diff(t.Context(), p, strings.Repeat("ab", 20)); err == nil || !strings.Contains(err.Error(), "does not have the commit") {
		t.Error(err)
	}
	none := elsewhere(t, p)
	none.ID = strings.Replace(id, "0", "1", 1)
	if _, err := m.Diff(t.Context(), none, base); err == nil || !strings.Contains(err.Error(), "no checkpoint") {
		t.Error(err)
	}
}
