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
const largestTemplate = 51_200

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
		if len(made.text) > largestTemplate || sent.Len() > largestTemplate {
			t.Errorf("the template is %d bytes as JSON and %d as YAML; at most %d can be sent", len(made.text), sent.Len(), largestTemplate)
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
