package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"berth/internal/cloud/awstest"
	"berth/internal/doctest"
)

const operationsPage = "../../docs/operations.md"

// step is a generated section of docs/operations.md: commands, as somebody types them one after the other, and what they write.
type step struct {
	section  string
	before   func(*lab) // what has happened meanwhile
	commands []string
	poll     string // BERTH_POLL_SECONDS; by default nothing is looked at twice, so that what is said does not depend on the time
}

// nextDay is what a deployment has by then: its volume, a backup, log lines, alarms, and a newer image that somebody has pushed.
func nextDay(l *lab) {
	l.Change(func(w *awstest.World) {
		stack, service := w.Stacks["claude-code-dev"], w.Services["claude-code-dev"]
		w.AddVolume(stack).Size = 12 << 30
		w.AddPoint(stack.Name, "fs-0123456789abcdef0", time.Now().Add(-20*time.Hour))
		w.Images[stack.Name] = []awstest.Image{
			{Digest: strings.TrimPrefix(stack.Parameters["ImageRef"], "@"), Tags: []string{"v1"}, Pushed: time.Now().Add(-time.Hour), Size: 258_000_000},
			{Digest: digestOf("b"), Tags: []string{"v2"}, Pushed: time.Now(), Size: 259_000_000},
		}
		service.Tasks[len(service.Tasks)-1].Started = time.Now().Add(-2 * time.Hour)
		for _, name := range []string{"cpu-high", "memory-high", "no-running-task"} {
			w.Alarms = append(w.Alarms, awstest.Alarm{Name: stack.Name + "-" + name, State: "OK"})
		}
		w.LogLines["/ecs/claude-code-dev"] = []awstest.LogLine{
			{Stream: "agent/agent/1", Time: time.Now().Add(-time.Minute), Text: `{"time":"2026-11-28T02:00:00Z","level":"INFO","msg":"session ended","session":"01a20627-df5e-7b97-99ab-b87a348be000","state":"succeeded","cost_usd":0.25}`},
		}
		w.OneOffs().Lines = []string{`{"verified":"claude-code-dev","sessions":3,"events":41,"states":{"succeeded":3},"newest":"2026-11-27T10:00:00Z","broken":[],"mirrors":1}`}
		w.Backups().Polls = 1
		w.ActiveSessions(0)
		w.Spends("claude-code", "dev", awstest.Spent{From: "2026-11-01", To: "2026-11-29", Estimated: true, Services: []awstest.ServiceSpent{
			{Service: "Amazon Elastic Container Service", USD: "81.2345"}, {Service: "Amazon Elastic File System", USD: "1.02"}, {Service: "EC2 - Other", USD: "3.1"},
		}})
	})
	l.agent.change(func() {
		l.agent.status = map[string]any{"sessions": map[string]int{"running": 1, "succeeded": 12}, "places": 4}
	})
}

func inDev(how func(*awstest.Stack, *awstest.World)) func(*lab) {
	return func(l *lab) {
		l.Change(func(w *awstest.World) { how(w.Stacks["claude-code-dev"], w) })
	}
}

