package ops

import (
	"fmt"
	"path/filepath"
	"strings"

	"berth/internal/api"
)

// summary says how a session fared, why it failed, where its work is, and what to type next. delivery is what
// became of its work, as far as that was heard; nil if it was not. flags name the agent in commands.
func summary(session *api.Session, delivery *api.Delivery, program, flags string, colour bool) []string {
	mark, style := "…", yellow
	switch session.State {
	case api.Succeeded:
		mark, style = "✓", green
	case api.Failed:
		mark, style = "✗", red
	case api.Cancelled:
		mark, style = "■", red
	default:
	}
	tokens := session.Tokens
	line := fmt.Sprintf(" · %s · %s · %s · %s tokens in, %s out", plural(session.Turns, "turn", "turns"),
		duration(session.DurationSeconds), money(session.CostUSD), count(tokens.Input+tokens.CacheRead+tokens.CacheWrite), count(tokens.Output))
	lines := []string{styled(colour, style, mark+" "+string(session.State)) + line}
	if session.State == api.Failed && session.Error != nil {
		lines = append(lines, "  why    "+reason(session.Error))
	}
	if session.WorkDir != "" && flags == "" { // elsewhere it is not to be looked at
		lines = append(lines, "  files  "+oneLine(session.WorkDir, 4096))
	}
	delivered := delivery != nil && delivery.Problem == "" && delivery.Commit != ""
	if delivered {
		lines = append(lines, "  branch  "+oneLine(delivery.Branch, 200))
	}
	if session.PullRequest != "" {
		lines = append(lines, "  pull request  "+oneLine(session.PullRequest, 1000))
	}
	done := delivered || delivery == nil && session.PullRequest != ""
	if next := nextSteps(session, done, commandName(program), flags); len(next) > 0 {
		lines = append(lines, "  next   "+strings.Join(next, " · "))
	}
	return lines
}

// nextSteps are what to type after a session's end.
func nextSteps(session *api.Session, delivered bool, berth, flags string) (steps []string) {
	step := func(verb, rest string) { steps = append(steps, berth+" "+verb+" "+shortID(session.ID)+flags+rest) }
	bare := session.Error != nil && session.Error.Code == api.CodeCloneFailed // it has no files
	switch session.State {
	case api.Failed, api.Cancelled:
		step("resume", "")
		step("show", "")
	case api.Succeeded:
	default:
		return nil
	}
	if !bare {
		if session.Repo != "" && !delivered {
			step("pull", "")
		}
		step("diff", "")
	}
	if session.State == api.Succeeded {
		step("send", ` "…"`)
	}
	return steps
}

// reason is why a session failed, for people and with the code.
func reason(problem *api.Error) string {
	return oneLine(string(problem.Code), 60) + ": " + oneLine(problem.Message, 1000)
}

// commandName is how the program is called from where it was called: as it was typed, if that is short.
func commandName(typed string) string {
	if len(typed) > 20 {
		return filepath.Base(typed)
	}
	return typed
}
