package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// order is a request that wants to leave.
type order struct {
	session  string
	model    string
	limit    nano // of the session; 0 is none
	estimate nano // of its input
	modest   nano // what it comes to if its output is not a long one
	worst    nano
}

// scope is something that has a limit.
type scope struct {
	kind  Scope
	name  string // the session's id, the day or the month
	limit nano
}

// applicant is an order that waits.
type applicant struct {
	blocked scope
	others  bool          // by what other daemons have under way
	wake    chan struct{} // closed when something has changed
}

// exceededError says that a limit is reached.
type exceededError struct{ Limit }

func (e *exceededError) Error() string {
	spent := fmt.Sprintf("%s of %s are spent", money(e.SpentUSD), money(e.LimitUSD))
	if e.Scope == ScopeSession {
		return "the session has reached its limit: " + spent + "; resume it with a higher limit to go on"
	}
	return fmt.Sprintf("the limit of the %s for all sessions is reached: %s; it resets on %s UTC, and whoever runs the agent can raise it before",
		e.Scope, spent, e.Resets.Format("2006-01-02 15:04"))
}

// errCrowded says that others under the same limit took too long to end.
var errCrowded = errors.New("others under the same limit are still under way")

// noteError says that the volume does not take a line, without which nothing leaves.
type noteError struct{ cause error }

func (e *noteError) Error() string {
	return "what it costs cannot be noted on the agent's volume: " + e.cause.Error()
}
func (e *noteError) Unwrap() error { return e.cause }

// money writes US dollars: cents, and more of them where there are few.
func money(usd float64) string {
	if usd > 0 && usd < 1 {
		return "$" + strconv.FormatFloat(usd, 'g', 3, 64)
	}
	return fmt.Sprintf("$%.2f", usd)
}

// admit lets a request leave, once that cannot take spend further over a limit than by this request. Under each of its
// limits, what counts as spent is what has ended, and the reserve of each request on the volume that another daemon has
// not ended: of one that lives, or one that was killed. The rule is:
//
//   - What counts as spent has reached a limit: the request is refused, with an exceededError.
//   - It has only because of requests that another daemon has under way, and that daemon was alive a moment ago: the
//     request waits, until these have ended or the daemon has written nothing for othersTime.
//   - No other request of this daemon is under way below the limits: it goes, whatever it may come to. So max_tokens
//     far above what is left keeps nobody from it.
//   - Others are, and together with them at their worst it might reach a limit: it waits for them to end, in order of
//     arrival; waits is called once then, with the limit's scope.
//
// When admit returns without error, the request is noted on the volume with its estimate and its reserve. ctx ends the
// wait, by its cause.
func (l *Ledger) admit(ctx context.Context, o order, waits func(Scope)) (*charge, error) {
	every := refreshEvery
	if l.near(o) {
		every = 0
	}
	l.refresh(every)
	c, err := l.reserve(ctx, o, waits)
	if err != nil {
		return nil, err
	}
	if l.writer == nil {
		return c, nil
	}
	written := make(chan error, 1)
	l.lock.Lock()
	l.write(c.month, c.first(), written)
	l.lock.Unlock()
	if err := <-written; err != nil {
		c.end("", 0)
		return nil, &noteError{err}
	}
	return c, nil
}

// near reports whether less than a fifth is left of a limit that other daemons spend from too: then what they have noted
// is read anew.
func (l *Ledger) near(o order) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	return slices.ContainsFunc(l.scopes(o), func(s scope) bool {
		return l.spentIn(s) > s.limit/5*4 && (s.kind != ScopeSession || l.sharedSession(s.name))
	})
}

// sharedSession reports whether another daemon ran the session, too.
func (l *Ledger) sharedSession(id string) bool {
	for _, m := range l.months {
		for _, other := range m.others {
			if other.Sessions[id] > 0 {
				return true
			}
		}
	}
	return false
}

