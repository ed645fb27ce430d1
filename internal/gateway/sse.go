package gateway

import "bytes"

// maxEvent is how much of an event is kept for reading. Those with figures take some hundred bytes; an event
// that is longer is passed on all the same, and only its length is known.
const maxEvent = 256 << 10

// events finds the server-sent events in a stream that comes in parts of any size
// (https://html.spec.whatwg.org/multipage/server-sent-events.html). It keeps one event at a time, and no more
// than maxEvent of it.
type events struct {
	// take is given the data of each event that has any; it may keep none of it. Where more is lost than
	// maxEvent, data is nil. length is how long the event was, names of fields included.
	take func(data []byte, length int)

	line, data []byte
	length     int  // of the event so far
	some, lost bool // there is data; it is too long
	carriage   bool // the last byte was a carriage return, whose line feed is still to come
	begun      bool
	count      int // of blank lines so far: events, if there are no two in a row
}

// Write takes the next part. It never fails.
func (e *events) Write(part []byte) {
	for len(part) > 0 {
		if e.carriage && part[0] == '\n' {
			part = part[1:]
			e.carriage = false
			continue
		}
		e.carriage = false
		end := bytes.IndexAny(part, "\r\n")
		if end < 0 {
			e.add(part)
			return
		}
		e.add(part[:end])
		e.carriage = part[end] == '\r'
		part = part[end+1:]
		e.endLine()
	}
}

func (e *events) add(part []byte) {
	e.length += len(part)
	if len(e.line)+len(e.data)+len(part) > maxEvent {
		e.lost, e.line, e.data = true, e.line[:0], e.data[:0]
	}
	if !e.lost {
		e.line = append(e.line, part...)
	} else if len(e.line) == 0 && len(part) > 0 {
		e.line = append(e.line, part[0]) // only whether a line is empty matters from here on
	}
}

func (e *events) endLine() {
	line := e.line
	if !e.begun {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		e.begun = true
	}
	e.line = e.line[:0]
	switch name, value, _ := bytes.Cut(line, []byte(":")); {
	case len(line) == 0:
		e.end()
	case e.lost:
	case string(name) == "data":
		if e.some {
			e.data = append(e.data, '\n')
		}
		e.data = append(e.data, bytes.TrimPrefix(value, []byte(" "))...)
		e.some = true
	}
}

func (e *events) end() {
	e.count++
	switch {
	case e.lost:
		e.take(nil, e.length)
	case e.some:
		e.take(e.data, e.length)
	}
	if cap(e.data)+cap(e.line) > maxEvent/4 {
		e.data, e.line = nil, nil // one large event should not take room for ever
	}
	e.data, e.length, e.some, e.lost = e.data[:0], 0, false, false
}
