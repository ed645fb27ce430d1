package claude

import (
	"slices"
	"testing"
	"time"
)

const (
	promptLine    = `{"type":"user","uuid":"u","message":{"role":"user","content":"begin"}}`
	replyLine     = `{"type":"assistant","uuid":"v","message":{"stop_reason":"end_turn","content":[{"type":"text","text":"done"}]}}`
	continuedLine = `{"type":"user","isMeta":true,"uuid":"w","message":{"role":"user","content":"` + ContinueText + `"}}`
)

// A process that has a turn to take up hears of nothing before it has: it would take it for its next prompt.
func TestMessagesWaitForATurnThatWasCutOff(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		transcript []string
		hold       time.Duration
		want       []string
	}{
		"in the middle of a turn":     {[]string{promptLine}, 0, []string{"begun", "m", "n"}},
		"after a turn":                {[]string{promptLine, replyLine}, 0, []string{"early", "begun", "m", "n"}},
		"a turn taken up in vain":     {[]string{promptLine, continuedLine}, 0, []string{"early", "begun", "m", "n"}},
		"a turn that is not taken up": {[]string{`{"type":"user","uuid":"u","message":{"role":"user","content":"quiet"}}`}, 50 * time.Millisecond, []string{"m", "n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := goOn(t, testDirs(t), test.hold, test.transcript...)
			p.Send("m", "uuid")
			p.Send("n", "uuid")
			var got []string
			for range test.want {
				got = append(got, next(t, p))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("the lines are %q, want %q", got, test.want)
			}
		})
	}
}

// Of several messages to a process that does not take its turn up by itself, the first one has it do so; the others wait.
func TestTheFirstMessageHasATurnTakenUp(t *testing.T) {
	t.Parallel()
	p := goOn(t, testDirs(t), time.Hour, `{"type":"user","uuid":"u","message":{"role":"user","content":"do it"}}`, continuedLine)
	p.Send("m", "uuid\nsay "+`{"type":"system","subtype":"init","uuid":"begun"}`)
	p.Send("n", "uuid")
	for _, want := range []string{"early", "m", "begun", "n"} {
		if got := next(t, p); got != want {
			t.Fatalf("%q comes, not %q", got, want)
		}
	}
}
