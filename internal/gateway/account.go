package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// line is a line of a journal. The first of a request says whose it is; later ones replace its figure.
type line struct {
	ID      string `json:"i,omitempty"` // of the request
	Day     string `json:"d,omitempty"`
	Session string `json:"s,omitempty"`
	Model   string `json:"m,omitempty"` // that of the reply, once it is known
	Cost    nano   `json:"n"`           // so far, in billionths of a US dollar
	Reserve nano   `json:"r,omitempty"` // what counts until it has ended, if that is more: of the first line
	Final   bool   `json:"f,omitempty"`
	Forget  bool   `json:"forget,omitempty"` // the session is deleted
}

// account sums up what one owner spent in one month. The figures of requests that have not ended are in the sums.
type account struct {
	Days     map[string]nano `json:"days"`
	Models   map[string]nano `json:"models"`
	Sessions map[string]nano `json:"sessions"`
	Largest  map[string]nano `json:"largest,omitempty"` // request of a session that has ended

	open map[string]line // requests that have not ended, by id
	file progress        // of another owner
}

// sums is an account in a file.
type sums struct {
	Version int `json:"version"` // 1
	account
	Through int      `json:"through,omitempty"` // of an owner: the journals up to this number are in it
	Of      []string `json:"of,omitempty"`      // of a month: the files that are in it
}

const sumsVersion = 1

func newAccount() *account {
	return &account{Days: map[string]nano{}, Models: map[string]nano{}, Sessions: map[string]nano{}, Largest: map[string]nano{}, open: map[string]line{}}
}

// apply takes a line into account.
func (a *account) apply(next line) {
	if next.Forget {
		a.forget(next.Session)
		return
	}
	last, known := a.open[next.ID]
	if !known && (next.Day == "" || next.ID == "") {
		return // the line that began it is lost
	}
	if known {
		a.add(last, -last.counted())
		next.Day, next.Session, next.Reserve = last.Day, last.Session, last.Reserve
		if next.Model == "" {
			next.Model = last.Model
		}
	}
	next.Cost, next.Reserve = max(0, min(next.Cost, most)), min(next.Reserve, most)
	a.add(next, next.counted())
	if next.Final {
		a.enlarge(next.Session, next.Cost)
		delete(a.open, next.ID)
	} else {
		a.open[next.ID] = next
	}
}

// counted is what a line adds to the sums.
func (n line) counted() nano {
	if n.Final {
		return n.Cost
	}
	return max(n.Cost, n.Reserve)
}

func (a *account) enlarge(session string, n nano) {
	if session != "" && n > a.Largest[session] {
		if a.Largest == nil { // sums that an older agent wrote
			a.Largest = map[string]nano{}
		}
		a.Largest[session] = n
	}
}

func (a *account) add(of line, n nano) {
	addTo(a.Days, of.Day, n)
	addTo(a.Models, of.Model, n)
	if of.Session != "" { // it may have been forgotten since
		addTo(a.Sessions, of.Session, n)
	}
}

// addTo keeps no entry for nothing.
func addTo(sums map[string]nano, name string, n nano) {
	if sum := min(sums[name]+n, most); sum != 0 {
		sums[name] = sum
	} else {
		delete(sums, name)
	}
}

func (a *account) forget(session string) {
	for id, each := range a.open {
		if each.Session == session {
			each.Session = ""
			a.open[id] = each
		}
	}
	delete(a.Sessions, session)
	delete(a.Largest, session)
}

// plus adds the sums of another account.
func (a *account) plus(b *account) {
	for _, pair := range [][2]map[string]nano{{a.Days, b.Days}, {a.Models, b.Models}, {a.Sessions, b.Sessions}} {
		for name, n := range pair[1] {
			addTo(pair[0], name, n)
		}
	}
	for session, n := range b.Largest {
		a.enlarge(session, n)
	}
}

// ended is a copy without the requests that have not ended.
func (a *account) ended() *account {
	b := newAccount()
	b.plus(a)
	for _, each := range a.open {
		b.add(each, -each.counted())
	}
	return b
}

// readLines takes the lines of a part of a journal into account, and returns how many bytes that were: a last line
// without an end is left for later. A line that makes no sense, as a crash of the machine can leave one, is passed
// over.
func (a *account) readLines(text []byte) int {
	read := 0
	for {
		end := bytes.IndexByte(text[read:], '\n')
		if end < 0 {
			return read
		}
		var next line
		if err := json.Unmarshal(text[read:read+end], &next); err == nil && next.valid() {
			a.apply(next)
		}
		read += end + 1
	}
}

// valid keeps what is not one of our lines out of the sums.
func (n line) valid() bool {
	return n.Day == "" || len(n.Day) == len("2006-01-02") && strings.Count(n.Day, "-") == 2
}

// readSums reads a file of sums; the error names it.
func readSums(name string, text []byte) (*sums, error) {
	s := &sums{account: *newAccount()}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s cannot be read: move it away, if its spend need not count: %w", name, err)
	}
	if s.Version != sumsVersion {
		return nil, fmt.Errorf("%s has version %d: a newer berthd wrote it", name, s.Version)
	}
	clean := newAccount() // a map may have been null
	clean.plus(&s.account)
	s.account = *clean
	return s, nil
}

func (l line) encode() []byte {
	text, err := json.Marshal(l)
	if err != nil { // strings and numbers can always be written
		return nil
	}
	return append(text, '\n')
}
