package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// passedOn are the variables of our own environment that git needs: to find programs, an SSH agent,
// a company's proxy and its certificates. Everything else, above all keys, stays here.
var passedOn = []string{
	"PATH", "HOME", "SSH_AUTH_SOCK", "TMPDIR",
	"HTTPS_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
}

// ourOwn are the variables that keep git from asking questions, and from anybody else's configuration.
var ourOwn = []string{
	"LANG=C", "LC_ALL=C",
	"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
	"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false", "SSH_ASKPASS=false", "SSH_ASKPASS_REQUIRE=never",
	"GIT_SSH_COMMAND=ssh -oBatchMode=yes -oConnectTimeout=20 -oForwardAgent=no -oClearAllForwardings=yes -oPermitLocalCommand=no",
	"GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1", "GIT_OPTIONAL_LOCKS=0",
}

// settings are the configuration that git gets: run nothing that a repository asks for, speak no protocol
// that was not allowed, and give a stalled connection up after a minute.
var settings = []string{
	"core.hooksPath=/dev/null", "core.fsmonitor=false", "credential.helper=",
	"protocol.allow=never", "submodule.recurse=false", "http.followRedirects=initial",
	"http.lowSpeedLimit=1000", "http.lowSpeedTime=60",
	"gc.auto=0", "maintenance.auto=false",
	"core.commitGraph=false", "core.multiPackIndex=false",
	"advice.detachedHead=false", "advice.addEmbeddedRepo=false", "init.defaultBranch=main",
}

// git is how one run of git goes.
type git struct {
	dir      string   // where it runs
	env      []string // beside ourOwn
	protocol kind     // which it may speak; none if empty
	stdin    string
	most     int // bytes of output that are kept
}

// maxOutput is how many bytes of git's output are kept, unless more are asked for.
const maxOutput = 8 << 20

// errTooLong means that git's output was longer than what is kept.
var errTooLong = errors.New("the output is too long")

// gitError is a failure of git: what it said, and the error of its process.
type gitError struct {
	said  string // all of its stderr, at most 64 KiB of it
	cause error
}

func (e *gitError) Error() string {
	if line := e.reason(); line != "" {
		return line
	}
	return e.cause.Error()
}

func (e *gitError) Unwrap() error { return e.cause }

// reason is the line of stderr that says most.
func (e *gitError) reason() string {
	const useless = "Could not read from remote repository."
	var last, before string
	for line := range strings.Lines(e.said) {
		line = strings.TrimSpace(line)
		named := line
		for _, prefix := range []string{"fatal: ", "error: ", "remote: "} {
			named = strings.TrimPrefix(named, prefix)
		}
		switch {
		case line == "", strings.HasPrefix(line, "Please make sure you have"), strings.HasPrefix(line, "and the repository exists"),
			strings.HasPrefix(line, "Cloning into"), strings.HasPrefix(line, "hint:"), strings.HasPrefix(line, "warning:"),
			named == useless && before != "":
		case named != line || !strings.Contains(last, ": "):
			last = named
		}
		if line != "" && !strings.HasPrefix(line, "Cloning into") {
			before = line
		}
	}
	if last == "" {
		last = before
	}
	return last
}

// run runs git and returns what it prints. All processes that it starts are in one group, which is killed
// as a whole when ctx is done. Its errors wrap a *gitError, ctx's cause, or errTooLong.
func (g git) run(ctx context.Context, args ...string) (string, error) {
	options := make([]string, 0, 2*len(settings)+len(args)+2)
	for _, setting := range settings {
		options = append(options, "-c", setting)
	}
	if g.protocol != "" {
		options = append(options, "-c", "protocol."+string(g.protocol)+".allow=always")
	}
	command := exec.CommandContext(ctx, "git", append(options, args...)...)
	command.Dir = g.dir
	for _, name := range passedOn {
		if value, found := os.LookupEnv(name); found {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	command.Env = append(append(command.Env, ourOwn...), g.env...)
	stdout, stderr := &capped{most: maxOutput, strict: true}, &capped{most: 64 << 10}
	if g.most > 0 {
		stdout.most = g.most
	}
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(g.stdin), stdout, stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 5 * time.Second
	err := command.Run()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case stdout.over:
		return stdout.text.String(), errTooLong
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("git is not installed on the agent's machine: %w", err)
	case err != nil:
		return "", &gitError{said: stderr.text.String(), cause: fmt.Errorf("git %s: %w", args[0], err)}
	}
	return stdout.text.String(), nil
}

// line runs git and returns the one line that it prints.
func (g git) line(ctx context.Context, args ...string) (string, error) {
	text, err := g.run(ctx, args...)
	return strings.TrimSpace(text), err
}

// capped keeps the first bytes of what is written to it. A strict one ends the writer when there are more.
type capped struct {
	text   bytes.Buffer
	most   int
	strict bool
	over   bool
}

func (c *capped) Write(p []byte) (int, error) {
	kept := min(len(p), c.most-c.text.Len())
	c.text.Write(p[:kept])
	if kept < len(p) {
		c.over = true
		if c.strict {
			return kept, errTooLong
		}
	}
	return len(p), nil
}

// reason is what an error of the file system says, without the name of the call and the path.
func reason(err error) string {
	if outer := new(fs.PathError); errors.As(err, &outer) {
		return outer.Err.Error()
	}
	return err.Error()
}
