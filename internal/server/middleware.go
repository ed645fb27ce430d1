package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"berth/internal/api"
	"berth/internal/contract"
)

// Paths that need no token.
const (
	pathHealth  = "/healthz"
	pathReady   = "/readyz"
	pathMetrics = "/metrics"
	pathOpenAPI = "/openapi"
)

// recovered turns a panic into an answer. What it was, and where, is logged and not answered.
func recovered(logger *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writer := &startedWriter{ResponseWriter: w}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { //nolint:errorlint // it is panicked with, not wrapped
				panic(cause)
			}
			logger.Error("a request made the agent panic", "method", r.Method, "path", r.URL.Path, contract.LogFieldError, fmt.Sprint(cause), "stack", string(debug.Stack()))
			if writer.started {
				panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
			}
			refuse(api.CodeInternal, "something went wrong inside the agent; its log says what").write(w)
		}()
		next.ServeHTTP(writer, r)
	})
}

// startedWriter knows whether the answer has begun.
type startedWriter struct {
	http.ResponseWriter
	started bool
}

func (w *startedWriter) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *startedWriter) Write(p []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach what is below.
func (w *startedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// loopbackOnly refuses requests that were made to another host name: by a web page whose name has been
// pointed at this machine.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !api.LoopbackHost(r.Host) {
			refuse(api.CodeForbidden, "the agent does not answer for the host %.80q: ask for 127.0.0.1 or localhost", r.Host).write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses requests that a browser makes for a page that is not the agent's own.
func sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, origin := range r.Header.Values("Origin") {
			if !strings.EqualFold(origin, "http://"+r.Host) {
				refuse(api.CodeForbidden, "the agent does not answer to web pages of %.80q", origin).write(w)
				return
			}
		}
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "none", "same-origin":
			next.ServeHTTP(w, r)
		default: // same-site is any other port of this machine
			refuse(api.CodeForbidden, "the agent does not answer to other web pages").write(w)
		}
	})
}

// authorized reports whether a request has the token. Hashes are compared, so that the time it takes tells neither the
// token's length nor its letters.
func authorized(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	have, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return token != "" && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(have[:], want[:]) == 1
}

// authenticate asks for the token.
func authenticate(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case pathHealth, pathReady, pathOpenAPI + ".json", pathOpenAPI + ".yaml":
			next.ServeHTTP(w, r)
			return
		}
		if !authorized(r, token) {
			problem := "the API token is wrong"
			if _, given, _ := strings.Cut(r.Header.Get("Authorization"), " "); given == "" {
				problem = "the request has no API token"
			}
			w.Header().Set("Connection", "close") // who has no token keeps none open
			w.Header().Set("WWW-Authenticate", `Bearer realm="berthd"`)
			refuse(api.CodeUnauthorized, "%s: send the one in %s in the agent's volume, as 'Authorization: Bearer …'", problem, api.EndpointFile).write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// plainQuery refuses queries that can be read in two ways: what net/http cannot read it passes over, and of a parameter that
// is there twice it takes the first. Only sessions' states may be given several times.
func plainQuery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			refuse(api.CodeBadRequest, "the query %.200q cannot be read: %s", r.URL.RawQuery, err).write(w)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(query)) {
			if len(query[name]) > 1 && name != "state" {
				refuse(api.CodeBadRequest, "the query has %.40q %d times", name, len(query[name])).write(w)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// limitBody refuses bodies that are too large: at once if they say so, else where they get too long.
func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxBody {
			w.Header().Set("Connection", "close") // rather than reading it all
			bodyTooLarge().write(w)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// exactly lets only requests for the mux's own paths through to it, and answers all others in JSON. A mux
// by itself redirects paths with "..", "//" and the like to what it thinks was meant.
func exactly(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Clean(r.URL.Path) == r.URL.Path {
			handler, pattern := mux.Handler(r)
			if pattern != "" {
				mux.ServeHTTP(w, r)
				return
			}
			answer := &mutedWriter{header: http.Header{}}
			handler.ServeHTTP(answer, r)
			if answer.status == http.StatusMethodNotAllowed {
				allowed := answer.header.Get("Allow")
				w.Header().Set("Allow", allowed)
				refusal := refuse(api.CodeBadRequest, "%.20q is not a method of %.200s: it has %s", r.Method, r.URL.Path, allowed)
				refusal.status = http.StatusMethodNotAllowed
				refusal.write(w)
				return
			}
		}
		refuse(api.CodeNotFound, "there is nothing at %.200q: %s.json describes what there is", r.URL.Path, pathOpenAPI).write(w)
	})
}

// mutedWriter takes an answer and keeps its status and header.
type mutedWriter struct {
	header http.Header
	status int
}

func (w *mutedWriter) Header() http.Header { return w.header }

func (w *mutedWriter) WriteHeader(status int) { w.status = status }

func (w *mutedWriter) Write(p []byte) (int, error) { return len(p), nil }
