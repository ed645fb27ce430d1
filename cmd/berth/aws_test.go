package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"berth/internal/cloud/awstest"
	"berth/internal/tunnel/ssmtest"
)

// fakeCDK stands in for the CDK CLI: it sends the template of the app, or of --app, and the parameters to CloudFormation at once,
// and writes on standard error, as the real one does. e2e has the real one.
func fakeCDK() {
	args := os.Args[1:]
	if args[0] == "--version" {
		fmt.Println("2.1148.1 (build fake)")
		return
	}
	stack, app := args[1], "app"
	form := url.Values{"Version": {"2010-05-15"}, "StackName": {stack}}
	parameters := 0
	for i, word := range args {
		switch word {
		case "--app":
			app = args[i+1]
		case "--parameters":
			parameters++
			key, value, _ := strings.Cut(args[i+1], "=")
			form.Set(fmt.Sprintf("Parameters.member.%d.ParameterKey", parameters), key)
			form.Set(fmt.Sprintf("Parameters.member.%d.ParameterValue", parameters), value)
		}
	}
	if args[0] == "diff" {
		fmt.Fprintln(os.Stderr, "✨  Number of stacks with differences: 0")
		return
	}
	template, err := os.ReadFile(filepath.Join(app, stack+".template.json"))
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
		Status string `xml:"DescribeStacksResult>Stacks>member>StackStatus"`
	}
	_ = xml.Unmarshal([]byte(answer), &described)
	if strings.Contains(described.Status, "ROLLBACK") || described.Status == "" {
		fmt.Fprintf(os.Stderr, "❌  %s failed: ToolkitError: The stack named %s failed to deploy: %s\n", stack, stack, described.Status)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "✅  %s\n", stack)
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

const fakeDocker = `#!/bin/sh
here=$(dirname "$0")
[ ! -e "$here/silent" ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; }
case "$1" in
build)
	while [ "$1" != --iidfile ]; do shift; done
	echo sha256:abc >"$2" ;;
save) cp "$here/image.tar" "$3" ;;
esac
`

const template = `{"Resources":{"Cluster":{"Type":"AWS::ECS::Cluster"}}}`

