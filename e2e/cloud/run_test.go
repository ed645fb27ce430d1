//go:build e2e

package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/dockertest"
	"berth/internal/scripted"
)

// What Fargate adds to a task's environment, for the credentials of the task's role.
const (
	taskToken        = "the-token-for-the-credentials-endpoint"
	credentialSecret = "the/secret+access/key+of+the/tasks+role"
)

// task is the agent's container, on Docker as the stack's template says that it runs on Fargate.
type task struct {
	dockertest.Task
	t           *testing.T
	id          string
	client      *api.Client
	credentials string
}

// newTask takes the task definition from the synthesised template. Of what it says, only the address of the model's API is another one.
func newTask(t *testing.T, imageName string, scripts ...scripted.Script) *task {
	t.Helper()
	template, err := os.ReadFile(filepath.Join(shared.root, "infra", "testdata", "golden", "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	definition, err := dockertest.FromTemplate(template)
	if err != nil {
		t.Fatal(err)
	}
	model, err := scripted.New(scripted.Options{Key: modelKey, Scripts: scripts})
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := model.Listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	credentials := httptest.NewServer(http.HandlerFunc(credential))
	t.Cleanup(credentials.Close)
	x := &task{t: t, credentials: credentials.URL, Task: dockertest.Task{
		Definition: definition, Image: imageName, Name: "agent-" + strconv.FormatInt(time.Now().UnixNano(), 36), Volume: t.TempDir(),
		Secrets: map[string]string{contract.EnvAnthropicAPIKey: modelKey, contract.EnvGitHubToken: githubSecret, contract.EnvAPIToken: apiSecret},
		Overrides: map[string]string{
			contract.EnvAnthropicBaseURL: url,
			"AWS_EXECUTION_ENV":          "AWS_ECS_FARGATE", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": credentials.URL,
			"AWS_CONTAINER_CREDENTIALS_FULL_URI": credentials.URL + "/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN": taskToken,
		},
	}}
	return x
}

// credential answers as the endpoint of a task does: to whoever has the token.
func credential(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/v1/credentials":
		w.WriteHeader(http.StatusNotFound)
	case r.Header.Get("Authorization") != taskToken:
		w.WriteHeader(http.StatusUnauthorized)
	default:
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"AKIA","SecretAccessKey":%q,"Token":"t","Expiration":"2099-01-01T00:00:00Z"}`, credentialSecret)
	}
}

// start starts a container, and waits until the agent in it answers.
func (x *task) start() {
	x.t.Helper()
	id, err := shared.docker.Start(x.t.Context(), x.Task)
	if err != nil {
		x.t.Fatal(err)
	}
	x.id = id
	x.t.Cleanup(func() { // at the latest
		logs, _ := shared.docker.Docker(context.Background(), "logs", id)
		if x.t.Failed() {
			x.t.Logf("the container's log:\n%s", logs)
		}
		searchFor(x.t, "the container's log", strings.NewReader(logs))
		if _, err := shared.docker.Docker(context.Background(), "rm", "--force", "--volumes", id); err != nil {
			x.t.Error(err)
		}
	})
	x.client = api.NewClient(api.Endpoint{URL: "http://" + x.variable(contract.EnvListen), Token: apiSecret})
	eventually(x.t, "the agent answers", func() bool {
		if state := x.state(); state.Status != "running" {
			logs, _ := shared.docker.Docker(x.t.Context(), "logs", id)
			x.t.Fatalf("the container is %s with %d:\n%s", state.Status, state.ExitCode, logs)
		}
		_, err := x.client.Status(x.t.Context())
		return err == nil
	})
}

// variable is the value of a variable of the task definition.
func (x *task) variable(name string) string {
	for _, each := range x.Definition.ContainerDefinitions[0].Environment {
		if each.Name == name {
			return each.Value
		}
	}
	x.t.Fatalf("the task definition has no %s", name)
	return ""
}

func (x *task) state() dockertest.State {
	x.t.Helper()
	state, err := shared.docker.Inspect(x.t.Context(), x.id)
	if err != nil {
		x.t.Fatal(err)
	}
	return state
}

// inside runs a shell's command in the container, as root.
func (x *task) inside(command string) string {
	x.t.Helper()
	text, err := shared.docker.Docker(x.t.Context(), "exec", x.id, "sh", "-c", command)
	if err != nil {
		x.t.Fatal(err)
	}
	return text
}

func (x *task) create(prompt string) string {
	x.t.Helper()
	made, err := x.client.Create(x.t.Context(), api.NewSession{Prompt: prompt})
	if err != nil {
		x.t.Fatal(err)
	}
	return made.ID
}

func (x *task) await(id, what string, holds func(*api.Session) bool) *api.Session {
	x.t.Helper()
	var now *api.Session
	eventually(x.t, "session "+what, func() bool {
		var err error
		now, err = x.client.Session(x.t.Context(), id)
		if err == nil && now.State.Ended() && !holds(now) {
			x.t.Fatalf("the session is %s: %+v", now.State, now.Error)
		}
		return err == nil && holds(now)
	})
	return now
}

func succeeded(s *api.Session) bool { return s.State == api.Succeeded }

// began tells whether a session has its directory, and a file in it.
func (x *task) began(file string) func(*api.Session) bool {
	return func(s *api.Session) bool {
		if s.WorkDir == "" {
			return false
		}
		_, err := shared.docker.Docker(x.t.Context(), "exec", x.id, "test", "-e", filepath.Join(s.WorkDir, file))
		return err == nil
	}
}

// The container is run as on Fargate: it becomes healthy, a session ends well in it, SIGTERM ends it in time with a session in mid-work,
// and the next container goes on with that session.
func TestTheContainer(t *testing.T) {
	b := needImage(t)
	x := newTask(t, b.name,
		scripted.Script{Match: "^short", Steps: []scripted.Step{scripted.Use(scripted.Bash("id -u; echo made > file; git add file; git commit -qm made")), scripted.Text("Done.")}},
		scripted.Script{Match: "^long", Steps: []scripted.Step{
			scripted.Use(scripted.Bash("echo first >> steps")), scripted.Use(scripted.Bash("touch began; until test -e go-on; do sleep 0.1; done")), scripted.Text("Done."),
		}})
	x.start()
	short := x.await(x.create("short"), "ends well", succeeded)
	if text := x.inside("cat " + filepath.Join(short.WorkDir, "file")); text != "made" {
		t.Errorf("the session's file holds %q", text)
	}
	x.limits(short)
	eventually(t, "the container is healthy", func() bool { return x.state().Health.Status == "healthy" })

	long := x.create("long")
	x.await(long, "is in mid-work", x.began("began"))
	if _, err := shared.docker.Docker(t.Context(), "stop", x.id); err != nil { // SIGTERM, and SIGKILL after the definition's stop timeout
		t.Fatal(err)
	}
	if state := x.state(); state.ExitCode != 0 || state.OOMKilled {
		t.Errorf("after SIGTERM: %+v", state)
	}
	x.Name += "-2"
	x.start()
	again := x.await(long, "is in mid-work again", x.began("began"))
	x.inside("touch " + filepath.Join(again.WorkDir, "go-on"))
	x.await(long, "ends well", succeeded)
	if text := x.inside("cat " + filepath.Join(again.WorkDir, "steps")); text != "first" {
		t.Errorf("the steps that were taken: %q", text)
	}
}

// limits looks from inside at what the definition asked for.
func (x *task) limits(session *api.Session) {
	x.t.Helper()
	for command, want := range map[string]string{
		"id -u": "0", "touch /usr/x 2>&1 || true": "touch: cannot touch '/usr/x': Read-only file system",
		"stat -c '%U %a' /data /work /tmp":                  "root 700\nroot 711\nroot 1733",
		"tr '\\0' '\\n' </proc/1/cmdline | head -1":         "/sbin/docker-init",
		"stat -c %u " + session.WorkDir + " | grep -cv ^0$": "1",
	} {
		if text := x.inside(command); text != want {
			x.t.Errorf("%s: %q, not %q", command, text, want)
		}
	}
	dropped, err := shared.docker.Docker(x.t.Context(), "inspect", "--format", "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.Memory}}", x.id)
	if err != nil || !strings.HasPrefix(dropped, "true [") || !strings.Contains(dropped, "MKNOD") || !strings.HasSuffix(dropped, " 8589934592") {
		x.t.Errorf("%s, %v", dropped, err)
	}
}

// found is what the thief of the local tests says.
type found struct {
	Found       []struct{ Way, Where, What string }
	Tried, Read map[string]int
}

// A session in the container that looks everywhere finds no secret. The thief comes into the image as a team's own tools do.
func TestAThiefInTheContainer(t *testing.T) {
	b := needImage(t)
	var x *task
	x = newTask(t, withThief(t, b.name),
		scripted.Script{Match: "^victim", Steps: []scripted.Step{
			scripted.Use(scripted.Bash("echo others > file")), scripted.Use(scripted.Bash("touch began; until test -e done; do sleep 0.1; done")), scripted.Text("Done."),
		}},
		scripted.Script{Match: "^thief", Steps: []scripted.Step{
			{Compute: func(scripted.Request) scripted.Step {
				return scripted.Use(scripted.Bash("thief '" + x.instructions() + "' > report"))
			}},
			scripted.Text("Done."),
		}})
	x.start()
	victim := x.create("victim")
	x.await(victim, "is in mid-work", x.began("began"))
	thief := x.await(x.create("thief"), "ends well", succeeded)
	var report found
	if err := json.Unmarshal([]byte(x.inside("cat "+filepath.Join(thief.WorkDir, "report"))), &report); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"environment", "proc environ", "proc mem", "proc fd", "ptrace", "files", "git", "become", "network", "namespace"} {
		if report.Tried[way] == 0 {
			t.Errorf("%s was not tried", way)
		}
	}
	if report.Read["environment"] == 0 || report.Read["network"] == 0 || report.Read["proc environ"] == 0 {
		t.Errorf("it read nothing, not even what is its own: %v", report.Read)
	}
	mine := x.processes(thief.ID)
	for _, each := range report.Found {
		way := strings.TrimPrefix(each.Way, "namespace: ")
		switch {
		case (way == "kill" || way == "ptrace") && !mine[each.Where]: // its own, which have ended
		case way == "names" && (each.What == thief.ID || strings.HasSuffix(each.Where, "/"+thief.ID)):
		default:
			t.Errorf("by %q in %s the session gets %s", each.Way, each.Where, each.What)
		}
	}
	status, err := x.client.Status(t.Context())
	if err != nil || !strings.HasPrefix(status.Isolation, "users of their own") {
		t.Errorf("the status says %q: %v", status.Isolation, err)
	}
	now, err := x.client.Session(t.Context(), victim)
	if err != nil {
		t.Fatal(err)
	}
	x.inside("touch " + filepath.Join(now.WorkDir, "done"))
	x.await(victim, "ends well", succeeded)
}

// instructions are what the thief is told: where to look, and for what, in a form that is none of it.
func (x *task) instructions() string {
	masked := map[string][]byte{}
	for name, value := range map[string]string{"key": modelKey, "github": githubSecret, "api": apiSecret, "task": taskToken, "credential": credentialSecret} {
		text := []byte(value)
		for i := range text {
			text[i] ^= 0x5a
		}
		masked[name] = text
	}
	text, err := json.Marshal(map[string]any{
		"Secrets": masked, "Dirs": []string{x.variable(contract.EnvData), contract.VolumeParent, contract.WorkPath, "/root", "/dev/shm", "/var/tmp", "/run"},
		"URLs": []string{"http://" + x.variable(contract.EnvListen), x.credentials, x.credentials + "/v1/credentials"},
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// processes are the numbers, inside, of the processes that are there and not of a session: the agent, those before it, and other sessions'.
func (x *task) processes(session string) map[string]bool {
	x.t.Helper()
	list := map[string]bool{}
	for _, pid := range strings.Fields(x.inside(`for each in /proc/[0-9]*; do tr '\0' '\n' <$each/environ 2>/dev/null | grep -q ` + contract.EnvSession + "=" + session + ` || echo ${each#/proc/}; done`)) {
		list[pid] = true
	}
	return list
}

// withThief builds another image on top of the agent's.
func withThief(t *testing.T, base string) string {
	t.Helper()
	directory := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(directory, "thief"), "../local/testdata/thief")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	dockerfile := "FROM " + base + "\nCOPY thief /usr/local/bin/thief\n"
	if err := os.WriteFile(filepath.Join(directory, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.docker.Docker(t.Context(), "build", "--network=host", "--tag", "with-thief", directory); err != nil {
		t.Fatal(err)
	}
	return "with-thief"
}
