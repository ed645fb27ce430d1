package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
)

// compact has a dashboard take less room in the template, which CloudFormation limits: the CDK writes its body in full and in pieces.
// All widgets have to be in it.
func compact(stack awscdk.Stack, dashboard awscloudwatch.Dashboard) {
	resource := dashboard.Node().DefaultChild().(awscloudwatch.CfnDashboard)
	body, err := substitution(stack.Resolve(resource.DashboardBody()))
	if err == nil {
		body, err = compactBody(body)
	}
	if err != nil {
		panic(fmt.Errorf("the dashboard's body: %w", err)) // as the CDK reports a mistake
	}
	resource.SetDashboardBody(awscdk.Fn_Sub(&body, nil))
}

// substitution turns what the CDK makes of a text with references in it, {"Fn::Join": ["", ["a", {"Ref": "B"}]]}, into what Fn::Sub
// takes for it, "a${B}".
func substitution(resolved any) (string, error) {
	parts := []any{resolved}
	if join, ok := resolved.(map[string]any)["Fn::Join"].([]any); ok && len(join) == 2 && join[0] == "" {
		parts, _ = join[1].([]any)
	}
	var text strings.Builder
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			text.WriteString(strings.ReplaceAll(part, "${", "${!"))
		case map[string]any:
			name, ok := part["Ref"].(string)
			if !ok {
				return "", fmt.Errorf("cannot put %v into a text", part)
			}
			text.WriteString("${" + name + "}")
		default:
			return "", fmt.Errorf("cannot put %v into a text", part)
		}
	}
	return text.String(), nil
}

// widget is what this dashboard's widgets have; an unknown field is an error, not left out.
type widget struct {
	Type       string `json:"type"`
	X          int    `json:"x"`
	Y          int    `json:"y"`
	Width      int    `json:"width"`
	Height     int    `json:"height,omitempty"`
	Properties struct {
		Title   string         `json:"title"`
		View    string         `json:"view,omitempty"`
		Region  string         `json:"region"`
		Metrics [][]any        `json:"metrics,omitempty"`
		Query   string         `json:"query,omitempty"`
		YAxis   map[string]any `json:"yAxis,omitempty"`
	} `json:"properties"`
}

// compactBody leaves out of a dashboard's body what CloudWatch takes for granted, and writes "." for what a metric has in common with
// the one before it
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html).
func compactBody(body string) (string, error) {
	var dashboard struct {
		Widgets []widget `json:"widgets"`
	}
	from := json.NewDecoder(strings.NewReader(body))
	from.DisallowUnknownFields()
	if err := from.Decode(&dashboard); err != nil {
		return "", err
	}
	for i := range dashboard.Widgets {
		widget := &dashboard.Widgets[i]
		if widget.Height == 6 {
			widget.Height = 0
		}
		if widget.Properties.View == "timeSeries" {
			widget.Properties.View = ""
		}
		widget.Properties.Metrics = abbreviate(widget.Properties.Metrics)
	}
	var short bytes.Buffer
	to := json.NewEncoder(&short)
	to.SetEscapeHTML(false)
	err := to.Encode(dashboard)
	return strings.TrimSpace(short.String()), err
}

// abbreviate puts formulas before metrics, so that nothing stands between a metric and the one that it repeats. A metric is its
// namespace, its name, and its dimensions' names and values, and in the end an object of settings; a formula has only that.
func abbreviate(lines [][]any) [][]any {
	isMetric := func(line []any) bool { return len(line) > 1 }
	short := slices.DeleteFunc(slices.Clone(lines), isMetric)
	var before []any
	for _, line := range lines {
		if !isMetric(line) {
			continue
		}
		metric := slices.Clone(line)
		for i, part := range line {
			if text, ok := part.(string); ok && i < len(before) && before[i] == text {
				metric[i] = "."
			}
		}
		short, before = append(short, metric), line
	}
	return short
}
