package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// refused is the limit that an error names.
func refused(err error) Limit {
	var e *exceededError
	if errors.As(err, &e) {
		return e.Limit
	}
	return Limit{}
}

func TestLimitsAreHeld(t *testing.T) {
	at := newClock("2026-05-31 12:00")
	l := openAt(t, t.TempDir(), "one", Limits{DayUSD: 3, MonthUSD: 8}, at)
	spend := func(session string, limit, cost nano) error {
		c, err := l.admit(t.Context(), order{session: session, model: "m", limit: limit, estimate: 1, worst: 100 * dollar}, nil)
		if err == nil {
			c.end("m", cost)
		}
		return err
	}
	check := func(what string, err error, want Limit) {
		t.Helper()
		if got := refused(err); got != want || (err == nil) != (want == Limit{}) {
			t.Errorf("%s: %+v (%v), want %+v", what, got, err, want)
		}
	}
	june := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	check("alone, it may go over", spend("a", dollar, 2*dollar), Limit{})
	check("a second time it does not", spend("a", dollar, dollar), Limit{Scope: ScopeSession, LimitUSD: 1, SpentUSD: 2})
	check("with a higher limit it goes on", spend("a", 5*dollar, dollar), Limit{})
	check("the day", spend("b", 0, dollar), Limit{Scope: ScopeDay, LimitUSD: 3, SpentUSD: 3, Resets: june})
	at.add(12 * time.Hour)
	check("the next day, and month", spend("b", 0, 4*dollar), Limit{})
	at.add(24 * time.Hour)
	check("the day after", spend("b", 0, 4*dollar), Limit{})
	at.add(24 * time.Hour)
	check("the month", spend("b", 0, dollar), Limit{Scope: ScopeMonth, LimitUSD: 8, SpentUSD: 8, Resets: june.AddDate(0, 1, 0)})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// What was spent before a restart counts, what is under way elsewhere too.
func TestLimitsHoldAcrossDaemons(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	one := openAt(t, dir, "one", Limits{DayUSD: 2}, at)
	leave(t, one, "a", "m", dollar/10).end("m", dollar)
	c := leave(t, one, "b", "m", dollar/10)
	c.figure("m", dollar, dollar, true)
	flush(t, one)
	for _, owner := range []string{"one", "two"} {
		l := killed(t, dir, owner, at)
		l.limits.day = 2 * dollar
		if _, err := l.admit(t.Context(), order{session: "a", estimate: 1, worst: 1}, nil); refused(err).Scope != ScopeDay {
			t.Errorf("%s: %v", owner, err)
		}
		if _, err := l.admit(t.Context(), order{session: "b", limit: dollar, estimate: 1, worst: 1}, nil); refused(err).Scope != ScopeSession {
			t.Errorf("%s: %v", owner, err)
		}
	}
}

// However many sessions with however many requests at once: each limit is passed by one request at most.
func TestSpendEndsOneRequestOverAtMost(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			limits := Limits{DayUSD: 1 + 10*random.Float64(), MonthUSD: 1 + 20*random.Float64()}
			l := newLedger("", "", limits, time.Now)
			sessionLimit := fromUSD(0.5 + 5*random.Float64())
			var (
				group   sync.WaitGroup
				lock    sync.Mutex
				dearest nano
				costs   [400]nano
				takes   [400]time.Duration
			)
			for index := range costs {
				costs[index] = nano(random.Int64N(int64(dollar)))
				takes[index] = time.Duration(random.Int64N(int64(time.Minute)))
			}
			for index := range 40 {
				group.Go(func() {
					for step := range 10 {
						number := index*10 + step
						cost := costs[number]
						o := order{session: fmt.Sprint(index % 4), model: "m", limit: sessionLimit, estimate: cost / 10, worst: cost + costs[399-number]}
						c, err := l.admit(t.Context(), o, nil)
						if err != nil {
							return
						}
						lock.Lock()
						dearest = max(dearest, cost)
						lock.Unlock()
						<-time.After(takes[number] / 2)
						c.figure("m", cost/2, cost, true)
						<-time.After(takes[number] / 2)
						c.end("m", cost)
					}
				})
			}
			group.Wait()
			day, _ := period(time.Now())
			if spent := l.spentDay(day); spent >= fromUSD(min(limits.DayUSD, limits.MonthUSD))+dearest {
				t.Errorf("seed %d: %s are spent of %+v, by %s at most at once", seed, money(spent.usd()), limits, money(dearest.usd()))
			}
			for session := range 4 {
				if spent := l.spentSession(fmt.Sprint(session)); spent >= sessionLimit+dearest {
					t.Errorf("seed %d: session %d has spent %s of %s", seed, session, money(spent.usd()), money(sessionLimit.usd()))
				}
			}
			if len(l.charges)+len(l.waiting) > 0 {
				t.Errorf("seed %d: %d under way, %d wait", seed, len(l.charges), len(l.waiting))
			}
		})
	}
}

