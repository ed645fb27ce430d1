package scripted

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind is a way to go wrong.
type Kind string

const (
	// Refuse answers with an HTTP status and an error in Anthropic's form.
	Refuse Kind = "refuse"
	// Reset ends the connection with a TCP reset, before any answer.
	Reset Kind = "reset"
	// Cut ends the connection in the middle of the reply.
	Cut Kind = "cut"
	// Stall sends the first part of the reply and then nothing, until the client goes away or the server
	// stops.
	Stall Kind = "stall"
)

// Always makes a fault stay.
const Always = -1

// Fault is something that goes wrong with a request. Make one with Status, ResetConnection, CutAfter or
// StallAfter.
type Fault struct {
	Kind Kind `yaml:"kind"`

	// Times is how many requests it meets, one after another. 0 is one; Always is every one.
	Times int `yaml:"times"`

	// Status is the HTTP status of a Refuse, from 400 to 599.
	Status int `yaml:"status"`

	// RetryAfter is sent with a Refuse, in whole seconds, unless it is 0.
	RetryAfter time.Duration `yaml:"retry_after"`

	// After is how many events of the stream are sent before a Cut or a Stall. A reply that is not streamed
	// counts as one event, and half of it is sent if After is 0.
	After int `yaml:"after"`
}

// Status is a fault that answers with an HTTP status, such as 529, which the API gives when it is
// overloaded.
func Status(code int) Fault { return Fault{Kind: Refuse, Status: code} }

// ResetConnection is a fault that resets the connection.
func ResetConnection() Fault { return Fault{Kind: Reset} }

// CutAfter is a fault that ends the stream after so many events.
func CutAfter(events int) Fault { return Fault{Kind: Cut, After: events} }

// StallAfter is a fault that stops sending after so many events.
func StallAfter(events int) Fault { return Fault{Kind: Stall, After: events} }

// For returns the fault for so many requests, or Always.
func (f Fault) For(times int) Fault {
	f.Times = times
	return f
}

func (f Fault) check() error {
	var problems []error
	switch f.Kind {
	case Refuse:
		if f.Status < 400 || f.Status > 599 {
			problems = append(problems, fmt.Errorf("status %d is not one from 400 to 599", f.Status))
		}
	case Reset, Cut, Stall:
		if f.Status != 0 || f.RetryAfter != 0 {
			problems = append(problems, fmt.Errorf("status and retry_after do not go with %q", f.Kind))
		}
	default:
		problems = append(problems, fmt.Errorf("kind %q is none of refuse, reset, cut, stall", f.Kind))
	}
	if f.After != 0 && f.Kind != Cut && f.Kind != Stall {
		problems = append(problems, fmt.Errorf("after does not go with %q", f.Kind))
	}
	if f.Times < Always || f.After < 0 || f.RetryAfter < 0 {
		problems = append(problems, errors.New("times is -1 or more, after and retry_after are 0 or more"))
	}
	if f.RetryAfter%time.Second != 0 {
		problems = append(problems, fmt.Errorf("retry_after %s is not in whole seconds", f.RetryAfter))
	}
	return errors.Join(problems...)
}

// pick returns which of the faults meets request number n, from 0; nil if they are used up.
func pick(faults []Fault, n int) *Fault {
	for index := range faults {
		times := max(faults[index].Times, 1)
		if faults[index].Times == Always || n < times {
			return &faults[index]
		}
		n -= times
	}
	return nil
}

// errorTypes are the names of the API's errors
// (https://docs.anthropic.com/en/api/errors, "HTTP errors").
var errorTypes = map[int]string{
	http.StatusBadRequest:            "invalid_request_error",
	http.StatusUnauthorized:          "authentication_error",
	http.StatusPaymentRequired:       "billing_error",
	http.StatusForbidden:             "permission_error",
	http.StatusNotFound:              "not_found_error",
	http.StatusRequestEntityTooLarge: "request_too_large",
	http.StatusTooManyRequests:       "rate_limit_error",
	http.StatusGatewayTimeout:        "timeout_error",
	529:                              "overloaded_error",
}

func errorType(status int) string {
	if name, known := errorTypes[status]; known {
		return name
	}
	if status < 500 {
		return "invalid_request_error"
	}
	return "api_error"
}
