package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"

	"berth/internal/options"
)

// The account and region that every variant is synthesised for. Nothing is asked of AWS: the answers
// to the look-ups stand in the context, as the CDK CLI would have put them there.
const (
	testAccount = "111122223333"
	testRegion  = "us-east-1"
)

// variants are the deployments that the tests look at, by name.
var variants = map[string]map[string]string{
	"dev":     {},
	"prod":    {"environment": "prod", "cpu": "4096", "memory": "16384", "alertEmail": "ops@example.com", "spendLimitUSD": "250"},
	"spot":    {"useFargateSpot": "true", "cpu": "1024", "memory": "4096", "logRetentionDays": "3"},
	"arm64":   {"architecture": "arm64", "ephemeralStorageGiB": "50", "maxSessions": "8"},
	"new-vpc": {"vpcId": "new"},
	"adopted": {"fileSystemId": "fs-0123456789abcdef0", "vpcId": "vpc-0123456789abcdef0", "logRetentionDays": "never"},
	// As much as there can be in one template: the longest names, and every part that is optional.
	"largest": {
		"projectName": "an-agent-with-as-long-a-name-as-it-gets", "environment": "prod", "vpcId": "new",
		"availabilityZones": "us-east-1a,us-east-1h", "architecture": "arm64", "ephemeralStorageGiB": "200",
		"useFargateSpot": "true", "alertEmail": strings.Repeat("a", 116) + "@example.com",
		"spendLimitUSD": "999999.99", "logRetentionDays": "3653", "maxSessions": "100",
		"anthropicBaseUrl": "https://api.example.com/" + strings.Repeat("a", 104),
	},
	"other": {"projectName": "my-agent"},
	"zones": {"availabilityZones": "us-east-1f,us-east-1b"},
}

// templates holds each variant's synthesised template. jsii is not safe for concurrent use, so all are
// made before the first test runs.
var templates = map[string]template{}

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		os.Exit(0)
	}
	context, err := projectContext()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for name, values := range variants {
		if templates[name], err = synthesise(context, values); err != nil {
			fmt.Fprintf(os.Stderr, "variant %s: %v\n", name, err)
			os.Exit(1)
		}
	}
	status := m.Run()
	closeJsii()
	os.Exit(status)
}

// projectContext is the context of cdk.json, with the answers to the look-ups of both VPCs.
func projectContext() (map[string]any, error) {
	content, err := os.ReadFile("../cdk.json")
	if err != nil {
		return nil, err
	}
	var project struct{ Context map[string]any }
	if err := json.Unmarshal(content, &project); err != nil {
		return nil, err
	}
	key := "vpc-provider:account=" + testAccount + ":filter.%s:region=" + testRegion + ":returnAsymmetricSubnets=true"
	project.Context[fmt.Sprintf(key, "isDefault=true")] = vpcAnswer("vpc-0defa017000000000", "Public", 6)
	project.Context[fmt.Sprintf(key, "vpc-id=vpc-0123456789abcdef0")] = vpcAnswer("vpc-0123456789abcdef0", "Private", 2)
	return project.Context, nil
}

// vpcAnswer is what the CDK CLI answers when it finds a VPC with one subnet in each of so many zones.
func vpcAnswer(id, kind string, zones int) map[string]any {
	subnets := make([]any, zones)
	for i := range subnets {
		letter := string(rune('a' + i))
		subnets[i] = map[string]any{
			"subnetId": "subnet-000000000000000" + letter + "0", "routeTableId": "rtb-00000000000000000",
			"cidr": fmt.Sprintf("172.31.%d.0/20", 16*i), "availabilityZone": testRegion + letter,
		}
	}
	return map[string]any{
		"vpcId": id, "vpcCidrBlock": "172.31.0.0/16", "ownerAccountId": testAccount, "availabilityZones": []any{},
		"subnetGroups": []any{map[string]any{"name": kind, "type": kind, "subnets": subnets}},
	}
}

// synthesise writes the template of an option set to a temporary directory and reads it back, together
// with what cdk-nag finds wrong with it. Additions are made to the stack before.
func synthesise(context map[string]any, values map[string]string, additions ...func(awscdk.Stack, options.Options)) (template, error) {
	opts, err := options.Parse(values)
	if err != nil {
		return template{}, err
	}
	app := newApp(&context)
	env := &awscdk.Environment{Account: jsii.String(testAccount), Region: jsii.String(testRegion)}
	stack, err := newStack(app, opts, env)
	if err != nil {
		return template{}, err
	}
	for _, add := range additions {
		add(stack, opts)
	}
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{
		ReportFormats: &[]cdknag.NagReportFormat{cdknag.NagReportFormat_JSON},
	}), nil)
	directory := *app.Synth(nil).Directory()
	defer os.RemoveAll(directory)

	name := opts.Names().Stack()
	text, err := os.ReadFile(filepath.Join(directory, name+".template.json"))
	if err != nil {
		return template{}, err
	}
	report, err := os.ReadFile(filepath.Join(directory, "AwsSolutions-"+name+"-NagReport.json"))
	if err != nil {
		return template{}, err
	}
	made := template{text: string(text), options: opts}
	return made, errors.Join(json.Unmarshal(text, &made.body), json.Unmarshal(report, &made.nag))
}
