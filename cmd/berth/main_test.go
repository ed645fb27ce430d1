package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/cost/costtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": main, "berthd": fakeBerthd, "cdk": fakeCDK, "fake-app": fakeApp})
}

// The scripts run the command's real main as a process of its own.
//
// PRICE_LIST is the address of a fake AWS Price List API, which has the prices of eu-central-1;
// PRICE_LIST_DENIED refuses every request. BERTH_DATA is the volume of a fake agent of the script's own,
// until the script names another.
func TestScripts(t *testing.T) {
	serve := func(list *costtest.PriceList) string {
		server := httptest.NewServer(list)
		t.Cleanup(server.Close)
		return server.URL
	}
	denied := costtest.Frankfurt()
	denied.FailWith = "AccessDeniedException"
	open, closed := serve(costtest.Frankfurt()), serve(denied)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PRICE_LIST", open)
			env.Setenv("PRICE_LIST_DENIED", closed)
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true") // else the SDK looks for an instance's role
			env.Setenv("GORACE", "atexit_sleep_ms=0")       // each program would wait for a second, if it looks for races
			env.Setenv("BERTH_DATA", filepath.Join(env.WorkDir, "volume"))
			agent := newFakeAgent("secret")
			agent.dir = env.WorkDir
			env.Vars = append(env.Vars,
				"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com",
				"GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com", "LC_ALL=C")
			stop, err := agent.serve(env.Getenv("BERTH_DATA"))
			if err != nil {
				return err
			}
			env.Defer(stop)
			env.Values[agentKey{}] = agent
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "large.txt"), []byte(strings.Repeat("a long task ", 1<<20/12)), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "large.json"), []byte("{"+strings.Repeat(" ", 1<<20)+"}"), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "escape.txt"), []byte("clear \x1b[2J the screen"), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "patch.txt"), []byte("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\r\n+caf\xe9\x1b[m\n"), 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "latin1.txt"), []byte("caf\xe9"), 0o600))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "fails": fails, "json-lines": jsonLines, "asked": asked, "queried": queried, "have": have, "problem": problem, "interrupt": interrupt, "dequeue": dequeue, "agent-pid": agentPID,
		},
	})
}

type agentKey struct{}

func agentOf(ts *testscript.TestScript) *fakeAgent { return ts.Value(agentKey{}).(*fakeAgent) }

// exits CODE PROGRAM ARGS… runs a program, which has to end with a code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		code = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if want, _ := strconv.Atoi(args[0]); code != want {
		ts.Fatalf("it exits with %d, not with %d", code, want)
	}
}

// fails CODE PROGRAM ARGS… runs a program, which has to end with a code, and to say nothing but why, in one line.
func fails(ts *testscript.TestScript, negated bool, args []string) {
	exits(ts, negated, args)
	said := ts.ReadFile("stderr")
	if ts.ReadFile("stdout") != "" || !strings.HasPrefix(said, "berth: ") || strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") {
		ts.Fatalf("it says more than one line of why it fails")
	}
}

// json-lines COUNT FILE [FIELD…] reads a file, each of whose lines is a JSON object with the fields.
func jsonLines(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[1]), "\n"), "\n")
	if fmt.Sprint(len(lines)) != args[0] {
		ts.Fatalf("%s has %d lines, not %s", args[1], len(lines), args[0])
	}
	for _, line := range lines {
		var object map[string]any
		ts.Check(json.Unmarshal([]byte(line), &object))
		for _, field := range args[2:] {
			if _, there := object[field]; !there {
				ts.Fatalf("no %s in %s", field, line)
			}
		}
	}
}

// asked PATTERN looks for a request that the agent got.
func asked(ts *testscript.TestScript, negated bool, args []string) {
	agent := agentOf(ts)
	agent.mu.Lock()
	defer agent.mu.Unlock()
	if slices.ContainsFunc(agent.asked, regexp.MustCompile(args[0]).MatchString) == negated {
		ts.Fatalf("the agent was asked:\n%s", strings.Join(agent.asked, "\n"))
	}
}