// operations are the steps in the order of the page. What one leaves is there for the next.
var operations = []step{
	{section: "doctor", commands: []string{"berth doctor --env dev"}},
	{section: "up", commands: []string{"berth up --env dev --key-file key.txt", "berth up --env dev"}},
	{section: "diff", before: nextDay, commands: []string{"berth diff --env dev"}},
	{section: "env list", commands: []string{"berth env list"}},
	{section: "key set", commands: []string{"berth key set --env dev --key-file key.txt"}},
	{section: "push", commands: []string{"berth push --env dev"}},
	{section: "deploy", commands: []string{"berth deploy --env dev v2", "berth deploy --env dev --rollback"}},
	{section: "cost", commands: []string{"berth cost --env dev", "berth cost --env dev --actual"}},
	{section: "no network", before: inDev(func(stack *awstest.Stack, w *awstest.World) { w.VPCs = nil }), commands: []string{"berth up --env staging"}},
	{section: "expired", before: func(l *lab) { l.Fail(awstest.Failure{Call: "*", Kind: "expired"}) }, commands: []string{"berth status --env dev"}},
	{
		section: "a task that exits", before: func(l *lab) {
			l.Heal()
			l.Change(func(w *awstest.World) {
				w.VPCs = []awstest.VPC{{ID: "vpc-00000001", Default: true}}
				w.Rollout.Exit, w.Rollout.Broken = intOf(78), true
				w.LogLines["/ecs/claude-code-dev"] = append(w.LogLines["/ecs/claude-code-dev"], awstest.LogLine{Stream: "agent/agent/" + fmt.Sprintf("%032x", 5), Time: time.Now(), Text: "berthd: the volume cannot be written: read-only file system"})
			})
		}, commands: []string{"berth deploy --env dev v2"},
	},
	{section: "rollback failed", before: inDev(func(stack *awstest.Stack, w *awstest.World) {
		w.Rollout = awstest.Rollout{}
		stack.Status, stack.Reason = "UPDATE_ROLLBACK_FAILED", "The following resource(s) failed to update: [ComputeService]."
	}), commands: []string{"berth up --env dev"}},
	{section: "delete failed", before: inDev(func(stack *awstest.Stack, w *awstest.World) {
		stack.Status, stack.Reason = "DELETE_FAILED", "The following resource(s) failed to delete: [BackupVault]."
	}), commands: []string{"berth doctor --env dev"}},
	{section: "status", before: inDev(func(stack *awstest.Stack, w *awstest.World) {
		stack.Status, stack.Reason = "UPDATE_COMPLETE", ""
		service := w.Services[stack.Name]
		service.State, service.Polls = "", 0
		service.Tasks = []*awstest.Task{{ID: strings.Repeat("1", 32), Status: "RUNNING", Health: "HEALTHY", Digest: strings.TrimPrefix(stack.Parameters["ImageRef"], "@"), Started: time.Now().Add(-2 * time.Hour)}}
	}), commands: []string{"berth status --env dev"}},
	{section: "sessions", commands: []string{"berth run --env dev --repo https://github.com/example/project 'Fix issue 12'", "berth ps --env dev", "berth spend --env dev"}},
	{section: "logs", commands: []string{"berth logs --env dev", "berth logs --env dev --agent 01a20627-df5e-7b97-99ab-b87a348be000", "berth exec --env dev -- printenv BERTH_ENVIRONMENT", "berth open --env dev"}},
	{section: "pause", commands: []string{"berth pause --env dev", "berth unpause --env dev"}},
	{section: "backup", poll: "0.02", commands: []string{"berth backup now --env dev", "berth backup list --env dev", "berth backup verify --env dev", "berth backup restore --env dev --yes"}},
	{section: "down", poll: "0.02", before: func(l *lab) { l.agent.idle() }, commands: []string{"berth down --env dev --yes"}},
	{section: "down prod", poll: "0.02", before: func(l *lab) {
		l.agent.idle()
		l.Change(func(w *awstest.World) {
			stack := w.AddStack("claude-code", "prod")
			w.AddVolume(stack)
			w.AddPoint(stack.Name, "fs-0123456789abcdef0", time.Now().Add(-20*time.Hour))
			w.Images[stack.Name] = []awstest.Image{{Digest: digestOf("b"), Size: 259_000_000}}
			w.LogLines["/ecs/claude-code-prod"] = []awstest.LogLine{}
		})
	}, commands: []string{"berth down --env prod --yes", "berth down --env prod --purge --yes"}},
}

