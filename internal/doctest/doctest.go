// Package doctest keeps the parts of the documentation that are made from code as the code has them.
package doctest

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files and the documentation's generated sections")

// Update reports whether the test run is to renew what is generated, rather than to check it.
func Update() bool { return *update }

// Section fails the test unless the section called name of the Markdown file holds text, line for line.
// The section stands between the lines "<!-- generated: name -->" and "<!-- end generated -->". With
// -update, text is written there instead.
func Section(t *testing.T, file, name, text string) {
	t.Helper()
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end generated -->"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, began := strings.Cut(string(content), begin)
	old, after, ended := strings.Cut(rest, end)
	switch {
	case !began || !ended:
		t.Errorf("%s lacks the line %q, or the line %q after it", file, strings.TrimSpace(begin), end)
	case old == text:
	case !*update:
		t.Errorf("the section %q of %s is out of date: renew it with `make golden`; it would differ by (-there, +made)\n%s", name, file, cmp.Diff(strings.Split(old, "\n"), strings.Split(text, "\n")))
	default:
		if err := os.WriteFile(file, []byte(before+begin+text+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Golden fails the test unless the file holds text. With -update, text is written there instead.
func Golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: make it with `make golden`", err)
	}
	if string(content) != text {
		t.Errorf("%s is out of date: renew it with `make golden`, and read the difference", file)
	}
}
