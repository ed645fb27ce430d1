package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"berth/internal/api"
)

// Show is the verb `berth show`: everything about one session.
type Show struct {
	Target
	ID   *string `arg:"" optional:"" help:"The session, by its id or a part of it; the newest if left out."`
	JSON bool    `name:"json" help:"Write JSON: the session as the agent's API has it."`
}

// Help is the long help.
func (Show) Help() string {
	return `Examples:
  berth show
  berth show 7a63ffb1e2f5
  berth show 7a63ffb1e2f5 --json | jq .tokens

Exit codes: 0 shown; 1 failed, or there is no such session; 2 the id fits several; 3 the agent cannot be reached.`
}

// Run writes the session to stdio.Out.
func (s *Show) Run(ctx context.Context, stdio Stdio) error {
	client, session, err := s.connected(ctx, stdio, s.ID)
	if err != nil {
		return err
	}
	defer client.Close()
	if s.JSON {
		return writeJSON(stdio.Out, session)
	}
	return writeSession(stdio.Out, session)
}

func writeSession(to io.Writer, session *api.Session) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, strings.ReplaceAll(printable(value), "\n", "\n\t"))
		}
	}
	row("id", session.ID)
	row("state", stateText(session, time.Now()))
	row("prompt", session.Prompt)
	row("repository", strings.TrimSpace(session.Repo+" "+session.Ref))
	row("branch", session.Branch)
	row("model", session.Model)
	row("created", session.CreatedAt.Local().Format(time.DateTime))
	if session.EndedAt != nil {
		row("ended", session.EndedAt.Local().Format(time.DateTime))
	}
	row("work", fmt.Sprintf("%s, %s, %s of Claude Code", duration(session.DurationSeconds),
		plural(session.Turns, "turn", "turns"), plural(session.Attempts, "start", "starts")))
	row("spent", fmt.Sprintf("%s, %d tokens in, %d out, %d from the cache", money(session.CostUSD),
		session.Tokens.Input+session.Tokens.CacheWrite, session.Tokens.Output, session.Tokens.CacheRead))
	row("limits", limits(session.Options))
	row("allowed tools", strings.Join(session.AllowedTools, ", "))
	row("disallowed tools", strings.Join(session.DisallowedTools, ", "))
	row("system prompt", session.AppendSystemPrompt)
	row("mcp servers", names(session.MCPServers))
	row("settings", names(session.Settings))
	row("files", session.WorkDir)
	row("pull request", session.PullRequest)
	if session.Error != nil {
		row("error", fmt.Sprintf("%s: %s", session.Error.Code, session.Error.Message))
	}
	row("result", session.Result)
	return table.Flush()
}

// names are the fields of a JSON object. Their values may be secrets.
func names(object json.RawMessage) string {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(object, &fields) // none is none
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

func limits(options api.Options) string {
	var list []string
	if options.MaxTurns > 0 {
		list = append(list, fmt.Sprintf("%d turns", options.MaxTurns))
	}
	if options.MaxBudgetUSD > 0 {
		list = append(list, money(options.MaxBudgetUSD))
	}
	if options.TimeoutSeconds > 0 {
		list = append(list, duration(options.TimeoutSeconds))
	}
	return strings.Join(list, ", ")
}
