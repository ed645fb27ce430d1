package ops

import (
	"slices"
	"strings"
	"testing"

	"berth/internal/api"
)

// What to type next depends on where the work is.
func TestSummaryTellsWhereTheWorkIs(t *testing.T) {
	done := &api.Delivery{Branch: "berth/b87a348bed5b", Commit: "c"}
	failed := &api.Delivery{Branch: "berth/b87a348bed5b", Commit: "c", Problem: "refused"}
	const pull = "https://example.com/pull/1"
	for name, test := range map[string]struct {
		session  api.Session
		delivery *api.Delivery
		want     []string
	}{
		"no repository": {api.Session{State: api.Succeeded}, nil, []string{"next   berth diff ID · berth send ID \"…\""}},
		"a repository":  {api.Session{State: api.Succeeded, Repo: "/r"}, nil, []string{"next   berth pull ID · berth diff ID · berth send ID \"…\""}},
		"delivered": {
			api.Session{State: api.Succeeded, Repo: "/r"},
			done,
			[]string{"branch  berth/b87a348bed5b", "next   berth diff ID · berth send ID \"…\""},
		},
		"a pull request": {
			api.Session{State: api.Succeeded, Repo: "/r", PullRequest: pull},
			done,
			[]string{"branch  berth/b87a348bed5b", "pull request  " + pull, "next   berth diff ID · berth send ID \"…\""},
		},
		"one of an earlier turn":          {api.Session{State: api.Succeeded, Repo: "/r", PullRequest: pull}, nil, []string{"pull request  " + pull, "next   berth diff ID · berth send ID \"…\""}},
		"one that lacks the latest":       {api.Session{State: api.Succeeded, Repo: "/r", PullRequest: pull}, failed, []string{"pull request  " + pull, "next   berth pull ID · berth diff ID · berth send ID \"…\""}},
		"not delivered":                   {api.Session{State: api.Failed, Repo: "/r"}, failed, []string{"next   berth resume ID · berth show ID · berth pull ID · berth diff ID"}},
		"nothing was cloned":              {api.Session{State: api.Failed, Repo: "/r", Error: api.Errorf(api.CodeCloneFailed, "no")}, nil, []string{"why    clone_failed: no", "next   berth resume ID · berth show ID"}},
		"it goes on: somebody resumed it": {api.Session{State: api.Queued, Repo: "/r"}, nil, nil},
	} {
		test.session.ID = "01a20627-df5e-7b97-99ab-b87a348bed5b"
		got := summary(&test.session, test.delivery, "berth", "", false)[1:]
		for i := range got {
			got[i] = strings.ReplaceAll(strings.TrimSpace(got[i]), " b87a348bed5b", " ID")
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
