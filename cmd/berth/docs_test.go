package main

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"berth/internal/ops"
)

// Every verb's help has examples, each of which berth can parse, and the exit codes, each of which exists.
func TestHelp(t *testing.T) {
	codes := exitCodes(t)
	for _, verb := range verbs(t) {
		t.Run(verb.Name, func(t *testing.T) {
			text := verb.Detail
			before, after, found := strings.Cut(text, "Exit codes: ")
			if !found {
				t.Fatalf("no exit codes in %q", text)
			}
			for _, code := range regexp.MustCompile(`(?:^|; |;\n)(\d+) `).FindAllStringSubmatch(after, -1) {
				if !slices.Contains(codes, code[1]) {
					t.Errorf("its help tells of the exit code %s, which there is not", code[1])
				}
			}
			_, examples, found := strings.Cut(before, "Examples:\n")
			if !found || !strings.Contains("\n"+examples, "\n  berth "+nameOf(verb)) {
				t.Errorf("no examples in %q", text)
			}
			for _, flag := range regexp.MustCompile(`\s--([a-z-]+)`).FindAllStringSubmatch(examples, -1) {
				if !slices.ContainsFunc(verb.Flags, func(f *kong.Flag) bool { return f.Name == flag[1] }) {
					t.Errorf("an example has --%s, which it does not know", flag[1])
				}
			}
		})
	}
}

// docs/command.md has every verb, every verb's --json, every exit code, and no others.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	var names, withJSON []string
	for _, verb := range verbs(t) {
		names = append(names, nameOf(verb))
		if slices.ContainsFunc(verb.Flags, func(f *kong.Flag) bool { return f.Name == "json" }) {
			withJSON = append(withJSON, nameOf(verb)+" --json")
		}
	}
	for section, want := range map[string][]string{"Verbs": names, "JSON": withJSON, "Exit codes": exitCodes(t)} {
		got := firstCells(t, string(page), section)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the table below %q has rows for %q, and there are %q", section, got, want)
		}
	}
}

// The variables that the help of `berth up` names are on the page too.
func TestPageHasTheEnvironment(t *testing.T) {
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	there := firstCells(t, string(page), "Environment")
	named := regexp.MustCompile(`(?m)^  ([A-Z_]{5,}) `).FindAllStringSubmatch(ops.Up{}.Help(), -1)
	if len(named) < 6 {
		t.Fatalf("the help names only %q", named)
	}
	for _, name := range named {
		if !slices.Contains(there, name[1]) {
			t.Errorf("the page has %q, and not %s", there, name[1])
		}
	}
}

// firstCells are the first cells of the table below a heading, a cell of several taken apart at its commas.
func firstCells(t *testing.T, page, heading string) (cells []string) {
	t.Helper()
	_, section, found := strings.Cut(page, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the page has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |"); strings.HasPrefix(line, "| ") {
			for cell := range strings.SplitSeq(first, ", ") {
				cells = append(cells, strings.Trim(cell, "`"))
			}
		}
	}
	if len(cells) > 0 {
		cells = cells[1:] // the table's own heading
	}
	return cells
}

// nameOf is a verb as it is typed, with the group that it is in.
func nameOf(verb *kong.Node) string { return strings.TrimPrefix(verb.FullPath(), "berth ") }

// stdioOfNobody is for what is parsed, and not run.
var stdioOfNobody = ops.Stdio{In: new(bytes.Buffer), Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}

// verbs are the command's own, as it reads its arguments.
func verbs(t *testing.T) []*kong.Node {
	t.Helper()
	parser, err := newParser(context.Background(), stdioOfNobody)
	if err != nil {
		t.Fatal(err)
	}
	leaves := parser.Model.Leaves(true)
	if len(leaves) < 10 {
		t.Fatalf("there are only %d verbs", len(leaves))
	}
	return leaves
}

// exitCodes are the constants Exit… of package ops, as its source has them.
func exitCodes(t *testing.T) (codes []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../internal/ops/ops.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, is := node.(*ast.ValueSpec); is && strings.HasPrefix(spec.Names[0].Name, "Exit") && len(spec.Values) == 1 {
			codes = append(codes, fmt.Sprint(spec.Values[0].(*ast.BasicLit).Value))
		}
		return true
	})
	if len(codes) < 6 {
		t.Fatalf("found only the exit codes %q", codes)
	}
	return codes
}
