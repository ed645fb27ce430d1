// Package berth_test holds the rules that no single package can keep.
package berth_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which of the module's packages each package may import. An arrow points from what people
// run to what it is made of, and never back: a package that is not listed has none, until somebody
// decides where it stands (docs/architecture.md).
var arrows = map[string][]string{
	"berth":           {}, // this test
	"berth/cmd/berth": {"berth/internal/ops"},
	"berth/cmd/berthd": {
		"berth/internal/server", "berth/internal/daemon", "berth/internal/gateway", "berth/internal/workspace", "berth/internal/claude", "berth/internal/session",
		"berth/internal/metrics", "berth/internal/redact", "berth/internal/scripted", "berth/internal/api", "berth/internal/contract",
	},
	"berth/infra":        {"berth/internal/options", "berth/internal/contract"},
	"berth/internal/ops": {"berth/internal/cloud", "berth/internal/tunnel", "berth/internal/image", "berth/internal/cost", "berth/internal/options", "berth/internal/api", "berth/internal/contract"},
	"berth/internal/daemon": {
		"berth/internal/claude", "berth/internal/workspace", "berth/internal/gateway", "berth/internal/metrics", "berth/internal/session",
		"berth/internal/api", "berth/internal/contract",
	},
	"berth/internal/server":             {"berth/internal/api", "berth/internal/contract"},
	"berth/internal/gateway":            {"berth/internal/api", "berth/internal/contract"},
	"berth/internal/workspace":          {"berth/internal/api"},
	"berth/internal/claude":             {"berth/internal/api", "berth/internal/contract"},
	"berth/internal/session":            {"berth/internal/api"},
	"berth/internal/metrics":            {"berth/internal/contract"},
	"berth/internal/cloud":              {"berth/internal/options", "berth/internal/contract"},
	"berth/internal/cloud/awstest":      {"berth/internal/tunnel/ssmtest", "berth/internal/contract"},
	"berth/internal/tunnel":             {"berth/internal/tunnel/message"},
	"berth/internal/tunnel/message":     {},
	"berth/internal/tunnel/ssmtest":     {"berth/internal/tunnel/message"},
	"berth/internal/redact":             {},
	"berth/internal/api":                {"berth/internal/contract"},
	"berth/internal/scripted":           {},
	"berth/internal/cost":               {"berth/internal/options", "berth/internal/contract"},
	"berth/internal/cost/costtest":      {},
	"berth/internal/options":            {"berth/internal/contract"},
	"berth/internal/contract":           {},
	"berth/internal/doctest":            {},
	"berth/internal/dockertest":         {},
	"berth/internal/dockertest/gocache": {},
	"berth/internal/image":              {},
	"berth/image/bill":                  {},
	"berth/bench/image":                 {"berth/internal/dockertest", "berth/internal/image", "berth/internal/contract"},
	"berth/bench/synth":                 {},
	"berth/bench/agent":                 {"berth/internal/scripted", "berth/internal/api", "berth/internal/contract"},
	"berth/bench/checkpoint":            {"berth/internal/workspace"},
	"berth/bench/gateway":               {"berth/internal/gateway", "berth/internal/scripted"},
	"berth/bench/harness":               {"berth/internal/api", "berth/internal/contract"},
	"berth/bench/restart":               {"berth/bench/harness", "berth/internal/scripted", "berth/internal/api", "berth/internal/contract"},
	"berth/bench/followers":             {"berth/bench/harness", "berth/internal/scripted", "berth/internal/api"},
	"berth/bench/history":               {"berth/bench/harness", "berth/bench/slowvolume/slowfs", "berth/internal/scripted", "berth/internal/api", "berth/internal/contract"},
	"berth/bench/up":                    {"berth/internal/cloud/awstest", "berth/internal/image", "berth/internal/contract"},
	"berth/bench/slowvolume": {
		"berth/bench/harness", "berth/bench/slowvolume/slowfs", "berth/internal/scripted", "berth/internal/api", "berth/internal/contract",
	},
	"berth/bench/slowvolume/slowfs": {},
	"berth/e2e":                     {},
	"berth/e2e/local":               {},
	"berth/e2e/cloud":               {},
	"berth/e2e/release":             {},
}

// forTests says what the tests of a package may import beside that. doctest is for all of them.
var forTests = map[string][]string{
	"berth/cmd/berth":        {"berth/internal/cost/costtest", "berth/internal/cloud/awstest", "berth/internal/tunnel/ssmtest"},
	"berth/internal/cloud":   {"berth/internal/cloud/awstest"},
	"berth/internal/ops":     {"berth/internal/cloud/awstest"},
	"berth/internal/tunnel":  {"berth/internal/tunnel/ssmtest"},
	"berth/e2e":              {"berth/internal/cloud/awstest", "berth/internal/contract", "berth/internal/image"},
	"berth/e2e/local":        {"berth/internal/scripted", "berth/internal/api", "berth/internal/contract"},
	"berth/e2e/cloud":        {"berth/internal/cloud/awstest", "berth/internal/dockertest", "berth/internal/image", "berth/internal/scripted", "berth/internal/tunnel/ssmtest", "berth/internal/api", "berth/internal/contract"},
	"berth/internal/claude":  {"berth/internal/scripted"},
	"berth/internal/gateway": {"berth/internal/scripted"},
	"berth/internal/daemon":  {"berth/internal/scripted"},
	"berth/internal/cost":    {"berth/internal/cost/costtest"},
	"berth/bench/slowvolume": {"berth/internal/session", "berth/internal/workspace"},
}

