package workspace

import (
	"io/fs"
	"strings"
	"testing"
)

// What a session or an origin has written is read without harm, and says the same when it is written again.
func FuzzParts(f *testing.F) {
	oid := strings.Repeat("a1", 20)
	for _, seed := range []string{
		"", "ref: refs/heads/main HEAD\n", oid + " refs/heads/main\nref: refs/heads/main refs/remotes/origin/HEAD\n",
		oid + " tag 12\nobject abc\n\n\n", oid + " commit 999999999999999999\nx\n", oid + "\tHEAD\n" + oid + "\trefs/tags/v1\n" + oid + "\trefs/tags/v1^{}\n",
		`{"version":1,"base":"` + oid + `","dirs":["a/b","base64:/w=="],"nested":[{"path":"../x","commit":"` + oid + `"}],"modes":{"except":{"0755":["x"]}}}`,
		"tree " + oid + "\ncommitter berth <noreply@localhost> 1700000000 +0000\n\nCheckpoint\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		refs := parseRefs(text)
		for _, one := range refs {
			if !rightRefName(one.name) || one.symbolic != "" && !rightRefName(one.symbolic) || one.symbolic == "" && !commitID.MatchString(one.oid) {
				t.Errorf("%+v", one)
			}
			if !fs.ValidPath(strings.ToValidUTF8(one.name, "?")) {
				t.Errorf("%q leads out of the repository", one.name)
			}
		}
		if again := parseRefs(refsText(refs)); refsText(again) != refsText(refs) {
			t.Errorf("%q, then %q", refsText(refs), refsText(again))
		}
		total := 0
		for _, one := range parseBatch(text) {
			total += len(one.text)
		}
		if total > len(text) {
			t.Errorf("%d bytes of %d", total, len(text))
		}
		for _, one := range parseOrigin(text).tips {
			if !strings.HasPrefix(one.name, "refs/heads/") && !strings.HasPrefix(one.name, "refs/tags/") {
				t.Errorf("%+v", one)
			}
		}
		if known, err := parseAbout(oid, text); err == nil {
			for _, dir := range known.Dirs {
				if !fs.ValidPath(strings.ToValidUTF8(string(dir), "?")) {
					t.Errorf("%q leads out of the tree", dir)
				}
			}
			for _, one := range known.Nested {
				if !fs.ValidPath(strings.ToValidUTF8(string(one.Path), "?")) {
					t.Errorf("%q leads out of the tree", one.Path)
				}
			}
		}
		_ = dateOf(text)
	})
}
