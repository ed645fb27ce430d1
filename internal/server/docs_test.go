package server_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/api"
)

// docs/api.md has every operation of the description, every field of a task, every parameter of a list, every type
// of events with its fields, and every code; and no others.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	operations, parameters := described(t)
	compare(t, "operations", append(operations, "GET /metrics", "GET /healthz", "GET /readyz"), cells(page, "request"))
	compare(t, "fields of a task", fields(reflect.TypeFor[api.NewSession]()), cells(page, "field"))
	compare(t, "parameters", parameters, cells(page, "parameter"))
	compare(t, "types of events", constants(t, "../api/api.go", "EventType"), cells(page, "`type`"))

	codes := cells(page, "code")
	_, ofSessions, _ := strings.Cut(page, "\nA session that failed has an `error`")
	for _, code := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(ofSessions, -1) {
		codes = append(codes, code[1])
	}
	slices.Sort(codes)
	compare(t, "codes", constants(t, "../api/error.go", "Code"), slices.Compact(codes))

	// Each field of an event is named in the row of some type, and those of its parts too.
	_, rows, _ := strings.Cut(page, "\n## Events\n")
	rows, _, _ = strings.Cut(rows, "\n## ")
	for _, part := range []reflect.Type{reflect.TypeFor[api.Event](), reflect.TypeFor[api.Request](), reflect.TypeFor[api.Checkpoint](), reflect.TypeFor[api.Delivery]()} {
		for _, field := range fields(part) {
			if !strings.Contains(rows, "`"+field+"`") {
				t.Errorf("docs/api.md does not name the field %s of %s", field, part)
			}
		}
	}
}

// described are the operations of the API's description, and the parameters of a list.
func described(t *testing.T) (operations, parameters []string) {
	t.Helper()
	h, _ := handler(&fakeAgent{})
	var described struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
	}
	if err := json.Unmarshal(answer(h, request("GET", "/openapi.json", "")).Body.Bytes(), &described); err != nil {
		t.Fatal(err)
	}
	for path, methods := range described.Paths {
		for method := range methods {
			operations = append(operations, strings.ToUpper(method)+" "+path)
		}
	}
	for _, parameter := range described.Paths["/v1/sessions"]["get"].Parameters {
		if parameter.In == "query" {
			parameters = append(parameters, parameter.Name)
		}
	}
	return operations, parameters
}

// cells are the first cells of the table with a heading, one of several taken apart at its commas.
func cells(page, heading string) (list []string) {
	_, table, _ := strings.Cut(page, "\n| "+heading+" |")
	for i, line := range strings.Split(table, "\n") {
		if i < 2 { // the heading and the line below it
			continue
		}
		if !strings.HasPrefix(line, "| ") {
			break
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for cell := range strings.SplitSeq(first, ", ") {
			list = append(list, strings.Trim(cell, "`"))
		}
	}
	return list
}

// fields are the names in JSON of a struct's fields.
func fields(of reflect.Type) (names []string) {
	for _, field := range reflect.VisibleFields(of) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); !field.Anonymous && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// constants are the values of a type's constants, as a file has them.
func constants(t *testing.T, name, of string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, is := node.(*ast.ValueSpec); is && spec.Type != nil && len(spec.Values) == 1 {
			if kind, is := spec.Type.(*ast.Ident); is && kind.Name == of {
				value, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				values = append(values, value)
			}
		}
		return true
	})
	return values
}

func compare(t *testing.T, what string, want, got []string) {
	t.Helper()
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 7 {
		t.Errorf("only %d %s were found", len(want), what)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (- in the code, + in docs/api.md):\n%s", what, diff)
	}
}
