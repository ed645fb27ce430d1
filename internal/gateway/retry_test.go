package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/gateway"
)

// bubbleStart is when the clock of a bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// fault is something that goes wrong with a request, and what the session sees of it.
type fault struct {
	upstream play
	status   int           // that the session sees
	says     string        // what its error says
	cut      bool          // the reply breaks off
	tries    int           // at least
	least    time.Duration // how long it takes
	most     time.Duration
	usd      float64
	lost     int // tries that had no answer, and may have cost their input: at least
	parked   time.Duration
	notice   string
}

// once answers the first request so, and the others well.
func once(fault func(w http.ResponseWriter)) play {
	return func(w http.ResponseWriter, _ *http.Request, number int) {
		if number == 1 {
			fault(w)
			return
		}
		good(w)
	}
}

func always(fault func(w http.ResponseWriter)) play {
	return func(w http.ResponseWriter, _ *http.Request, _ int) { fault(w) }
}

// status answers with an error, and headers.
func status(status int, header ...string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) { fail(w, status, "some_error", "the reason", header...) }
}

func abort(http.ResponseWriter) { panic(http.ErrAbortHandler) }

var faults = map[string]fault{
	"nothing":               {upstream: once(good), status: 200, tries: 1, usd: goodCost},
	"429":                   {upstream: once(status(429)), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost, notice: "limits the rate of requests (429): waiting "},
	"500":                   {upstream: once(status(500)), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost, notice: "fails (500): waiting "},
	"502":                   {upstream: once(status(502)), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost},
	"503":                   {upstream: once(status(503)), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost},
	"504":                   {upstream: once(status(504)), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost},
	"529":                   {upstream: once(status(529)), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost, notice: "is overloaded (529): waiting "},
	"408 that is to be":     {upstream: once(status(408, "X-Should-Retry", "true")), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost},
	"529 that is not to be": {upstream: once(status(529, "X-Should-Retry", "false")), status: 529, says: "some_error: the reason", tries: 1},
	"retry after 7 s":       {upstream: once(status(429, "Retry-After", "7")), status: 200, tries: 2, least: 7 * time.Second, most: 8 * time.Second, usd: goodCost},
	"retry after a date":    {upstream: once(status(529, "Retry-After", bubbleStart.Add(90*time.Second).Format(http.TimeFormat))), status: 200, tries: 2, least: 90 * time.Second, most: 91 * time.Second, usd: goodCost},
	"retry after nonsense":  {upstream: once(status(529, "Retry-After", "soon")), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost},
	"retry at once":         {upstream: once(status(529, "Retry-After", "0")), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost},
	"a limit's reset":       {upstream: once(status(429, "Anthropic-Ratelimit-Tokens-Reset", bubbleStart.Add(40*time.Second).Format(time.RFC3339), "Anthropic-Ratelimit-Tokens-Remaining", "0", "Anthropic-Ratelimit-Requests-Reset", bubbleStart.Add(time.Hour).Format(time.RFC3339), "Anthropic-Ratelimit-Requests-Remaining", "5")), status: 200, tries: 2, least: 40 * time.Second, most: 42 * time.Second, usd: goodCost},
	"a unified limit":       {upstream: once(status(429, "Anthropic-Ratelimit-Unified-Reset", fmt.Sprint(bubbleStart.Add(2*time.Hour).Unix()))), status: 429, says: "rate_limit_error: the model's API limits the rate of requests (429): the reason; it names 2000-01-01 02:00:00 UTC", tries: 1, parked: 2 * time.Hour},
	"retry after 3 h":       {upstream: once(status(429, "Retry-After", "10800")), status: 429, says: "rate_limit_error: ", tries: 1, parked: 3 * time.Hour},
	"retry 529 after 1 h":   {upstream: once(status(529, "Retry-After", "3600")), status: 429, says: "rate_limit_error: ", tries: 1, parked: time.Hour},
	"the account's limit": {upstream: once(func(w http.ResponseWriter) {
		fail(w, 400, "invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2000-01-02 at 00:00 UTC.")
	}), status: 429, says: "rate_limit_error: You have reached", tries: 1, parked: 24 * time.Hour},
	"the account's, past": {upstream: once(func(w http.ResponseWriter) {
		fail(w, 400, "invalid_request_error", "You will regain access on 1999-01-02 at 00:00 UTC.")
	}), status: 400, says: "invalid_request_error: You will", tries: 1},
	"reset":                  {upstream: once(abort), lost: 1, status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost, notice: "cannot be reached"},
	"400":                    {upstream: once(status(400)), status: 400, says: "some_error: the reason", tries: 1},
	"404":                    {upstream: once(status(404)), status: 404, says: "some_error: the reason", tries: 1},
	"413":                    {upstream: once(status(413)), status: 413, says: "some_error: the reason", tries: 1},
	"a redirection":          {upstream: once(status(307, "Location", "http://elsewhere.test/")), status: 502, says: "api_error: the model's API at upstream.test answers with a redirection (307): set ANTHROPIC_BASE_URL to where it is", tries: 1},
	"529 for ever":           {upstream: always(status(529)), status: 529, says: "some_error: the reason", tries: 10, least: 8 * time.Minute, most: 10 * time.Minute},
	"resets for ever":        {upstream: always(abort), lost: 10, status: 502, says: "api_error: the model's API at upstream.test cannot be reached", tries: 10, least: 8 * time.Minute, most: 10 * time.Minute},
	"an error in the stream": {upstream: once(func(w http.ResponseWriter) { stream(w, `{"type":"error","error":{"type":"overloaded_error"}}`) }), status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost, notice: "is overloaded (529)"},
	"an error in the middle": {upstream: once(func(w http.ResponseWriter) {
		stream(w, startText, wordText, `{"type":"error","error":{"type":"overloaded_error"}}`)
	}), status: 200, cut: true, tries: 1, usd: (100*3 + 4*15) / 1e6},
	"a lasting one in it": {upstream: once(func(w http.ResponseWriter) { stream(w, `{"type":"error","error":{"type":"invalid_request_error"}}`) }), status: 200, tries: 1},
	"cut at once":         {upstream: once(func(w http.ResponseWriter) { stream(w); _ = http.NewResponseController(w).Flush(); abort(w) }), lost: 1, status: 200, tries: 2, least: time.Second / 2, most: time.Second, usd: goodCost},
	"cut in the middle":   {upstream: once(func(w http.ResponseWriter) { stream(w, startText, wordText); abort(w) }), status: 200, cut: true, tries: 1, usd: (100*3 + 4*15) / 1e6},
	"cut after its end":   {upstream: once(func(w http.ResponseWriter) { good(w); abort(w) }), status: 200, tries: 1, usd: goodCost},
}

