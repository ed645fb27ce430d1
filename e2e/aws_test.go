//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fact is something that the aws CLI says about an account.
type fact struct {
	name    string // what it shows
	command string // of the aws CLI, without "aws"; ${Name} is an output or a resource of the stack
	query   string // JMESPath: the part of the answer that matters
	want    string // JSON, in which "…" stands for anything that is there
}

// check asks for facts, all in one process, and compares each in a test of its own.
func (a *account) check(t *testing.T, made stack, facts []fact) {
	t.Helper()
	var commands [][]string
	for _, fact := range facts {
		words := strings.Fields(made.fill(t, fact.command))
		commands = append(commands, append(words, "--query", made.fill(t, fact.query)))
	}
	for i, answer := range a.ask(t, commands) {
		t.Run(facts[i].name, func(t *testing.T) {
			wantJSON(t, strings.Join(commands[i], " "), answer, made.fill(t, facts[i].want))
		})
	}
}

// ask runs commands of the aws CLI, all of which have to succeed, and decodes what each answers.
func (a *account) ask(t *testing.T, commands [][]string) []any {
	t.Helper()
	input, err := json.Marshal(commands)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(shared.root, "e2e/testdata/aws.py")
	done := a.exec(t, "aws, many times", string(input), filepath.Join(shared.root, ".venv/bin/python"), script)
	var runs []struct {
		Status         int
		Stdout, Stderr string
	}
	if err := json.Unmarshal([]byte(done.stdout), &runs); done.status != 0 || err != nil || len(runs) != len(commands) {
		t.Fatalf("%v\n%s", err, done)
	}
	answers := make([]any, len(commands))
	for i, run := range runs {
		var err error
		if strings.TrimSpace(run.Stdout) != "" {
			err = json.Unmarshal([]byte(run.Stdout), &answers[i])
		}
		if run.Status != 0 || err != nil {
			t.Fatalf("aws %s: exit status %d, %v\n%s%s", strings.Join(commands[i], " "), run.Status, err, run.Stdout, run.Stderr)
		}
	}
	return answers
}

// stack is what CloudFormation says about a deployed stack.
type stack struct {
	name, status                   string
	parameters, outputs, resources map[string]string // by name, the last by logical id
	types                          map[string]string // of the resources
}

