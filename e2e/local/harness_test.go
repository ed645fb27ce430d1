//go:build e2e

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// secret is the API key of every test. No file of a volume and no line of a log may hold it.
const secret = "sk-ant-the-key-that-nobody-may-see"

// patience ends a wait that would otherwise never end. Nothing is measured with it.
const patience = 4 * time.Minute

var programs struct{ berth, berthd, cli string }

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return 0, err
	}
	programs.cli = filepath.Join(root, "node_modules", ".bin", "claude")
	if _, err := os.Stat(programs.cli); err != nil {
		return 0, fmt.Errorf("the Claude Code CLI is missing, run `make setup`: %w", err)
	}
	dir, err := os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/berth", "./cmd/berthd")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w: %s", err, output)
	}
	programs.berth, programs.berthd = filepath.Join(dir, "berth"), filepath.Join(dir, "berthd")
	return m.Run(), nil
}

// agent is a berthd of one test, on a volume of its own. It can be ended and started again.
type agent struct {
	t      *testing.T
	env    map[string]string
	data   string
	log    buffer
	model  *scripted.Server
	client *api.Client

	process *exec.Cmd
	ended   chan error
}

// newAgent makes an agent whose model plays the scripts, and starts it. At the end of the test it is ended, and must
// leave no process and no trace of the key.
func newAgent(t *testing.T, options scripted.Options, env ...string) *agent {
	t.Helper()
	a := plannedAgent(t, options, env...)
	a.start()
	return a
}

// plannedAgent is newAgent without the start.
func plannedAgent(t *testing.T, options scripted.Options, env ...string) *agent {
	t.Helper()
	if options.Key == "" {
		options.Key = secret
	}
	model, err := scripted.New(options)
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := model.Listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	a := &agent{t: t, model: model, data: filepath.Join(home, "v"), env: map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": home, contract.EnvData: filepath.Join(home, "v"), contract.EnvClaude: programs.cli,
		contract.EnvListen: "127.0.0.1:0", contract.EnvAnthropicAPIKey: secret, contract.EnvAnthropicBaseURL: url,
	}}
	for _, each := range env {
		name, value, _ := strings.Cut(each, "=")
		a.env[name] = value
	}
	t.Cleanup(stop)
	t.Cleanup(a.finish)
	return a
}

func (a *agent) environ() (list []string) {
	for name, value := range a.env {
		list = append(list, name+"="+value)
	}
	return list
}

// start starts berthd and waits until it answers.
func (a *agent) start() {
	a.t.Helper()
	_ = os.Remove(filepath.Join(a.data, api.EndpointFile)) // of one that was killed
	a.launch(exec.Command(programs.berthd))
	a.awaitAnswer()
}

// awaitAnswer waits until the berthd that was launched answers.
func (a *agent) awaitAnswer() {
	a.t.Helper()
	a.eventually("the agent answers", func() bool {
		select {
		case err := <-a.ended:
			a.t.Fatalf("berthd ended: %v\n%s", err, a.log.String())
		default:
		}
		endpoint, err := api.ReadEndpoint(a.data)
		if err != nil {
			return false
		}
		a.client = api.NewClient(endpoint)
		_, err = a.client.Status(a.t.Context())
		return err == nil
	})
}

func (a *agent) launch(command *exec.Cmd) {
	a.t.Helper()
	a.process = command
	a.process.Env, a.process.Stderr, a.process.Stdout = a.environ(), &a.log, &a.log
	a.process.WaitDelay = 5 * time.Second
	if err := a.process.Start(); err != nil {
		a.t.Fatal(err)
	}
	process, ended := a.process, make(chan error, 1)
	a.ended = ended
	go func() { ended <- process.Wait() }()
}

// kill ends berthd with SIGKILL.
func (a *agent) kill() {
	a.t.Helper()
	if err := a.process.Process.Kill(); err != nil {
		a.t.Fatal(err)
	}
	if err := <-a.ended; err == nil {
		a.t.Error("berthd ended well, although it was killed")
	}
	a.process = nil
}

// stop ends berthd in an orderly way.
func (a *agent) stop() error {
	a.t.Helper()
	if err := a.process.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	select {
	case err := <-a.ended:
		a.process = nil
		return err
	case <-time.After(patience):
		a.t.Fatalf("berthd does not end\n%s", a.log.String())
		return nil
	}
}

func (a *agent) finish() {
	if a.process != nil {
		if err := a.stop(); err != nil {
			a.t.Errorf("berthd: %v", err)
		}
	}
	a.eventually("no process is left", func() bool { return len(a.processes("")) == 0 })
	if strings.Contains(a.log.String(), secret) {
		a.t.Error("the log holds the key")
	}
	err := filepath.WalkDir(a.data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			a.t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.t.Error(err)
	}
	if a.t.Failed() {
		a.t.Logf("the log:\n%s", a.log.String())
		a.showEvents()
	}
}

