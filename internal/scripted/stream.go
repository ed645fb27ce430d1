package scripted

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// wait lets time pass, and says whether the client is still there.
func (e *exchange) wait(d time.Duration) bool {
	if d <= 0 {
		return e.r.Context().Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.r.Context().Done():
		return false
	}
}

// stream sends a reply as server-sent events
// (https://docs.anthropic.com/en/docs/build-with-claude/streaming, "Event types").
func (e *exchange) stream(r reply, pause time.Duration, fault *Fault) {
	e.w.Header().Set("content-type", "text/event-stream; charset=utf-8")
	e.w.Header().Set("cache-control", "no-cache")
	e.w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(e.w)
	for index, event := range r.events() {
		if index > 0 && !e.wait(pause) || e.broken(fault, index) {
			_ = flusher.Flush() // the headers, where nothing else was sent
			e.end(http.StatusOK, false)
			e.giveUp(fault, index)
			return
		}
		data, err := json.Marshal(event)
		if err == nil {
			_, err = fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", event["type"], data)
		}
		if err == nil {
			err = flusher.Flush()
		}
		if err != nil {
			e.end(http.StatusOK, false)
			return
		}
	}
	e.end(http.StatusOK, true)
}

// send sends a reply in one piece; half of it, if it is to break off.
func (e *exchange) send(r reply, fault *Fault) {
	if !e.broken(fault, 0) {
		e.sendJSON(http.StatusOK, r.message())
		return
	}
	data, err := json.Marshal(r.message())
	e.w.Header().Set("content-type", "application/json")
	e.w.Header().Set("content-length", fmt.Sprint(len(data)))
	if err == nil {
		_, err = e.w.Write(data[:len(data)/2])
	}
	if err == nil {
		err = http.NewResponseController(e.w).Flush()
	}
	e.end(http.StatusOK, false)
	if err == nil {
		e.giveUp(fault, 0)
	}
}

// broken says whether the reply breaks off before an event.
func (e *exchange) broken(fault *Fault, index int) bool {
	return (fault.Kind == Cut || fault.Kind == Stall) && index >= fault.After
}

// giveUp ends a connection as the fault says, if it is its turn.
func (e *exchange) giveUp(fault *Fault, index int) {
	if !e.broken(fault, index) {
		return
	}
	if fault.Kind == Stall {
		<-e.r.Context().Done()
		return
	}
	panic(http.ErrAbortHandler)
}

// reset ends the connection with a TCP reset.
func (e *exchange) reset() {
	connection, _, err := http.NewResponseController(e.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no connection to give
	}
	if tcp, isTCP := connection.(*net.TCPConn); isTCP {
		_ = tcp.SetLinger(0) // closing sends RST then; if it cannot be had, the close is still abrupt
	}
	_ = connection.Close()
}
