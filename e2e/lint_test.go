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

// everywhere, as the place of an exception, is every template and resource.
const everywhere = "everywhere"

var exceptionRow = regexp.MustCompile(`(?m)^\| cfn-lint (\w+) \| (\S+) \| .+ \|$`)

// Every finding of cfn-lint, with its optional rules, on any of the golden templates has a row in
// docs/exceptions.md: `| cfn-lint W3010 | everywhere | why |`, or the logical id in place of "everywhere".
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
	missing := map[string]bool{} // one complaint is enough for each rule and resource
	for _, found := range findings {
		id := ""
		if len(found.Location.Path) > 1 {
			id, _ = found.Location.Path[1].(string)
		}
		documented := false
		for _, place := range []string{everywhere, id} {
			row := found.Rule.ID + " " + place
			if _, ok := used[row]; ok {
				used[row], documented = true, true
			}
		}
		if row := found.Rule.ID + " " + id; !documented && !missing[row] {
			missing[row] = true
			t.Errorf("%s on %s, in %s: %s. Mend it, or give the reason in docs/exceptions.md",
				found.Rule.ID, id, filepath.Base(found.Filename), strings.TrimSuffix(found.Message, "."))
		}
	}
	for row, found := range used {
		if !found {
			t.Errorf("docs/exceptions.md has a row for cfn-lint %s, which finds nothing there any more", row)
		}
	}
}