// showEvents shows the last events of every session on the volume, for whoever looks into a failure.
func (a *agent) showEvents() {
	files, _ := filepath.Glob(filepath.Join(a.data, "sessions", "*", "events.jsonl"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) > shown {
			lines = lines[len(lines)-shown:]
		}
		for i, line := range lines {
			lines[i] = line[:min(len(line), 400)]
		}
		a.t.Logf("%s ends:\n%s", filepath.Base(filepath.Dir(file)), strings.Join(lines, "\n"))
	}
	requests := a.model.Requests()
	for _, request := range requests[max(0, len(requests)-shown):] {
		a.t.Logf("the model was asked: %+v", request)
	}
}

// shown is how many events of a session are shown.
const shown = 30

// processes lists those that run for this agent's sessions, or for one of them, by the environment that they were
// started with.
func (a *agent) processes(id string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err == nil && bytes.Contains(environ, []byte(contract.EnvSession+"="+id)) && bytes.Contains(environ, []byte(a.data)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually waits for a condition.
func (a *agent) eventually(what string, done func() bool) {
	a.t.Helper()
	ticker, late := time.NewTicker(20*time.Millisecond), time.NewTimer(patience)
	defer ticker.Stop()
	defer late.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-late.C:
			a.hangs("in vain: " + what)
		}
	}
}

// hangs fails the test with all that tells what berthd, and what runs for its sessions, is waiting for. It ends berthd.
func (a *agent) hangs(why string) {
	a.t.Helper()
	for _, pid := range a.processes("") {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		waits, _ := os.ReadFile(filepath.Join(dir, "wchan"))
		stdin, _ := os.Readlink(filepath.Join(dir, "fd", "0"))
		a.t.Logf("process %d waits in %s, reads from %s: %.200q", pid, waits, stdin, command)
	}
	if a.process != nil && a.process.Process.Signal(syscall.SIGQUIT) == nil { // its goroutines are in its log then
		<-a.ended //nolint:errcheck // it was told to end
		a.process = nil
	}
	a.t.Fatal(why)
}

func (a *agent) create(task api.NewSession) *api.Session {
	a.t.Helper()
	session, err := a.client.Create(a.t.Context(), task)
	if err != nil {
		a.t.Fatal(err)
	}
	return session
}

// end waits until a session has ended and returns it.
func (a *agent) end(id string) *api.Session {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	for _, err := range a.client.Events(ctx, id, 0, true) {
		if err != nil {
			a.hangs(fmt.Sprintf("following session %s: %v", id, err))
		}
	}
	session, err := a.client.Session(ctx, id)
	if err != nil {
		a.t.Fatal(err)
	}
	return session
}

// awaitBegan waits until a session's command has made the file "began" in its work dir.
func (a *agent) awaitBegan(id string) {
	a.t.Helper()
	a.eventually("the command runs", func() bool {
		now, err := a.client.Session(a.t.Context(), id)
		if err != nil {
			a.t.Fatal(err)
		}
		_, err = os.Stat(filepath.Join(now.WorkDir, "began"))
		return now.WorkDir != "" && err == nil
	})
}

// until waits for an event of a session.
func (a *agent) until(id string, wanted func(api.Event) bool) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	for event, err := range a.client.Events(ctx, id, 0, true) {
		if err != nil {
			a.hangs(fmt.Sprintf("following session %s: %v", id, err))
		}
		if wanted(event) {
			return
		}
	}
	a.t.Fatalf("session %s ended without the event\n%s", id, a.log.String())
}

// events returns the events that a session has.
func (a *agent) events(id string) (list []api.Event) {
	a.t.Helper()
	for event, err := range a.client.Events(a.t.Context(), id, 0, false) {
		if err != nil {
			a.t.Fatal(err)
		}
		if event.ID != len(list) {
			a.t.Errorf("event %d has the id %d", len(list), event.ID)
		}
		list = append(list, event)
	}
	return list
}

// berth runs the command and returns its output and exit status.
func (a *agent) berth(stdin string, args ...string) (stdout, stderr string, code int) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*patience)
	defer cancel()
	command := exec.CommandContext(ctx, programs.berth, args...)
	var out, err bytes.Buffer
	command.Env, command.Stdin, command.Stdout, command.Stderr = a.environ(), strings.NewReader(stdin), &out, &err
	var exit *exec.ExitError
	if failed := command.Run(); failed != nil && !errors.As(failed, &exit) {
		a.t.Fatal(failed)
	}
	return out.String(), err.String(), command.ProcessState.ExitCode()
}

// buffer is written to by a process and read by a test.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func itoa(number int) string { return strconv.Itoa(number) }
