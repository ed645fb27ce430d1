package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	backoffFirst = time.Second
	backoffMost  = time.Minute
	statusBusy   = 529 // the API is overloaded (https://docs.claude.com/en/api/errors)
)

// backoff is how long to wait after so many tries, from 1: between half and all of a time that doubles from a second to
// a minute.
func backoff(tries int) time.Duration {
	most := backoffMost
	if tries < 7 {
		most = min(most, backoffFirst<<(tries-1))
	}
	return most/2 + rand.N(most/2) //nolint:gosec // nobody gains from guessing it
}

// passing reports whether an error goes by itself, so that it is worth trying again.
func passing(status int, header http.Header) bool {
	switch header.Get("X-Should-Retry") { // the API's word to its clients, which Anthropic's own follow
	case "false":
		return false
	case "true":
		return status >= 400 && status != http.StatusUnauthorized && status != http.StatusForbidden
	}
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, statusBusy:
		return true
	default:
		return false
	}
}

// named returns the time that a reply names at which to try again; zero if it names none.
func named(header http.Header, now time.Time) time.Time {
	if after := header.Get("Retry-After"); after != "" {
		if seconds, err := strconv.ParseFloat(after, 64); err == nil && seconds >= 0 {
			return now.Add(time.Duration(min(seconds, 1e9) * float64(time.Second)))
		}
		if date, err := http.ParseTime(after); err == nil {
			return date
		}
	}
	// Which limit it was is in -remaining; each says when it is full again
	// (https://docs.claude.com/en/api/rate-limits, "Response headers").
	var latest time.Time
	for name, values := range header {
		kind, isReset := strings.CutSuffix(strings.ToLower(name), "-reset")
		if !isReset || !strings.HasPrefix(kind, "anthropic-ratelimit") {
			continue
		}
		if remaining := header.Get(kind + "-remaining"); remaining != "" && remaining != "0" {
			continue
		}
		if at := moment(values[0]); at.After(latest) {
			latest = at
		}
	}
	return latest
}

// moment reads a time as RFC 3339 has it, or in seconds since 1970.
func moment(text string) time.Time {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds > 0 && seconds < 1e11 {
		return time.Unix(seconds, 0).UTC()
	}
	return time.Time{}
}

// regained is in the message of a 400 for the limit of spend that an account has set for itself: "You have reached
// your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
var regained = regexp.MustCompile(`regain access on (\d{4}-\d{2}-\d{2})(?:(?: at |T)(\d{2}:\d{2}))?`)

// closedUntil returns when an account that has used up its limit has access again; zero if that is not what an error
// says.
func closedUntil(status int, body []byte) time.Time {
	if status != http.StatusBadRequest && status != http.StatusTooManyRequests && status != http.StatusForbidden {
		return time.Time{}
	}
	found := regained.FindStringSubmatch(message(body))
	if found == nil {
		return time.Time{}
	}
	if found[2] == "" {
		found[2] = "00:00"
	}
	at, err := time.Parse("2006-01-02 15:04", found[1]+" "+found[2])
	if err != nil {
		return time.Time{}
	}
	return at
}

// message is what an error in the API's form says; "" for another one.
func message(body []byte) string {
	var f failure
	if json.Unmarshal(body, &f) != nil || f.Type != "error" {
		return ""
	}
	return short(f.Error.Message)
}

// inStream are the statuses that errors have which come as the first event of a stream.
var inStream = map[string]int{
	"overloaded_error": statusBusy, "rate_limit_error": http.StatusTooManyRequests,
	"api_error": http.StatusInternalServerError, "timeout_error": http.StatusGatewayTimeout,
}

// trouble says what is wrong, for people.
func trouble(status int, err error, host string) string {
	switch {
	case err != nil:
		return fmt.Sprintf("the model's API at %s cannot be reached (%s)", host, plain(err))
	case status == statusBusy:
		return "the model's API is overloaded (529)"
	case status == http.StatusTooManyRequests:
		return "the model's API limits the rate of requests (429)"
	default:
		return fmt.Sprintf("the model's API fails (%d)", status)
	}
}

// plain names what went wrong with a connection.
func plain(err error) string {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var lookup *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.As(err, &lookup):
		return "its address is not found"
	default:
		return short(err.Error())
	}
}
