package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"berth/internal/cloud/awstest"
	"berth/internal/tunnel/ssmtest"
)

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

// lab is a checkout with a fake CDK CLI and a fake builder, a registry, and an AWS account, whose tasks run the fake agent.
type lab struct {
	*awstest.World
	root  string
	env   []string
	agent *fakeAgent
	ssm   *ssmtest.Server
}

// reachable has the tasks of an AWS account run a fake agent, which is reached through a stand-in of Session Manager. volume is a
// directory for the agent.
func reachable(w *awstest.World, volume string) (server *ssmtest.Server, agent *fakeAgent, dial func(context.Context) (net.Conn, error), stop func(), err error) {
	server, agent = ssmtest.New(), newFakeAgent("token")
	stopAgent, err := agent.serve(volume)
	stop = func() {
		server.Close()
		if stopAgent != nil {
			stopAgent()
		}
	}
	if err != nil {
		return server, agent, nil, stop, err
	}
	text, err := os.ReadFile(filepath.Join(volume, "endpoint.json"))
	if err != nil {
		return server, agent, nil, stop, err
	}
	endpoint := struct{ URL string }{}
	if err := json.Unmarshal(text, &endpoint); err != nil {
		return server, agent, nil, stop, err
	}
	dial = ssmtest.To(strings.TrimPrefix(endpoint.URL, "http://"))
	w.Sessions(server, dial)
	return server, agent, dial, stop, nil
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{World: awstest.New(), root: t.TempDir()}
	_, stop := l.Serve()
	t.Cleanup(stop)
	server, agent, _, stopAgent, err := reachable(l.World, t.TempDir())
	t.Cleanup(stopAgent)
	if err != nil {
		t.Fatal(err)
	}
	l.agent, l.ssm = agent, server
	store := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(store.Close)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, modules := filepath.Join(l.root, "programs"), filepath.Join(l.root, "node_modules/.bin")
	for _, directory := range []string{bin, modules, filepath.Join(l.root, "app")} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{
		"cdk.json": `{"app": "fake-app"}`, "app/claude-code-dev.template.json": template,
		"app/claude-code-prod.template.json": template,
		"Dockerfile":                         "FROM scratch\n", ".dockerignore": "*\n", "programs/docker": fakeDocker, "node_modules/.bin/node": "#!/bin/sh\necho v24.21.0\n",
	} {
		if err := os.WriteFile(filepath.Join(l.root, file), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(executable, filepath.Join(bin, "berth")), os.Symlink(executable, filepath.Join(modules, "cdk")), os.Symlink(executable, filepath.Join(modules, "fake-app"))); err != nil {
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
	if err := awstest.SaveImage(filepath.Join(l.root, "programs/image.tar"), architecture); err != nil {
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
		w.AddVolume(stack)
		w.Spends("claude-code", "dev", awstest.Spent{From: "2026-10-01", To: "2026-11-01", Services: []awstest.ServiceSpent{{Service: "Amazon Elastic Container Service", USD: "81.2345"}, {Service: "EC2 - Other", USD: "3.1"}}})
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
	if args[0] == "open" { // which ends at Ctrl-C
		command.Stderr = &interrupting{to: &said, command: command}
	}
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

// interrupting ends a program, once, when it has said that it goes on until Ctrl-C.
type interrupting struct {
	to      *bytes.Buffer
	command *exec.Cmd
	once    sync.Once
}

func (i *interrupting) Write(text []byte) (int, error) {
	if strings.Contains(string(text), "until Ctrl-C") {
		i.once.Do(func() { _ = i.command.Process.Signal(syscall.SIGTERM) }) // its exit status tells
	}
	return i.to.Write(text)
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
