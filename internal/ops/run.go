package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"berth/internal/api"
)

// Run is the verb `berth run`: it hands in a task and follows it to its end.
type Run struct {
	Target
	Prompt *string `arg:"" optional:"" help:"What Claude Code is asked to do. Without it, or as -, it is read from standard input."`
	File   string  `name:"file" short:"f" type:"path" placeholder:"FILE" help:"Read the prompt from a file."`
	Repo   *string `name:"repo" placeholder:"URL|DIR" help:"The repository to clone: a URL or a directory on the agent's machine. Without one the session starts in an empty repository."`
	Ref    string  `name:"ref" placeholder:"REF" help:"The branch, tag or commit to start from."`
	Limits `group:"Limits and options"`
	Key    *string `name:"idempotency-key" placeholder:"KEY" help:"A name for this task: with the same one and the same task again, no second session is made, and the first is followed."`
	Detach bool    `name:"detach" short:"d" help:"Print the session's id and return."`
	JSON   bool    `name:"json" help:"Write the session's events, a JSON object a line, after its id."`
}

// Help is the long help.
func (Run) Help() string {
	return `The first line of standard output is the session's id, alone. What Claude says and does follows on
standard output, all else is on standard error.

Examples:
  berth run "Add a test for the parser, and make it pass" --repo .
  berth run --repo https://github.com/example/project --ref main --max-budget-usd 2 "Fix issue 12"
  git diff | berth run - --timeout 10m
  berth run "Review this" --repo . --permission-mode dontAsk --allowed-tools "Read,Grep,Bash(git log:*)"
  berth run --idempotency-key issue-12 --mcp-config .mcp.json --detach "Fix issue 12"
  id=$(berth run --detach --file task.md); berth logs -f "$id"
  berth run --env dev --repo https://github.com/example/project "Fix issue 12"

Exit codes: 0 it succeeded; 1 it failed, or was cancelled; 2 a flag, the prompt or the repository cannot be
used; 3 the agent cannot be reached; 4 a limit (turns, budget, time, the agent's spend) ended it; 130 Ctrl-C: the
session goes on.`
}

// Run hands the task in.
func (r *Run) Run(ctx context.Context, stdio Stdio) error {
	task, err := r.task(ctx, stdio)
	if err != nil {
		return usage(ctx, err)
	}
	client, err := r.connect(ctx, stdio)
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := r.create(ctx, client, task)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdio.Out, session.ID); err != nil || r.Detach {
		return err
	}
	return r.followToEnd(ctx, stdio, client, session.ID, 0, r.JSON)
}

func (r *Run) create(ctx context.Context, client *api.Client, task api.NewSession) (*api.Session, error) {
	if r.Key == nil {
		return client.Create(ctx, task)
	}
	return client.CreateOnce(ctx, task, *r.Key)
}

func (r *Run) task(ctx context.Context, stdio Stdio) (task api.NewSession, err error) {
	if err := checkKey(r.Key); err != nil {
		return task, err
	}
	if task.Repo, err = readRepo(r.Repo); err != nil {
		return task, err
	}
	if r.inCloud() && filepath.IsAbs(task.Repo) {
		return task, fmt.Errorf("--repo: the agent in AWS does not see %.200q on this machine; name the repository by a URL that it can clone (`git remote get-url origin`)", *r.Repo)
	}
	if task.Options, err = r.options(); err != nil {
		return task, err
	}
	if task.Prompt, err = readPrompt(ctx, stdio, r.Prompt, r.File); err != nil {
		return task, err
	}
	task.Ref = r.Ref
	return task, task.Check()
}

// checkKey says what is wrong with a key, which becomes a field of a request's header.
func checkKey(key *string) error {
	const most = 255
	if key != nil && (*key == "" || len(*key) > most || strings.TrimSpace(*key) != *key ||
		strings.ContainsFunc(*key, func(r rune) bool { return r < ' ' || r > '~' })) {
		return fmt.Errorf("--idempotency-key: %.80q is not a key: take 1 to %d printable characters of ASCII, such as a ticket's number", *key, most)
	}
	return nil
}

// readRepo is the repository that --repo names, a directory as its absolute path.
func readRepo(given *string) (string, error) {
	if given == nil {
		return "", nil
	}
	repo := *given
	if repo == "" { // an unset variable of a script
		return "", errors.New("--repo: it is empty; name a URL or a directory, or leave it out")
	}
	if info, err := os.Stat(repo); err == nil && info.IsDir() {
		return filepath.Abs(repo)
	}
	if !filepath.IsAbs(repo) && !strings.Contains(repo, ":") {
		return "", fmt.Errorf("--repo: there is no directory %.80q here, and it is neither a URL nor an absolute path: name one like ., https://host/path or git@host:path", repo)
	}
	return repo, nil
}

// followToEnd shows a session until it has ended. Its error is how the session ended, if not well.
func (t Target) followToEnd(ctx context.Context, stdio Stdio, client *api.Client, id string, from int, asJSON bool) error {
	session, err := follow(ctx, stdio, client, id, from, followOptions{Follow: true, JSON: asJSON, Summary: true, Explain: true, Flags: t.flags()})
	if ctx.Err() != nil {
		return &interruptedError{fmt.Sprintf("session %[1]s goes on; follow it with `berth logs -f %[1]s%[2]s`, end it with `berth stop %[1]s%[2]s`", shortID(id), t.flags())}
	}
	if errors.Is(err, api.ErrUnreachable) && t.inCloud() {
		return fmt.Errorf("%w; the session is not lost: `berth logs -f %s%s` follows it on", err, shortID(id), t.flags())
	}
	if errors.Is(err, api.ErrUnreachable) {
		return fmt.Errorf("%w; the session is not lost: `berth up`, then `berth logs -f %s`", err, shortID(id))
	}
	if err != nil {
		return err
	}
	return ended(session, !asJSON)
}

// failedError is how a verb ends whose session failed.
type failedError struct {
	text  string
	cause error // a limit, which has an exit code of its own, or nil: a session's codes are not a request's
}

func (e *failedError) Error() string { return e.text }
func (e *failedError) Unwrap() error { return e.cause }

// ended is the error of a session that did not succeed. A summary, if there was one, has said why.
func ended(session *api.Session, summarised bool) error {
	switch {
	case session.State == api.Succeeded:
		return nil
	case session.Error != nil:
		failed := &failedError{text: fmt.Sprintf("session %s failed (%s)", shortID(session.ID), session.Error.Code)}
		if !summarised {
			failed.text = fmt.Sprintf("session %s failed: %s", shortID(session.ID), reason(session.Error))
		}
		if session.Error.Code.Limit() {
			failed.cause = session.Error
		}
		return failed
	}
	return fmt.Errorf("session %s was %s", shortID(session.ID), session.State)
}
