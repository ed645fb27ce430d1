package claude

import (
	"os"
	"path/filepath"
	"strconv"

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
	file := filepath.Join(d.Home, ".gitconfig")
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
}

func (c *Config) args(session string, resume bool) []string {
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
	}
	if os.Geteuid() == 0 {
		env = append(env, "IS_SANDBOX=1") // else the CLI refuses to skip permissions as root
	}
	return env
}
