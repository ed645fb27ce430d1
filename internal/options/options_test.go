package options

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/internal/contract"
	"berth/internal/doctest"
)

func TestDefaults(t *testing.T) {
	got, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		ProjectName: "claude-code", Environment: "dev", CPU: 2048, MemoryMiB: 8192, LogRetentionDays: 7,
		Architecture: X8664, EphemeralStorageGiB: 20, MaxSessions: 4, VpcID: VpcDefault,
		AnthropicBaseURL: "https://api.anthropic.com",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

// badOptions reads the option sets that are refused, and a part of what is said about each.
func badOptions(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/bad-options.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if given, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok {
			cases[given] = want
		}
	}
	if len(cases) < 50 {
		t.Fatalf("there are only %d cases", len(cases))
	}
	return cases
}

func TestBadOptions(t *testing.T) {
	for given, want := range badOptions(t) {
		t.Run(given, func(t *testing.T) {
			_, err := ParseAssignments(assignments(given))
			if err == nil {
				t.Fatal("it is accepted")
			}
			if message := err.Error(); !strings.Contains(message, want) || strings.ContainsAny(message, "\n\r\x1b") {
				t.Errorf("got %q, want one line with %q", message, want)
			}
		})
	}
}

// assignments splits at the spaces that a further option follows.
func assignments(text string) []string {
	list := strings.Split(text, " ")
	if list[len(list)-1] == "" { // a value that ends in a space
		list = []string{text}
	}
	return list
}

func TestEachBadOptionHasItsLine(t *testing.T) {
	_, err := Parse(map[string]string{"cpu": "1\n2", "environment": "x\x1b[31m", "nonsense": "1", "memory": "8192"})
	if err == nil {
		t.Fatal("it is accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %d lines, want 3 without control characters:\n%q", len(lines), err)
	}
}

func TestGoodOptions(t *testing.T) {
	for _, text := range []string{
		"environment=prod cpu=4096 memory=16384", "useFargateSpot=true cpu=1024 memory=4096 logRetentionDays=3",
		"cpu=256 memory=512", "cpu=16384 memory=122880", "logRetentionDays=never", "logRetentionDays=3653",
		"projectName=" + strings.Repeat("a", 40), "vpcId=vpc-12345678", "vpcId=new availabilityZones=us-gov-west-1a",
		"fileSystemId=fs-0123456789abcdef0", "alertEmail=a.b+c@example.co.uk", "spendLimitUSD=99.5",
		"anthropicBaseUrl=http://127.0.0.1:8080/v1", "ephemeralStorageGiB=200 maxSessions=100",
	} {
		if _, err := ParseAssignments(strings.Split(text, " ")); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestContextHoldsMoreThanOptions(t *testing.T) {
	got, err := FromContext(map[string]any{
		"cpu": 4096.0, "memory": "16384", "useFargateSpot": true,
		"@aws-cdk/core:something": true, "vpc-provider:account=1": map[string]any{}, "aws:cdk:enable-path-metadata": true,
		"acknowledged-issue-numbers": []any{1.0}, "cli-telemetry": false,
	})
	if err != nil || got.CPU != 4096 || got.MemoryMiB != 16384 || !got.UseFargateSpot {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, value := range []any{nil, []any{"a"}, map[string]any{}} {
		if _, err := FromContext(map[string]any{"cpu": value}); err == nil {
			t.Errorf("cpu as %v is accepted", value)
		}
	}
}

// Whatever Fargate's table says is offered is accepted, and nothing beside it.
func TestFargatePairs(t *testing.T) {
	accepted := map[int]int{}
	for _, cpu := range slices.Sorted(maps.Keys(fargateMemory)) {
		for memory := 256; memory <= 131072; memory += 256 {
			if _, err := Parse(map[string]string{"cpu": fmt.Sprint(cpu), "memory": fmt.Sprint(memory)}); err == nil {
				accepted[cpu]++
			}
		}
	}
	want := map[int]int{256: 3, 512: 4, 1024: 7, 2048: 13, 4096: 23, 8192: 12, 16384: 12}
	if diff := cmp.Diff(want, accepted); diff != "" {
		t.Errorf("amounts of memory by CPU (-want +got):\n%s", diff)
	}
}

// What is accepted makes names that every service takes.
func TestAcceptedNamesFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		project := rapid.StringMatching(`[a-z][a-z0-9-]{0,60}`).Draw(t, "project")
		environment := rapid.SampledFrom(contract.Environments).Draw(t, "environment")
		parsed, err := Parse(map[string]string{"projectName": project, "environment": environment})
		if err != nil {
			return
		}
		for _, limit := range parsed.Names().Limits() {
			if len(limit.Name) > limit.Max {
				t.Fatalf("%s %q is longer than %d", limit.Resource, limit.Name, limit.Max)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for given := range badOptions(f) {
		f.Add(given)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := ParseAssignments([]string{text})
		if err == nil {
			if !Known(strings.SplitN(text, "=", 2)[0]) {
				t.Errorf("%q is accepted as %+v", text, parsed)
			}
			return
		}
		if message := err.Error(); len(message) > 1200 || strings.ContainsAny(message, "\n\x00\x1b") {
			t.Errorf("%q is refused with %q", text, message)
		}
	})
}

func TestDocumentedOptionsAreTheOnesInCode(t *testing.T) {
	var table strings.Builder
	table.WriteString("| option | default | description | allowed |\n|---|---|---|---|\n")
	for _, option := range Table {
		byDefault := "–"
		if option.Default != "" {
			byDefault = "`" + option.Default + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", option.Name, byDefault, option.Description, option.Allowed)
	}
	doctest.Section(t, "../../docs/options.md", "options", table.String())
	if page, err := os.ReadFile("../../docs/options.md"); err != nil || !strings.Contains(string(page), "-c ") {
		t.Errorf("docs/options.md does not say how options are given: %v", err)
	}
}
