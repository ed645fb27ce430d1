package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/gateway"
)

// byKey refuses all keys but those.
func byKey(taken ...string) func(r *http.Request) bool {
	return func(r *http.Request) bool { return slices.Contains(taken, r.Header.Get("X-Api-Key")) }
}

// A key that the API refuses ends the request at once, and holds all others up until there is another one.
func TestARefusedKey(t *testing.T) {
	takes := byKey("sk-another")
	messages := func(w http.ResponseWriter, r *http.Request, _ int) {
		if !takes(r) {
			fail(w, 401, "authentication_error", "invalid x-api-key "+r.Header.Get("X-Api-Key"), "X-Echo", r.Header.Get("X-Api-Key"))
			return
		}
		good(w)
	}
	probe := func(w http.ResponseWriter, r *http.Request) {
		if !takes(r) {
			fail(w, 401, "authentication_error", "invalid x-api-key")
		}
	}
	inWorld(t, nil, messages, probe, func(w *world) {
		if state := w.g.Key(); state.State != "set" {
			t.Errorf("%+v", state)
		}
		reply := w.ask(streamBody)
		if reply.status != 403 || reply.message() != "permission_error: the agent's API key is refused: the model's API says: invalid x-api-key …" || reply.after != 0 || reply.header.Get("X-Echo") != "" {
			t.Errorf("%+v", reply)
		}
		if state := w.g.Key(); state.State != "refused" || !state.Since.Equal(w.began) || !strings.Contains(state.Why, "invalid x-api-key") || strings.Contains(state.Why, key) {
			t.Errorf("%+v", state)
		}
		for range 20 {
			<-time.After(10 * time.Second)
			if reply := w.ask(streamBody); reply.status != 403 || reply.after != 0 {
				t.Errorf("while it is refused: %+v", reply)
			}
		}
		if len(w.asked) != 1 || w.probed() != 3 || len(w.refused) != 21 || len(w.reports) != 1 || w.reports[0].CostUSD != 0 || w.reports[0].Status != 401 {
			t.Errorf("%d requests, probes at %v, told %d times, %+v", len(w.asked), w.probes, len(w.refused), w.reports)
		}
		w.setKey("  sk-wrong-too\n")
		if reply := w.ask(streamBody); reply.status != 403 || len(w.asked) != 1 || w.probed() != 4 {
			t.Errorf("another wrong one: %+v, probes at %v", reply, w.probes)
		}
		w.setKey("\tsk-another \r\n")
		if reply := w.ask(streamBody); reply.status != 200 || len(w.asked) != 2 || w.probed() != 5 {
			t.Errorf("a good one: %+v, probes at %v", reply, w.probes)
		}
		if state := w.g.Key(); state != (gateway.KeyState{State: "set"}) || w.keys[len(w.keys)-1] != "sk-another" {
			t.Errorf("%+v, %q", state, w.keys)
		}
	})
	// Nobody has to ask: another key is found in seconds, and the same one again within a minute.
	inWorld(t, nil, messages, probe, func(w *world) {
		w.ask(streamBody)
		<-time.After(30 * time.Second)
		w.setKey("sk-another")
		<-time.After(2*time.Second + 1)
		synctest.Wait()
		if state := w.g.Key(); state.State != "set" || len(w.asked) != 1 {
			t.Errorf("%+v, probes at %v", state, w.probes)
		}
	})
}

// A refused key that the API takes after all, or an upstream that knows no probe.
func TestAKeyThatIsTakenAgain(t *testing.T) {
	for name, probe := range map[string]http.HandlerFunc{
		"taken":         func(http.ResponseWriter, *http.Request) {},
		"unknown to it": nil,
	} {
		inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, number int) {
			if number == 1 {
				fail(w, 401, "authentication_error", "invalid x-api-key")
				return
			}
			good(w)
		}, probe, func(w *world) {
			w.ask(streamBody)
			<-time.After(59 * time.Second)
			synctest.Wait()
			if state := w.g.Key(); state.State != "refused" || w.probed() != 0 {
				t.Errorf("%s: %+v, probes at %v", name, state, w.probes)
			}
			<-time.After(4 * time.Second)
			synctest.Wait()
			if state := w.g.Key(); state.State != "set" || w.probed() != 1 {
				t.Errorf("%s: %+v, probes at %v", name, state, w.probes)
			}
			if reply := w.ask(streamBody); reply.status != 200 {
				t.Errorf("%s: %+v", name, reply)
			}
		})
	}
	// A probe that has no answer says nothing.
	inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, _ int) { fail(w, 401, "authentication_error", "no") }, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(529) }, func(w *world) {
		w.ask(streamBody)
		<-time.After(149 * time.Second)
		synctest.Wait()
		if state := w.g.Key(); state.State != "refused" || w.probed() != 2 {
			t.Errorf("%+v, probes at %v", state, w.probes)
		}
	})
}

