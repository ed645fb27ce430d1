package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"berth/internal/api"
	"berth/internal/contract"
)

// statuses says which HTTP status a code has. A code that is not here is the reason why a session failed,
// not why a request is refused: 500.
var statuses = map[api.Code]int{
	api.CodeBadRequest:     http.StatusBadRequest,
	api.CodeUnauthorized:   http.StatusUnauthorized,
	api.CodeForbidden:      http.StatusForbidden,
	api.CodeNotFound:       http.StatusNotFound,
	api.CodeConflict:       http.StatusConflict,
	api.CodeWorkspaceLost:  http.StatusGone,
	api.CodePromptTooLarge: http.StatusRequestEntityTooLarge,
	api.CodeInternal:       http.StatusInternalServerError,
	api.CodeStopping:       http.StatusServiceUnavailable,
	api.CodeBusy:           http.StatusServiceUnavailable,
	api.CodeVolume:         http.StatusInsufficientStorage,
}

// Refusal is the body of every answer that is not 2xx: an api.Error, and the HTTP status that goes with
// it. Its name is the one in the API description.
type Refusal struct {
	Code    api.Code `json:"code" doc:"One of a fixed list, for programs"`
	Message string   `json:"message" doc:"What failed, with which value, and what to do next, for people"`
	status  int
}

func (r *Refusal) Error() string { return r.Message }

// GetStatus tells huma the HTTP status.
func (r *Refusal) GetStatus() int { return r.status }

// retryAfter is how many seconds a client should wait for what cannot be told for a moment.
const retryAfter = "5"

// GetHeaders tells huma what has to be in the answer's header.
func (r *Refusal) GetHeaders() http.Header {
	if r.Code == api.CodeBusy {
		return http.Header{"Retry-After": {retryAfter}}
	}
	return nil
}

// refuse makes a refusal with the status of its code.
func refuse(code api.Code, format string, args ...any) *Refusal {
	return refusal(api.Errorf(code, format, args...))
}

func refusal(err *api.Error) *Refusal {
	status, found := statuses[err.Code]
	if !found {
		status = http.StatusInternalServerError
	}
	return &Refusal{Code: err.Code, Message: err.Message, status: status}
}

// refused makes a refusal of what an Agent or a check returned. Errors without a code are logged too:
// nobody expected them.
func refused(logger *slog.Logger, err error) *Refusal {
	if coded := new(api.Error); errors.As(err, &coded) {
		return refusal(coded)
	}
	if !errors.Is(err, context.Canceled) { // nobody waits for the answer any more
		logger.Error("a request failed", contract.LogFieldError, err)
	}
	return refuse(api.CodeInternal, "the agent could not do this: %s", oneLine(err.Error()))
}

// huma makes the errors that it finds itself, such as a body that its schema does not allow, by this
// function, which it has for the whole program only.
func init() {
	huma.NewError = func(status int, message string, details ...error) huma.StatusError {
		return found(status, message, details)
	}
}

// found makes a refusal of what huma found.
func found(status int, message string, details []error) *Refusal {
	var parts []string
	for _, detail := range details {
		if ours := new(Refusal); errors.As(detail, &ours) {
			return ours
		}
		if tooLarge := new(http.MaxBytesError); errors.As(detail, &tooLarge) {
			return bodyTooLarge()
		}
		if detail != nil {
			parts = append(parts, explain(detail))
		}
	}
	if status == http.StatusUnsupportedMediaType {
		parts = []string{"the body has to be JSON, and Content-Type application/json"}
	}
	if len(parts) == 0 {
		parts = []string{message}
	}
	if status == http.StatusUnprocessableEntity && !slices.ContainsFunc(details, func(detail error) bool { return !inQuery(detail) }) {
		status = http.StatusBadRequest // it is not a body that is wrong
	}
	code := api.CodeBadRequest
	for candidate, its := range statuses {
		if its == status && candidate != api.CodeBusy { // which is nothing that huma finds
			code = candidate
		}
	}
	if status >= http.StatusInternalServerError && code == api.CodeBadRequest {
		code = api.CodeInternal
	}
	return &Refusal{Code: code, Message: oneLine(strings.Join(parts, "; ")), status: status}
}

