package gateway

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/api"
)

// clock is a time that tests set.
type clock struct {
	lock sync.Mutex
	at   time.Time
}

func newClock(at string) *clock {
	parsed, err := time.Parse("2006-01-02 15:04", at)
	if err != nil {
		panic(err)
	}
	return &clock{at: parsed}
}

func (c *clock) now() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.at = c.at.Add(d)
}

func openAt(t testing.TB, dir, owner string, limits Limits, c *clock) *Ledger {
	t.Helper()
	l, err := OpenLedger(dir, owner, limits, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// leave lets a request leave that asks for a model, and comes to its estimate at the worst.
func leave(t testing.TB, l *Ledger, session, model string, estimate nano) *charge {
	t.Helper()
	c, err := l.admit(t.Context(), order{session: session, model: model, estimate: estimate, worst: estimate}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// flush waits until all is written.
func flush(t testing.TB, l *Ledger) {
	t.Helper()
	_, name := period(l.now())
	written := make(chan error, 1)
	l.writer.put(job{month: name, written: written})
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// killed is what a daemon that was killed now would leave behind, opened by another one.
func killed(t testing.TB, dir, owner string, c *clock) *Ledger {
	t.Helper()
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return openAt(t, left, owner, Limits{}, c)
}

func checkSession(t testing.TB, what string, l *Ledger, id string, want float64) {
	t.Helper()
	if got := l.Session(id); got-want > 1e-12 || want-got > 1e-12 {
		t.Errorf("%s: session %s has spent %g, want %g", what, id, got, want)
	}
}

func TestLedgerSumsUpAndRemembers(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-31 23:00")
	l := openAt(t, dir, "one/task", Limits{DayUSD: 50, MonthUSD: 100}, at)
	a := leave(t, l, "a", "claude-opus-5-5", dollar)
	leave(t, l, "b", "claude-haiku-4-5", dollar/2).end("claude-sonnet-4-6", dollar/4)
	at.add(2 * time.Hour) // it is June now
	a.end("claude-opus-5-5", 3*dollar)
	leave(t, l, "a", "claude-opus-5-5", dollar).end("claude-opus-5-5", 2*dollar)
	check := func(what string, l *Ledger) {
		t.Helper()
		checkSession(t, what, l, "a", 5)
		checkSession(t, what, l, "b", 0.25)
		checkSession(t, what, l, "c", 0)
		r := l.Report()
		want := api.Spend{Day: "2026-06-01", DayUSD: 2, DayLimitUSD: r.DayLimitUSD, MonthUSD: 2, MonthLimitUSD: r.MonthLimitUSD, PricesDated: prices.Dated}
		if r.Spend != want || l.Spend() != want {
			t.Errorf("%s: %+v, want %+v", what, r.Spend, want)
		}
		if !maps.Equal(r.Days, map[string]float64{"2026-05-31": 3.25, "2026-06-01": 2}) || !maps.Equal(r.Models, map[string]float64{"claude-opus-5-5": 2}) {
			t.Errorf("%s: %v, %v", what, r.Days, r.Models)
		}
	}
	check("at once", l)
	if s := l.Spend(); s.DayLimitUSD != 50 || s.MonthLimitUSD != 100 {
		t.Errorf("limits: %+v", s)
	}
	flush(t, l)
	check("killed", killed(t, dir, "one/task", at))
	check("killed, another daemon", killed(t, dir, "two", at))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed", killed(t, dir, "one/task", at))
	l = openAt(t, dir, "one/task", Limits{}, at)
	check("opened again", l)
	leave(t, l, "b", "m", dollar).end("m", dollar)
	checkSession(t, "goes on", l, "b", 1.25)
	l.Forget("a")
	l.Forget("nobody")
	checkSession(t, "forgotten", l, "a", 0)
	if s := l.Spend(); s.DayUSD != 3 || s.MonthUSD != 3 {
		t.Errorf("what a deleted session spent is gone: %+v", s)
	}
}

func TestLedgerInMemory(t *testing.T) {
	at := newClock("2026-05-31 23:00")
	l := openAt(t, "", "", Limits{}, at)
	leave(t, l, "a", "m", 1).end("m", dollar)
	checkSession(t, "in memory", l, "a", 1)
	l.Forget("a")
	checkSession(t, "in memory", l, "a", 0)
}

// A daemon that is killed loses no more of a reply than its last second, and nothing of what has ended.
func TestLedgerSurvivesAKillAtAnyTime(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	l := openAt(t, dir, "one", Limits{}, at)
	c := leave(t, l, "a", "m", 100)
	checkSession(t, "as it leaves", killed(t, dir, "one", at), "a", 100e-9) // without a flush: it was written before
	at.add(100 * time.Millisecond)
	c.figure("m2", 1000, 5000, true)
	flush(t, l)
	checkSession(t, "input known", killed(t, dir, "two", at), "a", 1000e-9)
	for step := 1; step <= 50; step++ {
		at.add(200 * time.Millisecond)
		c.figure("m2", nano(1000+step), 5000, false)
		flush(t, l)
		got := killed(t, dir, "one", at).Session("a")
		if lost := 1000 + step - int(got*1e9+0.5); lost < 0 || lost > 5 {
			t.Errorf("step %d: %d steps are lost", step, lost)
		}
	}
	checkSession(t, "meanwhile", l, "a", 1050e-9)
	c.end("m2", 1100)
	flush(t, l)
	again := killed(t, dir, "one", at)
	checkSession(t, "at its end", again, "a", 1100e-9)
	if models := again.Report().Models; len(models) != 1 || models["m2"] == 0 {
		t.Errorf("by model: %v", models)
	}
	lines, err := os.ReadFile(filepath.Join(dir, "2026-05", "one.1.jsonl"))
	if count := strings.Count(string(lines), "\n"); err != nil || count > 14 {
		t.Errorf("%d lines for ten seconds, %v", count, err)
	}
}

// A crash of the machine can leave a torn line, and blocks of zeros.
func TestLedgerReadsPastWhatACrashLeaves(t *testing.T) {
	good := `{"i":"x-1","d":"2026-05-10","s":"a","m":"m","n":5}` + "\n" + `{"i":"x-1","n":7,"f":true}` + "\n"
	for name, test := range map[string]struct {
		text string
		want float64
	}{
		"whole":             {good, 7e-9},
		"torn":              {good + `{"i":"x-2","d":"2026-05-10","s":"a","n":10`, 7e-9},
		"torn at the start": {good[:len(good)-10], 5e-9},
		"zeros":             {good + "\x00\x00\x00\x00\n" + strings.ReplaceAll(good, "x-1", "x-3"), 14e-9},
		"no first line":     {`{"i":"x-1","n":7,"f":true}` + "\n", 0},
		"not ours":          {"[]\n7\n{}\n{\"n\":\"x\"}\n" + `{"i":"q","d":"yesterday","s":"a","n":3}` + "\n" + good, 7e-9},
		"negative":          {`{"i":"x-1","d":"2026-05-10","s":"a","m":"m","n":-5}` + "\n" + good, 7e-9},
		"empty":             {"", 0},
	} {
		dir, at := t.TempDir(), newClock("2026-05-10 12:00")
		if err := os.MkdirAll(filepath.Join(dir, "2026-05"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, owner := range []string{"one", "two"} {
			if err := os.WriteFile(filepath.Join(dir, "2026-05", owner+".3.jsonl"), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l := openAt(t, dir, "one", Limits{}, at)
		checkSession(t, name, l, "a", 2*test.want)
		leave(t, l, "a", "m", 1).end("m", dollar)
		flush(t, l)
		checkSession(t, name+", gone on", killed(t, dir, "one", at), "a", 2*test.want+1)
	}
}

func TestLedgerNamesAFileThatItCannotRead(t *testing.T) {
	for _, text := range []string{"{", `{"version":2}`} {
		dir, at := t.TempDir(), newClock("2026-05-10 12:00")
		if err := os.WriteFile(filepath.Join(dir, "2026-04.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLedger(dir, "one", Limits{}, at.now); err == nil || !strings.Contains(err.Error(), "2026-04.json") {
			t.Errorf("%s: %v", text, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLedger(filepath.Join(file, "spend"), "one", Limits{}, time.Now); err == nil {
		t.Error("a directory below a file")
	}
}

// Two daemons on one volume see what the other one spends, soon, through journals, sums and the end of the month.
func TestLedgersOfTwoDaemons(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	one, two := openAt(t, dir, "one", Limits{}, at), openAt(t, dir, "two", Limits{}, at)
	both := func(what string, want float64) {
		t.Helper()
		flush(t, one)
		flush(t, two)
		at.add(refreshEvery)
		checkSession(t, what+", one", one, "a", want)
		checkSession(t, what+", two", two, "a", want)
		if a, b := one.Spend(), two.Spend(); a != b || a.MonthUSD != want {
			t.Errorf("%s: %+v and %+v", what, a, b)
		}
	}
	both("nothing", 0)
	c := leave(t, one, "a", "m", dollar)
	both("estimated", 1)
	c.figure("m", 2*dollar, 3*dollar, true)
	leave(t, two, "a", "m", dollar).end("m", dollar)
	both("both", 3)
	one.lock.Lock()
	one.compact("2026-05", one.months["2026-05"])
	one.lock.Unlock()
	both("summed up, with one under way", 3)
	c.end("m", 4*dollar)
	both("ended after that", 5)
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	at.add(refreshEvery)
	checkSession(t, "the other is gone", one, "a", 5)
	two = openAt(t, dir, "two", Limits{}, at)
	leave(t, two, "a", "m", dollar).end("m", dollar)
	both("and back", 6)
}
