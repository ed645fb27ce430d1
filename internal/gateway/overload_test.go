package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// An API that is overloaded for a minute costs a request that minute and no more than a wait, and no money.
func TestAMinuteOfOverload(t *testing.T) {
	var began time.Time
	inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, number int) {
		if number == 1 {
			began = time.Now()
		}
		if time.Since(began) < time.Minute {
			fail(w, 529, "overloaded_error", "Overloaded")
			return
		}
		good(w)
	}, nil, func(w *world) {
		reply := w.ask(streamBody)
		if reply.status != http.StatusOK || reply.after < time.Minute || reply.after > 2*time.Minute {
			t.Errorf("%d after %s: %s", reply.status, reply.after, reply.message())
		}
		// Waits double from a second, less up to half of that: five to seven of them make a minute.
		if tries := len(w.asked); tries < 6 || tries > 9 {
			t.Errorf("%d tries at %v", tries, w.asked)
		}
		if spent := w.ledger.Session("one"); !near(spent, goodCost) {
			t.Errorf("$%g are spent, not $%g", spent, goodCost)
		}
		if last := w.notices[len(w.notices)-1]; !strings.HasPrefix(last, "the model's API is overloaded (529): waiting ") {
			t.Errorf("the last notice is %q", last)
		}
	})
}