func TestFaultsAndOutcomes(t *testing.T) {
	for name, test := range faults {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nil, test.upstream, nil, func(w *world) {
				reply := w.ask(streamBody)
				synctest.Wait()
				if reply.status != test.status || (reply.err != nil) != test.cut || !strings.HasPrefix(reply.message(), test.says) {
					t.Errorf("%d %s %q, %v", reply.status, reply.message(), reply.text, reply.err)
				}
				if tries := len(w.asked); tries < test.tries || test.tries < 3 && tries != test.tries {
					t.Errorf("%d tries at %v", tries, w.asked)
				}
				if reply.after < test.least || reply.after > test.most {
					t.Errorf("it took %s, want %s to %s", reply.after, test.least, test.most)
				}
				spent := w.ledger.Session("one")
				want := test.usd
				if test.lost > 0 {
					want += float64(len(w.asked)-test.tries+test.lost) * tryCost
				}
				if len(w.reports) != 1 || !near(w.reports[0].CostUSD, want) || !near(spent, want) || w.reports[0].Tries != len(w.asked) || w.reports[0].Cut != test.cut && test.usd > 0 {
					t.Errorf("reported %+v, spent %g, want %g", w.reports, spent, want)
				}
				if test.parked > 0 != (len(w.parked) == 1) || test.parked > 0 && w.parked[0].Sub(bubbleStart).Round(time.Second) != test.parked {
					t.Errorf("parked until %v", w.parked)
				}
				if test.notice != "" && (len(w.notices) == 0 || !strings.Contains(w.notices[0], test.notice) || !strings.HasSuffix(w.notices[0], ", try 2")) {
					t.Errorf("notices %q", w.notices)
				}
			})
		})
	}
}

// tryCost is what the input of streamBody is reckoned to cost.
const tryCost = float64(len(streamBody)/4+1) * 3 / 1e6

