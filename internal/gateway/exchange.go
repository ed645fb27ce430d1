package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
)

// maxBody is the longest request that is taken: twice what the API takes
// (https://docs.claude.com/en/api/overview, "Request size limits"), as each is kept until it is answered.
const maxBody = 64 << 20

// bodyTime is how long a request's body may take to come.
const bodyTime = 2 * time.Minute

// exchange is one request of a session, and its answer.
type exchange struct {
	g     *Gateway
	s     *session
	w     http.ResponseWriter
	r     *http.Request
	began time.Time

	body   []byte
	asked  asked
	charge *charge // nil for what is free
	waits  context.Context
	tries  int
	sunk   nano // what tries may have cost that had no answer
	status int  // of the upstream's last answer; 0 if there was none
	meter  *meter
	known  bool // the reply has told its input
	over   bool // the charge has ended
}

// serve answers the request. cut says that the connection has to be cut.
func (e *exchange) serve() (cut bool) {
	if !e.readBody() {
		return false
	}
	key, usable := e.useKey()
	if !usable {
		return false
	}
	if e.g.config.Leave != nil {
		if err := e.g.config.Leave(e.s.id); err != nil {
			refuse(e.w, http.StatusForbidden, "permission_error", err.Error())
			return false
		}
	}
	e.asked = ask(e.body)
	waits, stop := context.WithDeadlineCause(e.r.Context(), e.began.Add(e.g.config.Patience), errCrowded)
	defer stop()
	waits, revoke := context.WithCancelCause(waits)
	defer revoke(nil)
	defer context.AfterFunc(e.s.revoked, func() { revoke(errRevoked) })()
	e.waits = waits
	if e.r.URL.Path == pathMessages && !e.admit() {
		return false
	}
	defer e.settle()
	return e.run(key)
}

func (e *exchange) readBody() bool {
	// It comes from this machine. A session that sends it slowly must not hold what it has sent for ever.
	client := http.NewResponseController(e.w)
	_ = client.SetReadDeadline(time.Now().Add(bodyTime)) // without one, the session's end is what ends it
	defer func() { _ = client.SetReadDeadline(time.Time{}) }()
	body, err := io.ReadAll(http.MaxBytesReader(e.w, e.r.Body, maxBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		refuse(e.w, http.StatusRequestEntityTooLarge, "request_too_large", fmt.Sprintf("the request has more than %d MiB", maxBody>>20))
		return false
	}
	if err != nil {
		refuse(e.w, http.StatusBadRequest, "invalid_request_error", "the request broke off")
		return false
	}
	e.body = body
	return true
}

// useKey returns the key, or answers that there is none.
func (e *exchange) useKey() (key string, usable bool) {
	key, state := e.g.key.usable(e.r.Context())
	switch state.State {
	case "missing":
		if e.g.config.Refused != nil {
			e.g.config.Refused(e.s.id, "there is none")
		}
		refuse(e.w, http.StatusForbidden, "permission_error", "no API key is set: give the agent one in "+contract.EnvAnthropicAPIKey)
		return "", false
	case "refused":
		e.keyRefused(state.Why)
		return "", false
	}
	return key, true
}

func (e *exchange) keyRefused(why string) {
	if e.g.config.Refused != nil {
		e.g.config.Refused(e.s.id, why)
	}
	refuse(e.w, http.StatusForbidden, "permission_error", "the agent's API key is refused: "+why)
}

// admit waits until the request may leave, or answers why it may not.
func (e *exchange) admit() bool {
	row, _ := prices.find(e.asked.model)
	e.g.lock.Lock()
	limit := e.s.budget
	e.g.lock.Unlock()
	charge, err := e.g.ledger.admit(e.waits, order{
		session: e.s.id, model: e.asked.model, limit: limit,
		estimate: prices.estimate(row, e.asked), modest: prices.modest(row, e.asked), worst: prices.worst(row, e.asked),
	}, func(kind Scope) {
		e.g.notify(e.s, fmt.Sprintf("a request waits until others have ended: together they might go over the limit of the %s", kind))
	})
	if err == nil {
		e.charge = charge
		return true
	}
	if exceeded := (*exceededError)(nil); errors.As(err, &exceeded) {
		e.g.lock.Lock()
		e.s.exceeded = &exceeded.Limit
		e.g.lock.Unlock()
		e.g.config.Log.Warn("a limit of spend is reached", contract.LogFieldSession, e.s.id, "scope", exceeded.Scope,
			"limit_usd", exceeded.LimitUSD, "spent_usd", exceeded.SpentUSD)
		refuse(e.w, http.StatusPaymentRequired, "billing_error", err.Error())
		return false
	}
	e.waitEnded(err)
	return false
}

// waitEnded answers a request that has waited for something in vain.
func (e *exchange) waitEnded(err error) {
	switch {
	case e.r.Context().Err() != nil: // nobody is there to read it
	case errors.Is(err, errRevoked):
		refuse(e.w, http.StatusForbidden, "permission_error", errRevoked.Error())
	default:
		if unnoted := (*noteError)(nil); errors.As(err, &unnoted) {
			e.g.config.Log.Error("spend cannot be noted", contract.LogFieldSession, e.s.id, contract.LogFieldError, unnoted.cause)
		}
		refuse(e.w, http.StatusServiceUnavailable, "api_error", err.Error())
	}
}

// run sends the request until there is an answer to pass on.
func (e *exchange) run(key string) (cut bool) {
	for {
		e.tries++
		o := e.send(key)
		if e.r.Context().Err() != nil {
			o.end()
			if e.charge != nil {
				e.meter = o.meter // what came of it is paid for
			}
			return false
		}
		e.status = o.status
		if next, again := e.otherKey(o, key); again {
			o.end()
			key = next
			continue
		}
		if !e.tryAgain(o, key) {
			return e.answer(o, key)
		}
		o.end()
	}
}

// otherKey returns the key that has been put in the place of one that an answer refuses.
func (e *exchange) otherKey(o *outcome, used string) (key string, again bool) {
	if o.status != http.StatusUnauthorized {
		return "", false
	}
	key, state := e.g.key.state()
	return key, state.State == "set" && key != used
}

// tryAgain waits until it is time to send the request again. It reports false if that is no use, or if the wait came
// to an early end: then there is an answer already.
func (e *exchange) tryAgain(o *outcome, key string) bool {
	if o.err == nil && !passing(o.status, o.header()) || o.forSession != nil {
		return false
	}
	now := time.Now()
	deadline := e.began.Add(e.g.config.Patience)
	delay := backoff(e.tries)
	if at := named(o.header(), now); at.After(deadline) {
		return false
	} else if at.After(now) {
		wait := at.Sub(now)
		wait += rand.N(min(wait/10, time.Second) + 1) //nolint:gosec // many may wait for the same moment: nobody gains from guessing
		if e.tries <= 5 || wait > delay {
			delay = wait
		}
	}
	if now.Add(delay).After(deadline) {
		return false
	}
	what := trouble(o.status, o.err, e.g.config.Upstream.Host)
	what = string(without(key, []byte(what)))
	e.g.config.Log.Info("a request waits", contract.LogFieldSession, e.s.id, "why", what, "seconds", delay.Seconds(), "try", e.tries+1)
	e.g.notify(e.s, fmt.Sprintf("%s: waiting %s, try %d", what, rough(delay), e.tries+1))
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.waits.Done():
		o.forSession = context.Cause(e.waits)
		return false
	}
}

