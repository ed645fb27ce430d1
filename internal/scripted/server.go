package scripted

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options are what a server is made of. The zero Options are a server that quotes every prompt back.
type Options struct {
	Scripts []Script

	// Key is the API key that requests have to carry. "" takes any, and none.
	Key string

	// Keep is how many requests Requests returns. 0 is 10,000.
	Keep int

	// OnRequest is called for each request when it has been understood, before anything is answered.
	// OnReply is called when all has been sent that ever will be: a stalled reply calls it as it begins to
	// stall. Both are called by the goroutine of the request, which goes on when they return; so they can
	// hold it up, and have to expect several calls at a time.
	OnRequest func(Record)
	OnReply   func(Record)
}

// Server is the scripted API: an http.Handler. Make one with New.
type Server struct {
	scripts   []*compiled
	key       string
	onRequest func(Record)
	onReply   func(Record)
	records   records

	mu     sync.Mutex
	faults []Fault        // for any request
	met    int            // requests that met one of faults
	tries  map[tryKey]int // requests for the steps that have faults
}

// tryKey is what faults of a step are counted by.
type tryKey struct {
	session, script string
	step            int
}

// New makes a server. The error names every mistake in the scripts.
func New(o Options) (*Server, error) {
	scripts, err := compile(o.Scripts)
	if err != nil {
		return nil, err
	}
	if o.Keep <= 0 {
		o.Keep = 10_000
	}
	s := &Server{
		scripts:   scripts,
		key:       o.Key,
		onRequest: o.OnRequest,
		onReply:   o.OnReply,
		records:   records{keep: o.Keep, sessions: map[string]Counts{}},
		tries:     map[tryKey]int{},
	}
	return s, nil
}

// Fail makes the requests that come from now on meet these faults, in order, before those of any script.
// It takes the place of what an earlier Fail said; Fail() ends all of it. Only requests for messages
// count. The error says what is wrong with a fault, and nothing is changed then.
func (s *Server) Fail(faults ...Fault) error {
	for number, fault := range faults {
		if err := fault.check(); err != nil {
			return fmt.Errorf("fault %d: %w", number+1, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.met = append([]Fault(nil), faults...), 0
	return nil
}

// Listen serves on an address of this machine; "" is a free port of 127.0.0.1. It returns the base URL,
// for ANTHROPIC_BASE_URL, and a function that ends all connections and returns when the last request is
// over. The end of the context does the same. A server can listen several times, one after another too.
//
// The error is for an address that is not a loopback one or cannot be had.
func (s *Server) Listen(ctx context.Context, address string) (url string, stop func(), err error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return "", nil, err
	}
	if !tcp.IP.IsLoopback() {
		return "", nil, fmt.Errorf("%s is not a loopback address", address)
	}
	listener, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				connections.Add(1)
			case http.StateClosed, http.StateHijacked:
				connections.Done()
			default:
			}
		},
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // returns when it is closed, and has nothing else to say
	}()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return "http://" + listener.Addr().String(), func() {
		cancel()
		_ = server.Close()
		<-served
		connections.Wait()
	}, nil
}

// ServeHTTP answers a request as the API would.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &exchange{server: s, w: w, r: r, id: newID("req")}
	e.record = Record{
		Time: time.Now(), Method: r.Method, Path: r.URL.Path,
		Session: r.Header.Get("x-claude-code-session-id"), KeyRight: s.keyRight(key(r.Header)),
	}
	w.Header().Set("request-id", e.id)
	e.serve()
}

func (s *Server) keyRight(key string) bool {
	if s.key == "" {
		return true
	}
	got, want := sha256.Sum256([]byte(key)), sha256.Sum256([]byte(s.key))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// choose finds the step that answers, and the fault that comes before it.
func (s *Server) choose(c call, request *Request, record *Record) (Step, *Fault) {
	s.mu.Lock()
	fault := pick(s.faults, s.met)
	if fault != nil {
		s.met++
	}
	s.mu.Unlock()

	p := locate(s.scripts, c.Messages)
	for _, b := range c.System {
		if p.cwd == "" {
			p.note([]string{b.Text})
		}
	}
	request.Prompt, request.Prompts, request.Step, request.Cwd = p.prompt, p.prompts, p.step, p.cwd
	if text, is := c.side(p); is {
		record.Side = true
		return Text(text), fault
	}
	record.Step = p.step
	if p.script == nil {
		return Text("No script answers this prompt: {{prompt}}"), fault
	}
	request.Script, record.Script = p.script.Name, p.script.Name
	step, found := p.script.step(p.step)
	if !found {
		return Text("The script ends here."), fault
	}
	if fault == nil && len(step.Faults) > 0 {
		key := tryKey{record.Session, p.script.Name, p.step}
		s.mu.Lock()
		fault = pick(step.Faults, s.tries[key])
		s.tries[key]++
		s.mu.Unlock()
	}
	return step, fault
}