// lab is a checkout with a fake CDK CLI and a fake builder, a registry, and an AWS account.
type lab struct {
	*awstest.World
	root string
	env  []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{World: awstest.New(), root: t.TempDir()}
	_, stop := l.Serve()
	t.Cleanup(stop)
	store := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(store.Close)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, modules := filepath.Join(l.root, "programs"), filepath.Join(l.root, "node_modules/.bin")
	for _, directory := range []string{bin, modules, filepath.Join(l.root, "app")} {
		if err := os.MkdirAll(directory, 0o755); err != nil { //nolint:gosec // it holds programs
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{
		"cdk.json": `{"app": "cp app/* \"$CDK_OUTDIR\""}`, "app/manifest.json": `{"version":"36.0.0"}`, "app/claude-code-dev.template.json": template,
		"app/claude-code-prod.template.json": template,
		"Dockerfile":                         "FROM scratch\n", ".dockerignore": "*\n", "programs/docker": fakeDocker, "node_modules/.bin/node": "#!/bin/sh\necho v24.21.0\n",
	} {
		if err := os.WriteFile(filepath.Join(l.root, file), []byte(text), 0o755); err != nil { //nolint:gosec // some are programs
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(executable, filepath.Join(bin, "berth")), os.Symlink(executable, filepath.Join(modules, "cdk"))); err != nil {
		t.Fatal(err)
	}
	l.saveImage(t, "amd64")
	l.env = append([]string{
		"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + l.root, "LC_ALL=C.UTF-8", "BERTH_POLL_SECONDS=0.02", "BERTH_BUILDER=docker", "GORACE=atexit_sleep_ms=0",
		"BERTH_REGISTRY=" + strings.TrimPrefix(store.URL, "http://"), "BERTH_DATA=" + filepath.Join(l.root, "volume"),
	}, l.Env()...)
	return l
}

// saveImage is what the fake builder has built.
func (l *lab) saveImage(t *testing.T, architecture string) {
	t.Helper()
	made, err := random.Image(300, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	if made, err = mutate.ConfigFile(made, config); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("claude-code-agent:latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(l.root, "programs/image.tar"), tag, made); err != nil {
		t.Fatal(err)
	}
}

// running adds the stack as it is after `berth up`: its key is set, an image runs, and another is there.
func (l *lab) running() {
	l.Change(func(w *awstest.World) {
		stack := w.AddStack("claude-code", "dev")
		stack.Template = template
		stack.Parameters["ImageRef"], stack.Parameters["DesiredCount"] = "@"+digestOf("b"), "1"
		w.Secrets["claude-code/dev/anthropic-api-key"].Value = "sk-ant-before"
		w.Images["claude-code-dev"] = []awstest.Image{
			{Digest: digestOf("a"), Tags: []string{"v1"}, Pushed: time.Unix(1_700_000_000, 0)}, {Digest: digestOf("b"), Tags: []string{"v2"}, Pushed: time.Unix(1_700_000_100, 0)},
		}
		service := w.Services["claude-code-dev"]
		service.Desired, service.Revision = 1, 2
		service.Ran = []string{"@" + digestOf("a"), "@" + digestOf("b")}
		service.Tasks = []*awstest.Task{{ID: strings.Repeat("1", 32), Status: "RUNNING", Health: "HEALTHY", Digest: digestOf("b"), Started: time.Unix(1_700_000_200, 0)}}
		w.LogLines["/ecs/claude-code-dev"] = nil
	})
	l.Forget()
}

func digestOf(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

// done is how a command ended.
type done struct {
	code     int
	out, err string
}

func (l *lab) berth(t *testing.T, stdin string, args ...string) done {
	t.Helper()
	return l.start(t, stdin, nil, args...)
}

// start runs berth; with the process started, during is called.
func (l *lab) start(t *testing.T, stdin string, during func(*os.Process), args ...string) done {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(l.root, "programs/berth"), args...)
	command.Dir, command.Env, command.Stdin = l.root, l.env, strings.NewReader(stdin)
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during(command.Process)
	}
	err := command.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("berth %q: %v\n%s%s", args, err, out.String(), said.String())
	}
	return done{command.ProcessState.ExitCode(), out.String(), said.String()}
}

// lines are what berth says in the end, without how it went.
func (d done) lines() (lines []string) {
	for line := range strings.Lines(d.err) {
		if strings.HasPrefix(line, "berth: ") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// From nothing to a running service, and what comes after.
func TestUpInTheCloud(t *testing.T) {
	l := newLab(t)
	const key = "sk-ant-api03-secret"
	first := l.berth(t, key+"\n", "up", "--env", "dev", "--key-file", "-", "--no-smoke")
	if first.code != 0 || !strings.HasPrefix(first.out, "claude-code-dev runs @sha256:") || strings.Contains(first.out+first.err, key) {
		t.Fatalf("%+v", first)
	}
	var parameters map[string]string
	l.Change(func(w *awstest.World) {
		parameters = w.Stacks["claude-code-dev"].Parameters
		if w.Secrets["claude-code/dev/anthropic-api-key"].Value != key {
			t.Error("the key is not set")
		}
	})
	if parameters["DesiredCount"] != "1" || !strings.HasPrefix(parameters["ImageRef"], "@sha256:") {
		t.Errorf("%v", parameters)
	}

	t.Run("a second time nothing changes", func(t *testing.T) {
		l.Forget()
		again := l.berth(t, "", "up", "--env", "dev", "--no-smoke")
		if again.code != 0 || again.out != first.out || len(l.Mutations()) > 0 {
			t.Errorf("%+v, which changed %q", again, l.Mutations())
		}
		if calls := len(l.Calls()); calls > 12 {
			t.Errorf("it took %d calls", calls)
		}
	})
	t.Run("an update", func(t *testing.T) {
		l.Forget()
		if err := os.WriteFile(filepath.Join(l.root, "app/claude-code-dev.template.json"), []byte(`{"Resources":{}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		again := l.berth(t, "", "up", "--env", "dev", "--no-smoke")
		if got := fmt.Sprint(l.Mutations()); again.code != 0 || got != "[cloudformation:UpdateStack]" {
			t.Errorf("%+v, which changed %q", again, got)
		}
	})
	t.Run("pause is kept by up", func(t *testing.T) {
		if paused := l.berth(t, "", "pause", "--env", "dev"); paused.code != 0 {
			t.Fatalf("%+v", paused)
		}
		again := l.berth(t, "", "up", "--env", "dev", "--no-smoke")
		l.Change(func(w *awstest.World) { parameters = w.Stacks["claude-code-dev"].Parameters })
		if again.code != 0 || !strings.Contains(again.out, "is paused, and stays so") || parameters["DesiredCount"] != "0" {
			t.Errorf("%+v, %v", again, parameters)
		}
		if status := l.berth(t, "", "status", "--env", "dev"); status.code != 0 || !strings.Contains(status.out, "(paused)") {
			t.Errorf("%+v", status)
		}
		if again := l.berth(t, "", "unpause", "--env", "dev"); again.code != 0 || again.out != "claude-code-dev runs\n" {
			t.Errorf("%+v", again)
		}
	})
}

func TestDayToDay(t *testing.T) {
	l := newLab(t)
	l.running()
	parameter := func(name string) (value string) {
		l.Change(func(w *awstest.World) { value = w.Stacks["claude-code-dev"].Parameters[name] })
		return value
	}
	if got := l.berth(t, "", "deploy", "--env", "dev", "v1"); got.code != 0 || got.out != digestOf("a")+"\n" || parameter("ImageRef") != "@"+digestOf("a") {
		t.Errorf("deploy: %+v", got)
	}
	if got := l.berth(t, "", "deploy", "--env", "dev", "--rollback"); got.code != 0 || got.out != digestOf("b")+"\n" || parameter("ImageRef") != "@"+digestOf("b") {
		t.Errorf("rollback: %+v", got)
	}
	l.Forget()
	if got := l.berth(t, "sk-ant-new\n", "key", "set", "--env", "dev"); got.code != 0 || fmt.Sprint(l.Mutations()) != "[secretsmanager:PutSecretValue ecs:UpdateService]" {
		t.Errorf("key set: %+v, %q", got, l.Mutations())
	}
	l.Forget()
	for _, verb := range []string{"status", "doctor"} {
		if got := l.berth(t, "", verb, "--env", "dev"); got.code != 0 || got.out == "" {
			t.Errorf("%s: %+v", verb, got)
		}
	}
	var status map[string]any
	got := l.berth(t, "", "status", "--env", "dev", "--json")
	if err := json.Unmarshal([]byte(got.out), &status); err != nil || status["image"] != digestOf("b") || status["image_in_registry"] != true || status["key_set"] != true || status["status"] != "UPDATE_COMPLETE" {
		t.Errorf("%v: %s", err, got.out)
	}
	if got := l.berth(t, "", "env", "list"); got.code != 0 || !strings.Contains(got.out, "claude-code  dev ") {
		t.Errorf("env list: %+v", got)
	}
	if got := l.berth(t, "", "diff", "--env", "dev"); got.code != 0 || !strings.Contains(got.out, "Number of stacks with differences: 0") {
		t.Errorf("diff: %+v", got)
	}
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("what reads changed %q", changed)
	}
	for _, args := range [][]string{
		{"deploy", "--env", "dev"}, {"deploy", "--env", "dev", "v1", "--rollback"}, {"deploy", "v1"}, {"pause"}, {"key", "set"}, {"doctor"}, {"pause", "--env", "test"}, {"pause", "--env", "dev", "--local"},
		{"pause", "--env", "dev", "--region", "mars-1"}, {"up", "--env", "dev", "-c", "environment=prod"}, {"up", "--env", "dev", "-c", "cpu=3"}, {"status", "--region", "us-east-1"}, {"key", "set", "--env", "dev", "--key-file", "/dev/null"},
	} {
		if got := l.berth(t, "", args...); got.code != 2 || len(got.lines()) != 1 || got.out != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("what cannot be used changed %q", changed)
	}
}

// A production that was deleted goes on with the file system that it left.
func TestUpAdopts(t *testing.T) {
	l := newLab(t)
	l.Fail(awstest.Failure{Call: "elasticfilesystem:*", Kind: "denied"})
	if got := l.berth(t, "", "up", "--env", "prod", "--no-smoke"); got.code != 1 || !strings.Contains(got.err, "elasticfilesystem:DescribeFileSystems") {
		t.Errorf("%+v", got)
	}
}

// interruptAt runs berth and interrupts it when a call comes.
func (l *lab) interruptAt(t *testing.T, call, stdin string, args ...string) done {
	t.Helper()
	came := make(chan struct{})
	l.On(call, func() { close(came) })
	return l.start(t, stdin, func(process *os.Process) {
		select {
		case <-came:
			_ = process.Signal(syscall.SIGTERM) // SIGINT may be ignored where tests run in the background
		case <-time.After(time.Minute):
			t.Errorf("%q did not call %s", args, call)
			_ = process.Kill()
		}
	}, args...)
}

func intOf(n int) *int { return &n }

// What changed what runs ends with a session through the tunnel, and as well as that.
func TestUpEndsWithASession(t *testing.T) {
	for word, want := range map[string]struct {
		code int
		said string
	}{
		"succeed": {0, "a session to see that it works"},
		"fail":    {1, "claude-code-dev runs, but a session in it does not end well: session b87a348be000 failed (claude_failed)"},
	} {
		t.Run(word, func(t *testing.T) {
			l := newLab(t)
			server, agent := ssmtest.New(), newFakeAgent("token")
			t.Cleanup(server.Close)
			volume := t.TempDir()
			stop, err := agent.serve(volume)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			address, err := listensAt(volume)
			if err != nil {
				t.Fatal(err)
			}
			l.Sessions(server, ssmtest.To(address))
			go func() {
				if agent.until(t.Context(), func() bool { return len(agent.sessions) > 0 }) == nil {
					agent.change(func() { agent.sessions[0].end(endings[word]) })
				}
			}()
			got := l.berth(t, "sk-ant-key\n", "up", "--env", "dev", "--key-file", "-")
			if got.code != want.code || !strings.Contains(got.err, want.said) || (got.out == "") != (want.code != 0) {
				t.Errorf("%+v", got)
			}
			if want.code != 0 {
				return
			}
			again := l.berth(t, "", "up", "--env", "dev")
			if again.code != 0 || len(agent.sessions) != 1 {
				t.Errorf("%+v, after %d sessions", again, len(agent.sessions))
			}
		})
	}
}
