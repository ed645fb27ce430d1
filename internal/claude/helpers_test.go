package claude

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/internal/contract"
)

// The test binary is also the reaper, and a CLI that does what it is told on its input.
func TestMain(m *testing.M) {
	if status, is := Helper(os.Args); is {
		os.Exit(status)
	}
	if len(os.Args) == 2 && os.Args[1] == "undumpable" {
		os.Exit(beUndumpable())
	}
	if os.Getenv("CLAUDE_CONFIG_DIR") != "" && len(os.Args) > 1 && os.Args[1] == "-p" {
		os.Exit(fakeCLI())
	}
	os.Exit(m.Run())
}

const testSession = "0190d3a0-0000-7000-8000-0000000000aa"

// fakeCLI reads messages. Each line of one's text is a command.
func fakeCLI() int {
	transcript := filepath.Join(os.Getenv("CLAUDE_CONFIG_DIR"), "projects", "p", os.Getenv(contract.EnvSession)+".jsonl")
	input := bufio.NewReader(os.Stdin)
	if slices.Contains(os.Args, "--resume") {
		takeUp(transcript, input)
	}
	for {
		text, err := input.ReadString('\n')
		if err != nil {
			return 0
		}
		var message struct {
			UUID    string
			Message struct{ Content string }
		}
		if json.Unmarshal([]byte(text), &message) != nil {
			return 1
		}
		for line := range strings.SplitSeq(message.Message.Content, "\n") {
			word, rest, _ := strings.Cut(line, " ")
			switch word {
			case "say":
				fmt.Println(rest)
			case "uuid":
				fmt.Println(`{"type":"heard","uuid":"` + message.UUID + `"}`)
			case "write":
				_ = os.MkdirAll(filepath.Dir(transcript), 0o700)
				file, err := os.OpenFile(transcript, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
				if err != nil {
					return 1
				}
				fmt.Fprintln(file, rest)
				_ = file.Close()
			case "many":
				for index := range 700 {
					fmt.Printf(`{"type":"x","uuid":"%d","text":"%0100d"}`+"\n", index, index)
				}
			case "ignore":
				signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
			case "complain":
				fmt.Fprintln(os.Stderr, rest)
			case "run":
				if err := startShell(rest); err != nil {
					return 1
				}
			case "block":
				select {}
			case "die":
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			case "exit":
				return len(rest)
			}
		}
	}
}

// takeUp takes a turn up: it begins it if the transcript says "begin", and says "early" if a message is there before that. With
// "quiet" it does nothing.
func takeUp(transcript string, input *bufio.Reader) {
	text, err := os.ReadFile(transcript)
	if err != nil || strings.Contains(string(text), "quiet") {
		return
	}
	waits := make(chan struct{})
	go func() {
		if _, err := input.Peek(1); err == nil {
			close(waits)
		}
	}()
	select {
	case <-waits:
		fmt.Println(`{"type":"x","uuid":"early"}`)
	case <-time.After(300 * time.Millisecond):
	}
	if strings.Contains(string(text), "begin") {
		fmt.Println(`{"type":"system","subtype":"init","uuid":"begun"}`)
	}
	<-waits
}

// beUndumpable closes this process, looks at it from another one, and does what berthd does afterwards.
func beUndumpable() int {
	if err := Undumpable(); err != nil {
		fmt.Println(err)
		return 1
	}
	script := `for f in environ mem maps; do head -c 1 /proc/$0/$f >/dev/null 2>&1 && echo $f is open; done; ls /proc/$0/fd 2>/dev/null; exit 0`
	seen, err := exec.Command("/bin/sh", "-c", script, fmt.Sprint(os.Getpid())).CombinedOutput()
	_, own := os.ReadDir("/proc/self/fd")
	_, name := os.Executable()
	if err := errors.Join(err, own, name); err != nil || len(seen) > 0 && runtime.GOOS == "linux" {
		fmt.Println(err, string(seen))
		return 1
	}
	return 0
}

// startShell starts a shell in a session of its own.
func startShell(script string) error {
	_, err := os.StartProcess("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, nil, nil}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testDirs(t *testing.T) Dirs {
	t.Helper()
	dirs := DirsBelow(t.TempDir())
	must(t, os.MkdirAll(dirs.Tree, 0o700))
	return dirs
}

// begin starts the fake CLI, and kills it with the test.
func begin(t *testing.T, dirs Dirs) *Process {
	t.Helper()
	return goOn(t, dirs, 0)
}

// goOn starts the fake CLI with a transcript of these lines, and kills it with the test.
func goOn(t *testing.T, dirs Dirs, hold time.Duration, transcript ...string) *Process {
	t.Helper()
	session := uuid.NewString()
	if len(transcript) > 0 {
		file := filepath.Join(dirs.Config, "projects", "p", session+".jsonl")
		must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		must(t, os.WriteFile(file, []byte(strings.Join(transcript, "\n")+"\n"), 0o600))
	}
	claim, err := Take(t.Context(), session, dirs)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	p, err := claim.Start(&Config{CLI: self, Reaper: []string{self, "reap"}, Hold: hold})
	must(t, err)
	t.Cleanup(func() {
		p.Stop(syscall.SIGKILL, 0)
		for range p.Lines() { // until the end
		}
		claim.Release()
	})
	return p
}

// next is the uuid of the next line of output; "" at the end.
func next(t *testing.T, p *Process) string {
	t.Helper()
	select {
	case line := <-p.Lines():
		return line.UUID
	case <-time.After(20 * time.Second):
		t.Fatal("no line comes")
		return ""
	}
}

// until waits for a condition that nothing tells of.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	timeout, tick := time.After(15*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("no %s", what)
		}
	}
}
