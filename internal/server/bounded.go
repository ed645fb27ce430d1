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

// writeBuffer bounds what a client that does not read makes the kernel keep, and the agent write: by itself it grows to
// megabytes, for each of thousands of followers.
const writeBuffer = 128 << 10

// Accept returns the next connection that there is room for.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		connection, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= b.most {
			if tcp, is := connection.(*net.TCPConn); is {
				_ = tcp.SetWriteBuffer(writeBuffer) // as it is, it works too
			}
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