// Requests wait in order for those under way, and go when these have ended, or turn out to be cheap.
func TestRequestsWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("", "", Limits{DayUSD: 10}, time.Now)
		first, err := l.admit(t.Context(), order{session: "a", estimate: dollar, worst: 9 * dollar}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var told []Scope
		var left []string
		var lock sync.Mutex
		wait := func(name string, o order) {
			go func() {
				c, err := l.admit(t.Context(), o, func(s Scope) {
					lock.Lock()
					defer lock.Unlock()
					told = append(told, s)
				})
				lock.Lock()
				defer lock.Unlock()
				left = append(left, name)
				if err == nil && name == "large" {
					defer c.end("m", dollar)
				}
			}()
			synctest.Wait()
		}
		check := func(what, want string) {
			t.Helper()
			synctest.Wait()
			lock.Lock()
			defer lock.Unlock()
			if got := fmt.Sprint(left); got != want {
				t.Errorf("%s: %s have left, want %s", what, got, want)
			}
		}
		wait("large", order{session: "b", worst: 5 * dollar})
		wait("small", order{session: "c", worst: dollar / 2}) // would fit, but not before the one that came first
		check("the first may cost 9", "[]")
		first.figure("m", dollar, 6*dollar, true)
		check("6", "[]")
		first.figure("m", dollar, 5*dollar, true)
		check("5", "[large small]")
		if fmt.Sprint(told) != "[day day]" {
			t.Errorf("told %v", told)
		}
		// Under another session's limit nothing of this matters.
		if _, err := l.admit(t.Context(), order{session: "d", limit: dollar, worst: dollar}, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestWaitingForOthersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger("", "", Limits{}, time.Now)
		o := order{session: "a", limit: dollar, estimate: dollar / 2, worst: dollar}
		c, err := l.admit(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errCrowded)
		defer cancel()
		began := time.Now()
		if _, err := l.admit(ctx, o, nil); !errors.Is(err, errCrowded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		// Those that wait are refused when it is clear that the limit is reached.
		ended := make(chan error)
		go func() {
			_, err := l.admit(t.Context(), o, nil)
			ended <- err
		}()
		synctest.Wait()
		c.end("m", dollar)
		if err := <-ended; refused(err).Scope != ScopeSession {
			t.Errorf("%v", err)
		}
		if len(l.waiting) != 0 || len(l.charges) != 0 {
			t.Errorf("%d wait, %d are under way", len(l.waiting), len(l.charges))
		}
	})
}

func TestWhatALimitSays(t *testing.T) {
	reset := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for want, limit := range map[string]Limit{
		"the session has reached its limit: $5.31 of $5.00 are spent; resume it with a higher limit to go on":                                                           {Scope: ScopeSession, LimitUSD: 5, SpentUSD: 5.31},
		"the limit of the month for all sessions is reached: $0.7 of $0.5 are spent; it resets on 2026-06-01 00:00 UTC, and whoever runs the agent can raise it before": {Scope: ScopeMonth, LimitUSD: 0.5, SpentUSD: 0.7, Resets: reset},
	} {
		if got := (&exceededError{limit}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A daemon that is killed again and again in the middle of its requests does not take the bill further over a limit
// than by one request, though it never learns what they came to.
func TestKilledRequestsCountAtTheirReserve(t *testing.T) {
	const price, budget, day = dollar / 20, dollar / 10, dollar
	rows := map[string]struct {
		sessions int
		limit    nano
		limits   Limits
	}{
		"a session": {1, budget, Limits{}},
		"four":      {4, 0, Limits{DayUSD: 1}},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			dir, at := t.TempDir(), newClock("2026-05-10 12:00")
			orderOf := func(number int) order {
				return order{session: fmt.Sprint(number % row.sessions), model: "m", limit: row.limit, estimate: price / 10, worst: price * 3}
			}
			var bill nano
			first := openAt(t, dir, "first", row.limits, at)
			known, err := first.admit(t.Context(), orderOf(0), nil)
			if err != nil {
				t.Fatal(err)
			}
			known.end("m", price)
			flush(t, first)
			bill += price
			for life := range 100 {
				l := openAt(t, dir, fmt.Sprint("life-", life), row.limits, at)
				for number := range row.sessions {
					hurried, stop := context.WithCancel(t.Context())
					_, err := l.admit(hurried, orderOf(number), func(Scope) { stop() })
					stop()
					if err == nil {
						bill += price // in full, though the ledger never hears of it
					} else if limit := refused(err); limit != (Limit{}) {
						if most := max(row.limit, fromUSD(row.limits.DayUSD)) + price; bill > most {
							t.Errorf("the bill is %v, and %v at most was due", bill.usd(), most.usd())
						}
						if report := l.Report(); report.EstimatedUSD <= 0 || report.EstimatedUSD > report.MonthUSD {
							t.Errorf("estimated: $%v of $%v", report.EstimatedUSD, report.MonthUSD)
						}
						return
					}
				}
			}
			t.Errorf("the limit is never reached: the bill is %v", bill.usd())
		})
	}
}

// Near a limit, what another daemon has noted a moment ago counts.
func TestNearALimitOthersAreRead(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	one, two := openAt(t, dir, "one", Limits{DayUSD: 1}, at), openAt(t, dir, "two", Limits{DayUSD: 1}, at)
	spend := func(l *Ledger, session string, cost nano) {
		leave(t, l, session, "m", dollar/100).end("m", cost)
		leave(t, l, session, "m", 1) // which is written after it
	}
	spend(two, "b", dollar*9/10)
	spend(one, "a", dollar/10)
	at.add(refreshEvery)
	one.refresh(refreshEvery)
	if _, err := one.admit(t.Context(), order{session: "a", model: "m", estimate: 1, worst: 1}, nil); refused(err).Scope != ScopeDay {
		t.Errorf("after reading the other's: %v", err)
	}
	if _, err := two.admit(t.Context(), order{session: "b", model: "m", estimate: 1, worst: 1}, nil); refused(err).Scope != ScopeDay {
		t.Errorf("near the limit, without waiting: %v", err)
	}
}
