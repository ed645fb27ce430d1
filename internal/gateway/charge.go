package gateway

import (
	"strconv"
	"time"
)

// charge is a request that is under way, and what it costs.
type charge struct {
	ledger *Ledger
	id     string
	month  string
	line   line // the latest
	worst  nano // what it may come to
	// reserve counts on the volume until it has ended: a daemon that is killed never says what it came to.
	reserve nano
	noted   time.Time // when a line was last written
}

func (c *charge) in(s scope) bool {
	switch s.kind {
	case ScopeDay:
		return c.line.Day == s.name
	case ScopeMonth:
		return c.month == s.name
	default:
		return c.line.Session == s.name
	}
}

// begin counts a request as under way.
func (l *Ledger) begin(o order) *charge {
	l.number++
	day, month := period(l.now())
	c := &charge{
		ledger: l, id: l.prefix + strconv.Itoa(l.number), month: month, worst: max(o.worst, o.estimate), noted: l.now(),
	}
	c.reserve = min(c.worst, l.reserveFor(o))
	c.line = line{ID: c.id, Day: day, Session: o.session, Model: o.model, Cost: o.estimate}
	l.charges[c.id] = c
	l.month(month).own.apply(c.line)
	return c
}

// reserveFor is the input's estimate and as much as the largest request of the session has cost, or that of any
// session if it has none. Nothing is known before the first one: then it is what a modest one comes to, for the worst
// would end many a session that a kill met in its first request.
func (l *Ledger) reserveFor(o order) nano {
	var largest, others nano
	for _, m := range l.months {
		for a := range m.accounts() {
			largest = max(largest, a.Largest[o.session])
		}
	}
	for _, m := range l.months {
		if largest > 0 {
			break
		}
		for a := range m.accounts() {
			for _, n := range a.Largest {
				others = max(others, n)
			}
		}
	}
	switch largest = max(largest, others); largest {
	case 0:
		return max(o.modest, o.estimate)
	default:
		return o.estimate + largest
	}
}

// first is the line with which the request leaves.
func (c *charge) first() line {
	first := c.line
	first.Reserve = c.reserve
	return first
}

// figure says what the request has cost so far, and what it may come to. It is written at most once a second, or at
// once if the input has become known.
func (c *charge) figure(model string, cost, worst nano, known bool) {
	l := c.ledger
	l.lock.Lock()
	defer l.lock.Unlock()
	smaller := worst < c.worst
	c.worst = worst
	c.set(model, cost)
	if now := l.now(); known || now.Sub(c.noted) >= time.Second {
		c.noted = now
		if l.writer == nil || !l.writer.full() {
			l.write(c.month, c.later(), nil)
		}
	}
	if smaller {
		l.changed()
	}
}

// end says what the request has cost. A request that never had a reply has cost nothing.
func (c *charge) end(model string, cost nano) {
	l := c.ledger
	l.lock.Lock()
	defer l.lock.Unlock()
	c.line.Final = true
	c.set(model, cost)
	delete(l.charges, c.id)
	l.write(c.month, c.later(), nil)
	l.changed()
}

// set changes the figure in memory.
func (c *charge) set(model string, cost nano) {
	if model != "" {
		c.line.Model = model
	}
	c.line.Cost = cost
	c.ledger.month(c.month).own.apply(c.line)
}

// later is a line that is not the first: it need not say again whose it is.
func (c *charge) later() line {
	return line{ID: c.id, Model: c.line.Model, Cost: c.line.Cost, Final: c.line.Final}
}

// changed lets those who wait look again.
func (l *Ledger) changed() {
	for _, a := range l.waiting {
		if a.wake != nil {
			close(a.wake)
			a.wake = nil
		}
	}
}

// write hands a line on to the writer, in the order of these calls, and sums the journal up when it has become long.
func (l *Ledger) write(name string, next line, written chan<- error) {
	if l.writer == nil {
		return
	}
	text := next.encode()
	m := l.month(name)
	m.journal += len(text)
	l.writer.put(job{month: name, text: text, written: written})
	if m.journal > journalSize {
		l.compact(name, m)
	}
}

// journalSize is how long a journal gets, in bytes, before it is summed up.
const journalSize = 1 << 20

// compact puts sums in the place of this owner's journals of a month. Requests under way begin the next one.
func (l *Ledger) compact(name string, m *month) {
	s := &sums{account: *m.own.ended()}
	var text []byte
	for _, each := range m.own.open {
		if c := l.charges[each.ID]; c != nil {
			each.Reserve = c.reserve
		}
		text = append(text, each.encode()...)
	}
	m.journal = len(text)
	l.writer.put(job{month: name, text: text, sums: s})
}
