package gateway_test

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"berth/internal/gateway"
)

// A session cannot have the agent keep requests without end, and others are not kept from theirs.
func TestASessionsRequestsAreBounded(t *testing.T) {
	const most = 64
	release := make(chan struct{})
	hold := func(w http.ResponseWriter, _ *http.Request, _ int) {
		<-release
		good(w)
	}
	inWorld(t, nil, hold, nil, func(w *world) {
		release = make(chan struct{}) // of this bubble
		var group sync.WaitGroup
		for range most {
			group.Go(func() {
				if got := w.ask(streamBody); got.status != http.StatusOK {
					t.Errorf("one of %d: %d %s", most, got.status, got.message())
				}
			})
		}
		synctest.Wait()
		if got := w.ask(streamBody); got.status != http.StatusTooManyRequests || got.message() != "rate_limit_error: the session has 64 requests under way: no more go at once" {
			t.Errorf("one more: %d %s", got.status, got.message())
		}
		other := w.g.Grant("two", gateway.Budget{})
		group.Go(func() {
			if got := w.askAs(w.t.Context(), other, streamBody); got.status != http.StatusOK {
				t.Errorf("another session's: %d %s", got.status, got.message())
			}
		})
		synctest.Wait()
		close(release)
		group.Wait()
	})
}