func near(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 }

// Waits double from a second to a minute, less up to half of that.
func TestWaitsGetLonger(t *testing.T) {
	inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, _ int) { fail(w, 529, "overloaded_error", "Overloaded") }, nil, func(w *world) {
		w.ask(streamBody)
		for index := 1; index < len(w.asked); index++ {
			wait, most := w.asked[index]-w.asked[index-1], min(time.Second<<(index-1), time.Minute)
			if wait < most/2 || wait > most {
				t.Errorf("wait %d is %s, want %s to %s", index, wait, most/2, most)
			}
		}
		if !slices.ContainsFunc(w.notices, func(text string) bool { return strings.HasSuffix(text, fmt.Sprintf(" s, try %d", len(w.asked))) }) {
			t.Errorf("notices %q of %d tries", w.notices, len(w.asked))
		}
		for _, text := range w.notices {
			if !strings.HasPrefix(text, "the model's API is overloaded (529): waiting ") {
				t.Errorf("notice %q", text)
			}
		}
	})
}

// An upstream that says nothing does not hang the session: not before its answer, not in the middle, not after the end.
func TestStalls(t *testing.T) {
	const stall = 30 * time.Second
	change := func(c *gateway.Config) { c.Stall = stall }
	hang := func(r *http.Request) { <-r.Context().Done() }
	for name, test := range map[string]struct {
		first func(w http.ResponseWriter, r *http.Request)
		body  string
		tries int
		cut   bool
		least time.Duration
		most  time.Duration
	}{
		"no answer": {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, streamBody, 2, false, 2 * stall, 2*stall + time.Second},
		"no first event": {func(w http.ResponseWriter, r *http.Request) {
			stream(w)
			_ = http.NewResponseController(w).Flush()
			hang(r)
		}, streamBody, 2, false, stall, stall + time.Second},
		"in the middle":       {func(w http.ResponseWriter, r *http.Request) { stream(w, startText, wordText); hang(r) }, streamBody, 1, true, stall, stall},
		"after the last word": {func(w http.ResponseWriter, r *http.Request) { good(w); hang(r) }, streamBody, 1, false, 5 * time.Second, 5 * time.Second},
		"in one piece":        {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, `{"model":"claude-sonnet-4-6"}`, 1, false, 10 * time.Minute, 10*time.Minute + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, change, func(w http.ResponseWriter, r *http.Request, number int) {
				if number == 1 {
					test.first(w, r)
					return
				}
				good(w)
			}, nil, func(w *world) {
				reply := w.ask(test.body)
				synctest.Wait()
				if len(w.asked) != test.tries || (reply.err != nil) != test.cut || reply.after < test.least || reply.after > test.most {
					t.Errorf("%d, %v after %s, tries at %v", reply.status, reply.err, reply.after, w.asked)
				}
				if len(w.reports) != 1 || w.reports[0].CostUSD == 0 {
					t.Errorf("reports %+v: it may have cost something", w.reports)
				}
			})
		})
	}
}

// Slow replies are no stalls, however long they take.
func TestSlowRepliesGoOn(t *testing.T) {
	inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, _ int) {
		stream(w, startText)
		for range 60 {
			<-time.After(80 * time.Second)
			stream(w, wordText)
		}
		stream(w, endText, stopText)
	}, nil, func(w *world) {
		if reply := w.ask(streamBody); reply.err != nil || strings.Count(reply.text, "0123456789") != 60 || reply.after != 80*time.Minute {
			t.Errorf("%v after %s", reply.err, reply.after)
		}
	})
}

// A Claude Code that hangs, and reads no more, does not keep its request alive.
func TestAClientThatStalls(t *testing.T) {
	inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, _ int) {
		stream(w, startText, strings.Repeat("x", 1<<20), endText, stopText)
	}, nil, func(w *world) {
		r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://127.0.0.1/v1/messages", strings.NewReader(streamBody))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Api-Key", w.token)
		reply, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close() //nolint:errcheck // it is not read
		<-time.After(gateway.StallTime + time.Second)
		synctest.Wait()
		w.lock.Lock()
		defer w.lock.Unlock()
		if active := w.g.Active("one").Sub(w.began); active != gateway.StallTime || len(w.reports) != 1 || !w.reports[0].Cut {
			t.Errorf("active until %s, %+v", active, w.reports)
		}
	})
}