// docs/operations.md shows what the verbs write, against the stand-ins of this package.
func TestOperationsPage(t *testing.T) {
	t.Setenv("BERTH_ENVIRONMENT", "dev") // exec runs on this machine
	l := newLab(t)
	l.agent.ends = "succeed"
	if err := os.WriteFile(filepath.Join(l.root, "key.txt"), []byte("sk-ant-of-nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	same := newMask(l.root)
	env := slices.Clone(l.env)
	for _, each := range operations {
		if each.before != nil {
			each.before(l)
		}
		poll := each.poll
		if poll == "" {
			poll = "60"
		}
		l.env = append(slices.Clone(env), "BERTH_POLL_SECONDS="+poll)
		var text strings.Builder
		text.WriteString("```\n")
		for i, command := range each.commands {
			if i > 0 {
				text.WriteString("\n")
			}
			fmt.Fprintf(&text, "$ %s\n%s", command, same.text(l.typed(t, command)))
		}
		text.WriteString("```\n")
		doctest.Section(t, operationsPage, each.section, text.String())
	}
}

// typed is what a terminal shows of a command. One that ends at Ctrl-C is given it once it has written a line.
func (l *lab) typed(t *testing.T, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "/bin/sh", "-c", "exec "+line+" 2>&1")
	command.Dir, command.Env = l.root, l.env
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	buffer, interrupted := make([]byte, 4096), false
	for {
		n, err := out.Read(buffer)
		shown.Write(buffer[:n])
		if !interrupted && strings.Contains(line, "berth open") && strings.Contains(shown.String(), "Ctrl-C\n") {
			interrupted = true // once: at a second one it would end at once
			_ = command.Process.Signal(syscall.SIGTERM)
		}
		if err != nil {
			break
		}
	}
	_ = command.Wait() // its exit status is shown
	if ctx.Err() != nil {
		t.Fatalf("%s does not end:\n%s", line, shown.String())
	}
	if code := command.ProcessState.ExitCode(); code != 0 {
		fmt.Fprintf(&shown, "(exit status %d)\n", code)
	}
	return shown.String()
}

// mask makes what differs from run to run the same.
type mask struct {
	root    string
	digests []string
}

func newMask(root string) *mask { return &mask{root: root} }

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+/claude`), awstest.Account + ".dkr.ecr." + awstest.Region + ".amazonaws.com/claude"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://127.0.0.1:40123"},
	{regexp.MustCompile(`\b\d+ (d|h|min|s)( \d+ (h|min|s))? ago`), "2 h 5 min ago"},
	{regexp.MustCompile(`\b(started|in) \d+ (d|h|min|s)( \d+ (h|min|s))?\b`), "$1 2 h 5 min"},
	{regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d`), "2026-11-28 05:00"},
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "2026-11-28T05:00:00Z"},
	{regexp.MustCompile(`inputs-[0-9a-f]{32}`), "inputs-5f70bf18a086007016e948b04aed3b82"},
	{regexp.MustCompile(`in \d+(\.\d+)?m?s\b`), "in 0s"},
	{regexp.MustCompile(`05:00  (\d+ min )?\d+ s +(\d)`), "05:00  0 s         $2"},
	{regexp.MustCompile(`20 h \d+ min`), "20 h 0 min"},
	{regexp.MustCompile(`(?m)  20\d\d-\d\d-\d\d$`), "  2027-01-02"},
	{regexp.MustCompile(`AGE +WORK`), "AGE      WORK"},
	{regexp.MustCompile(`succeeded  \d+ d \d+ h +`), "succeeded  5 d 4 h  "},
	{regexp.MustCompile(`(?m)^ +\d+ % pushed\n`), ""},
	{regexp.MustCompile(` \(build fake\)`), ""},
}

var digest = regexp.MustCompile(`sha256:([0-9a-f]{12})[0-9a-f]*`)

func (m *mask) text(text string) string {
	text = strings.ReplaceAll(text, m.root+"/programs/docker", "/usr/bin/docker")
	text = strings.ReplaceAll(text, m.root, "/home/you/berth")
	for _, each := range masks {
		text = each.pattern.ReplaceAllString(text, each.with)
	}
	return digest.ReplaceAllStringFunc(text, func(found string) string {
		start := found[len("sha256:"):][:12]
		n := slices.Index(m.digests, start)
		if n < 0 {
			n = len(m.digests)
			m.digests = append(m.digests, start)
		}
		sum := sha256.Sum256([]byte{byte(n)})
		return "sha256:" + hex.EncodeToString(sum[:])[:len(found)-len("sha256:")]
	})
}

