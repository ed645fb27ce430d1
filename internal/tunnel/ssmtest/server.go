// Package ssmtest stands in for AWS Session Manager's data channel, and for the agent of it that ECS puts into a
// container: a websocket on loopback that forwards connections, or runs a command in a terminal. It speaks what
// session-manager-plugin and amazon-ssm-agent speak to each other, and is as untidy as they are: what comes first is
// dropped, for an agent is not ready then, and everything is sent twice.
//
// It is the one stand-in of its kind. What starts a session (StartSession, ExecuteCommand) is for others to answer,
// with what Forward and Command return.
package ssmtest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"berth/internal/tunnel/message"
)

// Session is what starts a session answers with.
type Session struct{ ID, URL, Token string }

// Server is the stand-in.
type Server struct {
	// Execute makes the process that a command becomes; without it /bin/sh runs it on this machine. It gets a terminal.
	Execute func(command string) *exec.Cmd

	http *httptest.Server

	mu       sync.Mutex
	sessions map[string]*session
	opened   int
}

// session is one that was started.
type session struct {
	token   string
	dial    func(context.Context) (net.Conn, error) // of one that forwards
	command string                                  // of one that runs
	cancel  context.CancelFunc                      // of its websocket, while there is one
	stalled chan struct{}                           // closed when it does not answer any more
	closing chan string                             // the reason for which it is to be closed
}

// New starts the stand-in, on a port of loopback.
func New() *Server {
	s := &Server{sessions: map[string]*session{}}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Close ends it and every session.
func (s *Server) Close() {
	s.Cut()
	s.http.Close()
}

// To dials an address.
func To(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) }
}

// Forward starts a session whose connections are made by dial, as StartSession would.
func (s *Server) Forward(dial func(context.Context) (net.Conn, error)) Session {
	return s.start(&session{dial: dial})
}

// Command starts a session that runs a command, as ExecuteCommand would.
func (s *Server) Command(command string) Session { return s.start(&session{command: command}) }

func (s *Server) start(started *session) Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := "test-" + strings.ToLower(rand.Text())
	started.token, started.stalled, started.closing = rand.Text(), make(chan struct{}), make(chan string, 1)
	s.sessions[id] = started
	url := "ws" + strings.TrimPrefix(s.http.URL, "http") + "/v1/data-channel/" + id + "?role=publish_subscribe"
	return Session{ID: id, URL: url, Token: started.token}
}

// Opened is how many sessions a client has opened.
func (s *Server) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// each does something with every session that there is, and forgets them: none can be opened again.
func (s *Server) each(do func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, each := range s.sessions {
		do(each)
		delete(s.sessions, id)
	}
}

// Cut breaks every connection off, as a network does.
func (s *Server) Cut() {
	s.each(func(each *session) {
		if each.cancel != nil {
			each.cancel()
		}
	})
}

// Stall has the sessions that there are never answer again, as happens when their task is killed. Sessions that are
// started later are of another task.
func (s *Server) Stall() { s.each(func(each *session) { close(each.stalled) }) }

// End closes the sessions that there are, for a reason that Session Manager gives, or for none.
func (s *Server) End(reason string) { s.each(func(each *session) { each.closing <- reason }) }

// serve is one websocket.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/v1/data-channel/")
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s.mu.Lock()
	opened := s.sessions[id]
	if opened != nil {
		opened.cancel = cancel
		s.opened++
	}
	s.mu.Unlock()
	if opened == nil {
		http.Error(w, "no such session", http.StatusBadRequest)
		return
	}
	connection, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer func() { _ = connection.CloseNow() }() // the client knows by now
	connection.SetReadLimit(message.MaxPayload + 1<<10)
	context.AfterFunc(ctx, func() { _ = connection.CloseNow() })
	hello := message.OpenChannel{}
	kind, text, err := connection.Read(ctx)
	if err != nil || kind != websocket.MessageText || json.Unmarshal(text, &hello) != nil || hello.TokenValue != opened.token || hello.ClientID == "" {
		_ = connection.Close(websocket.StatusPolicyViolation, "bad token") // the client is not to be helped
		return
	}
	a := &agent{server: s, session: opened, socket: connection, id: id, unacknowledged: map[int64][]byte{}, early: map[int64]message.Message{}, answers: make(chan message.HandshakeAnswer, 1)}
	a.run(ctx, cancel)
}
