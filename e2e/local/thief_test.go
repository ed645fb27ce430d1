//go:build e2e

package local

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// What a thief is after, beside the API key.
const (
	githubSecret     = "ghp_TheGitHubTokenThatNobodyMaySee01234"
	apiSecret        = "the-api-token-that-only-clients-may-see"
	taskToken        = "the-token-for-the-credentials-endpoint"
	credentialSecret = "the/secret+access/key+of+the/tasks+role"
)

// ordinary is the user that an agent without root's rights runs as.
const ordinary = 12345

// stolen is what the thief in testdata says.
type stolen struct {
	Found       []struct{ Way, Where, What string }
	Tried, Read map[string]int
}

// robbed is an agent whose session steals.
type robbed struct {
	*agent
	credentials string // the stand-in of the endpoint that a task on Fargate has
	thief       string // the session
	daemon      int    // its process
	report      stolen
}

// rob starts an agent as a user, and lets a session of it look for secrets while another one runs.
func rob(t *testing.T, who robber) *robbed {
	t.Helper()
	x := &robbed{}
	endpoint := httptest.NewServer(http.HandlerFunc(x.credential))
	t.Cleanup(endpoint.Close)
	x.credentials = endpoint.URL
	long := "touch began; until test -e done; do sleep 0.05; done"
	bin := t.TempDir()
	x.agent = plannedAgent(t, scripted.Options{Scripts: []scripted.Script{
		{Match: "^victim", Steps: []scripted.Step{scripted.Use(scripted.Bash("echo others > file")), scripted.Use(scripted.Bash(long)), scripted.Text("Done.")}},
		{Match: "^thief", Steps: []scripted.Step{
			{Compute: func(scripted.Request) scripted.Step {
				return scripted.Use(scripted.Bash(filepath.Join(bin, "thief") + " '" + x.task() + "' > report; git add -A; git commit -qm loot"))
			}},
			scripted.Text("Done."),
		}},
	}}, contract.EnvGitHubToken+"="+githubSecret, contract.EnvAPIToken+"="+apiSecret, contract.EnvClaude+"="+filepath.Join(bin, "claude"),
		"AWS_CONTAINER_CREDENTIALS_FULL_URI="+endpoint.URL+"/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN="+taskToken,
		"AWS_REGION=eu-central-1", "AWS_ENDPOINT_URL="+endpoint.URL, "AWS_EC2_METADATA_DISABLED=true")
	x.open(bin)
	installCLI(t, filepath.Join(bin, "claude")) // what lies beside the CLI is there for sessions
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "thief"), "./testdata/thief")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	x.launchAs(who, bin)
	victim := x.create(api.NewSession{Prompt: "victim"})
	x.awaitBegan(victim.ID)
	x.thief = x.create(api.NewSession{Prompt: "thief"}).ID
	ended := x.end(x.thief)
	if ended.State != api.Succeeded {
		t.Errorf("the thief is %s: %+v", ended.State, ended.Error)
	}
	text, err := os.ReadFile(filepath.Join(ended.WorkDir, "report"))
	if err == nil {
		err = json.Unmarshal(text, &x.report)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	now, err := x.client.Session(t.Context(), victim.ID)
	if err == nil {
		err = os.WriteFile(filepath.Join(now.WorkDir, "done"), nil, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if ended := x.end(victim.ID); ended.State != api.Succeeded {
		t.Errorf("the other session is %s: %+v", ended.State, ended.Error)
	}
	return x
}

// credential answers as the endpoint of a task does: to whoever has the token.
func (x *robbed) credential(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/credentials" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if r.Header.Get("Authorization") != taskToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = fmt.Fprintf(w, `{"AccessKeyId":"AKIA","SecretAccessKey":%q,"Token":"t","Expiration":"2099-01-01T00:00:00Z"}`, credentialSecret)
}

// secrets are what no session may get, by name.
func secrets() map[string]string {
	return map[string]string{"key": secret, "github": githubSecret, "api": apiSecret, "task": taskToken, "credential": credentialSecret}
}

// task is what the thief is told: where to look, and for what, in a form that is none of it.
func (x *robbed) task() string {
	masked := map[string][]byte{}
	for name, value := range secrets() {
		text := []byte(value)
		for i := range text {
			text[i] ^= 0x5a
		}
		masked[name] = text
	}
	text, err := json.Marshal(map[string]any{
		"Secrets": masked, "Dirs": []string{x.data, filepath.Join(x.data, "work"), x.env["HOME"], "/root", "/data", "/dev/shm", "/var/tmp"},
		"URLs": []string{x.endpoint().URL, x.credentials, x.credentials + "/v1/credentials"},
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return string(text)
}

func (x *robbed) endpoint() api.Endpoint {
	endpoint, err := api.ReadEndpoint(x.data)
	if err != nil {
		x.t.Error(err)
	}
	return endpoint
}

// open lets everybody go to a directory of the test.
func (x *robbed) open(dir string) {
	x.t.Helper()
	for ; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			x.t.Fatal(err)
		}
	}
}

// robber is how an agent runs that is robbed.
type robber struct {
	uid  int
	bare bool // with no more of root's rights than containers usually have

	isolation string // what the status says begins with this
}

// launchAs starts berthd as a user, who has directories of its own.
func (x *robbed) launchAs(who robber, bin string) {
	x.t.Helper()
	command := exec.Command(programs.berthd)
	if who.bare {
		command = exec.Command(filepath.Join(bin, "thief"), "bare", programs.berthd)
	}
	x.open(filepath.Dir(programs.berthd))
	x.open(x.env["HOME"])
	if who.uid != os.Getuid() {
		if err := os.Chown(x.env["HOME"], who.uid, who.uid); err != nil {
			x.t.Fatal(err)
		}
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.uid)}}
	}
	x.launch(command)
	x.awaitAnswer()
	x.daemon = x.process.Process.Pid
}

