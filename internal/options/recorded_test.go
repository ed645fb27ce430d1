package options

import (
	"maps"
	"testing"
)

// What is recorded makes the same options again; a default, however it is written, is not recorded.
func TestSetMakesTheSameOptions(t *testing.T) {
	for _, values := range []map[string]string{
		{},
		{"environment": "prod", "cpu": "4096", "memory": "16384", "alertEmail": "ops@example.com"},
		{"cpu": "2048", "useFargateSpot": "false", "vpcId": "default"},
		{"vpcId": "new", "availabilityZones": "us-east-1a,us-east-1b", "anthropicBaseUrl": "https://api.example.com/v1"},
	} {
		parsed, err := Parse(values)
		if err != nil {
			t.Fatal(err)
		}
		again := maps.Clone(parsed.Set)
		if again == nil {
			again = map[string]string{}
		}
		again["environment"] = parsed.Environment
		reread, err := Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		same(t, parsed, reread)
		for name := range parsed.Set {
			if _, given := values[name]; !given {
				t.Errorf("%s is recorded, and was not given", name)
			}
		}
	}
	if parsed, err := Parse(map[string]string{"cpu": "2048", "vpcId": "default"}); err != nil || parsed.Set != nil {
		t.Errorf("%v; of defaults %v is recorded", err, parsed.Set)
	}
}

func TestDefaultIsAValue(t *testing.T) {
	plain, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, option := range Table {
		if option.Name != "projectName" {
			values[option.Name] = "default"
		}
	}
	parsed, err := Parse(values)
	if err != nil {
		t.Fatal(err)
	}
	same(t, plain, parsed)
	if named, err := Parse(map[string]string{"projectName": "default"}); err != nil || named.ProjectName != "default" {
		t.Errorf("%v; a project may be called default, and is called %s", err, named.ProjectName)
	}
}