// describe asks CloudFormation about a stack.
func (a *account) describe(t *testing.T, name string) stack {
	t.Helper()
	answers := a.ask(t, [][]string{
		{"cloudformation", "describe-stacks", "--stack-name", name},
		{"cloudformation", "list-stack-resources", "--stack-name", name},
	})
	var described struct {
		Stacks []struct {
			StackStatus string
			Parameters  []struct{ ParameterKey, ParameterValue string }
			Outputs     []struct{ OutputKey, OutputValue string }
		}
		StackResourceSummaries []struct{ LogicalResourceID, PhysicalResourceID, ResourceType string }
	}
	for _, answer := range answers {
		text, err := json.Marshal(answer)
		if err == nil {
			err = json.Unmarshal(text, &described)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	found := described.Stacks[0]
	made := stack{
		name: name, status: found.StackStatus,
		parameters: map[string]string{}, outputs: map[string]string{}, resources: map[string]string{}, types: map[string]string{},
	}
	for _, each := range found.Parameters {
		made.parameters[each.ParameterKey] = each.ParameterValue
	}
	for _, each := range found.Outputs {
		made.outputs[each.OutputKey] = each.OutputValue
	}
	for _, each := range described.StackResourceSummaries {
		made.resources[each.LogicalResourceID] = each.PhysicalResourceID
		made.types[each.LogicalResourceID] = each.ResourceType
	}
	return made
}

// hash is what the CDK ends a logical id with.
var hash = regexp.MustCompile(`[0-9A-F]{8}$`)

// resource is the physical id of the resource whose logical id is this and a hash.
func (s stack) resource(logical string) (string, bool) {
	for id, physical := range s.resources {
		if hash.ReplaceAllString(id, "") == logical {
			return physical, true
		}
	}
	return "", false
}

// fill puts outputs and physical ids in the place of ${Name}.
func (s stack) fill(t *testing.T, text string) string {
	t.Helper()
	return os.Expand(text, func(name string) string {
		value, ok := map[string]string{"Stack": s.name}[name]
		if !ok {
			value, ok = s.outputs[name]
		}
		if !ok {
			value, ok = s.resource(name)
		}
		if !ok {
			t.Fatalf("%s: stack %s has neither an output nor a resource %s", text, s.name, name)
		}
		return value
	})
}

// wantJSON compares an answer with JSON text, in which "…" matches everything that is there.
func wantJSON(t *testing.T, what string, got any, want string) {
	t.Helper()
	var expected any
	if err := json.Unmarshal([]byte(want), &expected); err != nil {
		t.Fatalf("%s: the expectation is no JSON: %v\n%s", what, err, want)
	}
	if diff := cmp.Diff(expected, liken(got, expected)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// wantText is wantJSON for the standard output of a command.
func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	var answer any
	if err := json.Unmarshal([]byte(got), &answer); err != nil {
		t.Fatalf("%s: the answer is no JSON: %v\n%s", what, err, got)
	}
	wantJSON(t, what, answer, want)
}

// liken writes "…" into a copy of an answer wherever the pattern has it, and decodes a text where the
// pattern has more than a text: some of AWS's answers hold JSON in a string.
func liken(got, pattern any) any {
	if pattern == "…" && got != nil && got != "" {
		return pattern
	}
	switch got := got.(type) {
	case string:
		var decoded any
		if _, isText := pattern.(string); !isText && json.Unmarshal([]byte(got), &decoded) == nil {
			return liken(decoded, pattern)
		}
	case map[string]any:
		like, _ := pattern.(map[string]any)
		copied := make(map[string]any, len(got))
		for key, value := range got {
			copied[key] = liken(value, like[key])
		}
		return copied
	case []any:
		like, _ := pattern.([]any)
		copied := make([]any, len(got))
		for i, value := range got {
			copied[i] = value
			if i < len(like) {
				copied[i] = liken(value, like[i])
			}
		}
		return copied
	}
	return got
}

// inventory lists what is in an account, one line for each thing that a stack could leave behind.
func (a *account) inventory(t *testing.T) []string {
	t.Helper()
	kinds := []struct{ kind, command, query string }{
		{"stack", "cloudformation describe-stacks", "Stacks[].[StackName,StackStatus]"},
		{"file system", "efs describe-file-systems", "FileSystems[].[FileSystemId,Name,to_string(NumberOfMountTargets)]"},
		{"access point", "efs describe-access-points", "AccessPoints[].[AccessPointId]"},
		{"repository", "ecr describe-repositories", "repositories[].[repositoryName]"},
		{"secret", "secretsmanager list-secrets --include-planned-deletion", "SecretList[].[ARN,to_string(LastChangedDate)]"},
		{"log group", "logs describe-log-groups", "logGroups[].[logGroupName,to_string(retentionInDays)]"},
		{"cluster", "ecs list-clusters", "clusterArns[].[@]"},
		{"task definition", "ecs list-task-definitions --status ACTIVE", "taskDefinitionArns[].[@]"},
		{"vault", "backup list-backup-vaults", "BackupVaultList[].[BackupVaultName]"},
		{"backup plan", "backup list-backup-plans", "BackupPlansList[].[BackupPlanId,VersionId]"},
		{"alarm", "cloudwatch describe-alarms", "MetricAlarms[].[AlarmName,AlarmActions[0]]"},
		{"dashboard", "cloudwatch list-dashboards", "DashboardEntries[].[DashboardName]"},
		{"topic", "sns list-topics", "Topics[].[TopicArn]"},
		{"subscription", "sns list-subscriptions", "Subscriptions[].[TopicArn,Endpoint]"},
		{"rule", "events list-rules", "Rules[].[Name]"},
		{"role", "iam list-roles", "Roles[].[RoleName]"},
		{"budget", "budgets describe-budgets --account-id 123456789012", "Budgets[].[BudgetName]"},
		{"security group", "ec2 describe-security-groups", "SecurityGroups[].[GroupId,to_string(IpPermissions)]"},
		{"VPC", "ec2 describe-vpcs", "Vpcs[].[VpcId]"},
		{"subnet", "ec2 describe-subnets", "Subnets[].[SubnetId]"},
		{"route table", "ec2 describe-route-tables", "RouteTables[].[RouteTableId,to_string(Routes)]"},
		{"internet gateway", "ec2 describe-internet-gateways", "InternetGateways[].[InternetGatewayId]"},
	}
	var commands [][]string
	for _, each := range kinds {
		commands = append(commands, append(strings.Fields(each.command), "--query", each.query))
	}
	var lines []string
	for i, answer := range a.ask(t, commands) {
		things, _ := answer.([]any)
		for _, thing := range things {
			text, err := json.Marshal(thing)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, kinds[i].kind+" "+string(text))
		}
	}
	slices.Sort(lines)
	return lines
}
