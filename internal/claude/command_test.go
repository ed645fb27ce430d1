package claude

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a session's environment holds, all of it, whatever the agent's holds.
func TestASessionsEnvironmentIsWrittenDown(t *testing.T) {
	for _, each := range os.Environ() { // the rest of the test sees nothing of the machine's
		name, value, _ := strings.Cut(each, "=")
		t.Setenv(name, value)
		must(t, os.Unsetenv(name))
	}
	for name, value := range map[string]string{
		"PATH": "/usr/bin:/bin", "HOME": "/root", "ANTHROPIC_API_KEY": "real", "ANTHROPIC_AUTH_TOKEN": "real", "CLAUDE_CODE_OAUTH_TOKEN": "real",
		"GITHUB_TOKEN": "real", "GH_TOKEN": "real", "BERTH_API_TOKEN": "real", "BERTH_DATA": "/data", "AWS_SECRET_ACCESS_KEY": "real",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN": "real", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/real", "SSH_AUTH_SOCK": "/real",
		"HTTPS_PROXY": "http://user:real@proxy:3128", "NO_PROXY": "internal", "NODE_EXTRA_CA_CERTS": "/ca.pem", "LD_PRELOAD": "/real", "NODE_OPTIONS": "real",
	} {
		t.Setenv(name, value)
	}
	config := &Config{Token: "token", BaseURL: "http://127.0.0.1:1", User: &User{ID: 200_000}}
	got := config.env("id", DirsBelow("/work/id"))
	slices.Sort(got)
	want, err := os.ReadFile(filepath.Join("testdata", "environment"))
	must(t, err)
	if diff := cmp.Diff(string(want), strings.Join(got, "\n")+"\n"); diff != "" {
		t.Errorf("-testdata/environment +what it gets:\n%s", diff)
	}
}

func TestTheWayToTheNetworkHasNoPassword(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"http://proxy:3128": "http://proxy:3128", "http://user:real@proxy:3128/": "http://proxy:3128", "proxy:3128": "http://proxy:3128",
		"user:real@proxy:3128": "http://proxy:3128", "https://real@proxy": "https://proxy", "socks5h://u:real@proxy:1080": "socks5h://proxy:1080",
		"http://user:re%al@proxy": "", "": "", "http://": "", "http://[::1]:3128": "http://[::1]:3128", "http://user:a/b@proxy": "",
	} {
		if got := withoutPassword(value); got != want {
			t.Errorf("%s becomes %q, not %q", value, got, want)
		}
	}
	env := network(func(name string) string { return map[string]string{"https_proxy": "http://p:1"}[name] })
	slices.Sort(env)
	if want := []string{"NO_PROXY=127.0.0.1,localhost,::1", "https_proxy=http://p:1", "no_proxy=127.0.0.1,localhost,::1"}; !slices.Equal(env, want) {
		t.Errorf("it is %q", env)
	}
	if env := network(func(string) string { return "" }); len(env) > 0 {
		t.Errorf("without any it is %q", env)
	}
}

// What may hold secrets of the session's user becomes a file and no argument.
func TestOptionsBecomeFiles(t *testing.T) {
	t.Parallel()
	dirs := DirsBelow(t.TempDir())
	config := &Config{}
	config.Options.MCPServers = json.RawMessage(`{"a":{"env":{"TOKEN":"real"}}}`)
	config.Options.Settings = json.RawMessage(`{"env":{"TOKEN":"real"}}`)
	config.Options.AppendSystemPrompt = "real"
	config.Options.AllowedTools, config.Options.DisallowedTools = []string{"Bash(git log:*)", "Read"}, []string{"Bash(a, b)"}
	must(t, config.write(dirs))
	args := strings.Join(config.args("id", dirs, false), "\n")
	for _, want := range []string{
		"--allowedTools=Bash(git log:*)\n--allowedTools=Read\n", "--disallowedTools=Bash(a, b)\n",
		"--mcp-config=" + dirs.Root + "/mcp.json", "--settings=" + dirs.Root + "/settings.json", "--append-system-prompt-file=" + dirs.Root + "/system.md",
	} {
		if !strings.Contains(args, want) {
			t.Errorf("%q is not in %q", want, args)
		}
	}
	if strings.Contains(args, "real") {
		t.Errorf("a secret is in %q", args)
	}
	text, err := os.ReadFile(filepath.Join(dirs.Root, "mcp.json"))
	if err != nil || string(text) != `{"mcpServers":{"a":{"env":{"TOKEN":"real"}}}}` {
		t.Errorf("the servers are %s: %v", text, err)
	}
	info, err := os.Stat(filepath.Join(dirs.Root, "settings.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the settings are %v: %v", info.Mode(), err)
	}
	config.Options.MCPServers, config.Options.Settings, config.Options.AppendSystemPrompt = nil, nil, ""
	must(t, config.write(dirs))
	if left, err := os.ReadDir(dirs.Root); err != nil || len(left) > 0 {
		t.Errorf("%v is left: %v", left, err)
	}
}