// rough is a time for people.
func rough(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// answer passes the outcome on, or says in the API's form what is to be said in its place.
func (e *exchange) answer(o *outcome, key string) (cut bool) {
	defer o.end()
	if o.forSession != nil {
		e.waitEnded(o.forSession)
		return false
	}
	if why, refused := e.refusesKey(o, key); refused {
		e.g.key.refuse(key, why)
		e.keyRefused(why)
		return false
	}
	if until, why := e.parked(o); !until.IsZero() {
		e.g.config.Log.Warn("the model's API names a time to go on", contract.LogFieldSession, e.s.id, "until", until, "why", why)
		if e.g.config.Park != nil {
			e.g.config.Park(e.s.id, until, why)
		}
		e.w.Header().Set("X-Should-Retry", "false")
		refuse(e.w, http.StatusTooManyRequests, "rate_limit_error", fmt.Sprintf("%s; it names %s UTC as the time to go on", why, until.UTC().Format("2006-01-02 15:04:05")))
		return false
	}
	switch {
	case o.err != nil:
		what := string(without(key, []byte(trouble(0, o.err, e.g.config.Upstream.Host))))
		e.g.config.Log.Warn("a request has failed", contract.LogFieldSession, e.s.id, contract.LogFieldError, what, "tries", e.tries)
		refuse(e.w, http.StatusBadGateway, "api_error", what)
		return false
	case o.reply.StatusCode >= 300 && o.reply.StatusCode < 400:
		refuse(e.w, http.StatusBadGateway, "api_error", fmt.Sprintf("the model's API at %s answers with a redirection (%d): set %s to where it is",
			e.g.config.Upstream.Host, o.status, contract.EnvAnthropicBaseURL))
		return false
	}
	return e.pass(o, key)
}

// parked returns the time that the API names to go on at, if that is too far away to wait for.
func (e *exchange) parked(o *outcome) (until time.Time, why string) {
	if o.err != nil || o.status < 400 {
		return time.Time{}, ""
	}
	if until := closedUntil(o.status, o.body); until.After(time.Now()) {
		return until, message(o.body)
	}
	if o.status != http.StatusTooManyRequests && o.status != statusBusy && o.status != http.StatusServiceUnavailable {
		return time.Time{}, ""
	}
	until = named(o.header(), time.Now())
	if !until.After(e.began.Add(e.g.config.Patience)) {
		return time.Time{}, ""
	}
	why = trouble(o.status, nil, "")
	if said := message(o.body); said != "" {
		why += ": " + said
	}
	return until, why
}

// sink counts a try as paid for that had no answer, for the upstream may have been at it. All of them together count no
// more than the request's reserve: an upstream that is broken for minutes is not paid for each time.
func (e *exchange) sink() {
	if e.charge != nil {
		row, _ := prices.find(e.asked.model)
		each := prices.estimate(row, e.asked)
		e.sunk = min(e.sunk+each, max(each, e.charge.reserve))
	}
}

// settle ends the charge, and reports the request. Only the first call counts.
func (e *exchange) settle() {
	if e.charge == nil || e.over {
		return
	}
	e.over = true
	r := api.Request{Model: e.asked.model, Status: e.status, Tries: e.tries, Seconds: time.Since(e.began).Seconds()}
	cost := e.sunk
	if e.meter != nil {
		e.meter.report(&r)
		its, _ := e.meter.cost()
		cost += its
	} else {
		r.Cut = e.sunk > 0
		if row, known := prices.find(e.asked.model); !known && e.sunk > 0 {
			r.PricedAs = row.Model
		}
	}
	r.CostUSD = cost.usd()
	e.charge.end(r.Model, cost)
	if e.g.config.Report != nil {
		e.g.config.Report(e.s.id, r)
	}
}