// queried PATTERN… compares the questions for lists of sessions since the last time, as they were asked.
func queried(ts *testscript.TestScript, _ bool, args []string) {
	agent := agentOf(ts)
	agent.change(func() {
		same := slices.EqualFunc(agent.listed, args, func(query, pattern string) bool { return regexp.MustCompile("^" + pattern + "$").MatchString(query) })
		if !same && len(args) > 0 {
			ts.Fatalf("the agent was asked for:\n%s", strings.Join(agent.listed, "\n"))
		}
		agent.listed = nil
	})
}

// have PROMPT… gives the agent sessions, which end as their prompts say. \e is an escape character in them.
func have(ts *testscript.TestScript, _ bool, args []string) {
	agent := agentOf(ts)
	agent.change(func() {
		for _, prompt := range args {
			prompt = strings.ReplaceAll(prompt, `\e`, "\x1b")
			agent.add(prompt).play(prompt)
		}
	})
}

// problem TEXT has the agent's status tell a problem.
func problem(ts *testscript.TestScript, _ bool, args []string) {
	agent := agentOf(ts)
	agent.change(func() { agent.status = map[string]any{"problems": args} })
}

// agent-pid N has the agent's status tell another process.
func agentPID(ts *testscript.TestScript, _ bool, args []string) {
	agent := agentOf(ts)
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	agent.change(func() { agent.pid = pid })
}

// interrupt SIGNAL CODE PROGRAM ARGS… runs a program that follows a session, sends it SIGINT or SIGTERM when it has
// shown all that there is, and compares its exit code. Its output is in the files interrupted.out and interrupted.err.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	signal, known := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[args[0]]
	if !known {
		ts.Fatalf("no signal %s", args[0])
	}
	path, err := exec.LookPath(args[2])
	ts.Check(err)
	command := exec.CommandContext(ctx, path, args[3:]...)
	command.Env, command.Dir = append(os.Environ(), "BERTH_DATA="+ts.Getenv("BERTH_DATA")), ts.MkAbs(".")
	var problems strings.Builder
	command.Stderr = &problems
	pipe, err := command.StdoutPipe()
	ts.Check(err)
	ts.Check(command.Start())
	var shown strings.Builder
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		fmt.Fprintln(&shown, lines.Text())
		if lines.Text() == lastShown {
			ts.Check(command.Process.Signal(signal))
		}
	}
	_ = command.Wait() // its exit code is compared
	ts.Check(os.WriteFile(ts.MkAbs("interrupted.out"), []byte(shown.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("interrupted.err"), []byte(problems.String()), 0o600))
	if got := fmt.Sprint(command.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("it exits with %s, not with %s:\n%s%s", got, args[1], shown.String(), problems.String())
	}
}

// dequeue PATTERN PROGRAM ARGS… runs a program that has to end well, and lets the sessions of the queue succeed when
// it has said something on standard error. Its output is in the files dequeued.out and dequeued.err.
func dequeue(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	command := exec.CommandContext(ctx, path, args[2:]...)
	command.Env, command.Dir = append(os.Environ(), "BERTH_DATA="+ts.Getenv("BERTH_DATA")), ts.MkAbs(".")
	var out, said strings.Builder
	command.Stdout = &out
	pipe, err := command.StderrPipe()
	ts.Check(err)
	ts.Check(command.Start())
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if regexp.MustCompile(args[0]).MatchString(lines.Text()) {
			agentOf(ts).change(agentOf(ts).dequeue)
		}
	}
	err = command.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("dequeued.out"), []byte(out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("dequeued.err"), []byte(said.String()), 0o600))
	if err != nil {
		ts.Fatalf("%v:\n%s%s", err, out.String(), said.String())
	}
}
