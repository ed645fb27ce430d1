//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/internal/cloud/awstest"
)

// commandTime ends a command, or a start of the emulator, that would otherwise never end. Nothing is measured with it: a first `cdk deploy`
// takes ten seconds on two idle cores, and has many others beside it in `make test`.
const commandTime = 10 * time.Minute

// atOnce is how many tests run at the same time, each with a project and an emulator: two keep two cores busy.
const atOnce = 2

// machine is what the tests of one run share.
type machine struct {
	root     string      // the checkout
	base     string      // temporary: all that a run writes is in it
	env      []string    // of every command; no credentials, and no endpoint
	projects chan string // directories to run the CDK CLI in, for one test at a time
	strays   strays
}

var shared machine

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (status int) {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	base, err := os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(base)
	shared.base = base
	proxy := httptest.NewServer(&shared.strays)
	defer proxy.Close()
	if err := shared.prepare(proxy.URL); err != nil {
		return fail(err)
	}
	status = m.Run()
	if seen := shared.strays.all(); len(seen) > 0 {
		return fail(fmt.Errorf("a command tried to leave this machine: %s", strings.Join(seen, ", ")))
	}
	return status
}

// prepare finds the tools, and makes the directories to work in.
func (m *machine) prepare(proxy string) error {
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	m.root = root
	for _, tool := range []string{"node_modules/.bin/cdk", "node_modules/.bin/node", ".venv/bin/python", ".venv/bin/aws", ".venv/bin/cfn-lint"} {
		if _, err := os.Stat(filepath.Join(root, tool)); err != nil {
			return fmt.Errorf("%s is missing: run `make setup` first", tool)
		}
	}
	if err := m.environment(proxy); err != nil {
		return err
	}
	m.projects = make(chan string, atOnce)
	for i := range atOnce {
		directory := filepath.Join(m.base, fmt.Sprintf("project%d", i))
		if err := m.copyProject(directory); err != nil {
			return err
		}
		m.projects <- directory
	}
	return nil
}

// copyProject copies what `cdk` reads in the checkout.
//
// The tests do not run in the checkout itself, since the CDK CLI writes the answers to its look-ups into
// the directory it runs in: a test must not find another one's, nor leave any to the user. There are as
// many copies as tests run at once, and not one for each test, because Go compiles the app anew for each
// directory, which takes 5 s.
func (m *machine) copyProject(directory string) error {
	for _, part := range []string{"infra", "internal"} {
		if err := os.CopyFS(filepath.Join(directory, part), os.DirFS(filepath.Join(m.root, part))); err != nil {
			return err
		}
	}
	for _, file := range []string{"go.mod", "go.sum", "cdk.json"} {
		text, err := os.ReadFile(filepath.Join(m.root, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, file), text, 0o600); err != nil {
			return err
		}
	}
	return os.Symlink(filepath.Join(m.root, "node_modules"), filepath.Join(directory, "node_modules"))
}

// environment makes the environment of the commands: the user's home, profile and credentials are not in it.
// Go's caches stay the user's.
func (m *machine) environment(proxy string) error {
	home, temporary := filepath.Join(m.base, "home"), filepath.Join(m.base, "tmp")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Mkdir(temporary, 0o700)); err != nil {
		return err
	}
	// Notices are the one thing that the CDK CLI looks up and has no variable for.
	if err := os.WriteFile(filepath.Join(home, ".cdk.json"), []byte(`{"notices": false}`), 0o600); err != nil {
		return err
	}
	path := []string{filepath.Join(m.root, "node_modules/.bin"), os.Getenv("PATH")}
	m.env = []string{
		"PATH=" + strings.Join(path, string(os.PathListSeparator)),
		"HOME=" + home, "TMPDIR=" + temporary, "LC_ALL=C.UTF-8",
		"AWS_EC2_METADATA_DISABLED=true",
		"HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy, "NO_PROXY=127.0.0.1", // see strays
		"CDK_REQUIRE_APPROVAL=never", // there is nobody to ask
		"CDK_DISABLE_CLI_TELEMETRY=true", "npm_config_update_notifier=false", "GOPROXY=off", "GOTELEMETRY=off",
	}
	kept := []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOFLAGS", "GOTOOLCHAIN"}
	answer, err := exec.Command("go", append([]string{"env"}, kept...)...).Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	for i, value := range strings.Split(strings.TrimSuffix(string(answer), "\n"), "\n") {
		m.env = append(m.env, kept[i]+"="+value)
	}
	return nil
}

