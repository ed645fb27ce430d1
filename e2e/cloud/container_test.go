//go:build e2e

package cloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/dockertest"
)

// What Fargate adds to a task's environment, for the credentials of the task's role.
const (
	taskToken        = "the-token-for-the-credentials-endpoint"
	credentialSecret = "the/secret+access/key+of+the/tasks+role"
)

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

// task is the agent's container, and its agent as a client sees it that has the token.
type task struct {
	t      *testing.T
	id     string
	client *api.Client
	token  string
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

// limits looks from inside at what the task definition asked for, and waits until the container is healthy.
func (x *story) limits() {
	x.t.Helper()
	session := x.session()
	in := x.agent()
	for command, want := range map[string]string{
		"id -u": "0", "touch /usr/x 2>&1 || true": "touch: cannot touch '/usr/x': Read-only file system",
		"stat -c '%U %a' /data /work /tmp":                  "root 700\nroot 711\nroot 1733",
		"tr '\\0' '\\n' </proc/1/cmdline | head -1":         "/sbin/docker-init",
		"stat -c %u " + session.WorkDir + " | grep -cv ^0$": "1",
		"cat " + filepath.Join(session.WorkDir, "file"):     "made",
	} {
		if text := in.inside(command); text != want {
			x.t.Errorf("%s: %q, not %q", command, text, want)
		}
	}
	dropped, err := shared.docker.Docker(x.t.Context(), "inspect", "--format", "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.Memory}}", in.id)
	if err != nil || !strings.HasPrefix(dropped, "true [") || !strings.Contains(dropped, "MKNOD") || !strings.HasSuffix(dropped, " 8589934592") {
		x.t.Errorf("%s, %v", dropped, err)
	}
	eventually(x.t, "the container is healthy", func() bool { return in.state().Health.Status == "healthy" })
}

// found is what the thief of the local tests says.
type found struct {
	Found       []struct{ Way, Where, What string }
	Tried, Read map[string]int
}

// thief has a session look everywhere for secrets, while another one is in mid-work: it finds none. Its program is put beside the
// sessions' directories: as a team's own tools, only that these come with the image.
func (x *story) thief() {
	x.t.Helper()
	in := x.agent()
	in.putThief()
	x.instructions.Store(in.whatToSteal(x.fargate.platform[envCredentials]))
	victim := in.create("victim")
	in.await(victim, "is in mid-work", in.began("began"))
	thief := in.await(in.create("thief"), "ends well", succeeded)
	var report found
	if err := json.Unmarshal([]byte(in.inside("cat "+filepath.Join(thief.WorkDir, "report"))), &report); err != nil {
		x.t.Fatal(err)
	}
	for _, way := range []string{"environment", "proc environ", "proc mem", "proc fd", "ptrace", "files", "git", "become", "network", "namespace"} {
		if report.Tried[way] == 0 {
			x.t.Errorf("%s was not tried", way)
		}
	}
	if report.Read["environment"] == 0 || report.Read["network"] == 0 || report.Read["proc environ"] == 0 {
		x.t.Errorf("it read nothing, not even what is its own: %v", report.Read)
	}
	mine := in.processes(thief.ID)
	for _, each := range report.Found {
		way := strings.TrimPrefix(each.Way, "namespace: ")
		switch {
		case (way == "kill" || way == "ptrace") && !mine[each.Where]: // its own, which have ended
		case way == "names" && (each.What == thief.ID || strings.HasSuffix(each.Where, "/"+thief.ID)):
		default:
			x.t.Errorf("by %q in %s the session gets %s", each.Way, each.Where, each.What)
		}
	}
	status, err := in.client.Status(x.t.Context())
	if err != nil || !strings.HasPrefix(status.Isolation, "users of their own") {
		x.t.Errorf("the status says %q: %v", status.Isolation, err)
	}
	now, err := in.client.Session(x.t.Context(), victim)
	if err != nil {
		x.t.Fatal(err)
	}
	in.inside("touch " + filepath.Join(now.WorkDir, "done"))
	in.await(victim, "ends well", succeeded)
}

// thiefProgram is where the thief is in the container.
const thiefProgram = contract.WorkPath + "/thief"

// putThief builds the thief's program and puts it into the container.
func (x *task) putThief() {
	x.t.Helper()
	built := filepath.Join(x.t.TempDir(), "thief")
	build := exec.Command("go", "build", "-o", built, "../local/testdata/thief")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		x.t.Fatalf("%v: %s", err, output)
	}
	program, err := os.Open(built)
	if err != nil {
		x.t.Fatal(err)
	}
	defer program.Close() //nolint:errcheck // it was only read
	put := shared.docker.Command(x.t.Context(), "exec", "--interactive", x.id, "sh", "-c", "cat >"+thiefProgram+" && chmod 755 "+thiefProgram)
	put.Stdin = program
	if output, err := put.CombinedOutput(); err != nil {
		x.t.Fatalf("%v: %s", err, output)
	}
}

// whatToSteal is what the thief is told: where to look, and for what, in a form that is none of it.
func (x *task) whatToSteal(credentials string) string {
	masked := map[string][]byte{}
	for name, value := range map[string]string{"key": modelKey, "github": githubSecret, "api": x.token, "task": taskToken, "credential": credentialSecret} {
		text := []byte(value)
		for i := range text {
			text[i] ^= 0x5a
		}
		masked[name] = text
	}
	text, err := json.Marshal(map[string]any{
		"Secrets": masked, "Dirs": []string{contract.VolumePath, contract.VolumeParent, contract.WorkPath, "/root", "/dev/shm", "/var/tmp", "/run"},
		"URLs": []string{"http://" + contract.Listen, strings.TrimSuffix(credentials, "/v1/credentials"), credentials},
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
