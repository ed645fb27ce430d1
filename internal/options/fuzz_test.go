package options

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzOptions parses sets of options that are anything. What is accepted is complete and within every bound, and does not
// depend on their order; what is not is refused with a line for each.
func FuzzOptions(f *testing.F) {
	for given := range badOptions(f) {
		f.Add(given)
	}
	for _, good := range []string{
		"environment=prod cpu=4096 memory=16384", "useFargateSpot=true cpu=256 memory=512", "logRetentionDays=never", "projectName=a",
		"vpcId=vpc-12345678", "vpcId=new availabilityZones=us-gov-west-1a,us-gov-west-1b", "fileSystemId=fs-0123456789abcdef0", "alertEmail=a.b+c@example.co.uk",
		"spendLimitUSD=99.5", "anthropicBaseUrl=http://127.0.0.1:8080/v1", "ephemeralStorageGiB=200 maxSessions=100 architecture=arm64",
	} {
		f.Add(good)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list := strings.Split(text, " ")
		parsed, err := ParseAssignments(list)
		if err != nil {
			refusedWell(t, err)
			return
		}
		sound(t, parsed)
		slices.SortStableFunc(list, func(a, b string) int { // of two for the same option the last one counts
			first, _, _ := strings.Cut(a, "=")
			second, _, _ := strings.Cut(b, "=")
			return strings.Compare(second, first)
		})
		again, err := ParseAssignments(list)
		if err != nil {
			t.Fatal(err)
		}
		same(t, parsed, again)
	})
}

// FuzzContext reads a CDK context that is anything, as from cdk.json.
func FuzzContext(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"cpu":4096,"memory":"16384","useFargateSpot":true,"@aws-cdk/core:x":{}}`, `{"cpu":null}`, `{"cpu":[1]}`, `{"nonsense":{}}`, `{"cpu":1e3}`,
		`{"cpu":2048.0,"memory":8192.5}`, `{"spendLimitUSD":1e400}`, `{"maxSessions":-0}`, `{"spendLimitUSD":1e21}`, `{"projectName":true}`, `{"":""}`,
		`{"environment":"prod\u0000"}`, `{"a/b":1,"acknowledged-issue-numbers":[1]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var context map[string]any
		if json.Unmarshal(text, &context) != nil {
			return
		}
		parsed, err := FromContext(context)
		if err != nil {
			refusedWell(t, err)
			return
		}
		sound(t, parsed)
	})
}

// refusedWell sees that an error can be shown to anybody: lines of a bounded length, without what moves a cursor.
func refusedWell(t *testing.T, err error) {
	t.Helper()
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		if !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) || len(line) > 1200 || !strings.Contains(line, "option") {
			t.Fatalf("it is refused with %q", line)
		}
	}
}

// sound sees that options can be deployed.
func sound(t *testing.T, o Options) {
	t.Helper()
	for _, limit := range o.Names().Limits() {
		if len(limit.Name) > limit.Max || limit.Name == "" {
			t.Fatalf("%s %q is longer than %d", limit.Resource, limit.Name, limit.Max)
		}
	}
	if checkFargatePair(o) != nil || o.EphemeralStorageGiB < 20 || o.EphemeralStorageGiB > 200 || o.MaxSessions < 1 || o.MaxSessions > 100 ||
		o.LogRetentionDays < 0 || !(o.SpendLimitUSD >= 0 && o.SpendLimitUSD < 1e12) || o.Architecture != ARM64 && o.Architecture != X8664 {
		t.Fatalf("%+v is accepted", o)
	}
	for _, word := range append([]string{o.ProjectName, o.Environment, o.VpcID, o.AlertEmail, o.FileSystemID, o.AnthropicBaseURL}, o.AvailabilityZones...) {
		if strings.ContainsFunc(word, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) || !utf8.ValidString(word) || strings.HasPrefix(word, "-") {
			t.Fatalf("%q is accepted", word)
		}
	}
}

func same(t *testing.T, a, b Options) {
	t.Helper()
	first, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := json.Marshal(b); err != nil || string(first) != string(second) {
		t.Fatalf("%s is %s in another order: %v", first, second, err)
	}
}
