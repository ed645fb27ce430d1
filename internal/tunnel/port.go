package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xtaci/smux"

	"berth/internal/tunnel/message"
)

// errRefused means that the task is there, and nothing listens at its port.
var errRefused = errors.New("the task runs, and its agent does not listen yet")

// port is a session that forwards to one port: many connections share it.
type port struct {
	channel *channel
	mux     *smux.Session
	from    *io.PipeWriter // what the agent sends, for mux to read
	refused atomic.Int64   // how many connections the agent could not make
	once    sync.Once
}

// openPort opens the session of a port.
func openPort(ctx context.Context, session Session) (*port, error) {
	w, err := dial(ctx, session)
	if err != nil {
		return nil, err
	}
	return openPortOver(ctx, w, session.Token)
}

func openPortOver(ctx context.Context, w wire, token string) (*port, error) {
	reader, writer := io.Pipe()
	p := &port{from: writer}
	c, err := openChannel(ctx, w, token, p.take)
	if err != nil {
		return nil, err
	}
	p.channel = c
	context.AfterFunc(c.ctx, func() { _ = writer.CloseWithError(c.err()) }) // never fails
	if c.kind.Type != message.TypePort {
		p.close()
		return nil, fmt.Errorf("Session Manager has started a session of the type %.40q, not one that forwards to a port", c.kind.Type)
	}
	config := smux.DefaultConfig()
	// These empty frames are what there is to acknowledge while nothing happens (see ask). An agent does not answer
	// them, so that it is not for smux to tell that it is gone.
	config.KeepAliveInterval, config.KeepAliveTimeout = ask, 1000*time.Hour
	p.mux, err = smux.Client(stream{reader, c}, config)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// take takes what the agent sends.
func (p *port) take(m message.Message) error {
	switch {
	case m.Kind == message.Data:
		_, err := p.from.Write(m.Payload)
		return err
	case m.Kind == message.Flag && len(m.Payload) == 4 && binary.BigEndian.Uint32(m.Payload) == message.FlagConnectError:
		p.refused.Add(1)
	}
	return nil
}

// stream is the channel as smux wants it.
type stream struct {
	*io.PipeReader
	channel *channel
}

func (s stream) Write(part []byte) (int, error) {
	if err := s.channel.send(message.Data, part); err != nil {
		return 0, err
	}
	return len(part), nil
}

// connect makes a connection to the port.
func (p *port) connect() (net.Conn, error) {
	s, err := p.mux.OpenStream()
	if err != nil {
		if cause := p.channel.err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	return &connection{Stream: s, port: p, refused: p.refused.Load()}, nil
}

// over reports whether the session is over.
func (p *port) over() bool { return p.channel.err() != nil || p.mux.IsClosed() }

// close ends the session.
func (p *port) close() {
	p.once.Do(func() {
		if p.channel.err() == nil && p.mux != nil {
			p.channel.terminate()
		}
		p.channel.close(net.ErrClosed)
		if p.mux != nil {
			_ = p.mux.Close() // it has nothing of its own to lose
		}
	})
}

// connection is a connection to the port. What ends it says why.
type connection struct {
	*smux.Stream
	port    *port
	refused int64 // as port.refused was before
	read    atomic.Bool
}

func (c *connection) Read(into []byte) (int, error) {
	n, err := c.Stream.Read(into)
	if n > 0 {
		c.read.Store(true)
	}
	if err == nil {
		return n, nil
	}
	if cause := c.port.channel.err(); cause != nil {
		return n, cause
	}
	if !c.read.Load() && errors.Is(err, io.EOF) && c.port.refused.Load() > c.refused {
		return n, errRefused
	}
	return n, err
}

func (c *connection) Write(part []byte) (int, error) {
	n, err := c.Stream.Write(part)
	if cause := c.port.channel.err(); err != nil && cause != nil {
		err = cause
	}
	return n, err
}
