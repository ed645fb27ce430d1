package claude

import (
	"cmp"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
)

// Dirs are a session's own directories on the work disk, all absolute.
type Dirs struct {
	Root   string // all of them are below it
	Tree   string // where it works
	Home   string // its HOME
	Config string // its CLAUDE_CONFIG_DIR: two sessions sharing one corrupt it
	Temp   string // its TMPDIR
	Lock   string // a file that is locked while a process of the session lives
}

// DirsBelow names a session's directories below one of its own.
func DirsBelow(dir string) Dirs {
	return Dirs{
		Root: dir,
		Tree: filepath.Join(dir, "tree"), Home: filepath.Join(dir, "home"), Config: filepath.Join(dir, "config"),
		Temp: filepath.Join(dir, "tmp"), Lock: filepath.Join(dir, "lock"),
	}
}

const gitConfigName = ".gitconfig"

// gitConfig is the HOME's: without a name, git refuses to commit.
const gitConfig = `[user]
	name = Claude
	email = noreply@anthropic.com
[init]
	defaultBranch = main
[advice]
	detachedHead = false
`

// Make makes the directories that are missing, but the tree.
func (d Dirs) Make() error {
	for _, dir := range []string{d.Home, d.Config, d.Temp} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	file := filepath.Join(d.Home, gitConfigName)
	if _, err := os.Lstat(file); err == nil {
		return nil // it may be the session's by now
	}
	return os.WriteFile(file, []byte(gitConfig), 0o600)
}

// Config says how to start the CLI.
type Config struct {
	CLI     string      // the program
	Reaper  []string    // a command that calls Reap with the arguments after it
	Options api.Options // limits are what is left of them; 0 is none
	BaseURL string      // of the Messages API
	Token   string      // for it; the session can read it
	User    *User       // who the session runs as
	Env     []string    // what else the CLI needs in its environment, such as to wait for BaseURL

	// Keep is given the transcript as it grows, from byte Kept of it on: whole lines, each part before any message in it is
	// among the Lines. After an error the messages that were not kept are not among them. It may be nil.
	Keep func(at int64, part []byte) error
	Kept int64

	// Hold is how long messages wait at most for a turn that was cut off to be taken up again; 0 is a time that usually does.
	Hold time.Duration
}

// files are the session's files that become arguments, beside its directories: it may read them, and not change them.
// Servers and settings may hold secrets of their own, and arguments are to be seen by everybody.
func (c *Config) files(dirs Dirs) []argumentFile {
	servers := c.Options.MCPServers
	if len(servers) > 0 {
		servers = slices.Concat([]byte(`{"mcpServers":`), servers, []byte("}"))
	}
	return []argumentFile{
		{"--append-system-prompt-file", filepath.Join(dirs.Root, "system.md"), []byte(c.Options.AppendSystemPrompt)},
		{"--mcp-config", filepath.Join(dirs.Root, "mcp.json"), servers},
		{"--settings", filepath.Join(dirs.Root, "settings.json"), c.Options.Settings},
	}
}

type argumentFile struct {
	flag, path string
	text       []byte
}

// write writes the files that become arguments, for the session's user alone.
func (c *Config) write(dirs Dirs) error {
	for _, file := range c.files(dirs) {
		if err := os.Remove(file.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(file.text) == 0 {
			continue
		}
		err := os.WriteFile(file.path, file.text, 0o600)
		if err == nil && c.User != nil {
			err = errors.Join(os.Lchown(file.path, -1, c.User.ID), os.Chmod(file.path, 0o640)) //nolint:gosec // the group is the user's own
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) args(session string, dirs Dirs, resume bool) []string {
	args := []string{"-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"}
	if resume {
		args = append(args, "--resume", session)
	} else {
		args = append(args, "--session-id", session)
	}
	if mode := c.Options.PermissionMode; mode == "" || mode == "bypassPermissions" {
		args = append(args, "--dangerously-skip-permissions")
	} else {
		args = append(args, "--permission-mode", mode)
	}
	if c.Options.Model != "" {
		args = append(args, "--model", c.Options.Model)
	}
	if c.Options.MaxTurns > 0 {
		args = append(args, "--max-turns", strconv.Itoa(c.Options.MaxTurns))
	}
	if c.Options.MaxBudgetUSD > 0 {
		args = append(args, "--max-budget-usd", strconv.FormatFloat(c.Options.MaxBudgetUSD, 'f', -1, 64))
	}
	// These flags take as many words as follow, unless their own comes with "=".
	for _, tool := range c.Options.AllowedTools {
		args = append(args, "--allowedTools="+tool)
	}
	for _, tool := range c.Options.DisallowedTools {
		args = append(args, "--disallowedTools="+tool)
	}
	for _, file := range c.files(dirs) {
		if len(file.text) > 0 {
			args = append(args, file.flag+"="+file.path)
		}
	}
	return args
}

// env is all that a session's processes get of the environment: what the agent's own holds may be secret.
func (c *Config) env(session string, dirs Dirs) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + dirs.Home,
		"CLAUDE_CONFIG_DIR=" + dirs.Config,
		"TMPDIR=" + dirs.Temp,
		"CLAUDE_CODE_TMPDIR=" + dirs.Temp,
		"LANG=C.UTF-8",
		"TERM=dumb",
		contract.EnvAnthropicBaseURL + "=" + c.BaseURL,
		contract.EnvAnthropicAPIKey + "=" + c.Token,
		contract.EnvSession + "=" + session,
		"DISABLE_AUTOUPDATER=1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
		"CLAUDE_CODE_RESUME_INTERRUPTED_TURN=1",
		// Settings, which a repository has too, choose no other API, provider, key or proxy: the conversation would go
		// past the gateway.
		"CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST=1",
	}
	if os.Geteuid() == 0 && c.User == nil {
		env = append(env, "IS_SANDBOX=1") // else the CLI refuses to skip permissions as root
	}
	return slices.Concat(env, c.Env, network(os.Getenv))
}

// network is what the environment says of the way to the network: proxies, without the password that may be in their
// addresses, and certificates. No proxy stands between a session and the agent's gateway.
func network(getenv func(string) string) (env []string) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		if proxy := withoutPassword(getenv(name)); proxy != "" {
			env = append(env, name+"="+proxy)
		}
	}
	if len(env) > 0 {
		for name, other := range map[string]string{"NO_PROXY": "no_proxy", "no_proxy": "NO_PROXY"} {
			direct := cmp.Or(getenv(name), getenv(other))
			env = append(env, name+"="+strings.TrimPrefix(direct+",127.0.0.1,localhost,::1", ","))
		}
	}
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"} {
		if file := getenv(name); file != "" {
			env = append(env, name+"="+file)
		}
	}
	return env
}

// withoutPassword returns a proxy's address without user and password; empty if it cannot be read.
func withoutPassword(proxy string) string {
	full := proxy
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	address, err := url.Parse(full)
	if err != nil || address.Host == "" {
		return ""
	}
	return address.Scheme + "://" + address.Host
}
