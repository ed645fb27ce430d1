package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"path"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// answerTime is how long a reply in one piece may take to begin: Anthropic's own clients wait as long.
	answerTime = 10 * time.Minute
	// maxError is how much of the body of an error is passed on.
	maxError = 1 << 20
	// maxFirst is how much of a stream is looked at for its first event.
	maxFirst = 64 << 10
	// afterStop is how long a stream may stay open after its last event.
	afterStop = 5 * time.Second
)

// errStalled ends what takes too long.
var errStalled = errors.New("it does not answer")

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment, // which makes an exception of loopback
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true, // a reply is passed on as it is
	}
}

// outcome is what became of one try.
type outcome struct {
	reply  *http.Response // nil if err is not
	body   []byte         // of an error, all of it; of a stream, its first part
	status int            // of the reply, or of the error that a stream begins with
	meter  *meter         // of a reply that is no error
	err    error          // there is no reply
	sent   bool           // all of the request went out
	rest   error          // how the body ended, if that is known: io.EOF if well

	watchdog   *time.Timer
	cancel     context.CancelCauseFunc
	forSession error // what ended the wait after it
}

func (o *outcome) header() http.Header {
	if o.reply == nil {
		return http.Header{}
	}
	return o.reply.Header
}

// end lets go of the connection.
func (o *outcome) end() {
	o.watchdog.Stop()
	if o.reply != nil {
		_ = o.reply.Body.Close() // it has been read, or is not wanted
	}
	o.cancel(nil)
}

// send sends the request once, and waits until it is clear what the answer is: to the end of an error, or to the end
// of a stream's first event, which may be one.
func (e *exchange) send(key string) *outcome {
	ctx, cancel := context.WithCancelCause(e.r.Context())
	wait := 2 * e.g.config.Stall
	if !e.asked.stream && e.charge != nil {
		wait = max(wait, answerTime)
	}
	o := &outcome{cancel: cancel, watchdog: time.AfterFunc(wait, func() { cancel(errStalled) })}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { sent.Store(info.Err == nil) },
	})
	o.reply, o.err = e.g.transport.RoundTrip(e.g.request(ctx, e.r, e.body, key)) //nolint:bodyclose // outcome.end does
	o.sent = sent.Load()
	if o.err == nil {
		o.status = o.reply.StatusCode
		e.open(o, key)
	}
	if o.err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(cause, errStalled) {
			o.err = errStalled
		}
		if o.sent && o.status < 300 { // an error that is cut costs nothing
			e.sink()
		}
		o.status = 0
	}
	return o
}

// open reads the beginning of a reply.
func (e *exchange) open(o *outcome, key string) {
	if o.status >= 300 {
		o.watchdog.Reset(e.g.config.Stall)
		o.body, o.rest = io.ReadAll(io.LimitReader(o.reply.Body, maxError))
		if o.rest != nil && o.status < 500 { // of a 5xx the status says enough
			o.err = o.rest
		}
		o.body = without(key, o.body)
		return
	}
	o.meter = newMeter(e.asked, o.reply.Header.Get("Content-Type"), o.reply.Header.Get("Content-Encoding"))
	if !o.meter.stream || o.meter.opaque {
		return
	}
	part := make([]byte, 4096)
	for o.meter.events.count == 0 && len(o.body) < maxFirst && o.rest == nil {
		o.watchdog.Reset(e.g.config.Stall)
		var n int
		n, o.rest = o.reply.Body.Read(part)
		o.meter.Write(part[:n])
		o.body = append(o.body, part[:n]...)
	}
	if o.rest != nil && !errors.Is(o.rest, io.EOF) {
		o.err, o.meter = o.rest, nil // nothing of it has been passed on: it can be asked for again
		return
	}
	if status, passes := inStream[o.meter.failure]; passes {
		o.status = status
	}
}

// dropped are headers of a request that are not the upstream's business, or that only concern one connection
// (https://www.rfc-editor.org/rfc/rfc9110#name-connection).
var dropped = []string{
	"Authorization", "X-Api-Key", "Cookie", "Proxy-Authorization", "Proxy-Connection", "Proxy-Authenticate", "Connection", "Keep-Alive",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	"X-Real-Ip", "Via", "Origin", "Referer", "Content-Length",
}

