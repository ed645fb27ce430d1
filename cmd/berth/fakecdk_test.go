package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fakeCDK stands in for the CDK CLI: it sends the template of the app, or of --app, and the parameters to CloudFormation at once,
// and writes on standard error, as the real one does. e2e has the real one.
func fakeCDK() {
	args := os.Args[1:]
	if args[0] == "--version" {
		fmt.Println("2.1148.1 (build fake)")
		return
	}
	stack, app := args[1], ""
	form := url.Values{"Version": {"2010-05-15"}, "StackName": {stack}}
	parameters, given := 0, map[string]any{}
	if log, err := os.OpenFile("cdk.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		fmt.Fprintln(log, strings.Join(args, " "))
		_ = log.Close()
	}
	for i, word := range args {
		switch word {
		case "--app":
			app = args[i+1]
		case "-c":
			key, value, _ := strings.Cut(args[i+1], "=")
			given[key] = value
		case "--parameters":
			parameters++
			key, value, _ := strings.Cut(args[i+1], "=")
			form.Set(fmt.Sprintf("Parameters.member.%d.ParameterKey", parameters), key)
			form.Set(fmt.Sprintf("Parameters.member.%d.ParameterValue", parameters), value)
		}
	}
	if args[0] == "destroy" {
		form.Set("Action", "DeleteStack")
		fakeCall(form)
		fmt.Fprintf(os.Stderr, "✅  %s: destroyed\n", stack)
		return
	}
	if args[0] == "diff" {
		fmt.Fprintln(os.Stderr, "✨  Number of stacks with differences: 0")
		return
	}
	var template []byte
	var err error
	if app == "" {
		template, err = fakeTemplate(stack, given)
	} else {
		template, err = os.ReadFile(filepath.Join(app, stack+".template.json"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	form.Set("TemplateBody", string(template))
	project, environment := stack[:strings.LastIndex(stack, "-")], stack[strings.LastIndex(stack, "-")+1:]
	for i, value := range []string{"Project", project, "Environment", environment} {
		form.Set(fmt.Sprintf("Tags.member.%d.%s", i/2+1, []string{"Key", "Value"}[i%2]), value)
	}
	form.Set("Action", "UpdateStack")
	if answer := fakeCall(form); strings.Contains(answer, "does not exist") {
		form.Set("Action", "CreateStack")
		fakeCall(form)
	}
	answer := fakeCall(url.Values{"Version": {"2010-05-15"}, "StackName": {stack}, "Action": {"DescribeStacks"}})
	var described struct {
		Status    string `xml:"DescribeStacksResult>Stacks>member>StackStatus"`
		Protected bool   `xml:"DescribeStacksResult>Stacks>member>EnableTerminationProtection"`
	}
	_ = xml.Unmarshal([]byte(answer), &described)
	if asked := asksForProtection(app); asked != described.Protected {
		fakeCall(url.Values{"Version": {"2010-05-15"}, "StackName": {stack}, "Action": {"UpdateTerminationProtection"}, "EnableTerminationProtection": {fmt.Sprint(asked)}})
	}
	if strings.Contains(described.Status, "ROLLBACK") || described.Status == "" {
		fmt.Fprintf(os.Stderr, "❌  %s failed: ToolkitError: The stack named %s failed to deploy: %s\n", stack, stack, described.Status)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "✅  %s\n", stack)
}

// asksForProtection is whether the manifest of a cloud assembly asks for termination protection; the app's does not.
func asksForProtection(assembly string) bool {
	text, err := os.ReadFile(filepath.Join(assembly, "manifest.json"))
	return err == nil && strings.Contains(string(text), `"terminationProtection":true`)
}

// fakeTemplate is the template in the folder app with the options in it, as the real one has them.
func fakeTemplate(stack string, context map[string]any) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join("app", stack+".template.json"))
	if err != nil {
		return nil, err
	}
	var template map[string]any
	if err := json.Unmarshal(text, &template); err != nil {
		return nil, err
	}
	recorded := map[string]any{}
	for name, value := range context {
		if !slices.Contains([]string{"projectName", "environment"}, name) && !strings.ContainsAny(name, ":/") {
			recorded[name] = value
		}
	}
	if len(recorded) > 0 {
		template["Metadata"], template["Description"] = map[string]any{"BerthOptions": recorded}, fmt.Sprint(recorded)
	}
	return json.Marshal(template)
}

// fakeApp stands in for the CDK app.
func fakeApp() {
	var context map[string]any
	err := json.Unmarshal([]byte(os.Getenv("CDK_CONTEXT_JSON")), &context)
	stack := fmt.Sprintf("%v-%v", context["projectName"], context["environment"])
	var template []byte
	if err == nil {
		template, err = fakeTemplate(stack, context)
	}
	out := os.Getenv("CDK_OUTDIR")
	for file, text := range map[string][]byte{"manifest.json": []byte(`{"version":"36.0.0"}`), stack + ".template.json": template} {
		if err == nil {
			err = os.WriteFile(filepath.Join(out, file), text, 0o600)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fakeCall makes a request that looks signed.
func fakeCall(form url.Values) string {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, os.Getenv("AWS_ENDPOINT_URL"), strings.NewReader(form.Encode()))
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=cdk/20261128/us-east-1/cloudformation/aws4_request")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	text, _ := io.ReadAll(response.Body)
	return string(text)
}
