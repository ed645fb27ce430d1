//go:build e2e

package claude

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/scripted"
)

// asked is a session of the real CLI, in its own isolation, and what the model was sent.
type asked struct {
	mu     sync.Mutex
	bodies []string
	keys   []string // that requests came with
	lines  []string
	exit   Exit
}

// testToken is the session's, for the model.
const testToken = "the-token-of-the-session"

// ask runs the real CLI with a session's options. files are written into its tree, and every step's command is run.
func ask(t *testing.T, options api.Options, files map[string]string, commands ...string) *asked {
	t.Helper()
	a := &asked{}
	var steps []scripted.Step
	for _, command := range append(commands, "") {
		steps = append(steps, scripted.Step{Compute: func(r scripted.Request) scripted.Step {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.bodies = append(a.bodies, string(r.Body))
			if command == "" {
				return scripted.Text("Done.")
			}
			return scripted.Use(scripted.Bash(command))
		}})
	}
	model, err := scripted.New(scripted.Options{Scripts: []scripted.Script{{Steps: steps}}})
	must(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.keys = append(a.keys, r.Header.Get("X-Api-Key"))
		a.mu.Unlock()
		model.ServeHTTP(w, r)
	}))
	defer server.Close()

	cli, err := filepath.Abs("../../node_modules/.bin/claude")
	must(t, err)
	cli, err = filepath.EvalSymlinks(cli) // as berthd does
	must(t, err)
	i, _ := isolatedWith(t, cli)
	user, dirs := session(t, i, "one")
	for name, text := range files {
		file := filepath.Join(dirs.Root, "tree", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
	}
	must(t, user.Own(dirs.Tree, dirs.Config))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	claim, err := Take(ctx, uuid.NewString(), dirs)
	must(t, err)
	defer claim.Release()
	self, err := os.Executable()
	must(t, err)
	p, err := claim.Start(&Config{CLI: cli, Reaper: []string{self, "reap"}, Options: options, BaseURL: server.URL, Token: testToken, User: user, Env: []string{"CLAUDE_CODE_MAX_RETRIES=0"}})
	must(t, err)
	p.Send(uuid.NewString(), "Do it.")
	p.CloseInput()
	for line := range p.Lines() {
		a.lines = append(a.lines, string(line.JSON))
	}
	a.exit = p.Exit()
	return a
}

func (a *asked) all() string { return strings.Join(a.lines, "\n") }

func TestOptionsReachClaudeCode(t *testing.T) {
	const prompt = "Say \"aye\" — and $HOME `x`\nalways, --model y."
	servers := json.RawMessage(`{"ours":{"command":"/does/not/exist","args":["--secret-of-the-server"]}}`)
	a := ask(t, api.Options{
		AppendSystemPrompt: prompt, MCPServers: servers, Settings: json.RawMessage(`{"env":{"FROM_SETTINGS":"arrived"}}`),
		DisallowedTools: []string{"WebFetch", "Bash(touch forbidden:*)"},
	}, map[string]string{".mcp.json": `{"mcpServers":{"theirs":{"command":"/does/not/exist"}}}`},
		"echo $FROM_SETTINGS; id -u; env | sort", "touch forbidden file")
	quoted, err := json.Marshal(prompt)
	must(t, err)
	if len(a.bodies) == 0 || a.exit.Code != 0 {
		t.Fatalf("%+v %s", a.exit, a.all())
	}
	first := a.bodies[0]
	if !strings.Contains(first, strings.Trim(string(quoted), `"`)) {
		t.Error("the system prompt is not in the request")
	}
	if strings.Contains(first, `"name":"WebFetch"`) {
		t.Error("a tool that is not allowed is offered")
	}
	all := a.all()
	// The repository's own servers run too, as on its developers' machines.
	for _, want := range []string{`"name":"ours"`, `"name":"theirs"`, `arrived\n`, "Permission to use Bash with command touch forbidden file has been denied"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not in the output", want)
		}
	}
	if user := os.Geteuid() == 0; user == strings.Contains(all, "IS_SANDBOX") {
		t.Error("the sandbox's variable is for root alone")
	}
}

// Rules have spaces, commas and parentheses in them.
func TestAllowedToolsNeedNoPermission(t *testing.T) {
	a := ask(t, api.Options{
		PermissionMode: "dontAsk", AllowedTools: []string{"Bash(touch a:*)", "Bash(echo one, two:*)", "Read", "Bash(seq *)"},
	}, nil, "touch a b", "echo one, two, three", "touch c d", "seq 41 42")
	all := a.all()
	for _, want := range []string{`"content":"(Bash completed with no output)"`, `"content":"one, two, three"`, `"content":"41\n42"`} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not in the output", want)
		}
	}
	if denied := strings.Count(all, `"subtype":"permission_denied"`); denied != 1 {
		t.Errorf("%d commands were denied\n%s", denied, all)
	}
}
