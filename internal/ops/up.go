package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
)

const (
	// upTime is how long an agent may take to answer after its start.
	upTime = 60 * time.Second
	// downTime is how long an agent may take to interrupt its sessions and go.
	downTime  = contract.StopTimeoutSeconds * time.Second
	lookEvery = 50 * time.Millisecond

	logFile = "berthd.log"

	// scriptedModel is what the status has for the model that needs no key.
	scriptedModel = "scripted"
	// inUse is part of what berthd says when another one has the volume.
	inUse = "another berthd uses this volume"
)

// Up is the verb `berth up`: it makes sure that the agent is there.
type Up struct {
	Target
}

// Help is the long help.
func (Up) Help() string {
	return `It starts berthd in the background, with a directory as its volume, unless it answers already. Sessions that
an earlier agent left unfinished there go on by themselves. Without ANTHROPIC_API_KEY the model is a scripted
stand-in, which shows a whole session and costs nothing.

  ANTHROPIC_API_KEY    the key of the Messages API
  ANTHROPIC_BASE_URL   another Messages API than Anthropic's
  BERTH_DATA           the volume; $XDG_DATA_HOME/berth or ~/.local/share/berth without it
  BERTH_LISTEN         the address; 127.0.0.1:8787 without it, port 0 picks a free one
  BERTH_MAX_SESSIONS   how many sessions run at once; 4 without it
  BERTH_CLAUDE         the Claude Code CLI

Examples:
  berth up --local
  ANTHROPIC_API_KEY=$(cat key) BERTH_MAX_SESSIONS=2 berth up --local

Exit codes: 0 the agent answers; 1 it could not be started.`
}

// Run starts the agent if it is not there, and says where it is.
func (u *Up) Run(ctx context.Context, stdio Stdio) error {
	if err := u.check(); err != nil {
		return err
	}
	data, err := api.LocalData(stdio.Getenv)
	if err != nil {
		return err
	}
	if endpoint, status := answers(ctx, data); status != nil {
		fmt.Fprintln(stdio.Err, "berth: the agent is up already")
		if status.Model == scriptedModel && stdio.Getenv(contract.EnvAnthropicAPIKey) != "" {
			fmt.Fprintln(stdio.Err, "berth: it was started without a key and uses the scripted model; `berth down` and `berth up` have it use yours")
		}
		return u.say(stdio, endpoint, data)
	}
	agent, err := startAgent(stdio, data)
	if err != nil {
		return err
	}
	endpoint, err := agent.wait(ctx, data)
	if err != nil {
		return err
	}
	if stdio.Getenv(contract.EnvAnthropicAPIKey) == "" {
		fmt.Fprintln(stdio.Err, "berth: no ANTHROPIC_API_KEY is set: the model is a scripted stand-in, which shows a whole session and costs nothing")
	}
	return u.say(stdio, endpoint, data)
}

func (u *Up) say(stdio Stdio, endpoint api.Endpoint, data string) error {
	_, err := fmt.Fprintf(stdio.Out, "The agent answers at %s (volume %s).\nNext:  %s run \"Write a program that greets, and a test for it\"\n",
		endpoint.URL, data, os.Args[0])
	return err
}

// answers asks the agent that uses the volume how it is. There is no status if none answers: the file that
// names one may be that of an agent that was killed.
func answers(ctx context.Context, data string) (api.Endpoint, *api.Status) {
	endpoint, err := api.ReadEndpoint(data)
	if err != nil {
		return endpoint, nil
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status, err := api.NewClient(endpoint).Status(limited)
	if err != nil {
		return endpoint, nil
	}
	return endpoint, status
}

// startedAgent is a berthd that was just started.
type startedAgent struct {
	process *os.Process
	log     string // its log file
	from    int64  // where its own lines begin
	ended   chan error
}

// startAgent starts berthd in a session of its own, so that it outlives the terminal.
func startAgent(stdio Stdio, data string) (*startedAgent, error) {
	program, err := findProgram("berthd")
	if err != nil {
		return nil, err
	}
	cli, err := findCLI(stdio)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the volume: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(data, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write the agent's log: %w", err)
	}
	defer file.Close() //nolint:errcheck // only the agent writes to it
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	command := exec.Command(program)
	if stdio.Getenv(contract.EnvAnthropicAPIKey) == "" {
		command.Args = append(command.Args, "--scripted")
	}
	command.Env = append(os.Environ(), contract.EnvData+"="+data, contract.EnvClaude+"="+cli)
	command.Dir = "/" // not in the way of whoever wants to remove this one
	command.Stdout, command.Stderr = file, file
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting the agent: %w", err)
	}
	agent := &startedAgent{process: command.Process, log: file.Name(), from: info.Size(), ended: make(chan error, 1)}
	go func() { agent.ended <- command.Wait() }()
	return agent, nil
}

// wait waits until the agent answers.
func (a *startedAgent) wait(ctx context.Context, data string) (api.Endpoint, error) {
	ticker, late := time.NewTicker(lookEvery), time.NewTimer(upTime)
	defer ticker.Stop()
	defer late.Stop()
	why := "it still starts"
	for {
		select {
		case <-ticker.C:
			if endpoint, status := answers(ctx, data); status != nil {
				return endpoint, nil
			}
		case err := <-a.ended:
			// Another `berth up` may have been faster: its agent has the volume, and answers soon.
			if why = a.lastLine(err); !strings.Contains(why, inUse) {
				return api.Endpoint{}, fmt.Errorf("the agent did not start: %s", why)
			}
		case <-late.C:
			return api.Endpoint{}, fmt.Errorf("the agent does not answer after %v: %s; its log is %s", upTime, why, a.log)
		case <-ctx.Done():
			_ = a.process.Signal(syscall.SIGTERM) // nobody was told of it
			return api.Endpoint{}, ctx.Err()
		}
	}
}

// lastLine is the last thing that the agent logged: why it ended.
func (a *startedAgent) lastLine(ended error) string {
	var text []byte
	file, err := os.Open(a.log)
	if err == nil {
		defer file.Close() //nolint:errcheck // it was only read
		text, err = io.ReadAll(io.NewSectionReader(file, a.from, 1<<20))
	}
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return fmt.Sprintf("%v; its log is %s", ended, a.log)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.TrimPrefix(printable(lines[len(lines)-1]), "berthd: ")
}

// findProgram finds a program beside this one, else in PATH.
func findProgram(name string) (string, error) {
	if own, err := ownDir(); err == nil {
		if beside := filepath.Join(own, name); executable(beside) {
			return beside, nil
		}
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside berth nor in PATH; `make build` builds both", name)
	}
	return filepath.Abs(found)
}

// findCLI finds the Claude Code CLI: where BERTH_CLAUDE says, else in the node_modules of the checkout that this
// program was built in, else in PATH.
func findCLI(stdio Stdio) (string, error) {
	switch named := stdio.Getenv(contract.EnvClaude); {
	case strings.ContainsRune(named, filepath.Separator): // berthd runs elsewhere
		return filepath.Abs(named)
	case named != "":
		return named, nil
	}
	if own, err := ownDir(); err == nil {
		for dir := own; ; dir = filepath.Dir(dir) {
			if cli := filepath.Join(dir, "node_modules", ".bin", "claude"); executable(cli) {
				return cli, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	found, err := exec.LookPath("claude")
	if err != nil {
		return "", errors.New("the Claude Code CLI is not there; `make setup` installs it, or name it with BERTH_CLAUDE")
	}
	return filepath.Abs(found)
}

// ownDir is where this program is, and not where a link to it is.
func ownDir() (string, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	return filepath.Dir(self), err
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
