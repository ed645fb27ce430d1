package gateway_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"berth/internal/gateway"
)

// A session that is over its limit is told so, in a way that ends its turn; a higher limit lets it go on.
func TestASessionsLimit(t *testing.T) {
	inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, _ int) { good(w) }, nil, func(w *world) {
		token := w.g.Grant("two", gateway.Budget{LimitUSD: 1.5 * goodCost})
		for range 2 {
			if reply := w.askAs(w.t.Context(), token, streamBody); reply.status != 200 {
				t.Errorf("%+v", reply)
			}
		}
		if _, over := w.g.Exceeded("two"); over {
			t.Error("no request was refused yet")
		}
		reply := w.askAs(w.t.Context(), token, streamBody)
		if reply.status != 402 || reply.message() != "billing_error: the session has reached its limit: $0.0012 of $0.0009 are spent; resume it with a higher limit to go on" {
			t.Errorf("%+v", reply)
		}
		w.g.Revoke("two")
		limit, over := w.g.Exceeded("two")
		if !over || limit.Scope != gateway.ScopeSession || !near(limit.LimitUSD, 1.5*goodCost) || !near(limit.SpentUSD, 2*goodCost) || !limit.Resets.IsZero() {
			t.Errorf("%+v, %t", limit, over)
		}
		if reply := w.ask(streamBody); reply.status != 200 {
			t.Errorf("another session: %+v", reply)
		}
		token = w.g.Grant("two", gateway.Budget{LimitUSD: 1})
		if _, over := w.g.Exceeded("two"); over {
			t.Error("it has a higher limit now")
		}
		if reply := w.askAs(w.t.Context(), token, streamBody); reply.status != 200 || len(w.asked) != 4 {
			t.Errorf("%+v, %d requests", reply, len(w.asked))
		}
	})
}

// Four sessions under one limit of the day, with requests that might each reach it: it is passed by one at most.
func TestTheDaysLimit(t *testing.T) {
	change := func(c *gateway.Config) {
		ledger, err := gateway.OpenLedger("", "", gateway.Limits{DayUSD: 5.5 * goodCost}, time.Now)
		if err != nil {
			t.Error(err)
		}
		c.Ledger = ledger
	}
	inWorld(t, change, func(w http.ResponseWriter, _ *http.Request, _ int) {
		<-time.After(10 * time.Second)
		good(w)
	}, nil, func(w *world) {
		var group sync.WaitGroup
		for session := range 4 {
			name := fmt.Sprint("session-", session)
			token := w.g.Grant(name, gateway.Budget{})
			group.Go(func() {
				for {
					if reply := w.askAs(w.t.Context(), token, streamBody); reply.status != 200 {
						if limit, over := w.g.Exceeded(name); reply.status != 402 || !over || limit.Scope != gateway.ScopeDay || limit.Resets.IsZero() {
							t.Errorf("%+v, %+v", reply, limit)
						}
						return
					}
				}
			})
		}
		group.Wait()
		if spent := w.ledger.Spend().DayUSD; !near(spent, 6*goodCost) || len(w.asked) != 6 {
			t.Errorf("%g are spent of %g, %d requests", spent, 5.5*goodCost, len(w.asked))
		}
		if len(w.notices) == 0 || w.notices[0] != "a request waits until others have ended: together they might go over the limit of the day" {
			t.Errorf("notices %q", w.notices)
		}
	})
}

// A request that has waited too long for others is given back to Claude Code, which asks again.
func TestWaitingForOthersTakesNoLongerThanPatience(t *testing.T) {
	change := func(c *gateway.Config) { c.Patience, c.Stall = time.Minute, time.Hour }
	inWorld(t, change, func(w http.ResponseWriter, _ *http.Request, _ int) {
		<-time.After(10 * time.Minute)
		good(w)
	}, nil, func(w *world) {
		token := w.g.Grant("two", gateway.Budget{LimitUSD: goodCost})
		var group sync.WaitGroup
		group.Go(func() { w.askAs(w.t.Context(), token, streamBody) })
		<-time.After(time.Second)
		reply := w.askAs(w.t.Context(), token, streamBody)
		if reply.status != 503 || reply.after != time.Minute || len(w.asked) != 1 {
			t.Errorf("%+v", reply)
		}
		group.Wait()
	})
}
