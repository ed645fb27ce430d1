//go:build e2e

package local

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// password is in an address of a repository. Nobody may say it again.
const password = "pass-word-of-somebody"

// target is an agent that bad input is sent to, and what must not change by it.
type target struct {
	*agent
	canary   string // a file that exists once a command was run that somebody smuggled in
	repo     string // one that is in order
	first    *api.Session
	sessions []api.Session
}

func newTarget(t *testing.T) *target {
	t.Helper()
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Text("Done.")}}}})
	dir := t.TempDir()
	x := &target{agent: a, canary: filepath.Join(dir, "canary"), repo: filepath.Join(dir, "repo")}
	if output, err := exec.Command("git", "init", "--quiet", x.repo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	x.first = a.end(a.create(api.NewSession{Prompt: "be there"}).ID)
	x.sessions = x.list()
	return x
}

func (x *target) list() []api.Session {
	x.t.Helper()
	list, err := x.client.Sessions(x.t.Context())
	if err != nil {
		x.t.Fatalf("the agent does not answer: %v", err)
	}
	return list
}

// unharmed checks that nothing has happened but an answer.
func (x *target) unharmed(t *testing.T) {
	t.Helper()
	if now := x.list(); !reflect.DeepEqual(now, x.sessions) {
		t.Errorf("the sessions were %+v\nand are %+v", x.sessions, now)
	}
	for name, want := range map[string]int{"sessions": len(x.sessions), "spool": 0} {
		entries, err := os.ReadDir(filepath.Join(x.data, name))
		if err != nil || len(entries) != want {
			t.Errorf("%s on the volume has %v: %v", name, entries, err)
		}
	}
	x.noCanary(t)
}

func (x *target) noCanary(t *testing.T) {
	t.Helper()
	if _, err := os.Lstat(x.canary); err == nil {
		t.Error("a command was run that somebody smuggled in")
		_ = os.Remove(x.canary)
	}
}

// badRepo is an address of a repository that is refused before anything is done with it.
type badRepo struct{ repo, ref, says string }

func (x *target) badRepos(t *testing.T) map[string]badRepo {
	t.Helper()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(x.data, link); err != nil {
		t.Fatal(err)
	}
	inWork := filepath.Join(t.TempDir(), "work")
	if err := os.Symlink(filepath.Join(x.first.WorkDir, ".git"), inWork); err != nil {
		t.Fatal(err)
	}
	return map[string]badRepo{
		"ext":               {`ext::sh -c "touch ` + x.canary + `"`, "", "space"},
		"ext, no space":     {"ext::touch%" + x.canary, "", `"ext::"`},
		"fd":                {"fd::17", "", `"fd::"`},
		"file":              {"file:///etc", "", "file://"},
		"FILE":              {"FILE:///etc", "", "file://"},
		"file and a flag":   {"file://--upload-pack=touch " + x.canary, "", ""},
		"-u":                {"-utouch " + x.canary, "", "URL"},
		"upload-pack":       {"--upload-pack=touch " + x.canary, "", "URL"},
		"config":            {"--config=core.sshCommand=touch " + x.canary, "", "URL"},
		"ssh host":          {"ssh://-oProxyCommand=touch%20" + x.canary + "/x", "", ""},
		"scp host":          {"git@-oProxyCommand=touch:x", "", "host"},
		"scp path":          {"git@127.0.0.1:--upload-pack", "", "'-'"},
		"line break":        {"https://127.0.0.1/x\ntouch " + x.canary, "", "control characters"},
		"volume":            {x.data, "", "the agent's own"},
		"in the volume":     {filepath.Join(x.data, "sessions"), "", "the agent's own"},
		"work dir":          {x.first.WorkDir, "", "the agent's own"},
		"work dir's .git":   {filepath.Join(x.first.WorkDir, ".git"), "", "the agent's own"},
		"with ..":           {x.repo + "/../../.." + x.data, "", ""},
		"link to volume":    {link, "", "the agent's own"},
		"link to work dir":  {inWork, "", "the agent's own"},
		"by /proc":          {"/proc/self/root" + x.first.WorkDir, "", "the agent's own"},
		"no directory":      {filepath.Join(x.repo, "nowhere"), "", "there is no repository at"},
		"relative":          {"../nowhere", "", "neither a URL nor an absolute path"},
		"password":          {"https://me:" + password + "@127.0.0.1/x", "", "credentials"},
		"user":              {"https://" + password + "@127.0.0.1/x", "", "credentials"},
		"password by ssh":   {"ssh://me:" + password + "@127.0.0.1/x", "", "credentials"},
		"password, no URL":  {"https://me:" + password + "@127.0.0.1:port/x", "", ""},
		"password, no kind": {"me:" + password + "@127.0.0.1", "", ""},
		"password, strange": {"gopher://me:" + password + "@127.0.0.1/x", "", "gopher://"},
		"ref as a flag":     {x.repo, "--upload-pack=touch " + x.canary, "'-'"},
		"ref with ..":       {x.repo, "a/../b", "'..'"},
		"ref, no repo":      {"", "main", "repo"},
	}
}

