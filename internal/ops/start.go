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
	if !haveKey(stdio.Getenv) {
		command.Args = append(command.Args, "--scripted")
	}
	command.Env, err = agentEnv(stdio.Getenv, data, cli)
	if err != nil {
		return nil, err
	}
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

// agentEnv is the environment of an agent: this one, with the names of files as they are from elsewhere.
func agentEnv(getenv func(string) string, data, cli string) ([]string, error) {
	environment := append(os.Environ(), contract.EnvData+"="+data, contract.EnvClaude+"="+cli)
	for _, name := range []string{contract.EnvWork, contract.EnvAnthropicAPIKeyFile, contract.EnvGitHubTokenFile} {
		if file := getenv(name); file != "" {
			whole, err := filepath.Abs(file)
			if err != nil {
				return nil, err
			}
			environment = append(environment, name+"="+whole)
		}
	}
	return environment, nil
}

// wait waits until the agent answers.
func (a *startedAgent) wait(ctx context.Context, data string) (api.Endpoint, *api.Status, error) {
	ticker, late := time.NewTicker(lookEvery), time.NewTimer(upTime)
	defer ticker.Stop()
	defer late.Stop()
	for {
		select {
		case <-ticker.C:
			if endpoint, status := answers(ctx, data); status != nil {
				return endpoint, status, nil
			}
		case err := <-a.ended:
			return api.Endpoint{}, nil, fmt.Errorf("the agent did not start: %s", a.lastLine(err))
		case <-late.C:
			return api.Endpoint{}, nil, fmt.Errorf("the agent does not answer after %v; its log is %s, and its process is %d", upTime, a.log, a.process.Pid)
		case <-ctx.Done():
			_ = a.process.Signal(syscall.SIGTERM) // nobody was told of it
			return api.Endpoint{}, nil, ctx.Err()
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