// ordered are the commands of the specification, from its Quick Start to its Cleanup, in its order.
var ordered = []string{
	"npm install", "aws configure", "cdk bootstrap", "cdk diff", "cdk deploy", "cdk deploy -c projectName=my-agent -c environment=prod",
	"cdk deploy -c projectName=claude-code -c environment=prod -c cpu=4096 -c memory=16384",
	"cdk deploy -c useFargateSpot=true -c cpu=1024 -c memory=4096 -c logRetentionDays=3",
	"cdk list", "cdk synth", "cdk diff", "cdk deploy", "cdk destroy",
	"aws secretsmanager put-secret-value", "docker build -t claude-code-agent:latest .", "docker tag claude-code-agent:latest $ECR_URI:latest",
	"aws ecr get-login-password --region us-east-1 | docker login", "docker push $ECR_URI:latest", "aws ecs update-service --cluster <EcsClusterName> --service <EcsServiceName> --force-new-deployment",
	"cdk diff", "cdk deploy", "cdk deploy -c environment=dev", "cdk deploy -c environment=staging -c cpu=2048 -c memory=8192", "cdk deploy -c environment=prod -c cpu=4096 -c memory=16384",
	"cdk bootstrap", "aws sts get-caller-identity", "cdk --version", "rm -rf cdk.out", "cdk synth", "aws cloudformation describe-stack-events", "aws cloudformation rollback-stack",
	"aws efs delete-file-system", "aws ecr delete-repository", "cdk destroy",
	"aws ecs update-service --cluster <ClusterName> --service <ServiceName> --desired-count 0", "aws backup start-backup-job", "cdk destroy",
}

// Each command of the specification is on the page, in the specification's order, in the first cell of a row whose second cell says what is
// in its place. What of that is berth's can be parsed, and every verb for AWS is shown with what it writes.
func TestOperationsHasEveryCommand(t *testing.T) {
	text, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, command := range ordered {
		row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(strings.ReplaceAll(command, "|", `\|`)) + "(`| --)[^|]*(\\\\\\|[^|]*)*\\| +[^ |]").FindStringIndex(rest)
		if row == nil {
			t.Fatalf("the page has no row for %q where the specification has it", command)
		}
		rest = rest[row[1]:]
	}
	for _, found := range regexp.MustCompile("`berth ([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		if err := parses(t, strings.Fields(strings.NewReplacer("'", "", "…", "x").Replace(found[1]))); err != nil {
			t.Errorf("`berth %s`: %v", found[1], err)
		}
	}
	if marked := strings.Count(string(text), "<!-- generated: "); marked != len(operations) {
		t.Errorf("the page has %d generated sections, and %d are made", marked, len(operations))
	}
	shown := map[string]bool{}
	for _, each := range operations {
		for _, command := range each.commands {
			words := strings.Fields(command)
			shown[words[1]], shown[words[1]+" "+words[2]] = true, true
		}
	}
	for _, verb := range verbs(t) {
		name := nameOf(verb)
		forAWS := slices.ContainsFunc(verb.Flags, func(f *kong.Flag) bool { return f.Name == "env" })
		ofSessions := slices.Contains([]string{"show", "send", "stop", "resume", "pull"}, name) // as on this machine: docs/command.md
		if forAWS && !ofSessions && !shown[name] {
			t.Errorf("the page does not show berth %s", name)
		}
	}
}

// parses reports whether berth understands a command line.
func parses(t *testing.T, args []string) error {
	t.Helper()
	parser, err := newParser(t.Context(), stdioOfNobody)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return err
}

// README's quick start for AWS is three commands.
func TestQuickStartIsThreeCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Deploy to your AWS account\n")
	_, block, _ := strings.Cut(section, "```bash\n")
	block, _, _ = strings.Cut(block, "```")
	lines := strings.Split(strings.TrimSpace(block), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "make setup build") {
		t.Fatalf("the quick start is %q", lines)
	}
	for _, line := range lines[1:] {
		line, _, _ = strings.Cut(line, " #")
		if err := parses(t, strings.Fields(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(strings.TrimPrefix(line, "bin/berth "), "x"))); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
