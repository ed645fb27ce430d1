package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/internal/api"
)

// Limits are the options of a session that `berth run` and `berth resume` share.
type Limits struct {
	Model          string        `name:"model" placeholder:"NAME" help:"The model, as Claude Code names it."`
	MaxTurns       int           `name:"max-turns" placeholder:"N" help:"End it after so many replies of the model."`
	MaxBudgetUSD   float64       `name:"max-budget-usd" placeholder:"X" help:"End it when it has spent so many US dollars on the model."`
	Timeout        time.Duration `name:"timeout" placeholder:"D" help:"End it after so much time of work, such as 90s or 2h; the queue does not count."`
	PermissionMode string        `name:"permission-mode" placeholder:"MODE" help:"bypassPermissions (the default), acceptEdits, dontAsk, default or plan. There is nobody to ask: what Claude Code would ask for is denied."`
}

// options are the limits as the agent takes them. What is wrong with one is told with the name of its flag.
func (l *Limits) options() (api.Options, error) {
	options := api.Options{
		Model: l.Model, PermissionMode: l.PermissionMode,
		MaxTurns: l.MaxTurns, MaxBudgetUSD: l.MaxBudgetUSD, TimeoutSeconds: l.Timeout.Seconds(),
	}
	for _, limit := range []struct {
		flag, unit string
		given      any
		alone      api.Options
	}{
		{"--max-turns", "", l.MaxTurns, api.Options{MaxTurns: options.MaxTurns}},
		{"--max-budget-usd", "", l.MaxBudgetUSD, api.Options{MaxBudgetUSD: options.MaxBudgetUSD}},
		{"--timeout", " seconds", l.Timeout, api.Options{TimeoutSeconds: options.TimeoutSeconds}},
	} {
		if err := limit.alone.Check(); err != nil {
			_, rule, _ := strings.Cut(err.Error(), ": ")
			return options, fmt.Errorf("%s is %v: %s%s", limit.flag, limit.given, rule, limit.unit)
		}
	}
	return options, options.Check()
}

// Run is the verb `berth run`: it hands in a task and follows it to its end.
type Run struct {
	Target
	Prompt *string `arg:"" optional:"" help:"What Claude Code is asked to do. Without it, or as -, it is read from standard input."`
	File   string  `name:"file" short:"f" type:"path" placeholder:"FILE" help:"Read the prompt from a file."`
	Repo   string  `name:"repo" placeholder:"URL|DIR" help:"The repository to clone: a URL or a directory on the agent's machine. Without one the session starts in an empty repository."`
	Ref    string  `name:"ref" placeholder:"REF" help:"The branch, tag or commit to start from."`
	Limits `group:"Limits and options"`
	Detach bool `name:"detach" short:"d" help:"Print the session's id and return."`
	JSON   bool `name:"json" help:"Write the session's events, a JSON object a line, after its id."`
}

// Help is the long help.
func (Run) Help() string {
	return `The first line of standard output is the session's id, alone. What Claude says and does follows on
standard output, all else is on standard error.

Examples:
  berth run "Add a test for the parser, and make it pass" --repo .
  berth run --repo https://github.com/example/project --ref main --max-budget-usd 2 "Fix issue 12"
  git diff | berth run - --timeout 10m
  id=$(berth run --detach --file task.md); berth logs -f "$id"

Exit codes: 0 it succeeded; 1 it failed, or was cancelled; 2 a flag, the prompt or the repository cannot be
used; 3 the agent cannot be reached; 4 a limit (turns, budget, time) ended it; 130 Ctrl-C: the session goes on.`
}

// Run hands the task in.
func (r *Run) Run(ctx context.Context, stdio Stdio) error {
	task, err := r.task(ctx, stdio)
	if err != nil {
		return usage(ctx, err)
	}
	client, err := r.connect(stdio)
	if err != nil {
		return err
	}
	session, err := client.Create(ctx, task)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdio.Out, session.ID); err != nil || r.Detach {
		return err
	}
	return followToEnd(ctx, stdio, client, session.ID, 0, r.JSON)
}

func (r *Run) task(ctx context.Context, stdio Stdio) (api.NewSession, error) {
	prompt, err := readPrompt(ctx, stdio, r.Prompt, r.File)
	if err != nil {
		return api.NewSession{}, err
	}
	task := api.NewSession{Prompt: prompt, Repo: r.Repo, Ref: r.Ref}
	if task.Options, err = r.options(); err != nil {
		return task, err
	}
	if info, err := os.Stat(r.Repo); err == nil && info.IsDir() {
		if task.Repo, err = filepath.Abs(r.Repo); err != nil {
			return task, err
		}
	} else if r.Repo != "" && !filepath.IsAbs(r.Repo) && !strings.Contains(r.Repo, ":") {
		return task, fmt.Errorf("--repo: there is no directory %.80q here, and it is neither a URL nor an absolute path: name one like ., https://host/path or git@host:path", r.Repo)
	}
	return task, task.Check()
}

// followToEnd shows a session until it has ended. Its error is how the session ended, if not well.
func followToEnd(ctx context.Context, stdio Stdio, client *api.Client, id string, from int, asJSON bool) error {
	session, err := follow(ctx, stdio, client, id, from, followOptions{Follow: true, JSON: asJSON, Summary: true})
	if ctx.Err() != nil {
		return &interruptedError{fmt.Sprintf("session %[1]s goes on; follow it with `berth logs -f %[1]s`, end it with `berth stop %[1]s`", shortID(id))}
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