// keptOut names what a program may not contain, however far down, and why.
var keptOut = map[string]map[string]string{
	"berth/cmd/berth": {
		"github.com/aws/jsii-runtime-go":  "it starts Node.js when the program starts",
		"github.com/aws/aws-cdk-go":       "it makes the program 80 MB larger, and only the CDK app needs it",
		"github.com/cdklabs/cdk-nag-go":   "it checks the stack in tests",
		"github.com/rogpeppe/go-internal": "it is for tests",
		"testing":                         "it is for tests",
	},
	"berth/cmd/berthd": {
		"github.com/aws/jsii-runtime-go":  "it starts Node.js when the program starts",
		"github.com/aws/aws-cdk-go":       "it makes the program 80 MB larger, and only the CDK app needs it",
		"github.com/rogpeppe/go-internal": "it is for tests",
		"testing":                         "it is for tests",
	},
	"berth/infra": {
		"github.com/cdklabs/cdk-nag-go": "it checks the stack in tests",
		"testing":                       "it is for tests",
	},
}

func TestImportsPointOneWay(t *testing.T) {
	for _, problem := range wrongImports(imports(t, "{{.Imports}}", "./..."), arrows) {
		t.Error(problem)
	}
	withTests := map[string][]string{}
	for name, allowed := range arrows {
		withTests[name] = slices.Concat(allowed, forTests[name], []string{name, "berth/internal/doctest"})
	}
	for _, problem := range wrongImports(imports(t, "{{.TestImports}} {{.XTestImports}}", "./..."), withTests) {
		t.Error("in a test: " + problem)
	}
}

func TestProgramsContainNothingTheyShouldNot(t *testing.T) {
	for program := range keptOut {
		deps := imports(t, "{{.Deps}}", program)[program]
		if len(deps) < 50 {
			t.Errorf("%s has only %d dependencies: were they read?", program, len(deps))
		}
		for _, problem := range wrongContents(program, deps) {
			t.Error(problem)
		}
	}
}

// The rules above have to be able to fail.
func TestWrongImportsAreFound(t *testing.T) {
	for name, graph := range map[string]map[string][]string{
		"points back":    {"berth/internal/contract": {"berth/internal/options"}},
		"imports infra":  {"berth/internal/ops": {"berth/infra"}},
		"has no place":   {"berth/internal/nowhere": {"fmt"}},
		"skips to a cmd": {"berth/internal/cost": {"berth/cmd/berth"}},
	} {
		if problems := wrongImports(graph, arrows); len(problems) != 1 {
			t.Errorf("%s: found %q, want one problem", name, problems)
		}
	}
	if problems := wrongContents("berth/cmd/berth", []string{"fmt", "github.com/aws/jsii-runtime-go/runtime"}); len(problems) != 1 {
		t.Errorf("jsii in berth: found %q, want one problem", problems)
	}
}

func wrongImports(graph, arrows map[string][]string) (problems []string) {
	for from, list := range graph {
		allowed, known := arrows[from]
		if !known {
			problems = append(problems, fmt.Sprintf("%s has no row in layering_test.go: say there what it may import, and in docs/architecture.md what it is", from))
			continue
		}
		for _, to := range list {
			if strings.HasPrefix(to, "berth/") && !slices.Contains(allowed, to) {
				problems = append(problems, fmt.Sprintf("%s imports %s, which points the wrong way: it may import %v of this module", from, to, allowed))
			}
		}
	}
	return problems
}

func wrongContents(program string, deps []string) (problems []string) {
	for _, dep := range deps {
		for unwanted, why := range keptOut[program] {
			if dep == unwanted || strings.HasPrefix(dep, unwanted+"/") {
				problems = append(problems, fmt.Sprintf("%s contains %s: %s", program, dep, why))
			}
		}
	}
	return problems
}

// imports asks the go command for a list of packages, by the package that it belongs to.
func imports(t *testing.T, list, pattern string) map[string][]string {
	t.Helper()
	output, err := exec.Command("go", "list", "-tags", "e2e", "-f", "{{.ImportPath}} "+list, pattern).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	graph := map[string][]string{}
	for line := range strings.Lines(string(output)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		graph[name] = strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(rest))
	}
	return graph
}
