// Package server is the agent's HTTP API: JSON, event streams, and the description of both. It trusts no
// request: sessions share the loopback interface with it, and so does every web page in a browser.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"berth/internal/api"
)

// Agent is what the server needs of the daemon. An error that is an *api.Error is answered with its code
// and message, and the status that belongs to the code; any other is answered as internal.
//
// Session ids that reach an Agent are UUIDs; prompts, messages, refs and options have been checked
// (api.CheckPrompt and the like). A repository has not.
type Agent interface {
	// Status tells how the agent is.
	Status(ctx context.Context) api.Status
	// Spend tells what was spent on the model.
	Spend(ctx context.Context) api.SpendReport
	// Create puts a task into the queue. It has to last once Create has returned. For a key that is not empty it does so
	// once: for the same task again it returns the session that is there, and created is false.
	Create(ctx context.Context, task api.NewSession, key string) (session api.Session, created bool, err error)
	// Sessions lists sessions.
	Sessions(query api.ListQuery) api.SessionList
	// Session returns one session.
	Session(id string) (api.Session, error)
	// Send gives a session a message.
	Send(ctx context.Context, id string, message api.NewMessage) (api.Session, error)
	// Stop cancels a session, and does not wait until it has ended.
	Stop(ctx context.Context, id string) (api.Session, error)
	// Resume takes up an ended session again.
	Resume(ctx context.Context, id string, with api.Resumption) (api.Session, error)
	// Diff tells what a session changed.
	Diff(ctx context.Context, id string) (api.Diff, error)
	// Bundle writes a git bundle with a session's work. An error before the first byte is answered as any other.
	Bundle(ctx context.Context, id string, full bool, w io.Writer) error
	// Events returns the session's events from index from on, each as the JSON line of its log; with
	// follow it goes on until the session has ended or ctx is done.
	Events(ctx context.Context, id string, from int, follow bool) (iter.Seq2[json.RawMessage, error], error)
}

const (
	// maxBody is the size in bytes of the largest request body: a prompt of api.MaxPrompt fits, unless
	// nearly all of it has to be escaped.
	maxBody = 1 << 20

	// readTime is how long a client may take to send a request's header, and as long again for its body.
	readTime = 30 * time.Second

	// maxConnections is how many connections a server has at once. Those beyond it are closed: each takes memory and a file of
	// the agent, and sessions can make as many as they like.
	maxConnections = 4096

	// stopTime is how long requests may take to end when the server stops. Event streams are ended at once.
	stopTime = 5 * time.Second
)

// New makes the handler of an agent's API. Every request but those for health and for the description
// needs the token; with an empty token none is answered. What goes wrong inside is logged. metrics are served at /metrics.
func New(agent Agent, metrics http.Handler, token string, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	config := huma.DefaultConfig("berthd", "1")
	config.Info.Description = "Sessions of Claude Code, and what they say. Errors are {code, message} with the status that fits."
	config.CreateHooks = nil // no $schema in every answer
	config.OpenAPIPath = ""  // served below, made once
	config.SchemasPath = ""
	config.DocsPath = "" // it would load scripts from elsewhere
	config.Formats = map[string]huma.Format{"application/json": strictJSON}
	config.RejectUnknownQueryParameters = true
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "The token in " + api.EndpointFile + " in the agent's volume"},
	}
	config.Security = []map[string][]string{{"token": {}}}
	operations := humago.New(mux, config)
	(&handlers{agent: agent, log: logger, turns: newTurns()}).register(operations)
	describe(mux, operations.OpenAPI())
	health(mux, agent, token)
	mux.Handle("GET "+pathMetrics, metrics)

	handler := limitBody(plainQuery(exactly(mux)))
	handler = authenticate(token, handler)
	handler = sameOrigin(handler)
	handler = loopbackOnly(handler)
	return recovered(logger, handler)
}

// describe serves the OpenAPI description.
func describe(mux *http.ServeMux, description *huma.OpenAPI) {
	asJSON, err := json.Marshal(description)
	if err != nil {
		panic(fmt.Sprintf("the API description cannot be written: %v", err)) // wrong in the source
	}
	asYAML, err := description.YAML()
	if err != nil {
		panic(fmt.Sprintf("the API description cannot be written: %v", err))
	}
	mux.HandleFunc("GET "+pathOpenAPI+".json", text("application/openapi+json", asJSON))
	mux.HandleFunc("GET "+pathOpenAPI+".yaml", text("application/openapi+yaml", asYAML))
}

func text(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body) // a client that is gone misses nothing
	}
}

// health serves what a supervisor asks: whether the process answers, and whether it can run sessions.
func health(mux *http.ServeMux, agent Agent, token string) {
	mux.HandleFunc("GET "+pathHealth, text("text/plain; charset=utf-8", []byte("ok\n")))
	mux.HandleFunc("GET "+pathReady, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		problems := agent.Status(r.Context()).Problems
		if len(problems) == 0 {
			fmt.Fprintln(w, "ok")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		if !authorized(r, token) { // a session, say: problems name paths, limits and what the API says
			fmt.Fprintln(w, "not ready: `berth status` says why")
			return
		}
		for _, problem := range problems {
			fmt.Fprintln(w, problem)
		}
	})
}

// Serve answers requests on a listener until ctx is done; then it ends the event streams, lets the other
// requests finish for a few seconds, and returns nil. The listener is closed in any case.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTime,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), streamsKey{}, streams)
		},
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(&bounded{Listener: listener, most: maxConnections}) }()
	select {
	case err := <-served:
		return fmt.Errorf("cannot accept requests on %s any more: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	endStreams()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("cannot stop accepting requests on %s: %w", listener.Addr(), err)
	}
	return nil
}

// streamsKey is where the base context of Serve keeps the context that ends event streams, and them only:
// a task that is just being put into the queue is not cut off.
type streamsKey struct{}
