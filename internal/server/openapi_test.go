package server_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestDescription(t *testing.T) {
	h, _ := handler(&fakeAgent{})
	r := request("GET", "/openapi.json", "")
	r.Header.Del("Authorization")
	text := answer(h, r).Body.Bytes()
	var described map[string]any
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	if version, _ := described["openapi"].(string); !strings.HasPrefix(version, "3.1.") {
		t.Errorf("version %q", version)
	}
	var operations []string
	paths, _ := described["paths"].(map[string]any)
	for path, methods := range paths {
		for method, operation := range methods.(map[string]any) {
			operations = append(operations, strings.ToUpper(method)+" "+path)
			responses := operation.(map[string]any)["responses"].(map[string]any)
			if len(responses) != 2 || responses["default"] == nil {
				t.Errorf("%s %s describes the answers %v", method, path, responses)
			}
		}
	}
	slices.Sort(operations)
	want := []string{
		"GET /v1/sessions",
		"GET /v1/sessions/{id}",
		"GET /v1/sessions/{id}/bundle",
		"GET /v1/sessions/{id}/diff",
		"GET /v1/sessions/{id}/events",
		"GET /v1/spend",
		"GET /v1/status",
		"POST /v1/sessions",
		"POST /v1/sessions/{id}/messages",
		"POST /v1/sessions/{id}/resume",
		"POST /v1/sessions/{id}/stop",
	}
	if diff := cmp.Diff(want, operations); diff != "" {
		t.Error(diff)
	}
	if n := checkReferences(t, described, described); n < 15 {
		t.Errorf("only %d references: were they read?", n)
	}
	schemas := described["components"].(map[string]any)["schemas"].(map[string]any)
	refusal := schemas["Refusal"].(map[string]any)
	if diff := cmp.Diff([]any{"code", "message"}, refusal["required"]); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"Session", "NewSession", "Status", "Diff", "NewMessage", "SessionList", "Resumption", "Error"} {
		if schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
	var again map[string]any
	if err := yaml.Unmarshal(answer(h, request("GET", "/openapi.yaml", "")).Body.Bytes(), &again); err != nil {
		t.Fatal(err)
	}
	if same, err := json.Marshal(again["paths"]); err != nil || len(same) < len(text)/3 {
		t.Errorf("the YAML has %d bytes of paths, %v", len(same), err)
	}
}

// checkReferences counts the references below a value, each of which must lead to something.
func checkReferences(t *testing.T, root, value any) (count int) {
	t.Helper()
	switch value := value.(type) {
	case map[string]any:
		if reference, found := value["$ref"].(string); found {
			count++
			target := root
			for name := range strings.SplitSeq(strings.TrimPrefix(reference, "#/"), "/") {
				object, _ := target.(map[string]any)
				target = object[name]
			}
			if target == nil {
				t.Errorf("%s leads nowhere", reference)
			}
		}
		for _, inner := range value {
			count += checkReferences(t, root, inner)
		}
	case []any:
		for _, inner := range value {
			count += checkReferences(t, root, inner)
		}
	}
	return count
}