// strays is the proxy that every command is told to use for what is not on this machine. It refuses and
// remembers whatever comes: nothing may.
type strays struct {
	mu   sync.Mutex
	seen []string
}

func (s *strays) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r.Method+" "+r.URL.Host+r.URL.Path)
	http.Error(w, "the tests stay on this machine", http.StatusForbidden)
}

func (s *strays) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// project is a copy of the project, for one test alone.
type project struct {
	directory string
	env       []string
}

// newProject waits for a copy of the project. Commands run in it have no credentials.
func newProject(t *testing.T) *project {
	t.Helper()
	directory := <-shared.projects
	t.Cleanup(func() {
		for _, written := range []string{"cdk.out", "cdk.context.json"} {
			if err := os.RemoveAll(filepath.Join(directory, written)); err != nil {
				t.Error(err)
			}
		}
		shared.projects <- directory
	})
	return &project{directory, slices.Clip(shared.env)}
}

// account is a project and an AWS account to deploy it to: an emulator that nobody else uses.
type account struct {
	*project
	url string
}

// newAccount starts an emulator, which ends with the test. It ends with this process as well, should that
// be killed.
func newAccount(t *testing.T) *account {
	t.Helper()
	made := &account{project: newProject(t)}
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	emulator, err := awstest.StartEmulator(ctx, shared.root, t.TempDir(), made.env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said, err := emulator.Stop(); err != nil || t.Failed() && said != "" {
			t.Errorf("the emulator: %v; it said:\n%s", err, said)
		}
	})
	made.url = emulator.URL
	// The aws CLI reads the second of the two variables for the region, the CDK CLI the first.
	made.env = append(made.env, "AWS_ENDPOINT_URL="+emulator.URL, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
	return made
}

// get asks a page of the emulator's own for what it holds, as JSON.
func (a *account) get(t *testing.T, path string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v: %s", path, response.Status, err, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("GET %s: %v: %s", path, err, text)
	}
}

// outcome is how a command ended.
type outcome struct {
	command        string
	status         int
	stdout, stderr string
}

func (o outcome) String() string {
	return fmt.Sprintf("$ %s\nexit status %d\nstdout:\n%s\nstderr:\n%s", o.command, o.status, o.stdout, o.stderr)
}

// run runs a command as the specification writes it: `cdk …` or `aws …`. Words with spaces in them, and
// empty ones, come after it.
func (p *project) run(t *testing.T, command string, more ...string) outcome {
	t.Helper()
	words := append(strings.Fields(command), more...)
	switch words[0] {
	case "cdk":
		words = append([]string{"npx", "--no-install"}, words...)
	case "aws":
		words[0] = filepath.Join(shared.root, ".venv/bin/aws")
	}
	return p.exec(t, strings.Join(append([]string{command}, more...), " "), "", words...)
}

// must is run for a command that has to succeed.
func (p *project) must(t *testing.T, command string, more ...string) outcome {
	t.Helper()
	done := p.run(t, command, more...)
	if done.status != 0 {
		t.Fatal(done)
	}
	return done
}

// exec runs a program in the project, and kills it together with what it has started if it takes too long.
func (p *project) exec(t *testing.T, command, stdin string, words ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	program := exec.CommandContext(ctx, words[0], words[1:]...)
	program.Dir, program.Env = p.directory, p.env
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	program.Cancel = func() error { return syscall.Kill(-program.Process.Pid, syscall.SIGKILL) }
	program.WaitDelay = 5 * time.Second
	program.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	program.Stdout, program.Stderr = &stdout, &stderr
	started := time.Now()
	err := program.Run()
	done := outcome{command, program.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%v (%v)\n%s", err, ctx.Err(), done)
	}
	t.Logf("%5.1f s  %s", time.Since(started).Seconds(), command)
	return done
}
