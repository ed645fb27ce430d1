package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/cloud/awstest"
	"berth/internal/tunnel/ssmtest"
)

// tunnelled is what the scripts of testdata/tunnel have: AWS with a stack whose one task runs the fake agent, which is
// reached through the stand-in of Session Manager.
type tunnelled struct {
	aws   *awstest.World
	ssm   *ssmtest.Server
	agent *fakeAgent
	dial  func(context.Context) (net.Conn, error)
}

type tunnelledKey struct{}

func tunnelledOf(ts *testscript.TestScript) *tunnelled {
	return ts.Value(tunnelledKey{}).(*tunnelled)
}

// running is a task that runs.
func running(id string) *awstest.Task {
	return &awstest.Task{ID: id, Status: "RUNNING", Health: "HEALTHY", Started: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)}
}

// change changes AWS.
func (w *tunnelled) task(how func(service *awstest.Service, stack *awstest.Stack)) {
	w.aws.Change(func(world *awstest.World) { how(world.Services["claude-code-dev"], world.Stacks["claude-code-dev"]) })
}

func TestTunnelScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/tunnel",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUpTunnel,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "fails": fails, "json-lines": jsonLines, "asked": asked, "have": have,
			"aws": awsIs, "log": logged, "during": during, "typed": typed, "fetch": fetch, "called": called,
		},
	})
}

func setUpTunnel(env *testscript.Env) error {
	w := &tunnelled{aws: awstest.New()}
	_, stop := w.aws.Serve()
	env.Defer(stop)
	server, agent, dial, stopAgent, err := reachable(w.aws, filepath.Join(env.WorkDir, "volume"))
	env.Defer(stopAgent)
	if err != nil {
		return err
	}
	w.ssm, w.agent, w.dial = server, agent, dial
	w.aws.Change(func(world *awstest.World) { world.AddStack("claude-code", "dev").Parameters["DesiredCount"] = "1" })
	w.task(func(service *awstest.Service, _ *awstest.Stack) {
		service.Desired, service.Tasks = 1, []*awstest.Task{running("one")}
	})
	env.Vars = append(env.Vars, w.aws.Env()...)
	env.Vars = append(env.Vars, "BERTH_DATA="+filepath.Join(env.WorkDir, "none"), "HOME="+env.WorkDir, "GORACE=atexit_sleep_ms=0", "LC_ALL=C",
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	env.Values[tunnelledKey{}], env.Values[agentKey{}] = w, w.agent
	return nil
}

// aws WHAT… makes AWS be some way.
func awsIs(ts *testscript.TestScript, _ bool, args []string) {
	w := tunnelledOf(ts)
	switch args[0] {
	case "fails":
		w.aws.Fail(awstest.Failure{Call: args[1], Kind: args[2]})
	case "heals":
		w.aws.Heal()
	case "paused":
		w.task(func(service *awstest.Service, stack *awstest.Stack) {
			service.Tasks, stack.Parameters["DesiredCount"] = nil, "0"
		})
	case "replaces":
		w.replace()
	case "exited":
		code := 7
		w.task(func(service *awstest.Service, stack *awstest.Stack) {
			stack.Parameters["DesiredCount"] = "1"
			service.Tasks = []*awstest.Task{{
				ID: "one", Status: "STOPPED", ExitCode: &code, StoppedReason: "Essential container in task exited", Stopped: time.Now(), Started: time.Now(),
			}}
		})
	case "starts":
		w.task(func(service *awstest.Service, stack *awstest.Stack) {
			service.Tasks, stack.Parameters["DesiredCount"] = []*awstest.Task{running("two")}, "1"
		})
	case "deaf": // nothing listens in the task
		w.aws.Sessions(w.ssm, func(context.Context) (net.Conn, error) { return nil, errors.New("refused") })
	case "other-token":
		w.aws.Change(func(world *awstest.World) {
			world.Secrets["claude-code/dev/agent"].Value = `{"api_token":"another"}`
		})
	case "no-token":
		w.aws.Change(func(world *awstest.World) { world.Secrets["claude-code/dev/agent"].Value = `secret words` })
	default:
		ts.Fatalf("AWS cannot be %s", args[0])
	}
}

// replace replaces the task by another one.
func (w *tunnelled) replace() {
	w.task(func(service *awstest.Service, _ *awstest.Stack) { service.Tasks = []*awstest.Task{running("two")} })
	w.ssm.Cut()
}

// log TEXT has the agent log a line.
func logged(ts *testscript.TestScript, _ bool, args []string) { tunnelledOf(ts).log(args[0]) }

func (w *tunnelled) log(text string) {
	w.aws.Change(func(world *awstest.World) {
		group := world.Stacks["claude-code-dev"].Outputs["LogGroupName"]
		world.LogLines[group] = append(world.LogLines[group], awstest.LogLine{Stream: "agent/agent/one", Text: text, Time: time.Now()})
	})
}

// during PATTERN WHAT CODE PROGRAM ARGS… runs a program, and does something once when it has written a line that fits
// to one of its outputs: INT, cut, replace, network, dequeue or log. It has to end with a code, and its outputs are in
// the files during.out and during.err.
func during(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	w, pattern := tunnelledOf(ts), regexp.MustCompile(args[0])
	path, err := exec.LookPath(args[3])
	ts.Check(err)
	command := exec.CommandContext(ctx, path, args[4:]...)
	command.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "BERTH_DATA", "GORACE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED", "AWS_MAX_ATTEMPTS", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		command.Env = append(command.Env, name+"="+ts.Getenv(name))
	}
	var texts [2]strings.Builder
	out, err := command.StdoutPipe()
	ts.Check(err)
	problems, err := command.StderrPipe()
	ts.Check(err)
	ts.Check(command.Start())
	acted := make(chan struct{}, 2)
	acted <- struct{}{}
	ended := make(chan struct{}, 2)
	for i, from := range []io.Reader{out, problems} {
		go func() {
			defer func() { ended <- struct{}{} }()
			for lines := bufio.NewScanner(from); lines.Scan(); {
				fmt.Fprintln(&texts[i], lines.Text())
				if !pattern.MatchString(lines.Text()) {
					continue
				}
				select {
				case <-acted:
					w.act(args[1], command.Process)
				default:
				}
			}
		}()
	}
	<-ended
	<-ended
	_ = command.Wait() // its exit code is compared
	ts.Check(os.WriteFile(ts.MkAbs("during.out"), []byte(texts[0].String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("during.err"), []byte(texts[1].String()), 0o600))
	if got := fmt.Sprint(command.ProcessState.ExitCode()); got != args[2] {
		ts.Fatalf("it exits with %s, not with %s:\n%s%s", got, args[2], texts[0].String(), texts[1].String())
	}
}

func (w *tunnelled) act(what string, process *os.Process) {
	word, rest, _ := strings.Cut(what, " ")
	switch word {
	case "INT":
		_ = process.Signal(syscall.SIGINT) // its exit code tells
	case "replace":
		w.replace()
		w.agent.change(w.agent.dequeue)
	case "denied": // and the session is lost
		w.aws.Fail(awstest.Failure{Call: "ssm:StartSession", Kind: "denied"})
		w.ssm.Cut()
	case "log":
		w.log(rest)
	}
}

// typed INPUT CODE PROGRAM ARGS… runs a program in a terminal, in which somebody types once it has written something.
// What the terminal shows is in the file typed.out.
func typed(ts *testscript.TestScript, _ bool, args []string) {
	path, err := exec.LookPath(args[2])
	ts.Check(err)
	command := exec.Command(path, args[3:]...)
	command.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "GORACE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		command.Env = append(command.Env, name+"="+ts.Getenv(name))
	}
	terminal, err := pty.StartWithSize(command, &pty.Winsize{Cols: 101, Rows: 33})
	ts.Check(err)
	defer func() { _ = terminal.Close() }() // it is read to its end
	timer := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
	defer timer.Stop()
	var shown strings.Builder
	buffer, sent := make([]byte, 4096), false
	for {
		n, err := terminal.Read(buffer)
		shown.Write(buffer[:n])
		if n > 0 && !sent {
			sent = true
			_, err := io.WriteString(terminal, strings.ReplaceAll(args[0], `\n`, "\r"))
			ts.Check(err)
		}
		if err != nil {
			break
		}
	}
	_ = command.Wait() // its exit code is compared
	ts.Check(os.WriteFile(ts.MkAbs("typed.out"), []byte(shown.String()), 0o600))
	if got := fmt.Sprint(command.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("it exits with %s, not with %s:\n%s", got, args[1], shown.String())
	}
}

