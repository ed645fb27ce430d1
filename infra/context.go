package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"berth/internal/options"
)

// readContext reads the context that the CDK CLI hands over: what -c and cdk.json say, and what it has
// looked up. It is nil when the app runs on its own.
//
// The CLI uses one environment variable, and a file for what does not fit in it: CONTEXT_ENV and
// CONTEXT_OVERFLOW_LOCATION_ENV of https://docs.aws.amazon.com/cdk/api/v2/docs/aws-cdk-lib.cx_api-readme.html.
// Reading it here, and not through the CDK, finds a bad option before the CDK is loaded, which takes seconds.
func readContext() (map[string]any, error) {
	var context map[string]any
	if text := os.Getenv("CDK_CONTEXT_JSON"); text != "" {
		if err := json.Unmarshal([]byte(text), &context); err != nil {
			return nil, fmt.Errorf("CDK_CONTEXT_JSON is not a JSON object: %w", err)
		}
	}
	if path := os.Getenv("CONTEXT_OVERFLOW_LOCATION"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("CONTEXT_OVERFLOW_LOCATION: %w", err)
		}
		var overflow map[string]any
		if err := json.Unmarshal(text, &overflow); err != nil {
			return nil, fmt.Errorf("CONTEXT_OVERFLOW_LOCATION: %s is not a JSON object: %w", path, err)
		}
		if context == nil {
			context = overflow
		}
		maps.Copy(context, overflow)
	}
	return context, nil
}

// checkLookup turns the CLI's failure to find the VPC into advice. Where a look-up fails, the CLI
// leaves the error in the context in place of the answer, and runs the app again.
func checkLookup(context map[string]any, opts options.Options) error {
	for key, value := range context {
		answer, _ := value.(map[string]any)
		problem, failed := answer["$providerError"]
		if !failed || !strings.HasPrefix(key, "vpc-provider:") {
			continue
		}
		where := fmt.Sprintf("in account %s, region %s", os.Getenv("CDK_DEFAULT_ACCOUNT"), os.Getenv("CDK_DEFAULT_REGION"))
		switch text := fmt.Sprint(problem); {
		case !strings.Contains(text, "Could not find any VPCs"):
			return fmt.Errorf("looking for the VPC %s: %s", where, text)
		case opts.VpcID == options.VpcDefault:
			return errors.New("there is no default VPC " + where +
				"; use -c vpcId=new for a small one (no NAT gateway), -c vpcId=vpc-… for one you have, or run `aws ec2 create-default-vpc`")
		default:
			return fmt.Errorf("option vpcId: there is no %s %s; use the id of a VPC there, default or new", opts.VpcID, where)
		}
	}
	return nil
}