// othersIn is what other daemons, that are alive as far as can be told, have under way in a scope.
func (l *Ledger) othersIn(s scope) (sum nano) {
	for name, m := range l.months {
		for _, other := range m.others {
			if l.now().Sub(other.file.written).Abs() > othersTime { // a clock that is ahead must not keep it alive for ever
				continue
			}
			for _, each := range other.open {
				c := charge{month: name, line: each}
				if c.in(s) {
					sum += each.counted()
				}
			}
		}
	}
	return sum
}

// othersEvery is how often is looked whether what other daemons had under way has ended.
const othersEvery = time.Second

func (l *Ledger) reserve(ctx context.Context, o order, waits func(Scope)) (*charge, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	var me *applicant
	defer func() {
		if me != nil {
			l.waiting = slices.DeleteFunc(l.waiting, func(a *applicant) bool { return a == me })
			l.changed()
		}
	}()
	for {
		scopes := l.scopes(o)
		blocked, others, err := l.judge(o, scopes, me)
		if err != nil {
			return nil, err
		}
		if blocked == nil {
			return l.begin(o), nil
		}
		first := me == nil
		if first {
			me = &applicant{}
			l.waiting = append(l.waiting, me)
		}
		me.blocked, me.others, me.wake = *blocked, others, make(chan struct{})
		wake := me.wake
		l.lock.Unlock()
		if first && waits != nil {
			waits(blocked.kind)
		}
		l.pause(ctx, wake, others)
		l.lock.Lock()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// pause waits until something has changed, or may have on the volume.
func (l *Ledger) pause(ctx context.Context, wake <-chan struct{}, others bool) {
	var look <-chan time.Time
	if others {
		timer := time.NewTimer(othersEvery)
		defer timer.Stop()
		look = timer.C
	}
	select {
	case <-wake:
	case <-look:
		l.refresh(othersEvery) // once for all that wait
	case <-ctx.Done():
	}
}

// scopes are those of an order that have a limit, at this time.
func (l *Ledger) scopes(o order) []scope {
	day, month := period(l.now())
	return slices.DeleteFunc([]scope{
		{ScopeSession, o.session, o.limit}, {ScopeDay, day, l.limits.day}, {ScopeMonth, month, l.limits.month},
	}, func(s scope) bool { return s.limit <= 0 })
}

// judge returns the scope for which an order has to wait, and whether for other daemons; nil if it can go.
func (l *Ledger) judge(o order, scopes []scope, me *applicant) (blocked *scope, others bool, err error) {
	for _, s := range scopes {
		var (
			spent     = l.spentIn(s)
			underWay  int
			figures   nano // of those, so far
			committed nano // what they may come to
		)
		for _, c := range l.charges {
			if c.in(s) {
				underWay++
				figures += c.line.Cost
				committed += max(c.worst, c.line.Cost)
			}
		}
		ended := spent - figures
		if theirs := l.othersIn(s); ended >= s.limit && ended-theirs < s.limit {
			return &s, true, nil
		}
		if ended >= s.limit {
			return nil, false, &exceededError{l.limitOf(s, ended)}
		}
		if underWay > 0 && ended+committed+o.worst > s.limit {
			return &s, false, nil
		}
	}
	for _, before := range l.waiting {
		if before == me {
			break
		}
		// Were it to go, the one before it might wait for ever.
		if slices.Contains(scopes, before.blocked) {
			return &before.blocked, before.others, nil
		}
	}
	return nil, false, nil
}

func (l *Ledger) spentIn(s scope) nano {
	switch s.kind {
	case ScopeDay:
		return l.spentDay(s.name)
	case ScopeMonth:
		return l.spentMonth(s.name)
	default:
		return l.spentSession(s.name)
	}
}

func (l *Ledger) limitOf(s scope, spent nano) Limit {
	limit := Limit{Scope: s.kind, LimitUSD: s.limit.usd(), SpentUSD: spent.usd()}
	year, month, day := l.now().UTC().Date()
	switch s.kind {
	case ScopeDay:
		limit.Resets = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
	case ScopeMonth:
		limit.Resets = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
	default:
	}
	return limit
}