// fetch PROGRAM ARGS… runs a program that writes an endpoint as JSON, asks for the agent's status there, with the token and without
// it, and ends the program with Ctrl-C.
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	command := exec.CommandContext(ctx, path, args[1:]...)
	for _, name := range []string{"PATH", "HOME", "GORACE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		command.Env = append(command.Env, name+"="+ts.Getenv(name))
	}
	out, err := command.StdoutPipe()
	ts.Check(err)
	ts.Check(command.Start())
	endpoint := struct{ URL, Token string }{}
	ts.Check(json.NewDecoder(out).Decode(&endpoint))
	if !strings.HasPrefix(endpoint.URL, "http://127.0.0.1:") {
		ts.Fatalf("it listens at %s", endpoint.URL)
	}
	for token, want := range map[string]int{endpoint.Token: 200, "": 401} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint.URL+"/v1/status", nil)
		ts.Check(err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		ts.Check(err)
		_ = response.Body.Close()
		if response.StatusCode != want {
			ts.Fatalf("with the token %q it answers %s", token, response.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	ts.Check(command.Process.Signal(os.Interrupt))
	_ = command.Wait() // its exit code is compared
	if command.ProcessState.ExitCode() != 130 {
		ts.Fatalf("at Ctrl-C it exits with %d", command.ProcessState.ExitCode())
	}
}

// called PATTERN looks at the calls to AWS: one fits.
func called(ts *testscript.TestScript, negated bool, args []string) {
	found := false
	for _, call := range tunnelledOf(ts).aws.Calls() {
		found = found || regexp.MustCompile(args[0]).MatchString(call.String()+" "+fmt.Sprint(call.Input))
	}
	if found == negated {
		ts.Fatalf("AWS was asked: %v", tunnelledOf(ts).aws.Calls())
	}
}
