// Package tunnel reaches a task of ECS through AWS Session Manager: connections to a port of it (Tunnel), and commands
// in a terminal (Run). Neither side listens anywhere for that: this one dials out, and so did the task.
package tunnel

import (
	"context"
	"net"
	"sync"
)

// Start has AWS start a session of the document AWS-StartPortForwardingSession with the task that runs now.
type Start func(context.Context) (Session, error)

// Tunnel makes connections to one port of a task. It starts a session when there is none, and another one when that is
// over, be it that the task was replaced or that the network was away.
type Tunnel struct {
	start Start
	turn  chan struct{} // holds one when nobody starts a session

	mu     sync.Mutex
	port   *port
	closed bool
}

// New makes a tunnel. It starts nothing yet.
func New(start Start) *Tunnel {
	t := &Tunnel{start: start, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// Dial makes a connection to the port. Its errors are those of starting a session, and of reaching the task.
func (t *Tunnel) Dial(ctx context.Context) (net.Conn, error) {
	p, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	return p.connect()
}

// session is the session that there is, or a new one.
func (t *Tunnel) session(ctx context.Context) (*port, error) {
	select {
	case <-t.turn:
		defer func() { t.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p, err := t.current(); p != nil || err != nil {
		return p, err
	}
	started, err := t.start(ctx)
	if err != nil {
		return nil, err
	}
	p, err := openPort(ctx, started)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		go p.close()
		return nil, net.ErrClosed
	}
	t.port = p
	return p, nil
}

// current is the session that there is, if it is of use.
func (t *Tunnel) current() (*port, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	if t.port != nil && t.port.over() {
		t.port.close()
		t.port = nil
	}
	return t.port, nil
}

// Close ends the session, and with it the connections.
func (t *Tunnel) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.port != nil {
		t.port.close()
	}
}
