package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
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
	"GIT_NO_REPLACE_OBJECTS=1", "GIT_GRAFT_FILE=/dev/null", "GIT_NO_LAZY_FETCH=1", "GIT_OPTIONAL_LOCKS=0",
}

// settings are the configuration that git gets: run nothing that a repository asks for, speak no protocol
// that was not allowed, and give a stalled connection up after a minute.
var settings = []string{
	"core.hooksPath=/dev/null", "core.fsmonitor=false", "credential.helper=",
	"protocol.allow=never", "submodule.recurse=false", "http.followRedirects=initial",
	"http.lowSpeedLimit=1000", "http.lowSpeedTime=60",
	"gc.auto=0", "maintenance.auto=false", "receive.autogc=false", "fetch.unpackLimit=1", "fetch.writeCommitGraph=false",
	"core.commitGraph=false", "core.multiPackIndex=false", "pack.useBitmaps=false", "core.excludesFile=/dev/null", "core.attributesFile=/dev/null",
	"core.fsync=loose-object,pack,pack-metadata,reference", "index.threads=1",
	"advice.detachedHead=false", "advice.addEmbeddedRepo=false", "advice.graftFileDeprecated=false", "init.defaultBranch=main",
}

// git is how one run of git goes.
type git struct {
	dir      string   // where it runs
	inside   string   // where it goes when it runs: a directory that a session could swap for another
	env      []string // beside ourOwn
	before   []string // the command that it is run under
	config   []string // beside settings
	protocol kind     // which it may speak; none if empty
	stdin    string
	from     io.Reader  // instead of stdin
	to       io.Writer  // instead of keeping its output
	files    []*os.File // that it has open, from 3 on
	most     int        // bytes of output that are kept
	listed   *listed    // what its output counts for
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
			strings.HasPrefix(line, "Cloning into"), named == useless && before != "":
		case strings.HasPrefix(line, "hint:"), strings.HasPrefix(line, "warning:"):
			continue // they do not say why it failed
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

// pipeTime is how long the output of a process may take to arrive that has ended, or was killed. It takes no time, but on a
// machine that has far too much to do.
const pipeTime = 30 * time.Second

// run runs git and returns what it prints. All processes that it starts are in one group, which is killed
// as a whole when ctx is done. Its errors wrap a *gitError, ctx's cause, or errTooLong.
func (g git) run(ctx context.Context, args ...string) (string, error) {
	options := make([]string, 0, 2*len(settings)+len(args)+2)
	options = append(options, "git")
	for _, setting := range append(slices.Clip(settings), g.config...) {
		options = append(options, "-c", setting)
	}
	if g.protocol != "" {
		options = append(options, "-c", "protocol."+string(g.protocol)+".allow=always")
	}
	if g.inside != "" {
		options = append(options, "-C", g.inside)
	}
	return g.tool(ctx, args[0], append(options, args...)...)
}

// tool runs a program as run runs git; what names it in errors.
func (g git) tool(ctx context.Context, what string, words ...string) (string, error) {
	words = append(slices.Clip(g.before), words...)
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Dir = g.dir
	for _, name := range passedOn {
		if len(g.before) > 0 && name != "PATH" {
			continue // it runs as a session's user, who can read it: a proxy's address may hold a password
		}
		if value, found := os.LookupEnv(name); found {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	command.Env = append(append(command.Env, ourOwn...), g.env...)
	stdout, stderr := &capped{most: maxOutput, strict: true}, &capped{most: 64 << 10}
	stdout.take = func(count int) error { return g.listed.take(ctx, count) }
	if g.most > 0 {
		stdout.most = g.most
	}
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(g.stdin), stdout, stderr
	if g.from != nil {
		command.Stdin = g.from
	}
	if g.to != nil {
		command.Stdout = g.to
	}
	command.ExtraFiles = g.files
	command.SysProcAttr = processAttributes()
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = pipeTime
	err := runToItsEnd(command)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case stdout.refused != nil:
		return stdout.text.String(), stdout.refused
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%s is not installed on the agent's machine: %w", words[0], err)
	case err != nil:
		return stdout.text.String(), &gitError{said: stderr.text.String(), cause: fmt.Errorf("git %s: %w", what, err)}
	}
	return stdout.text.String(), nil
}

// runToItsEnd runs a command on a thread that lives as long as it: a process that is to die with its parent dies
// with the thread that started it (prctl(2)).
func runToItsEnd(command *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- command.Run()
	}()
	return <-ended
}

// pipe runs two commands, and gives one what the other writes. Only a stream that came to its end is a whole one
// for the second: packs have a checksum at their end.
//
// It returns what the second one prints. If both fail, the error is that of the second, unless that only says that the stream ended.
func pipe(ctx context.Context, from git, fromArgs []string, to git, toArgs []string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer, err := os.Pipe()
	if err != nil {
		return "", err
	}
	from.to, to.from = writer, reader
	written := make(chan error, 1)
	go func() {
		_, err := from.run(ctx, fromArgs...)
		_ = writer.Close() // of a pipe
		written <- err
	}()
	said, err := to.run(ctx, toArgs...)
	_ = reader.Close() // of a pipe: a writer that has not ended ends now
	if problem := <-written; problem != nil && (err == nil || !brokenPipe(problem)) {
		return "", problem
	}
	return said, err
}

// brokenPipe reports whether a program ended because nobody read any more what it writes.
func brokenPipe(err error) bool {
	ended := new(exec.ExitError)
	if !errors.As(err, &ended) {
		return false
	}
	status, known := ended.Sys().(syscall.WaitStatus)
	return known && status.Signal() == syscall.SIGPIPE
}

// fatal reports whether git gave up, rather than passing over something.
func fatal(err error) bool {
	ended := new(exec.ExitError)
	return err != nil && (!errors.As(err, &ended) || ended.ExitCode() != 1)
}

// line runs git and returns the one line that it prints.
func (g git) line(ctx context.Context, args ...string) (string, error) {
	text, err := g.run(ctx, args...)
	return strings.TrimSpace(text), err
}

// capped keeps the first bytes of what is written to it. A strict one ends the writer when there are more.
type capped struct {
	text    strings.Builder
	most    int
	strict  bool
	take    func(count int) error // asked before more is kept; nil if nobody is
	refused error                 // why it keeps no more
}

func (c *capped) Write(p []byte) (int, error) {
	kept := min(len(p), c.most-c.text.Len())
	if c.take != nil {
		if c.refused = c.take(kept); c.refused != nil {
			return 0, c.refused
		}
	}
	c.text.Write(p[:kept])
	if kept < len(p) && c.strict {
		c.refused = errTooLong
		return kept, c.refused
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
