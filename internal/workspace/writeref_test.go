package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who wakes up between its look at the ref and the move finds out when it has the lock.
func TestARefIsMovedFromWhatTheRunKnowsOnly(t *testing.T) {
	r := &mirror{Mirrors: NewMirrors(t.TempDir(), MirrorConfig{}), path: t.TempDir()}
	oid := func(digit string) string { return strings.Repeat(digit, 40) }
	name := filepath.Join(r.path, "refs", "berth", "x")
	for _, each := range []struct {
		what, there string
		run         known
		want        string
		overtaken   bool
	}{
		{"no ref", "", known{next: oid("1")}, oid("1"), false},
		{"the one that it knows", oid("1"), known{commit: oid("1"), next: oid("2")}, oid("2"), false},
		{"one that it had begun to store", oid("2"), known{commit: oid("1"), next: oid("2")}, oid("2"), false},
		{"another one", oid("3"), known{commit: oid("1"), next: oid("2")}, oid("3"), true},
		{"one where there was none", oid("3"), known{next: oid("2")}, oid("3"), true},
		{"none any more", "", known{commit: oid("1"), next: oid("2")}, oid("2"), false},
	} {
		if err := os.RemoveAll(filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		if each.there != "" {
			if err := r.writeRef("refs/berth/x", each.there); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.moveRef("x", &each.run); errors.Is(err, ErrOvertaken) != each.overtaken || err != nil && !each.overtaken {
			t.Errorf("%s: %v", each.what, err)
		}
		text, err := os.ReadFile(name)
		if err != nil || string(text) != each.want+"\n" {
			t.Errorf("%s: the ref is %q, %v", each.what, text, err)
		}
		if _, err := os.Lstat(name + ".lock"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: its lock is left: %v", each.what, err)
		}
	}
}
