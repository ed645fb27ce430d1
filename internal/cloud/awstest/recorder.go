package awstest

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// Recorder stands before an emulator of AWS, and remembers what was called. What the emulator has nothing for, it answers itself.
type Recorder struct {
	server  *httptest.Server
	answers map[string]http.HandlerFunc

	mu       sync.Mutex
	count    int
	mutating []string
}

// NewRecorder starts one. answers are those of its own, by the call's name.
func NewRecorder(emulator string, answers map[string]http.HandlerFunc) (*Recorder, error) {
	target, err := url.Parse(emulator)
	if err != nil {
		return nil, fmt.Errorf("the emulator's address: %w", err)
	}
	r := &Recorder{answers: answers}
	forward := &httputil.ReverseProxy{Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(target)
		request.Out.Host = request.In.Host // the signature is over it, and answers lead to it
	}, ErrorLog: log.New(io.Discard, "", 0)} // it would tell of each caller that is gone; others are answered 502
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if answer := r.answers[r.remember(request)]; answer != nil {
			answer(w, request)
			return
		}
		forward.ServeHTTP(w, request)
	}))
	return r, nil
}

// URL is where it listens.
func (r *Recorder) URL() string { return r.server.URL }

// Address is the host and port of it.
func (r *Recorder) Address() string { return strings.TrimPrefix(r.server.URL, "http://") }

// Close ends it.
func (r *Recorder) Close() { r.server.Close() }

// remember notes a call, and returns its name. It is in a header, in a form, in a path (of CBOR), or is the method.
func (r *Recorder) remember(request *http.Request) (action string) {
	name := request.Method + " " + request.URL.Path
	changes := request.Method != http.MethodGet && request.Method != http.MethodHead
	if target := request.Header.Get("X-Amz-Target"); target != "" {
		action = target[strings.LastIndex(target, ".")+1:]
	} else if _, operation, found := strings.Cut(request.URL.Path, "/operation/"); found {
		action = operation
	} else if strings.HasPrefix(request.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body, _ := io.ReadAll(request.Body) // what is missing of it the emulator finds out
		request.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		action = form.Get("Action")
	}
	if action != "" {
		name, changes = action, !reading.MatchString(action)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	if changes {
		r.mutating = append(r.mutating, name)
	}
	return action
}

// Calls are how many calls there were, and the names of those that change something.
func (r *Recorder) Calls() (count int, mutating []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count, append([]string(nil), r.mutating...)
}

// Forget forgets the calls.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count, r.mutating = 0, nil
}