// hopByHop removes headers that a Connection header names, and those given.
func hopByHop(header http.Header, more []string) {
	for _, value := range header["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range more {
		header.Del(name)
	}
}

// request is what goes to the upstream: the session's request, with the real key in the token's place.
func (g *Gateway) request(ctx context.Context, in *http.Request, body []byte, key string) *http.Request {
	out := (&http.Request{
		Method: in.Method, Header: in.Header.Clone(), Host: g.config.Upstream.Host, ContentLength: int64(len(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	address := *g.config.Upstream
	address.Path, address.RawPath, address.User = path.Join("/", g.config.Upstream.Path, in.URL.Path), "", nil
	address.RawQuery, address.Fragment = in.URL.RawQuery, ""
	out.URL = &address
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	hopByHop(out.Header, dropped)
	out.Header.Set("Accept-Encoding", "identity") // the meter reads along
	if key != "" {
		out.Header.Set("X-Api-Key", key)
	}
	return out
}

// notPassed are headers of a reply that only concern the connection to the upstream.
var notPassed = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// pass hands a reply on as it comes. It reports whether the connection has to be cut, because the reply was.
func (e *exchange) pass(o *outcome, key string) (cut bool) {
	header := o.reply.Header
	hopByHop(header, notPassed)
	if o.meter == nil {
		header.Del("Content-Length") // without the key, it may be shorter
	}
	for name, values := range header {
		for _, value := range values {
			e.w.Header().Add(name, string(without(key, []byte(value))))
		}
	}
	e.w.WriteHeader(o.reply.StatusCode)
	if o.meter == nil {
		_, _ = e.w.Write(o.body) // a session that is gone misses nothing
		return false
	}
	if e.charge != nil {
		e.meter = o.meter
	}
	err := e.passBody(o)
	o.meter.End(err == nil)
	return err != nil
}

// passBody hands the body of a reply on. The error is how it, or the session's connection, broke.
func (e *exchange) passBody(o *outcome) error {
	client := http.NewResponseController(e.w)
	defer func() { _ = client.SetWriteDeadline(time.Time{}) }() // the connection may serve more requests
	left := o.reply.ContentLength
	hand := func(part []byte) error { // what is handed on is in the ledger by then
		if len(part) == 0 {
			return nil
		}
		if left -= int64(len(part)); left == 0 {
			o.meter.End(true)
		}
		e.figure(o.meter)
		// A Claude Code that hangs must not seem alive for ever. Without deadlines it would.
		_ = client.SetWriteDeadline(time.Now().Add(e.g.config.Stall))
		if _, err := e.w.Write(part); err != nil {
			return err
		}
		return client.Flush()
	}
	if err := hand(o.body); err != nil {
		return err
	}
	part := make([]byte, 32<<10)
	known := o.meter.failure
	for err := o.rest; err == nil; {
		wait := e.g.config.Stall
		if o.meter.stopped {
			wait = min(wait, afterStop)
		}
		o.watchdog.Reset(wait)
		var n int
		n, err = o.reply.Body.Read(part)
		o.watchdog.Stop()
		o.meter.Write(part[:n])
		if _, passes := inStream[o.meter.failure]; passes && known == "" {
			// Claude Code asks again for a stream that is cut, and takes this error for the end of its patience.
			return errors.New("the stream has ended in an error: " + o.meter.failure)
		}
		if failed := hand(part[:n]); failed != nil {
			return failed
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && o.meter.stopped && o.meter.stream:
			return nil // all of it has come
		case err != nil:
			return err
		}
	}
	return nil
}

// figure notes what the reply has cost so far, and settles it when it has come to its end.
func (e *exchange) figure(m *meter) {
	if e.charge == nil {
		return
	}
	if m.stopped {
		e.settle()
		return
	}
	if e.over {
		return
	}
	known := m.figures && !e.known
	e.known = e.known || known
	cost, _ := m.cost()
	e.charge.figure(m.name(), e.sunk+cost, e.sunk+m.worst(), known)
}