// What a person may type: each gets one line and an exit status, and nothing else happens.
func TestHostileCommandLines(t *testing.T) {
	t.Parallel()
	x := newTarget(t)
	wrongToken := t.TempDir()
	endpoint, err := api.ReadEndpoint(x.data)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(api.Endpoint{URL: endpoint.URL, Token: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(wrongToken, api.EndpointFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	type line struct {
		args  []string
		stdin string
		data  string
		exit  int
		says  string
	}
	lines := map[string]line{
		"unknown flag":       {args: []string{"run", "--colour=red", "x"}, exit: 2, says: "--colour"},
		"unknown verb":       {args: []string{"destroy"}, exit: 2, says: "destroy"},
		"too many":           {args: []string{"run", "x", "y"}, exit: 2, says: "y"},
		"empty prompt":       {args: []string{"run", ""}, exit: 2, says: "the prompt is empty"},
		"blank prompt":       {args: []string{"run", " \n\t"}, exit: 2, says: "the prompt is empty"},
		"empty input":        {args: []string{"run"}, exit: 2, says: "the prompt is empty"},
		"1 MB":               {args: []string{"run", "-"}, stdin: strings.Repeat("x", 1<<20), exit: 2, says: "at most 524288"},
		"1 MB of lines":      {args: []string{"run"}, stdin: strings.Repeat("x\n", 1<<19), exit: 2, says: "at most 524288"},
		"1 MB to a session":  {args: []string{"send", x.first.ID, "-"}, stdin: strings.Repeat("x", 1<<20), exit: 2, says: "at most 524288"},
		"control characters": {args: []string{"run", "a\x1b[2Jb"}, exit: 2, says: "U+001B"},
		"a NUL":              {args: []string{"run"}, stdin: "a\x00b", exit: 2, says: "U+0000"},
		"no UTF-8":           {args: []string{"run"}, stdin: "a\xffb", exit: 2, says: "0xff"},
		"empty message":      {args: []string{"send", x.first.ID, ""}, exit: 2, says: "the message is empty"},
		"no file":            {args: []string{"run", "--file", x.canary}, exit: 2, says: x.canary},
		"bare flag as repo":  {args: []string{"run", "x", "--repo", "-utouch"}, exit: 2},
		"negative turns":     {args: []string{"run", "x", "--max-turns=-1"}, exit: 2, says: "turns"},
		"no mode":            {args: []string{"run", "x", "--permission-mode=root"}, exit: 2, says: "root"},
		"model as a flag":    {args: []string{"run", "x", "--model=--mcp-config"}, exit: 2, says: "model"},
		"wrong token":        {args: []string{"run", "x"}, data: wrongToken, exit: 1, says: "token"},
		"no agent":           {args: []string{"run", "x"}, data: t.TempDir(), exit: 3, says: "cannot be reached"},
	}
	for name, bad := range x.badRepos(t) {
		args := []string{"run", "x", "--repo=" + bad.repo}
		if bad.ref != "" {
			args = append(args, "--ref="+bad.ref)
		}
		lines["repo: "+name] = line{args: args, exit: 2, says: bad.says}
	}
	for _, verb := range []string{"show", "logs", "send", "stop", "resume", "diff"} {
		for _, id := range []string{"../" + x.first.ID, "../../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/etc/passwd", filepath.Join(x.data, "sessions", x.first.ID), "x\x1b[2J"} {
			args := []string{verb, id}
			if verb == "send" {
				args = append(args, "hello")
			}
			lines[verb+" "+id] = line{args: args, exit: 1, says: "there is no session"}
		}
	}
	for name, c := range lines {
		t.Run(name, func(t *testing.T) {
			if c.data != "" {
				own := x.env[contract.EnvData]
				x.env[contract.EnvData] = c.data
				defer func() { x.env[contract.EnvData] = own }()
			}
			stdout, stderr, exit := x.berth(c.stdin, c.args...)
			if exit != c.exit || stdout != "" || !strings.Contains(stderr, c.says) {
				t.Errorf("exit status %d, %q, %q; want %d and %q", exit, stdout, stderr, c.exit, c.says)
			}
			checkLine(t, stderr, "berth: ")
			x.unharmed(t)
		})
	}
	if _, stderr, exit := x.berth("", "status"); exit != 0 {
		t.Errorf("afterwards the agent is unwell: exit status %d: %s", exit, stderr)
	}
	if stdout, stderr, exit := x.berth("", "run", "go on"); exit != 0 {
		t.Errorf("afterwards a session ends with %d: %s%s", exit, stdout, stderr)
	}
}

// checkLine checks that a program said one line, which a person can read.
func checkLine(t *testing.T, stderr, prefix string) {
	t.Helper()
	if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, prefix) || !strings.HasSuffix(stderr, "\n") || len(stderr) > 600 {
		t.Errorf("it is not one line: %q", stderr)
	}
	if strings.ContainsAny(stderr, "\x1b\r\x00") || strings.Contains(stderr, password) {
		t.Errorf("it says too much: %q", stderr)
	}
}

// What a program may send: each gets its status and a JSON error, and nothing else happens.
func TestHostileHTTP(t *testing.T) {
	x := newTarget(t)
	endpoint, err := api.ReadEndpoint(x.data)
	if err != nil {
		t.Fatal(err)
	}
	id := x.first.ID
	type request struct {
		method, path, body string
		host               string
		header             map[string]string
		status             int
		code               api.Code
	}
	task := func(fields map[string]any) string {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	fine := `{"prompt":"x"}`
	requests := map[string]request{
		"not JSON":           {"POST", "/v1/sessions", `{"prompt":`, "", nil, 400, api.CodeBadRequest},
		"a form":             {"POST", "/v1/sessions", `prompt=x`, "", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415, api.CodeBadRequest},
		"text":               {"POST", "/v1/sessions", fine, "", map[string]string{"Content-Type": "text/plain"}, 415, api.CodeBadRequest},
		"a list":             {"POST", "/v1/sessions", `[` + fine + `]`, "", nil, 422, api.CodeBadRequest},
		"two":                {"POST", "/v1/sessions", fine + fine, "", nil, 400, api.CodeBadRequest},
		"nothing":            {"POST", "/v1/sessions", "", "", nil, 400, api.CodeBadRequest},
		"deep":               {"POST", "/v1/sessions", strings.Repeat("[", 100_000), "", nil, 400, api.CodeBadRequest},
		"unknown field":      {"POST", "/v1/sessions", `{"prompt":"x","colour":"red"}`, "", nil, 422, api.CodeBadRequest},
		"wrong type":         {"POST", "/v1/sessions", `{"prompt":["x"]}`, "", nil, 422, api.CodeBadRequest},
		"empty prompt":       {"POST", "/v1/sessions", `{"prompt":""}`, "", nil, 400, api.CodeBadRequest},
		"blank prompt":       {"POST", "/v1/sessions", `{"prompt":" \n"}`, "", nil, 400, api.CodeBadRequest},
		"control characters": {"POST", "/v1/sessions", `{"prompt":"a\u001b[2J"}`, "", nil, 400, api.CodeBadRequest},
		"a NUL":              {"POST", "/v1/sessions", `{"prompt":"a\u0000"}`, "", nil, 400, api.CodeBadRequest},
		"no UTF-8":           {"POST", "/v1/sessions", "{\"prompt\":\"\xff\"}", "", nil, 400, api.CodeBadRequest},
		"1 MB":               {"POST", "/v1/sessions", task(map[string]any{"prompt": strings.Repeat("x", 1<<20)}), "", nil, 413, api.CodePromptTooLarge},
		"1 MB less a bit":    {"POST", "/v1/sessions", task(map[string]any{"prompt": strings.Repeat("x", 1<<20-100)}), "", nil, 413, api.CodePromptTooLarge},
		"1 MB to a session":  {"POST", "/v1/sessions/" + id + "/messages", task(map[string]any{"text": strings.Repeat("x", 1<<20-100)}), "", nil, 413, api.CodePromptTooLarge},
		"model as a flag":    {"POST", "/v1/sessions", `{"prompt":"x","model":"--mcp-config"}`, "", nil, 400, api.CodeBadRequest},

		"no token":         {"POST", "/v1/sessions", fine, "", map[string]string{"Authorization": ""}, 401, api.CodeUnauthorized},
		"wrong token":      {"POST", "/v1/sessions", fine, "", map[string]string{"Authorization": "Bearer wrong"}, 401, api.CodeUnauthorized},
		"half a token":     {"POST", "/v1/sessions", fine, "", map[string]string{"Authorization": "Bearer " + endpoint.Token[:32]}, 401, api.CodeUnauthorized},
		"token as basic":   {"POST", "/v1/sessions", fine, "", map[string]string{"Authorization": "Basic " + endpoint.Token}, 401, api.CodeUnauthorized},
		"token in the URL": {"GET", "/v1/status?token=" + endpoint.Token, "", "", map[string]string{"Authorization": ""}, 401, api.CodeUnauthorized},
		"other host":       {"POST", "/v1/sessions", fine, "evil.example", nil, 403, api.CodeForbidden},
		"host like ours":   {"POST", "/v1/sessions", fine, "127.0.0.1.evil.example", nil, 403, api.CodeForbidden},
		"health, host":     {"GET", "/healthz", "", "evil.example", nil, 403, api.CodeForbidden},
		"web page":         {"POST", "/v1/sessions", fine, "", map[string]string{"Origin": "https://evil.example"}, 403, api.CodeForbidden},
		"web page, null":   {"POST", "/v1/sessions", fine, "", map[string]string{"Origin": "null"}, 403, api.CodeForbidden},
		"web page, local":  {"POST", "/v1/sessions", fine, "", map[string]string{"Origin": "http://localhost:3000"}, 403, api.CodeForbidden},
		"cross-site":       {"POST", "/v1/sessions", fine, "", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, api.CodeForbidden},
		"preflight":        {"OPTIONS", "/v1/sessions", "", "", map[string]string{"Origin": "https://evil.example", "Authorization": ""}, 403, api.CodeForbidden},

		"DELETE":         {"DELETE", "/v1/sessions", "", "", nil, 405, api.CodeBadRequest},
		"PUT":            {"PUT", "/v1/sessions/" + id, fine, "", nil, 405, api.CodeBadRequest},
		"GET stop":       {"GET", "/v1/sessions/" + id + "/stop", "", "", nil, 405, api.CodeBadRequest},
		"own method":     {"DESTROY", "/v1/sessions/" + id, "", "", nil, 405, api.CodeBadRequest},
		"unknown path":   {"GET", "/v1/files", "", "", nil, 404, api.CodeNotFound},
		"unknown query":  {"GET", "/v1/sessions?colour=red", "", "", nil, 400, api.CodeBadRequest},
		"unknown state":  {"GET", "/v1/sessions?state=done", "", "", nil, 400, api.CodeBadRequest},
		"negative index": {"GET", "/v1/sessions/" + id + "/events?from=-1", "", "", nil, 400, api.CodeBadRequest},
		"wrong index":    {"GET", "/v1/sessions/" + id + "/events", "", "", map[string]string{"Last-Event-ID": "../0"}, 400, api.CodeBadRequest},
	}
	for name, bad := range x.badRepos(t) {
		requests["repo: "+name] = request{"POST", "/v1/sessions", task(map[string]any{"prompt": "x", "repo": bad.repo, "ref": bad.ref}), "", nil, 400, api.CodeBadRequest}
	}
	for _, bad := range []string{
		"../" + id, "../../etc/passwd", "%2e%2e%2f" + id, "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%2e%2e/" + id, "%252e%252e%252f" + id, "..%5c" + id,
		"/etc/passwd", "%2fetc%2fpasswd", id + "%00", strings.ToUpper(id), "urn:uuid:" + id, "00000000-0000-7000-8000-000000000000",
	} {
		for _, end := range []string{"GET ", "GET /events", "GET /diff", "POST /stop", "POST /resume"} {
			method, rest, _ := strings.Cut(end, " ")
			requests["id "+bad+" "+end] = request{method, "/v1/sessions/" + bad + rest, "", "", nil, 404, api.CodeNotFound}
		}
		requests["id "+bad+" messages"] = request{"POST", "/v1/sessions/" + bad + "/messages", `{"text":"x"}`, "", nil, 404, api.CodeNotFound}
	}
	// Nothing may be made nicer on the way, and no redirect followed.
	client := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for name, c := range requests {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, endpoint.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Host = c.host
			r.Header.Set("Authorization", "Bearer "+endpoint.Token)
			if c.body != "" {
				r.Header.Set("Content-Type", "application/json")
			}
			for name, value := range c.header {
				if r.Header.Set(name, value); value == "" {
					r.Header.Del(name)
				}
			}
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close() //nolint:errcheck // it was only read
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			decoder := json.NewDecoder(bytes.NewReader(body))
			decoder.DisallowUnknownFields()
			var said api.Error
			if err := decoder.Decode(&said); err != nil || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%v: %s %q", err, response.Header.Get("Content-Type"), body)
			}
			if response.StatusCode != c.status || said.Code != c.code || said.Message == "" || len(said.Message) > 600 {
				t.Errorf("%d, %+v; want %d, %s", response.StatusCode, said, c.status, c.code)
			}
			if strings.ContainsAny(said.Message, "\n\x1b\x00") || strings.Contains(said.Message, endpoint.Token) || strings.Contains(said.Message, password) {
				t.Errorf("it says too much: %q", said.Message)
			}
			x.unharmed(t)
		})
	}
	if ended := x.end(x.create(api.NewSession{Prompt: "go on"}).ID); ended.State != api.Succeeded {
		t.Errorf("afterwards a session is %s: %+v", ended.State, ended.Error)
	}
	if strings.Contains(x.log.String(), password) || strings.Contains(x.log.String(), endpoint.Token) {
		t.Error("the log holds a password or the token")
	}
}