// forms are all in which a secret could be written down.
func forms(value string) (list []string) {
	list = []string{value, url.QueryEscape(value), url.PathEscape(value)}
	for shift := range 3 {
		// What stands before it moves it by so many bytes. Characters that also hold bits of its neighbours do not count.
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + value))
		encoded = strings.TrimRight(encoded, "=")
		first := (shift*8 + 5) / 6
		encoded = encoded[first : len(encoded)-2]
		list = append(list, encoded, strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// search looks for secrets, in every form, in what was written down anywhere.
func (x *robbed) search(where string, text []byte, but ...string) {
	x.t.Helper()
	for name, value := range secrets() {
		for _, form := range forms(value) {
			if !slices.Contains(but, name) && bytes.Contains(text, []byte(form)) {
				x.t.Errorf("%s holds the secret %q as %q", where, name, form)
			}
		}
	}
}

// searchAll searches everything that sessions and the agent left, and that the agent tells.
func (x *robbed) searchAll() {
	x.t.Helper()
	// A session has ended a moment before its agent lets go of it: then its lease goes, and must not while files are read.
	x.eventually("the sessions are let go of", func() bool {
		leases, err := filepath.Glob(filepath.Join(x.data, "sessions", "*", "lease.*"))
		return err == nil && len(leases) == 0
	})
	x.search("the log", []byte(x.log.String()))
	err := filepath.WalkDir(x.env["HOME"], func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if name := entry.Name(); name == "token" || name == api.EndpointFile {
			x.search(path, text, "api") // which is where clients find it
		} else {
			x.search(path, text)
		}
		return err
	})
	if err != nil {
		x.t.Error(err)
	}
	for _, path := range []string{
		"/v1/status", "/v1/sessions", "/v1/sessions/" + x.thief, "/v1/sessions/" + x.thief + "/events?follow=false",
		"/v1/sessions/" + x.thief + "/diff", "/v1/sessions/" + x.thief + "/bundle", "/v1/sessions/none", "/metrics", "/openapi.json",
	} {
		request, err := http.NewRequestWithContext(x.t.Context(), http.MethodGet, x.endpoint().URL+path, nil)
		if err != nil {
			x.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+apiSecret)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			x.t.Fatal(err)
		}
		var text bytes.Buffer
		_, err = text.ReadFrom(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			x.t.Fatal(err)
		}
		x.search(path, text.Bytes())
		if strings.HasSuffix(path, "/bundle") {
			x.searchBundle(text.Bytes())
		}
	}
	mirrors, err := filepath.Glob(filepath.Join(x.data, "repos", "*.git"))
	if err != nil || len(mirrors) == 0 {
		x.t.Errorf("there are %d mirrors: %v", len(mirrors), err)
	}
	for _, mirror := range mirrors {
		x.searchObjects(mirror)
	}
}

