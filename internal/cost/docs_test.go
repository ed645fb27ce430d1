package cost

import (
	"strings"
	"testing"

	"berth/internal/doctest"
)

// The documentation's tables are generated: what they say is what `berth cost` says.
func TestDocumentedTablesAreCurrent(t *testing.T) {
	tables, err := Markdown(home(t))
	if err != nil {
		t.Fatal(err)
	}
	doctest.Section(t, "../../docs/cost.md", "cost", tables)
	doctest.Section(t, "../../README.md", "cost", tables)
}

func TestMarkdownSaysWhereTheSpecificationIsWrong(t *testing.T) {
	tables, err := Markdown(home(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| ECS Fargate | 2 vCPU, 8 GB, x86_64 | ~$85 | $85.06 |",
		"| ECS Fargate Spot | 1 vCPU, 4 GB, x86_64 | ~$35 | $13.54 | wrong: on demand is $42.53, so 60 % off is $17.01;",
		"| Container Insights | 38 metrics, 0.2 GB of logs | not counted | $11.50 |",
		"| Public IPv4 address | 1 address | not counted | $3.65 |",
		"| **Total** | | **~$105** |",
		"| **Total** | | **~$53** |",
	} {
		if !strings.Contains(tables, want) {
			t.Errorf("the tables lack %q:\n%s", want, tables)
		}
	}
}

func TestTextAddsUpAndAligns(t *testing.T) {
	var text strings.Builder
	if err := WriteText(&text, estimate(t, DefaultAssumptions())); err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(text.String(), "\n\n")
	lines := strings.Split(table, "\n")
	for _, line := range lines {
		if len(line) != len(lines[0]) {
			t.Errorf("this line is %d wide, the first %d: %q", len(line), len(lines[0]), line)
		}
	}
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "Total ") || !strings.HasSuffix(last, " $129.33") {
		t.Errorf("the last line is %q", last)
	}
	for _, r := range text.String() {
		if r > 126 {
			t.Errorf("%q is not ASCII", r)
		}
	}
}
