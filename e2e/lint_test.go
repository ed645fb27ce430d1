//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// finding is a line of cfn-lint's report.
type finding struct {
	Filename, Message string
	Rule              struct{ ID string }
	Location          struct{ Path []any }
}

// everywhere, as the place of an exception, stands for every variant of the stack.
const everywhere = "everywhere"

var exceptionRow = regexp.MustCompile(`(?m)^\| cfn-lint (\w+) \| (\S+) \| .+ \|$`)

// Every finding of cfn-lint, with its optional rules, on any of the golden templates has a row in
// docs/exceptions.md: `| cfn-lint W3010 | everywhere | why |`, or a variant in place of "everywhere".
// Every row has a finding.
func TestLintFindingsAreTheDocumentedExceptions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(shared.root, "docs/exceptions.md"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{} // "rule place"
	for _, row := range exceptionRow.FindAllStringSubmatch(string(page), -1) {
		used[row[1]+" "+row[2]] = false
	}

	templates, err := filepath.Glob(filepath.Join(shared.root, "infra/testdata/golden/*.json"))
	if err != nil || len(templates) == 0 {
		t.Fatalf("there are no golden templates (%v)", err)
	}
	words := append([]string{"--include-checks", "I", "E", "W", "--format", "json", "--"}, templates...)
	p := newProject(t)
	done := p.exec(t, "cfn-lint", "", append([]string{filepath.Join(shared.root, ".venv/bin/cfn-lint")}, words...)...)
	var findings []finding
	if err := json.Unmarshal([]byte(done.stdout), &findings); err != nil {
		t.Fatalf("%v\n%s", err, done)
	}
	undocumented := map[string]bool{} // one complaint is enough for each rule and template
	for _, found := range findings {
		variant := strings.TrimSuffix(filepath.Base(found.Filename), ".json")
		documented := false
		for _, place := range []string{everywhere, variant} {
			row := found.Rule.ID + " " + place
			if _, ok := used[row]; ok {
				used[row], documented = true, true
			}
		}
		if row := found.Rule.ID + " " + variant; !documented && !undocumented[row] {
			undocumented[row] = true
			t.Errorf("%s in variant %s, at %v: %s. Mend it, or give the reason in docs/exceptions.md",
				found.Rule.ID, variant, found.Location.Path, strings.TrimSuffix(found.Message, "."))
		}
	}
	for row, found := range used {
		if !found {
			t.Errorf("docs/exceptions.md has a row for cfn-lint %s, which finds nothing there any more", row)
		}
	}
}