func inQuery(detail error) bool {
	finding := new(huma.ErrorDetail)
	return errors.As(detail, &finding) && strings.HasPrefix(finding.Location, "query.")
}

// explain says what is wrong where. A value is shown if it is short: the body as a whole is not.
func explain(detail error) string {
	finding := new(huma.ErrorDetail)
	if !errors.As(detail, &finding) {
		return detail.Error()
	}
	where := strings.TrimPrefix(finding.Location, "body.")
	if where == "body" {
		if strings.HasPrefix(finding.Message, "expected ") {
			return "the body: " + finding.Message
		}
		return "the body is not JSON that can be used: " + finding.Message
	}
	text := where + ": " + finding.Message
	value, err := json.Marshal(finding.Value)
	if err == nil && finding.Value != nil && len(value) <= 60 && !strings.HasPrefix(string(value), "{") {
		text += ", not " + string(value)
	}
	return text
}

// oneLine keeps a message on one line, and its length in bounds.
func oneLine(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	const most = 2000
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + " …"
	}
	return message
}

func bodyTooLarge() *Refusal {
	return refuse(api.CodePromptTooLarge, "the request's body is over %d bytes: put long material into a file of the repository, and name the file", maxBody)
}

// write answers with a refusal, outside of huma.
func (r *Refusal) write(w http.ResponseWriter) {
	body, err := json.Marshal(r)
	if err != nil { // two strings always can be written
		body = []byte(`{"code":"internal","message":"the agent cannot say what is wrong"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Del("Content-Length")
	w.WriteHeader(r.status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone misses nothing
}

// strictJSON is JSON whose strings are what was sent: encoding/json replaces what is not UTF-8, and a
// prompt would silently be another.
var strictJSON = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		if !utf8.Valid(data) {
			return errors.New("it is not valid UTF-8")
		}
		if err := json.Unmarshal(data, v); err != nil {
			return err
		}
		return unambiguous(data)
	},
}

// unambiguous says what encoding/json passes over in a value that it can read: half a character, which it replaces, and a
// key that an object has twice, of which it takes the last.
func unambiguous(data []byte) error {
	for rest := data; ; {
		at := bytes.IndexByte(rest, '\\')
		if at < 0 {
			break
		}
		rest = rest[at:]
		length, whole := escape(rest)
		if !whole {
			return fmt.Errorf("%s is half a character", rest[:length])
		}
		rest = rest[length:]
	}
	return noKeyTwice(json.NewDecoder(bytes.NewReader(data)))
}

// escape is the length of an escape sequence, or of two that are one character; whole is false for half of such a pair.
func escape(text []byte) (length int, whole bool) {
	unit := func(at int) rune {
		if len(text) < at+6 || text[at] != '\\' || text[at+1] != 'u' {
			return 0
		}
		value, err := strconv.ParseUint(string(text[at+2:at+6]), 16, 16)
		if err != nil {
			return 0
		}
		return rune(value)
	}
	first := unit(0)
	switch {
	case first == 0:
		return min(2, len(text)), true
	case !utf16.IsSurrogate(first):
		return 6, true
	case utf16.DecodeRune(first, unit(6)) == utf8.RuneError:
		return 6, false
	}
	return 12, true
}

// noKeyTwice reads a value to its end.
func noKeyTwice(from *json.Decoder) error {
	type level struct {
		keys map[string]bool // nil in a list
		key  bool            // a key comes next
	}
	var open []level
	for {
		token, err := from.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if last := len(open) - 1; last >= 0 && open[last].keys != nil {
			if name, is := token.(string); is && open[last].key {
				if open[last].keys[name] {
					return fmt.Errorf("an object has %.40q twice", name)
				}
				open[last].keys[name] = true
				open[last].key = false
				continue
			}
			open[last].key = true
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{keys: map[string]bool{}, key: true})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}
