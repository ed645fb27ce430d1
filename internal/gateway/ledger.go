package gateway

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/internal/api"
)

// Limits are what all sessions together may spend, in US dollars; 0 is no limit. Days and months are those of UTC.
type Limits struct {
	DayUSD   float64
	MonthUSD float64
}

// Ledger knows what was spent on the model: by session, day, month and model. A request counts for the day and the
// month in which it began.
//
// # On the volume
//
//	2026-05/<owner>.<n>.jsonl  a journal: one line as a request leaves, one when its input is known, one a second
//	                           while its reply comes, and one when it has ended
//	2026-05/<owner>.json       sums of this owner's journals up to a number, which are gone
//	2026-04.json               sums of all owners' files of a month that is over, which are gone
//
// An owner writes to files of its own only, and after a start to a new journal; so no line is ever put after a torn
// one, and two daemons never write to one file. Other owners' files are read again every refreshEvery.
//
// # What is on the disk when
//
// The line of a request that leaves has been written, but not synced, before it leaves: a SIGKILL of the daemon
// loses nothing of it. All later lines are written in order by one goroutine, so that no stream waits for the
// volume; a SIGKILL loses no more than the last second of a reply. Once a second, what was written is synced: that
// is what a crash of the machine can lose. A request of another owner whose last line is missing counts with its
// reserve, or its last figure if that is more; the report says how much of the spend is such an estimate.
type Ledger struct {
	limits struct{ day, month nano }
	now    func() time.Time
	owner  string
	dir    string  // "": in memory only
	writer *writer // nil without dir

	refreshing sync.Mutex // held while other owners' files are read

	lock      sync.Mutex
	months    map[string]*month // by 2006-01
	charges   map[string]*charge
	waiting   []*applicant
	prefix    string // of the ids of this daemon's requests
	number    int
	refreshed time.Time
}

// month is what is known of one month.
type month struct {
	own     *account            // of this owner; nil if there is nothing
	others  map[string]*account // by owner; that of all, when the month is over, is under ""
	journal int                 // bytes in the own journal, those that are to be written included
}

// OpenLedger reads what was spent from a directory on the volume, such as <data>/spend, and makes it if need
// be. The owner names this daemon: no other that lives may have the same name. Spend of other owners counts
// too. Without a directory it is all in memory. The error names a file that cannot be read or made.
func OpenLedger(dir, owner string, limits Limits, now func() time.Time) (*Ledger, error) {
	l := newLedger(dir, owner, limits, now)
	if dir == "" {
		return l, nil
	}
	l.writer = newWriter(dir, l.owner)
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("reading what was spent: %w", err)
	}
	go l.writer.run()
	return l, nil
}

func newLedger(dir, owner string, limits Limits, now func() time.Time) *Ledger {
	l := &Ledger{
		now: now, dir: dir, owner: fileName(owner), prefix: rand.Text()[:8] + "-",
		months: map[string]*month{}, charges: map[string]*charge{},
	}
	l.limits.day, l.limits.month = fromUSD(limits.DayUSD), fromUSD(limits.MonthUSD)
	return l
}

// fileName makes an owner's name fit for a file, one name for one owner.
func fileName(owner string) string {
	var b strings.Builder
	for _, char := range []byte(owner) {
		if char == '-' || char >= '0' && char <= '9' || char >= 'a' && char <= 'z' || char >= 'A' && char <= 'Z' {
			b.WriteByte(char)
		} else {
			b.WriteString("_" + strconv.FormatUint(uint64(char), 16))
		}
	}
	if b.Len() == 0 {
		return "_"
	}
	return b.String()
}

// period returns the day and the month of a time.
func period(t time.Time) (day, month string) {
	day = t.UTC().Format(time.DateOnly)
	return day, day[:len("2006-01")]
}

// Spend returns what was spent today and this month, with the limits.
func (l *Ledger) Spend() api.Spend {
	l.refresh(refreshEvery)
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.spend()
}

