package daemon

import (
	"slices"
	"strings"
	"time"
)

// queue holds the sessions that wait for a place, in order of arrival. Nothing else knows where work comes from.
type queue struct{ list []waiting }

// waiting is a session in the queue.
type waiting struct {
	asked time.Time
	id    string
}

func (w waiting) compare(other waiting) int {
	if order := w.asked.Compare(other.asked); order != 0 {
		return order
	}
	return strings.Compare(w.id, other.id) // a UUIDv7: made in order
}

func (q *queue) len() int { return len(q.list) }

// push adds a session. One that is there already is not added twice.
func (q *queue) push(w waiting) {
	at, found := slices.BinarySearchFunc(q.list, w, waiting.compare)
	if !found {
		q.list = slices.Insert(q.list, at, w)
	}
}

// pop takes the session that has waited longest. The queue must not be empty.
func (q *queue) pop() waiting {
	first := q.list[0]
	q.list = slices.Delete(q.list, 0, 1)
	return first
}