// searchBundle searches what is in a bundle, where git has packed it.
func (x *robbed) searchBundle(bundle []byte) {
	x.t.Helper()
	dir := x.t.TempDir()
	file := filepath.Join(dir, "bundle")
	if err := os.WriteFile(file, bundle, 0o600); err != nil {
		x.t.Fatal(err)
	}
	into := filepath.Join(dir, "into.git")
	if output, err := exec.Command("git", "clone", "--quiet", "--mirror", file, into).CombinedOutput(); err != nil {
		x.t.Errorf("the bundle cannot be read: %v: %s", err, output)
		return
	}
	x.searchObjects(into)
}

// searchObjects searches every object of a repository, as it is when git has unpacked it.
func (x *robbed) searchObjects(dir string) {
	x.t.Helper()
	command := exec.Command("git", "-c", "safe.directory=*", "--git-dir="+dir, "cat-file", "--batch-all-objects", "--batch")
	text, err := command.Output()
	if err != nil || len(text) == 0 {
		x.t.Errorf("%d bytes of objects in %s: %v", len(text), dir, err)
	}
	x.search("the objects of "+dir, text)
}

// robbers are how the agent may be run here, by name.
func robbers() map[string]robber {
	const none, own = "none: sessions run as the agent's own user", "users of their own"
	if os.Getuid() != 0 {
		return map[string]robber{"ordinary user": {uid: os.Getuid(), isolation: none}}
	}
	return map[string]robber{"root": {isolation: own}, "root in a container": {bare: true, isolation: own}, "ordinary user": {uid: ordinary, isolation: none}}
}

// A session that looks everywhere finds no secret. Without root it can read the volume, and with that the API's token:
// docs/agent.md says so.
func TestASessionFindsNoSecret(t *testing.T) {
	for name, who := range robbers() {
		t.Run(name, func(t *testing.T) {
			x := rob(t, who)
			if status, err := x.client.Status(t.Context()); err != nil || !strings.HasPrefix(status.Isolation, who.isolation) {
				t.Errorf("the status says %q: %v", status.Isolation, err)
			}
			for _, way := range []string{"environment", "proc environ", "proc mem", "proc fd", "ptrace", "files", "git", "become", "network", "namespace"} {
				if x.report.Tried[way] == 0 {
					t.Errorf("%s was not tried", way)
				}
			}
			if x.report.Read["environment"] == 0 || x.report.Read["network"] == 0 || x.report.Read["token"] == 0 || x.report.Read["proc environ"] == 0 || x.report.Read["proc mem"] == 0 {
				t.Errorf("it read nothing, not even what is its own: %v", x.report.Read)
			}
			found := map[string]int{}
			for _, each := range x.report.Found {
				if !x.harmless(each.Way, each.Where, each.What) {
					if who.uid != 0 && x.documented(each.Way, each.Where, each.What) {
						found[each.What]++
						continue
					}
					t.Errorf("by %q in %s the session gets %s", each.Way, each.Where, each.What)
				}
			}
			if who.uid != 0 && found["api"] == 0 {
				t.Error("it did not find the API's token, which the documentation says it can")
			}
			x.searchAll()
		})
	}
}

// harmless reports whether a find is the session's own: its processes, and its directory.
func (x *robbed) harmless(way, where, what string) bool {
	way = strings.TrimPrefix(way, "namespace: ")
	switch way {
	case "kill", "ptrace":
		return where != itoa(x.daemon)
	case "names":
		return what == x.thief || strings.HasSuffix(where, "/"+x.thief)
	}
	return false
}

// documented reports whether a find is one that docs/agent.md says an agent without root's rights cannot prevent.
func (x *robbed) documented(way, where, what string) bool {
	way = strings.TrimPrefix(way, "namespace: ")
	onVolume := strings.HasPrefix(where, x.data)
	return way == "files" && what == "api" && onVolume || (way == "names" || way == "written") && onVolume || way == "kill"
}
