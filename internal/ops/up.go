package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
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
	// upLock is the file in a volume that is locked while an agent is started there.
	upLock = "up.lock"

	// scriptedModel is what the status has for the model that needs no key.
	scriptedModel = "scripted"
	// messagesAPI is the one that berthd uses without another one's address.
	messagesAPI = "https://api.anthropic.com"
)

// Up is the verb `berth up`: it makes sure that the agent is there.
type Up struct {
	Target
	UpCloud
}

// Help is the long help.
func (Up) Help() string {
	return `With --env it deploys the stack to AWS, sets the key if none is set, builds and pushes the image, rolls it out and waits until
the service is steady. Each run does what is missing: one that was cut off is run again. In prod it takes over what an earlier stack left.
` + optionsHelp + `

Without --env it is for this machine:

It starts berthd in the background, with a directory as its volume, unless it answers already. Sessions that
an earlier agent left unfinished there go on by themselves. Without a key the model is a scripted stand-in, which shows
a whole session and costs nothing; ANTHROPIC_BASE_URL is not used then. An agent keeps what it was started with: after
a change, berth down and berth up.

  ANTHROPIC_API_KEY          the key of the Messages API
  ANTHROPIC_API_KEY_FILE     a file with it, in its place; it is read again when it changes
  ANTHROPIC_BASE_URL         another Messages API than Anthropic's
  GITHUB_TOKEN               for private repositories on GitHub, and for pull requests there
  GITHUB_TOKEN_FILE          a file with it, in its place
  GITHUB_API_URL             another API than GitHub's own, such as an enterprise server's
  BERTH_DATA                 the volume; $XDG_DATA_HOME/berth or ~/.local/share/berth without it
  BERTH_WORK                 where sessions work: local disk; work in the volume without it
  BERTH_LISTEN               the address; 127.0.0.1:8787 without it, port 0 picks a free one
  BERTH_API_TOKEN            what clients have to show; made up, and kept in the volume, without it
  BERTH_CLAUDE               the Claude Code CLI
  BERTH_MAX_SESSIONS         how many sessions run at once; 4 without it
  BERTH_SPEND_LIMIT_USD      what all sessions may spend in a month (UTC), in US dollars; no limit without it
  BERTH_SPEND_LIMIT_DAY_USD  likewise in a day
  BERTH_RETENTION_DAYS       how long ended sessions are kept; for ever without it
  BERTH_ENVIRONMENT          if set, log lines are JSON, and metrics of that name go to CloudWatch

Examples:
  berth up --local
  berth up --env dev
  berth up --env prod -c cpu=4096 -c memory=16384 --key-file ~/.anthropic-key
  ANTHROPIC_API_KEY=$(cat key) BERTH_MAX_SESSIONS=2 berth up --local
  ANTHROPIC_API_KEY_FILE=~/.anthropic-key BERTH_SPEND_LIMIT_DAY_USD=10 berth up --local

Exit codes: 0 the agent answers, or runs in AWS; 1 it could not be started; 2 a flag or option cannot be used; 130 Ctrl-C, what
AWS has begun goes on.`
}

// Run starts the agent if it is not there, and says where it is.
func (u *Up) Run(ctx context.Context, stdio Stdio) error {
	if err := u.check(); err != nil {
		return err
	}
	if u.inCloud() {
		return u.runCloud(ctx, stdio)
	}
	data, err := api.LocalData(stdio.Getenv)
	if err != nil {
		return err
	}
	endpoint, status := answers(ctx, data)
	found := status != nil
	if !found {
		if endpoint, status, found, err = findOrStart(ctx, stdio, data); err != nil {
			return err
		}
	}
	tellUp(stdio.Err, stdio.Getenv, status, found)
	_, err = fmt.Fprintf(stdio.Out, "The agent answers at %s (volume %s).\nNext:  %s run \"Write a program that greets, and a test for it\"\n",
		endpoint.URL, data, os.Args[0])
	return err
}

// findOrStart starts an agent, unless another `berth up` did so while this one waited for it.
func findOrStart(ctx context.Context, stdio Stdio, data string) (endpoint api.Endpoint, status *api.Status, found bool, err error) {
	unlock, err := lockUp(ctx, data)
	if err != nil {
		return endpoint, nil, false, err
	}
	defer unlock()
	if endpoint, status = answers(ctx, data); status != nil {
		return endpoint, status, true, nil
	}
	agent, err := startAgent(stdio, data)
	if err != nil {
		return endpoint, nil, false, err
	}
	endpoint, status, err = agent.wait(ctx, data)
	return endpoint, status, false, err
}

// tellUp says what of the environment an agent does not use, and what keeps its sessions from running.
func tellUp(to io.Writer, getenv func(string) string, status *api.Status, found bool) {
	if found {
		fmt.Fprintln(to, "berth: the agent is up already")
		if unused := notUsed(getenv, status); unused != "" {
			fmt.Fprintf(to, "berth: %s; `berth down` and `berth up` have it use yours\n", oneLine(unused, 500))
		}
	} else if !haveKey(getenv) {
		text := "no ANTHROPIC_API_KEY is set: the model is a scripted stand-in, which shows a whole session and costs nothing"
		if getenv(contract.EnvAnthropicBaseURL) != "" {
			text += "; ANTHROPIC_BASE_URL is not used without a key"
		}
		fmt.Fprintln(to, "berth: "+text)
	}
	for _, problem := range status.Problems {
		fmt.Fprintln(to, "berth: sessions do not run: "+oneLine(problem, 500))
	}
}

// haveKey reports whether the environment has a key, or names a file for one.
func haveKey(getenv func(string) string) bool {
	key := getenv(contract.EnvAnthropicAPIKey)
	return key != "" && key != contract.SecretNotSet || getenv(contract.EnvAnthropicAPIKeyFile) != ""
}

// notUsed says what of a key and an address in the environment an agent does not use that runs already, as far as
// its status tells; empty if there is nothing.
func notUsed(getenv func(string) string, status *api.Status) string {
	if !haveKey(getenv) {
		return ""
	}
	wanted := getenv(contract.EnvAnthropicBaseURL)
	if wanted == "" {
		wanted = messagesAPI
	}
	if address, err := url.Parse(wanted); err == nil {
		wanted = address.Redacted()
	}
	switch {
	case status.Model == scriptedModel:
		return "it was started without a key and uses the scripted model"
	case strings.TrimRight(status.Model, "/") != strings.TrimRight(wanted, "/"):
		return "it talks to " + status.Model + ", and not to " + wanted
	case status.Key == "missing":
		return "it has no key"
	case status.Key == "refused":
		return "its key is refused"
	}
	return ""
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

// lockUp waits until no other `berth up` starts an agent on a volume, and keeps others from it.
func lockUp(ctx context.Context, data string) (unlock func(), err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the volume: %w; name another directory with %s", err, contract.EnvData)
	}
	file, err := os.OpenFile(filepath.Join(data, upLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the volume cannot be written: %w; make it writable, or name another with %s", err, contract.EnvData)
	}
	ticker, late := time.NewTicker(lookEvery), time.NewTimer(upTime+10*time.Second) // longer than the other one waits
	defer ticker.Stop()
	defer late.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // which gives the lock back
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("locking %s: %w", file.Name(), err)
		}
		select {
		case <-ticker.C:
		case <-late.C:
			_ = file.Close()
			return nil, fmt.Errorf("another `berth up` is still starting an agent: it holds %s; end it, and run this again", file.Name())
		case <-ctx.Done():
			_ = file.Close()
			return nil, ctx.Err()
		}
	}
}
