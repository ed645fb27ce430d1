package berth_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// docs/specification.md names the test that shows each promise. A test or a file that is not there shows
// nothing.
func TestSpecificationNamesWhatExists(t *testing.T) {
	page, err := os.ReadFile("docs/specification.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	output, err := exec.Command("git", "grep", "-hoE", `^func Test\w+`, "--", "*_test.go").Output()
	if err != nil {
		t.Fatalf("git grep: %v", err)
	}
	for name := range strings.Lines(string(output)) {
		declared[strings.TrimPrefix(strings.TrimSpace(name), "func ")] = true
	}
	names := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(page), -1)
	if len(names) < 50 {
		t.Errorf("the page names only %d tests", len(names))
	}
	for _, name := range names {
		if !declared[name] {
			t.Errorf("docs/specification.md names %s, which is no test here", name)
		}
	}
	for _, file := range regexp.MustCompile("`((?:infra|internal|docs)/[^`: ]+)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(file[1]); err != nil {
			t.Errorf("docs/specification.md names %s: %v", file[1], err)
		}
	}
}

// A link between two pages leads somewhere.
func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	output, err := exec.Command("git", "ls-files", "*.md").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	found := 0
	for file := range strings.FieldsSeq(string(output)) {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		directory := file[:strings.LastIndex("/"+file, "/")]
		for _, match := range link.FindAllStringSubmatch(string(page), -1) {
			found++
			if _, err := os.Stat(directory + match[1]); err != nil {
				t.Errorf("%s links to %s: %v", file, match[1], err)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d links were found", found)
	}
}
