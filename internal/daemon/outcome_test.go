package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/gateway"
)

var intents = map[string]intent{
	"none": none, "stalled": stalled, "lingered": lingered, "timeout": timeout, "volume": volume, "shutdown": shutdown, "cancel": cancel,
	"parked": parked, "noKey": noKey, "fenced": fenced,
}

var results = map[string]*claude.Line{
	"none":      nil,
	"success":   {Subtype: "success"},
	"api":       {Subtype: "success", IsError: true, Result: "API Error"},
	"turns":     {Subtype: "error_max_turns", IsError: true},
	"budget":    {Subtype: "error_max_budget_usd", IsError: true},
	"execution": {Subtype: "error_during_execution", IsError: true},
	"unknown":   {Subtype: "error_of_a_later_version", IsError: true},
	"odd":       {Subtype: "error_of_a_later_version"},
}

// expected is the table that outcome must come to: the code of the error of a failed session, or the state.
func expected(why, result string, code, open, idle int, limit gateway.Scope) string {
	switch {
	case why == "volume":
		return "interrupted"
	case result == "success" && open == 0 && (code == 0 || why == "lingered"):
		return "succeeded"
	case why == "cancel":
		return "cancelled"
	case why == "timeout":
		return "timeout"
	case why == "parked":
		return "waiting"
	case why == "shutdown", why == "noKey", why == "fenced":
		return "interrupted"
	case limit == gateway.ScopeSession:
		return "max_budget"
	case limit != "":
		return "spend_limit"
	case result == "turns":
		return "max_turns"
	case result == "api":
		return "api_error"
	case (result == "execution" || result == "unknown" || result == "budget") && why == "none" && code > 0 && code < 128:
		return "claude_failed"
	case idle >= maxIdleStarts:
		return "claude_failed"
	}
	return "interrupted"
}

func TestOutcome(t *testing.T) {
	for why, intent := range intents {
		for name, result := range results {
			for _, code := range []int{0, 1, 2, 126, 127, 130, 137, 143} {
				for _, open := range []int{0, 1} {
					for _, idle := range []int{0, maxIdleStarts - 1, maxIdleStarts} {
						for _, scope := range []gateway.Scope{"", gateway.ScopeSession, gateway.ScopeDay} {
							e := ending{intent: intent, exit: claude.Exit{Code: code, Stderr: "it\nhurts"}, result: result, open: open, idle: idle, reason: "so\nit is"}
							if scope != "" {
								e.limit = &gateway.Limit{Scope: scope, LimitUSD: 1, SpentUSD: 1.01}
							}
							state, event := outcome(e)
							got := string(state)
							if event.Error != nil {
								got = string(event.Error.Code)
							}
							if (state == api.Failed) != (event.Error != nil) || strings.Contains(event.Reason, "\n") {
								t.Errorf("%s with %+v", state, event)
							}
							if want := expected(why, name, code, open, idle, scope); got != want {
								t.Errorf("intent %s, result %s, exit %d, %d open, %d idle, limit %q: %s, not %s", why, name, code, open, idle, scope, got, want)
							}
						}
					}
				}
			}
		}
	}
}

// Sessions leave the queue in the order in which they were asked, each once.
func TestTheQueueIsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var model []waiting
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				w := waiting{asked: time.Unix(rapid.Int64Range(0, 5).Draw(t, "asked"), 0), id: rapid.StringMatching("[a-c]").Draw(t, "id")}
				q.push(w)
				if !slices.Contains(model, w) {
					model = append(model, w)
					slices.SortFunc(model, waiting.compare)
				}
			},
			"pop": func(t *rapid.T) {
				if len(model) == 0 {
					if q.len() != 0 {
						t.Fatalf("%d wait, and none should", q.len())
					}
					return
				}
				if got := q.pop(); got != model[0] {
					t.Fatalf("%v comes, not %v", got, model[0])
				}
				model = model[1:]
			},
			"": func(t *rapid.T) {
				if q.len() != len(model) {
					t.Fatalf("%d wait, not %d", q.len(), len(model))
				}
			},
		})
	})
}

func TestPausesDoubleUpToAMinute(t *testing.T) {
	for times, want := range map[int]time.Duration{-1: 0, 0: 0, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1000: time.Minute} {
		if got := pause(times); got != want {
			t.Errorf("after %d times %v, not %v", times, got, want)
		}
	}
}

func TestMessagesOfOthersFitOnALine(t *testing.T) {
	if got := oneLine("  a\n\tb  "); got != "a b" {
		t.Errorf("it is %q", got)
	}
	if got := oneLine(strings.Repeat("ü", 600)); got != strings.Repeat("ü", 500)+"…" {
		t.Errorf("it is %q", got)
	}
}

// A session whose Claude Code works and is ended again and again, as by its own commands, does not cost without end.
func TestASessionThatIsAlwaysCutOffIsGivenUp(t *testing.T) {
	for cuts := range maxCuts {
		state, event := outcome(ending{exit: claude.Exit{Code: 137}, cuts: cuts})
		switch last := cuts == maxCuts-1; {
		case !last && (state != api.Interrupted || !event.Cut):
			t.Errorf("after %d cuts it is %s: %+v", cuts, state, event)
		case last && (state != api.Failed || event.Error.Code != api.CodeClaudeFailed):
			t.Errorf("after %d cuts it is %s: %+v", cuts, state, event)
		}
	}
	if state, event := outcome(ending{intent: shutdown, cuts: maxCuts}); state != api.Interrupted || event.Cut {
		t.Errorf("a stop of the agent counts: %s, %+v", state, event)
	}
}
