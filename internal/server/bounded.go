package server

import (
	"net"
	"sync"
	"sync/atomic"
)

// bounded is a listener that has at most so many connections open. It closes any beyond that: were they to wait, those who
// can wait longest would have the server.
type bounded struct {
	net.Listener
	most int64
	open atomic.Int64
}

// Accept returns the next connection that there is room for.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		connection, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= b.most {
			return &counted{Conn: connection, closed: sync.OnceFunc(func() { b.open.Add(-1) })}, nil
		}
		b.open.Add(-1)
		_ = connection.Close() // whoever made it can try again
	}
}

// counted is a connection that makes room when it is closed.
type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