// A session that goes away, or is revoked, ends its wait at once.
func TestWaitsEndWithTheSession(t *testing.T) {
	overloaded := func(w http.ResponseWriter, _ *http.Request, _ int) {
		fail(w, 529, "overloaded_error", "Overloaded", "Retry-After", "300")
	}
	inWorld(t, nil, overloaded, nil, func(w *world) {
		ctx, cancel := context.WithCancel(w.t.Context())
		time.AfterFunc(time.Minute, cancel)
		if before := w.g.Active("one"); !before.IsZero() {
			t.Errorf("active at %s", before)
		}
		time.AfterFunc(30*time.Second, func() {
			if active := w.g.Active("one"); !active.Equal(time.Now()) {
				t.Errorf("it waits, and was active at %s", active)
			}
		})
		reply := w.askAs(ctx, w.token, streamBody)
		synctest.Wait()
		if reply.err == nil || reply.after != time.Minute || len(w.asked) != 1 || len(w.reports) != 1 {
			t.Errorf("%+v, %d tries, %+v", reply, len(w.asked), w.reports)
		}
		<-time.After(time.Minute)
		if active := w.g.Active("one"); active.Sub(w.began) != time.Minute {
			t.Errorf("active at %s", active)
		}
	})
	inWorld(t, nil, overloaded, nil, func(w *world) {
		time.AfterFunc(time.Minute, func() { w.g.Revoke("one") })
		if reply := w.ask(streamBody); reply.status != 403 || reply.message() != "permission_error: the session has ended" || reply.after != time.Minute {
			t.Errorf("%+v", reply)
		}
		if reply := w.ask(streamBody); reply.status != 401 {
			t.Errorf("after that: %+v", reply)
		}
	})
}

// A client that goes away while the model works has its share paid for.
func TestWhatIsGivenUpIsPaidFor(t *testing.T) {
	for name, upstream := range map[string]play{
		"before the reply": func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() },
		"in the middle of it": func(w http.ResponseWriter, r *http.Request, _ int) {
			stream(w, startText, wordText)
			<-r.Context().Done()
		},
	} {
		inWorld(t, nil, upstream, nil, func(w *world) {
			ctx, cancel := context.WithCancel(w.t.Context())
			time.AfterFunc(time.Minute, cancel)
			if reply := w.askAs(ctx, w.token, streamBody); reply.err == nil || reply.after != time.Minute {
				t.Errorf("%s: %+v", name, reply)
			}
			synctest.Wait()
			if len(w.reports) != 1 || !w.reports[0].Cut || w.reports[0].CostUSD == 0 || w.ledger.Session("one") != w.reports[0].CostUSD {
				t.Errorf("%s: %+v", name, w.reports)
			}
		})
	}
}

// Counting tokens is free, and is waited out as well.
func TestCountingTokens(t *testing.T) {
	inWorld(t, nil, func(w http.ResponseWriter, _ *http.Request, number int) {
		if number == 1 {
			fail(w, 529, "overloaded_error", "Overloaded")
			return
		}
		_, _ = w.Write([]byte(`{"input_tokens":7}`))
	}, nil, func(w *world) {
		r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://127.0.0.1/v1/messages/count_tokens", strings.NewReader(streamBody))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Api-Key", w.token)
		reply, err := w.client.Do(r)
		if err != nil || reply.StatusCode != 200 || reply.Body.Close() != nil || len(w.asked) != 2 || len(w.reports) != 0 || w.ledger.Session("one") != 0 {
			t.Errorf("%v, %d tries, %+v", err, len(w.asked), w.reports)
		}
	})
}

// Tries without an answer count no more in all than what was reserved for the request.
func TestTriesCountNoMoreThanTheReserve(t *testing.T) {
	const body = `{"model":"claude-sonnet-4-6","max_tokens":1,"stream":true,"messages":[]}`
	inWorld(t, nil, always(abort), nil, func(w *world) {
		w.ask(body)
		if spent, most := w.ledger.Session("one"), (float64(len(body)/4+1)*3+15)/1e6; !near(spent, most) || len(w.asked) < 10 {
			t.Errorf("%d tries cost $%g, and $%g is reserved", len(w.asked), spent, most)
		}
	})
}
