package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"berth/internal/doctest"
)

// largestTemplate is what CloudFormation takes in a request, without a bucket to put the template in
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html).
// Above it the CDK CLI asks for `cdk bootstrap`, and for its bucket.
const largestTemplate = 51_200

// largestNow leaves room for the next resource, and for a CDK that writes a little more.
const largestNow = 49_000

// A reviewer sees what a change does to each variant in the difference of these files.
func TestGoldenTemplates(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		var indented bytes.Buffer
		if err := json.Indent(&indented, []byte(made.text), "", "  "); err != nil {
			t.Fatal(err)
		}
		indented.WriteByte('\n')
		doctest.Golden(t, filepath.Join("testdata", "golden", filepath.Base(t.Name())+".json"), indented.String())
	})
}

func TestGoldenTemplatesHaveAVariantEach(t *testing.T) {
	files, err := os.ReadDir("testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, ok := variants[strings.TrimSuffix(file.Name(), ".json")]; !ok {
			t.Errorf("testdata/golden/%s belongs to no variant: delete it", file.Name())
		}
	}
}

// The CDK CLI sends the template as YAML, indented by two.
func TestTemplateFitsInARequest(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		var sent bytes.Buffer
		encoder := yaml.NewEncoder(&sent)
		encoder.SetIndent(2)
		var body any
		if err := json.Unmarshal([]byte(made.text), &body); err != nil {
			t.Fatal(err)
		}
		if err := encoder.Encode(body); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes as JSON, about %d as YAML", len(made.text), sent.Len())
		if size := max(len(made.text), sent.Len()); size > largestNow {
			t.Errorf("the template takes %d bytes: above %d there is little room below the %d that CloudFormation takes without a bucket. "+
				"Make something shorter (compact.go did it for the dashboard), or bound an option (as checkZones does)", size, largestNow, largestTemplate)
		}
	})
}

func TestTemplateNeedsNoBootstrapAndNoAssets(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		for _, word := range []string{"BootstrapVersion", "cdk-hnb659fds", "AWS::Lambda", "Custom::", "AssetParameters", "CDKMetadata"} {
			if strings.Contains(made.text, word) {
				t.Errorf("the template mentions %q", word)
			}
		}
	})
}