func (l *Ledger) spend() api.Spend {
	day, month := period(l.now())
	return api.Spend{
		Day: day, DayUSD: l.spentDay(day).usd(), DayLimitUSD: l.limits.day.usd(),
		MonthUSD: l.spentMonth(month).usd(), MonthLimitUSD: l.limits.month.usd(), PricesDated: prices.Dated,
	}
}

// Report returns Spend, and spend by day, of this month and the last, and by model, of this month.
func (l *Ledger) Report() api.SpendReport {
	l.refresh(refreshEvery)
	l.lock.Lock()
	defer l.lock.Unlock()
	r := api.SpendReport{Spend: l.spend(), Days: map[string]float64{}, Models: map[string]float64{}}
	days, models := map[string]nano{}, map[string]nano{}
	add := func(to, sums map[string]nano) {
		for name, sum := range sums {
			to[name] += sum
		}
	}
	now := l.now().UTC()
	_, this := period(now)
	_, last := period(now.AddDate(0, 0, -now.Day()))
	for name, m := range l.months {
		for a := range m.accounts() {
			if name == this || name == last {
				add(days, a.Days)
			}
			if name == this {
				add(models, a.Models)
			}
		}
	}
	r.EstimatedUSD = l.estimated(this).usd()
	for day, sum := range days {
		r.Days[day] = sum.usd()
	}
	for model, sum := range models {
		r.Models[model] = sum.usd()
	}
	return r
}

// estimated is what other agents' requests under way are counted with in a month.
func (l *Ledger) estimated(month string) (sum nano) {
	m := l.months[month]
	if m == nil {
		return 0
	}
	for a := range m.accounts() {
		if a == m.own {
			continue
		}
		for _, each := range a.open {
			sum += each.counted()
		}
	}
	return sum
}

// Session returns what a session has spent, in US dollars, requests under way included as far as they are known.
func (l *Ledger) Session(id string) float64 {
	l.refresh(refreshEvery)
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.spentSession(id).usd()
}

// Forget drops what is known of a session that is deleted. What it spent still counts for days and months.
func (l *Ledger) Forget(id string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.spentSession(id) == 0 {
		return
	}
	for _, m := range l.months {
		for a := range m.accounts() {
			a.forget(id)
		}
	}
	_, name := period(l.now())
	l.write(name, line{Session: id, Forget: true}, nil)
}

// Close writes what is not written yet. No request may be under way.
func (l *Ledger) Close() error {
	if l.writer == nil {
		return nil
	}
	l.lock.Lock()
	for name, m := range l.months {
		if m.journal > 0 {
			l.compact(name, m)
		}
	}
	l.lock.Unlock()
	return l.writer.close()
}

func (l *Ledger) spentDay(day string) (sum nano) {
	if m := l.months[day[:len("2006-01")]]; m != nil {
		for a := range m.accounts() {
			sum += a.Days[day]
		}
	}
	return sum
}

func (l *Ledger) spentMonth(name string) (sum nano) {
	if m := l.months[name]; m != nil {
		for a := range m.accounts() {
			for _, day := range a.Days {
				sum += day
			}
		}
	}
	return sum
}

func (l *Ledger) spentSession(id string) (sum nano) {
	for _, m := range l.months {
		for a := range m.accounts() {
			sum += a.Sessions[id]
		}
	}
	return sum
}

// accounts are those that count for the month.
func (m *month) accounts() func(yield func(*account) bool) {
	return func(yield func(*account) bool) {
		if m.own != nil && !yield(m.own) {
			return
		}
		for _, other := range m.others {
			if !yield(other) {
				return
			}
		}
	}
}

// month returns what is known of a month, to be added to.
func (l *Ledger) month(name string) *month {
	m := l.months[name]
	if m == nil {
		m = &month{others: map[string]*account{}}
		l.months[name] = m
	}
	if m.own == nil {
		m.own = newAccount()
	}
	return m
}
