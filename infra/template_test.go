package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/options"
)

// template is a synthesised CloudFormation template.
type template struct {
	text    string
	options options.Options
	body    struct {
		Parameters, Outputs map[string]map[string]any
		Resources           map[string]resource
		Rules               map[string]any
	}
	nag struct{ Lines []nagLine }
}

type resource struct {
	Type                string
	Properties          map[string]any
	DependsOn           []string
	DeletionPolicy      string
	UpdateReplacePolicy string
}

// all returns the logical ids of the resources of a type, in order.
func (t template) all(kind string) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(t.body.Resources)) {
		if t.body.Resources[id].Type == kind {
			ids = append(ids, id)
		}
	}
	return ids
}

// one returns the only resource of a type; where there are several, the one whose id holds part.
func (t template) one(test *testing.T, kind, part string) resource {
	test.Helper()
	var found []string
	for _, id := range t.all(kind) {
		if strings.Contains(id, part) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		test.Fatalf("there are %d resources of type %s with %q in their ids: %v", len(found), kind, part, found)
	}
	return t.body.Resources[found[0]]
}

// at follows keys (strings) and indices (ints) into a JSON value.
func at(value any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := value.(map[string]any)
			value = object[step]
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil
			}
			value = list[step]
		}
	}
	return value
}

// without copies properties and leaves some out: tags, say, which are looked at together.
func without(properties map[string]any, names ...string) map[string]any {
	rest := maps.Clone(properties)
	for _, name := range names {
		delete(rest, name)
	}
	return rest
}

// wantJSON compares a part of a template with JSON text, in which "…" matches everything: a logical id
// with its hash, say.
func wantJSON(t *testing.T, what string, got any, want string) {
	t.Helper()
	var expected any
	if err := json.Unmarshal([]byte(want), &expected); err != nil {
		t.Fatalf("%s: the expectation is no JSON: %v", what, err)
	}
	if diff := cmp.Diff(expected, mask(got, expected)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// mask puts "…" into a copy of got wherever pattern has it.
func mask(got, pattern any) any {
	if pattern == "…" && got != nil {
		return "…"
	}
	switch got := got.(type) {
	case map[string]any:
		object, _ := pattern.(map[string]any)
		masked := make(map[string]any, len(got))
		for key, value := range got {
			masked[key] = mask(value, object[key])
		}
		return masked
	case []any:
		list, _ := pattern.([]any)
		masked := make([]any, len(got))
		for i, value := range got {
			masked[i] = mask(value, at(list, i))
		}
		return masked
	}
	return got
}

// each runs a test for every variant.
func each(t *testing.T, test func(*testing.T, template)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		t.Run(name, func(t *testing.T) { test(t, templates[name]) })
	}
}