// A 403 may be about the key, or about what one request wants: a probe tells.
func TestForbidden(t *testing.T) {
	forbid := func(kind string) play {
		return func(w http.ResponseWriter, _ *http.Request, _ int) {
			fail(w, 403, kind, "Your API key does not have permission to use the specified resource.")
		}
	}
	for name, test := range map[string]struct {
		kind    string
		probe   http.HandlerFunc
		refused bool
	}{
		"the key, by the probe":     {"permission_error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, true},
		"the key, without a probe":  {"permission_error", nil, true},
		"the model, by the probe":   {"permission_error", func(http.ResponseWriter, *http.Request) {}, false},
		"something between us both": {"blocked", nil, false},
	} {
		inWorld(t, nil, forbid(test.kind), test.probe, func(w *world) {
			reply := w.ask(streamBody)
			if state := w.g.Key().State; reply.status != 403 || (state == "refused") != test.refused || (len(w.refused) == 1) != test.refused {
				t.Errorf("%s: %+v, %s", name, reply, state)
			}
			if !test.refused && reply.message() != test.kind+": Your API key does not have permission to use the specified resource." {
				t.Errorf("%s: %s", name, reply.message())
			}
		})
	}
}

// A key that was replaced while a request was under way refuses nobody.
func TestAKeyThatIsReplacedMeanwhile(t *testing.T) {
	var w *world
	inWorld(t, nil, func(rw http.ResponseWriter, r *http.Request, _ int) {
		if r.Header.Get("X-Api-Key") == key {
			w.setKey("sk-newer")
			fail(rw, 401, "authentication_error", "invalid x-api-key")
			return
		}
		good(rw)
	}, nil, func(its *world) {
		w = its
		if reply := w.ask(streamBody); reply.status != 200 || len(w.refused) != 0 || w.g.Key().State != "set" || reply.after != 0 {
			t.Errorf("%+v, %q", reply, w.refused)
		}
	})
}

// What cannot be a key goes nowhere, and is not shown.
func TestKeysThatAreNone(t *testing.T) {
	for _, odd := range []string{"sk-ant secret", "sk-ant\nsecret", "sk-\x00secret", "sk-sécret", "export ANTHROPIC_API_KEY=sk-secret"} {
		inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, _ int) { good(w) }, nil, func(w *world) {
			w.setKey(odd)
			reply, state := w.ask(streamBody), w.g.Key()
			if reply.status != 403 || !strings.Contains(reply.message(), "set it again") || len(w.asked)+w.probed() != 0 || len(w.refused) != 1 {
				t.Errorf("%q: %+v", odd, reply)
			}
			if all := fmt.Sprint(reply.text, state.Why, w.refused, w.logged.String()); state.State != "refused" || strings.Contains(all, "cret") {
				t.Errorf("%q: %+v, %s", odd, state, all)
			}
			w.setKey("")
			if state := w.g.Key(); state.State != "missing" {
				t.Errorf("%+v", state)
			}
			w.setKey(key)
			if reply := w.ask(streamBody); reply.status != 200 || w.g.Key().State != "set" {
				t.Errorf("%+v", reply)
			}
		})
	}
}

func TestStatesOfTheKey(t *testing.T) {
	for want, config := range map[string]gateway.Config{
		"missing": {}, "set": {Key: fixed}, "not needed": {NoKey: true},
	} {
		if state := gateway.New(config).Key(); state.State != want {
			t.Errorf("%+v, want %s", state, want)
		}
	}
}

// Whatever the upstream does with the key, the session does not see it.
func TestErrorsDoNotShowTheKey(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 413, 418, 500, 529} {
		inWorld(t, func(c *gateway.Config) { c.Patience = time.Millisecond }, func(w http.ResponseWriter, r *http.Request, _ int) {
			text := strings.Repeat(r.Header.Get("X-Api-Key")+" ", 3)
			w.Header().Set("X-Echo", text)
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}, nil, func(w *world) {
			reply := w.ask(streamBody)
			if strings.Contains(fmt.Sprint(reply), key) || reply.err != nil || status != 401 && reply.text != "… … … " {
				t.Errorf("%d: %+v", status, reply)
			}
		})
	}
}

// Several sessions on several connections, while keys, budgets and grants change: for the race detector.
func TestManyAtOnce(t *testing.T) {
	inWorld(t, func(c *gateway.Config) {
		ledger, err := gateway.OpenLedger("", "", gateway.Limits{DayUSD: 1}, time.Now)
		if err != nil {
			t.Error(err)
		}
		c.Ledger = ledger
	}, func(w http.ResponseWriter, _ *http.Request, number int) {
		switch number % 7 {
		case 1:
			fail(w, 529, "overloaded_error", "Overloaded")
		case 2:
			fail(w, 401, "authentication_error", "invalid x-api-key")
		case 3:
			stream(w, startText, wordText)
			panic(http.ErrAbortHandler)
		default:
			good(w)
		}
	}, func(http.ResponseWriter, *http.Request) {}, func(w *world) {
		var group sync.WaitGroup
		for session := range 8 {
			group.Go(func() {
				name := fmt.Sprint("session-", session)
				for range 10 {
					token := w.g.Grant(name, gateway.Budget{LimitUSD: 0.01})
					w.askAs(w.t.Context(), token, streamBody)
					w.g.Active(name)
					w.g.Exceeded(name)
					w.g.Key()
					w.ledger.Spend()
					if session%2 == 0 {
						w.g.Revoke(name)
					}
				}
			})
		}
		group.Wait()
		total := 0.0
		for session := range 8 {
			total += w.ledger.Session(fmt.Sprint("session-", session))
		}
		if spent := w.ledger.Spend().DayUSD; !near(total, spent) || spent == 0 {
			t.Errorf("%g by session, %g by day", total, spent)
		}
	})
}
