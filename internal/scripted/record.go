package scripted

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Record is what is known of one request. There is no key in it.
type Record struct {
	Number   int // from 1, in the order in which requests came
	Time     time.Time
	Method   string
	Path     string
	Session  string
	Model    string
	KeyRight bool // true as well if the server expects none
	Side     bool // not of the main conversation: no script was asked
	Script   string
	Step     int // from 0
	Messages int
	Stream   bool

	// What follows is known when the request was answered.

	Answered bool
	Status   int   // 0 if the connection was reset
	Whole    bool  // a reply was sent to its end, and not an error
	Fault    Kind  // "" for none
	Usage    Usage // of the reply, if one was begun
}

// Counts are sums over requests.
type Counts struct {
	Requests int // of any kind
	Replies  int // messages that were sent whole, side requests included
	Steps    int // those of them that were steps of a script
	Refused  int // answered with a status of 400 or more
	Broken   int // reset, cut or stalled, or given up by the client
	Usage    Usage
}

// records keeps the last requests, and sums over all.
type records struct {
	mu       sync.Mutex
	keep     int
	last     []Record
	number   int
	total    Counts
	sessions map[string]Counts
}

// open takes note of a request.
func (r *records) open(record Record) Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
	record.Number = r.number
	r.last = append(r.last, record)
	if surplus := len(r.last) - r.keep; surplus > 0 {
		r.last = slices.Delete(r.last, 0, surplus)
	}
	r.count(record.Session, func(c *Counts) { c.Requests++ })
	return record
}

// close takes note of a request's answer.
func (r *records) close(record Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Numbers follow one another. A record that is no longer kept is not brought back.
	if index := len(r.last) - 1 - (r.number - record.Number); index >= 0 {
		r.last[index] = record
	}
	r.count(record.Session, func(c *Counts) {
		switch {
		case record.Status >= 400:
			c.Refused++
		case !record.Whole:
			c.Broken++
		case record.Usage != Usage{}:
			c.Replies++
			if record.Script != "" {
				c.Steps++
			}
		}
		if record.Whole {
			c.Usage.Input += record.Usage.Input
			c.Usage.Output += record.Usage.Output
			c.Usage.CacheRead += record.Usage.CacheRead
			c.Usage.CacheWrite += record.Usage.CacheWrite
		}
	})
}

func (r *records) count(session string, change func(*Counts)) {
	change(&r.total)
	counts := r.sessions[session]
	change(&counts)
	r.sessions[session] = counts
}

// Requests returns the last requests, the oldest first: up to Options.Keep of them.
func (s *Server) Requests() []Record {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	return slices.Clone(s.records.last)
}

// Total returns the sums over all requests, those of Requests and those before.
func (s *Server) Total() Counts {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	return s.records.total
}

// Sessions returns the sums by session. Requests that name no session are under "".
func (s *Server) Sessions() map[string]Counts {
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	return maps.Clone(s.records.sessions)
}
