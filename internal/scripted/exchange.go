package scripted

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody is the largest request that the API takes
// (https://docs.anthropic.com/en/api/overview, "Request size limits").
const maxBody = 32 << 20

// exchange is one request and its answer.
type exchange struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	id     string
	record Record
}

func (e *exchange) serve() {
	path := strings.TrimSuffix(e.r.URL.Path, "/")
	count := path == "/v1/messages/count_tokens"
	posted := e.r.Method == http.MethodPost && (path == "/v1/messages" || count)
	models := e.r.Method == http.MethodGet && path == "/v1/models" // by which a key can be tried out
	switch {
	case path == "" && e.r.Method == http.MethodHead:
		e.begin()
		e.end(http.StatusOK, true)
	case !posted && !models:
		e.begin()
		e.refuse(http.StatusNotFound, "there is no "+e.r.Method+" "+e.r.URL.Path+" in the scripted API")
	case !e.record.KeyRight:
		e.begin()
		e.refuse(http.StatusUnauthorized, "invalid x-api-key")
	case models:
		e.begin()
		e.sendJSON(http.StatusOK, object{"data": []object{}, "has_more": false, "first_id": nil, "last_id": nil})
	default:
		e.answer(count)
	}
}

// answer reads a request with a body.
func (e *exchange) answer(count bool) {
	body, err := io.ReadAll(http.MaxBytesReader(e.w, e.r.Body, maxBody))
	if err != nil {
		e.begin()
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		e.refuse(status, err.Error())
		return
	}
	c, err := parse(body)
	if err != nil {
		e.begin()
		e.refuse(http.StatusBadRequest, err.Error())
		return
	}
	c.fromCLI = strings.HasPrefix(e.r.UserAgent(), "claude-cli/")
	e.record.Model, e.record.Messages, e.record.Stream = c.Model, len(c.Messages), c.Stream
	if count {
		e.begin()
		e.sendJSON(http.StatusOK, object{"input_tokens": tokens(len(body))})
		return
	}
	e.reply(c, body)
}

// reply answers a request for a message.
func (e *exchange) reply(c call, body []byte) {
	request := Request{Session: e.record.Session, Model: c.Model, Stream: c.Stream, Body: body}
	step, fault := e.server.choose(c, &request, &e.record)
	e.begin()
	computed := step.Compute != nil
	if computed {
		step = step.Compute(request)
	}
	if fault == nil {
		fault = &Fault{}
	}
	e.record.Fault = fault.Kind
	if !e.wait(step.Delay) {
		e.end(0, false)
		return
	}
	switch fault.Kind {
	case Refuse:
		if fault.RetryAfter > 0 {
			e.w.Header().Set("retry-after", strconv.Itoa(int(fault.RetryAfter/time.Second)))
		}
		e.refuse(fault.Status, "the script says so")
		return
	case Reset:
		e.end(0, false)
		e.reset()
		return
	default:
	}
	r, err := build(step, request, computed)
	if err != nil {
		e.refuse(http.StatusInternalServerError, err.Error())
		return
	}
	e.record.Usage = r.usage
	if c.Stream {
		e.stream(r, step.Pause, fault)
	} else {
		e.send(r, fault)
	}
}

// begin takes note of the request.
func (e *exchange) begin() {
	e.record = e.server.records.open(e.record)
	if e.server.onRequest != nil {
		e.server.onRequest(e.record)
	}
}

// end takes note of the answer.
func (e *exchange) end(status int, whole bool) {
	e.record.Answered, e.record.Status, e.record.Whole = true, status, whole
	e.server.records.close(e.record)
	if e.server.onReply != nil {
		e.server.onReply(e.record)
	}
}

// refuse answers with an error in Anthropic's form
// (https://docs.anthropic.com/en/api/errors, "Error shapes").
func (e *exchange) refuse(status int, text string) {
	e.sendJSON(status, object{
		"type":       "error",
		"error":      object{"type": errorType(status), "message": text},
		"request_id": e.id,
	})
}

func (e *exchange) sendJSON(status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"type":"error"}`)
	}
	e.w.Header().Set("content-type", "application/json")
	e.w.WriteHeader(status)
	_, err = e.w.Write(data)
	e.end(status, err == nil && status < 400)
}
