package claude

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func assistant(uuid string) string {
	return `{"type":"assistant","uuid":"` + uuid + `","message":{"content":[]}}`
}

// A message is held back until the transcript has it, and what comes after it waits for it.
func TestMessagesAreHeldBackUntilTheyAreWrittenDown(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	p.Send("m", "say "+assistant("a")+"\nsay "+`{"type":"system","uuid":"b"}`)
	select {
	case line := <-p.Lines():
		t.Fatalf("%s comes before it is written down", line.JSON)
	case <-time.After(200 * time.Millisecond):
	}
	p.Send("n", "write "+assistant("a"))
	if first, second := next(t, p), next(t, p); first != "a" || second != "b" {
		t.Errorf("the lines are %q, %q", first, second)
	}
}

// What the CLI says in the model's place may never be written down.
func TestWhatIsNotTheModelsIsNotHeldBack(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	p.Send("m", `say {"type":"assistant","uuid":"a","message":{"model":"<synthetic>"}}`)
	before := time.Now()
	if got := next(t, p); got != "a" || time.Since(before) > settleWithin/2 {
		t.Errorf("after %v comes %q", time.Since(before), got)
	}
}

func TestAKilledProcessTakesBackWhatItDidNotWriteDown(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	p.Send("m", "write "+assistant("a")+"\nsay "+assistant("a")+"\nsay "+assistant("b")+"\nsay "+assistant("<")+"\ndie")
	if first, second := next(t, p), next(t, p); first != "a" || second != "" {
		t.Errorf("the lines are %q, %q", first, second)
	}
	if exit := p.Exit(); exit.Code != 137 {
		t.Errorf("the exit is %+v", exit)
	}
}

func TestAnOrderlyEndTakesNothingBack(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	p.Send("m", "complain it hurts\nsay "+assistant("a")+"\nsay "+`{"type":"result","uuid":"r"}`+"\nexit xxx")
	if first, second := next(t, p), next(t, p); first != "a" || second != "r" || next(t, p) != "" {
		t.Errorf("the lines are %q, %q", first, second)
	}
	if exit := p.Exit(); exit.Code != 3 || !strings.HasPrefix(exit.Stderr, "it hurts") {
		t.Errorf("the exit is %+v", exit)
	}
}

// Somebody who is slow to read gets all, also what the pipe still holds long after the end.
func TestOutputIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	p.Send("m", "many\nexit")
	p.Exit()
	pause := time.NewTimer(2*lateOutput + 500*time.Millisecond)
	<-pause.C
	for index := range 700 {
		if got := next(t, p); got != fmt.Sprint(index) {
			t.Fatalf("line %d is %q", index, got)
		}
	}
	if got := next(t, p); got != "" {
		t.Errorf("then comes %q", got)
	}
}

// A CLI that does not read holds up nobody who sends, and nobody who ends it.
func TestSendingNeverWaits(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	p.Send("m", "block")
	for range 300 {
		if !p.Send("n", strings.Repeat("x", 10_000)) {
			t.Fatal("a message was refused")
		}
	}
	p.Stop(syscall.SIGTERM, 5*time.Second)
	if exit := p.Exit(); exit.Code != 143 {
		t.Errorf("the exit is %+v", exit)
	}
	if p.Send("o", "late") {
		t.Error("a message was taken after the end")
	}
	p.CloseInput()
	p.CloseInput()
	p.Stop(syscall.SIGTERM, 0)
}

func TestClosedInputEndsTheProcess(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	for index := range 100 {
		p.Send(fmt.Sprint(index), "uuid")
	}
	p.CloseInput()
	if p.Send("late", "uuid") {
		t.Error("a message was taken after the last one")
	}
	for index := range 100 {
		if got := next(t, p); got != fmt.Sprint(index) {
			t.Fatalf("message %d is %q", index, got)
		}
	}
	if got, exit := next(t, p), p.Exit(); got != "" || exit.Code != 0 {
		t.Errorf("then comes %q, %+v", got, exit)
	}
}

func TestWhatIgnoresBeingAskedIsKilled(t *testing.T) {
	t.Parallel()
	p := begin(t, testDirs(t))
	p.Send("m", "ignore\nuuid\nblock")
	next(t, p)
	before := time.Now()
	p.Stop(syscall.SIGTERM, 50*time.Millisecond)
	exit := p.Exit()
	if took := time.Since(before); exit.Code != 137 || took > reapGrace+2*time.Second {
		t.Errorf("after %v the exit is %+v", took, exit)
	}
}

func TestAClaimIsForOne(t *testing.T) {
	t.Parallel()
	dirs := testDirs(t)
	p := begin(t, dirs)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Take(short, testSession+"x", dirs); err == nil {
		t.Fatal("two have it")
	}
	p.CloseInput()
	p.Exit()
}

func TestArgumentsAreThoseOfTheOptions(t *testing.T) {
	t.Parallel()
	config := &Config{}
	config.Options.MaxTurns, config.Options.MaxBudgetUSD, config.Options.Model = 3, 1e-7, "m"
	got := strings.Join(config.args("id", Dirs{}, false), " ")
	for _, want := range []string{"--session-id id", "--dangerously-skip-permissions", "--model m", "--max-turns 3", "--max-budget-usd 0.0000001"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	config.Options.PermissionMode = "plan"
	if args := config.args("id", Dirs{}, true); !slices.Contains(args, "--resume") || slices.Contains(args, "--dangerously-skip-permissions") {
		t.Errorf("the arguments are %v", args)
	}
}

// Nothing of the agent's environment reaches a session but the PATH.
func TestTheEnvironmentIsClean(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
	t.Setenv("ANTHROPIC_API_KEY", "real-key")
	config := &Config{Token: "token", BaseURL: "http://127.0.0.1:1"}
	env := config.env("id", DirsBelow("/d"))
	for _, each := range env {
		if strings.Contains(each, "aws-secret") || strings.Contains(each, "real-key") {
			t.Errorf("%s is in it", each)
		}
	}
	if !slices.Contains(env, "ANTHROPIC_API_KEY=token") {
		t.Errorf("the environment is %v", env)
	}
}
