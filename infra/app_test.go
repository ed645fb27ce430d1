package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// runMain makes the test binary behave as the app itself.
const runMain = "BERTH_TEST_RUN_MAIN"

// Each bad option ends the app with one line, before the CDK is loaded, and nothing is written.
func TestBadOptionsEndTheApp(t *testing.T) {
	text, err := os.ReadFile("../internal/options/testdata/bad-options.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for line := range strings.Lines(string(text)) {
		given, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		context, isContext := contextOf(given)
		if !ok || !isContext {
			continue
		}
		cases++
		t.Run(given, func(t *testing.T) {
			out := t.TempDir()
			stdout, stderr, status := runApp(t, "CDK_CONTEXT_JSON="+context, "CDK_OUTDIR="+out)
			if status != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "berth: ") || !strings.Contains(stderr, want) {
				t.Errorf("exit status %d, stdout %q, stderr %q; want 1, nothing, and one line with %q", status, stdout, stderr, want)
			}
			if files, err := os.ReadDir(out); err != nil || len(files) > 0 {
				t.Errorf("it wrote %v (%v)", files, err)
			}
		})
	}
	if cases < 45 {
		t.Errorf("there were only %d cases", cases)
	}
}

// contextOf turns "cpu=1 memory=2" into the context that the CDK CLI would pass; what it would not
// take for an option is none.
func contextOf(given string) (string, bool) {
	values := map[string]string{}
	words := strings.Split(given, " ")
	if words[len(words)-1] == "" {
		words = []string{given}
	}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return "", false
		}
		values[name] = value
	}
	text, err := json.Marshal(values)
	return string(text), err == nil
}

func TestAppSynthesisesWithoutCredentialsAndSaysSo(t *testing.T) {
	out := t.TempDir()
	stdout, stderr, status := runApp(t, `CDK_CONTEXT_JSON={"environment":"prod","cpu":"4096","memory":"16384"}`,
		"CDK_OUTDIR="+out, "CDK_DEFAULT_ACCOUNT=", "CDK_DEFAULT_REGION=")
	if status != 0 || stdout != "" || !strings.Contains(stderr, "no AWS credentials were found") || strings.Contains(stderr, "Runtime process") {
		t.Fatalf("exit status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	template, err := os.ReadFile(out + "/claude-code-prod.template.json")
	if err != nil || !strings.Contains(string(template), `"VpcId":"vpc-00000000000000000"`) || !strings.Contains(string(template), `"Cpu":"4096"`) {
		t.Errorf("the template is not what was asked for: %v", err)
	}
}

func TestAppSaysWhereThereIsNoDefaultVpc(t *testing.T) {
	_, stderr, status := runApp(t, "CDK_DEFAULT_ACCOUNT=111122223333", "CDK_DEFAULT_REGION=eu-central-1", "CDK_OUTDIR="+t.TempDir(),
		`CDK_CONTEXT_JSON={"vpc-provider:account=111122223333:filter.isDefault=true:region=eu-central-1:returnAsymmetricSubnets=true":`+
			`{"$providerError":"Could not find any VPCs matching {}","$dontSaveContext":true}}`)
	if status != 1 || !strings.HasPrefix(stderr, "berth: there is no default VPC in account 111122223333, region eu-central-1; use -c vpcId=new") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}
}

// runApp runs the app as a process of its own.
func runApp(t *testing.T, env ...string) (stdout, stderr string, status int) {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(append(os.Environ(), runMain+"=1"), env...)
	var out, problems strings.Builder
	command.Stdout, command.Stderr = &out, &problems
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), problems.String(), command.ProcessState.ExitCode()
}
