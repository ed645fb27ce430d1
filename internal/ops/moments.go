package ops

import (
	"fmt"
	"strings"

	"berth/internal/api"
)

// moment shows an event that is about the session's files or its requests to the model, and not about what it
// says or does. Those that come all the time are shown on demand only.
func (t *transcript) moment(event *api.Event) {
	switch event.Type {
	case api.EventPrepared:
		t.detail(preparedText(event))
	case api.EventRequest:
		if event.Request != nil {
			t.metered += event.Request.CostUSD
			t.cost = max(t.cost, t.metered)
			t.detail(requestText(event.Request))
		}
	case api.EventCheckpoint:
		if event.Checkpoint != nil {
			t.detail(checkpointText(event.Checkpoint))
		}
	case api.EventRestore:
		text := "its files are made anew: there was no checkpoint of them"
		if event.Checkpoint != nil {
			text = "its files are back, as of checkpoint " + short(event.Checkpoint.Commit)
		}
		t.notice(dim, text)
	case api.EventDelivery:
		if event.Delivery != nil {
			t.delivered = event.Delivery
			style := green
			if event.Delivery.Problem != "" || event.Delivery.Note != "" {
				style = yellow
			}
			t.notice(style, deliveryText(event.Delivery))
		}
	default:
	}
}

// detail shows what few want to know.
func (t *transcript) detail(text string) {
	if t.verbose {
		t.notice(dim, text)
	}
}

func preparedText(event *api.Event) string {
	from := "nothing"
	if event.Base != "" {
		from = short(event.Base)
	}
	text := "work dir " + oneLine(event.WorkDir, 1000) + ", from " + from
	if event.Branch != "" {
		text += ", on branch " + oneLine(event.Branch, 200)
	}
	return text
}

func requestText(request *api.Request) string {
	model := oneLine(request.Model, 100)
	if request.PricedAs != "" {
		model += " (priced as " + oneLine(request.PricedAs, 100) + ")"
	}
	tokens := request.Tokens
	text := fmt.Sprintf("request to %s: %d, %.1f s, %s, %s tokens in, %s out", model, request.Status, request.Seconds, money(request.CostUSD),
		count(tokens.Input+tokens.CacheRead+tokens.CacheWrite), count(tokens.Output))
	if request.Status == 0 {
		text = strings.Replace(text, ": 0,", ": no reply,", 1)
	}
	if request.Tries > 1 {
		text += fmt.Sprintf(", %d tries", request.Tries)
	}
	if request.Searches > 0 {
		text += ", " + plural(request.Searches, "web search", "web searches")
	}
	if request.Cut {
		text += ", cut off"
	}
	return text
}

func checkpointText(checkpoint *api.Checkpoint) string {
	text := fmt.Sprintf("checkpoint %s in %.1f s", short(checkpoint.Commit), checkpoint.Seconds)
	if len(checkpoint.LeftOut) > 0 {
		text += "; left out: " + oneLine(strings.Join(checkpoint.LeftOut, ", "), 500)
	}
	return text
}

// deliveryText says where a session's work is, and what went wrong on the way.
func deliveryText(delivery *api.Delivery) string {
	var parts []string
	if delivery.PullRequest != "" {
		parts = append(parts, "pull request "+oneLine(delivery.PullRequest, 1000))
	}
	switch {
	case delivery.Problem != "":
		parts = append(parts, oneLine(delivery.Problem, 1000))
	case delivery.PullRequest == "" && delivery.Commit != "":
		parts = append(parts, "branch "+oneLine(delivery.Branch, 200)+" was pushed to its origin")
	}
	if delivery.Note != "" {
		parts = append(parts, oneLine(delivery.Note, 1000))
	}
	return "delivery: " + strings.Join(parts, "; ")
}

// short is a commit for people.
func short(commit string) string { return oneLine(commit[:min(len(commit), 10)], 10) }
