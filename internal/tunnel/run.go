package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"berth/internal/tunnel/message"
)

// Terminal is where a command's input comes from and its output goes.
type Terminal struct {
	In  io.Reader
	Out io.Writer
	// Size tells the terminal's columns and rows. Without one, or with 0, the command's terminal has 80 and 24.
	Size func() (cols, rows int)
}

// look is how often the terminal's size is looked at: it has no other way of telling that works everywhere.
const look = 500 * time.Millisecond

// endOfInput is what a terminal takes for the end of what is typed.
const endOfInput = 4

// Run shows a command that ECS's ExecuteCommand has started, until it ends or ctx is done. It returns the command's
// exit code if the command was made by Wrap, or if the agent tells it; else -1.
func Run(ctx context.Context, session Session, terminal Terminal, mark string) (code int, err error) {
	w, err := dial(ctx, session)
	if err != nil {
		return -1, err
	}
	return runOver(ctx, w, session.Token, terminal, mark)
}

func runOver(ctx context.Context, w wire, token string, terminal Terminal, mark string) (int, error) {
	out := &output{to: terminal.Out, mark: []byte(mark), code: -1}
	c, err := openChannel(ctx, w, token, out.take)
	if err != nil {
		return -1, err
	}
	defer c.close(net.ErrClosed)
	if c.kind.Type == message.TypePort {
		return -1, errors.New("Session Manager has started a session that forwards to a port, not one that runs a command")
	}
	go pass(c, terminal.In)
	c.done.Go(func() { watchSize(c, terminal.Size) })
	select {
	case <-ctx.Done():
		c.terminate()
		return -1, ctx.Err()
	case <-c.ctx.Done():
	}
	c.close(net.ErrClosed) // what has come is written
	if err := out.flush(); err != nil {
		return -1, err
	}
	closed := new(closedError)
	switch cause := c.err(); {
	case out.code >= 0:
		return out.code, nil // whatever ended the session after it
	case errors.As(cause, &closed) && closed.reason == "":
		return -1, nil
	default:
		return -1, cause
	}
}

// pass sends what is typed. It may be left behind in a read that nothing ends.
func pass(c *channel, from io.Reader) {
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		if n > 0 && c.send(message.Data, buffer[:n]) != nil {
			return
		}
		if err != nil {
			_ = c.send(message.Data, []byte{endOfInput}) // it fails if the channel is over, and then nobody reads it
			return
		}
	}
}

// watchSize sends the terminal's size when it changes, and now and then, that there is something to acknowledge.
func watchSize(c *channel, size func() (cols, rows int)) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	last, at := message.TerminalSize{}, time.Time{}
	for {
		now := message.TerminalSize{Cols: 80, Rows: 24}
		if size != nil {
			if cols, rows := size(); cols > 0 && rows > 0 {
				now = message.TerminalSize{Cols: uint32(cols), Rows: uint32(rows)} //nolint:gosec // a terminal has some hundred
			}
		}
		if now != last || time.Since(at) >= ask {
			text, err := json.Marshal(now)
			if err != nil || c.send(message.Size, text) != nil {
				return
			}
			last, at = now, time.Now()
		}
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// take takes what the agent sends.
func (o *output) take(m message.Message) error {
	switch m.Kind {
	case message.Data, message.Stderr:
		return o.write(m.Payload)
	case message.ExitCode:
		if _, err := fmt.Sscan(string(m.Payload), &o.code); err != nil {
			return fmt.Errorf("the agent tells %.40q for an exit code", m.Payload)
		}
	default: // nothing for a terminal
	}
	return nil
}
