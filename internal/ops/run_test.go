package ops

import (
	"strings"
	"testing"

	"berth/internal/api"
)

// The summary has said why a session failed, and its last line does not say so again. Exit codes do not depend
// on that; and a session's codes are not those of a request: bad_request exits with 2 there only.
func TestEnded(t *testing.T) {
	const id = "01a20627-df5e-7b97-99ab-b87a348bed5b"
	for _, test := range []struct {
		session           api.Session
		summarised, alone string
		code              int
	}{
		{api.Session{State: api.Succeeded}, "", "", ExitOK},
		{api.Session{State: api.Cancelled}, "session b87a348bed5b was cancelled", "session b87a348bed5b was cancelled", ExitFailed},
		{
			api.Session{State: api.Failed, Error: api.Errorf(api.CodeClaudeFailed, "it\nfailed")},
			"session b87a348bed5b failed (claude_failed)", "session b87a348bed5b failed: claude_failed: it failed", ExitFailed,
		},
		{
			api.Session{State: api.Failed, Error: api.Errorf(api.CodeMaxTurns, "it reached 3")},
			"session b87a348bed5b failed (max_turns)", "session b87a348bed5b failed: max_turns: it reached 3", ExitLimit,
		},
		{
			api.Session{State: api.Failed, Error: api.Errorf(api.CodeBadRequest, "odd")},
			"session b87a348bed5b failed (bad_request)", "session b87a348bed5b failed: bad_request: odd", ExitFailed,
		},
	} {
		test.session.ID = id
		for summarised, want := range map[bool]string{true: test.summarised, false: test.alone} {
			err := ended(&test.session, summarised)
			said := ""
			if err != nil {
				said = strings.Join(Lines(err), "\n")
			}
			if said != want || ExitCode(err) != test.code {
				t.Errorf("%s: got %q and exit code %d, want %q and %d", test.session.State, said, ExitCode(err), want, test.code)
			}
		}
	}
}
