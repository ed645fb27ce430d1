package ssmtest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/creack/pty"
	"github.com/google/uuid"
	"github.com/xtaci/smux"

	"berth/internal/tunnel/message"
)

// agent is the other end of one session.
type agent struct {
	server  *Server
	session *session
	socket  *websocket.Conn
	id      string
	answers chan message.HandshakeAnswer

	mu             sync.Mutex
	number         int64
	unacknowledged map[int64][]byte

	// The reader's own.
	expected int64
	early    map[int64]message.Message
	dropped  bool
	input    func(message.Message)
}

// run serves the session until it is over.
func (a *agent) run(ctx context.Context, cancel context.CancelFunc) {
	var threads sync.WaitGroup
	defer threads.Wait()
	defer cancel()
	ready := make(chan func(message.Message), 1)
	threads.Go(func() {
		defer cancel()
		a.read(ctx, ready)
	})
	threads.Go(func() { a.repeat(ctx) })
	kind := message.SessionType{Type: message.TypeCommand}
	if a.session.dial != nil {
		kind = message.SessionType{Type: message.TypePort, Properties: json.RawMessage(`{"portNumber":"8787","type":"LocalPortForwarding"}`)}
	}
	parameters, _ := json.Marshal(kind) // of strings
	a.sendJSON(message.HandshakeRequest, message.Handshake{
		AgentVersion: "3.3.1611.0", Actions: []message.Action{{Type: message.ActionSessionType, Parameters: parameters}},
	})
	select {
	case answer := <-a.answers:
		if len(answer.Errors) > 0 || answer.ClientVersion == "" {
			a.close("the handshake failed")
			return
		}
	case <-ctx.Done():
		return
	}
	a.sendJSON(message.HandshakeComplete, message.HandshakeDone{})
	over := make(chan struct{})
	threads.Go(func() {
		defer close(over)
		if a.session.dial != nil {
			a.forward(ctx, ready)
		} else {
			a.execute(ctx, ready)
		}
	})
	select {
	case <-over:
		a.drain(ctx)
		a.close("")
	case reason := <-a.session.closing:
		a.close(reason)
	case <-ctx.Done():
	}
}

// silent reports whether the session does not answer any more.
func (a *agent) silent() bool {
	select {
	case <-a.session.stalled:
		return true
	default:
		return false
	}
}

func (a *agent) write(frame []byte) {
	if !a.silent() {
		_ = a.socket.Write(context.Background(), websocket.MessageBinary, frame) // the reader finds out
	}
}

// send sends a payload of the stream, twice.
func (a *agent) send(kind message.Kind, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := message.Message{Type: message.Output, Number: a.number, ID: uuid.New(), Kind: kind, Payload: payload}
	frame := message.Encode(m, time.Now())
	a.unacknowledged[a.number] = frame
	a.number++
	a.write(frame)
	a.write(frame)
}

func (a *agent) sendJSON(kind message.Kind, value any) {
	text, _ := json.Marshal(value) // of strings
	a.send(kind, text)
}

// close tells the client that the session is over, and waits for a moment until it has gone.
func (a *agent) close(reason string) {
	text, _ := json.Marshal(message.ChannelClosed{SessionID: a.id, Output: reason}) // of strings
	a.write(message.Encode(message.Message{Type: message.Closed, ID: uuid.New(), Payload: text}, time.Now()))
	_ = a.socket.Close(websocket.StatusNormalClosure, "") // it may be gone already
}

// repeat sends the oldest message that is not acknowledged again and again.
func (a *agent) repeat(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		a.mu.Lock()
		oldest := a.number
		for number := range a.unacknowledged {
			oldest = min(oldest, number)
		}
		frame := a.unacknowledged[oldest]
		a.mu.Unlock()
		if frame != nil {
			a.write(frame)
		}
	}
}

// drain waits until the client has everything.
func (a *agent) drain(ctx context.Context) {
	for {
		a.mu.Lock()
		left := len(a.unacknowledged)
		a.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// read takes what the client sends.
func (a *agent) read(ctx context.Context, ready <-chan func(message.Message)) {
	for {
		_, frame, err := a.socket.Read(ctx)
		if err != nil {
			return
		}
		m, err := message.Decode(frame)
		if err != nil {
			a.close(err.Error())
			return
		}
		switch {
		case a.silent():
		case m.Type == message.Ack:
			ack := message.Acknowledgement{Number: -1}
			_ = json.Unmarshal(m.Payload, &ack) // then it is of no message
			a.mu.Lock()
			delete(a.unacknowledged, ack.Number)
			a.mu.Unlock()
		case m.Type == message.Input:
			a.take(m, ready)
		}
	}
}

// take takes a message of the client's stream: now, if somebody is there for it, or when it is its turn.
func (a *agent) take(m message.Message, ready <-chan func(message.Message)) {
	if m.Number == a.expected && !a.ready(m, ready) {
		return // it comes again
	}
	ack, _ := json.Marshal(message.Acknowledgement{Type: m.Type, ID: m.ID.String(), Number: m.Number, Sequential: true}) // of strings
	a.write(message.Encode(message.Message{Type: message.Ack, Flags: 3, ID: uuid.New(), Payload: ack}, time.Now()))
	switch {
	case m.Number > a.expected:
		a.early[m.Number] = m
	case m.Number == a.expected:
		a.expected++
		for next, there := a.early[a.expected]; there; next, there = a.early[a.expected] {
			delete(a.early, a.expected)
			a.expected++
			a.ready(next, ready) // now it is
		}
	}
}

// ready hands a message on. The first one comes too early.
func (a *agent) ready(m message.Message, ready <-chan func(message.Message)) bool {
	if m.Kind == message.HandshakeResponse {
		answer := message.HandshakeAnswer{}
		_ = json.Unmarshal(m.Payload, &answer) // then it has no version
		a.answers <- answer
		return true
	}
	if !a.dropped {
		a.dropped = true
		return false
	}
	if a.input == nil {
		select {
		case a.input = <-ready:
		default:
			return false
		}
	}
	a.input(m)
	return true
}

// ended reports whether a message asks for the end.
func ended(m message.Message) bool {
	return m.Kind == message.Flag && len(m.Payload) == 4 && binary.BigEndian.Uint32(m.Payload) == message.FlagTerminate
}

// forward makes the connections of a session that forwards.
func (a *agent) forward(ctx context.Context, ready chan<- func(message.Message)) {
	here, there := net.Pipe()
	defer func() { _ = errors.Join(here.Close(), there.Close()) }() // of pipes
	context.AfterFunc(ctx, func() { _ = errors.Join(here.Close(), there.Close()) })
	mux, err := smux.Server(there, nil)
	if err != nil {
		return
	}
	defer func() { _ = mux.Close() }() // of pipes
	go a.copyOut(here)
	ready <- func(m message.Message) {
		switch {
		case ended(m):
			_ = here.Close()
		case m.Kind == message.Data:
			_, _ = here.Write(m.Payload) // the session is over if it fails
		}
	}
	for {
		stream, err := mux.AcceptStream()
		if err != nil {
			return
		}
		to, err := a.session.dial(ctx)
		if err != nil {
			a.send(message.Flag, binary.BigEndian.AppendUint32(nil, message.FlagConnectError))
			_ = stream.Close() // nobody waits for anything of it
			continue
		}
		go join(stream, to)
	}
}

// copyOut sends what comes from a reader to the client.
func (a *agent) copyOut(from io.Reader) {
	buffer := make([]byte, 1024)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			a.send(message.Data, buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

// join copies both ways until one has ended.
func join(one, other io.ReadWriteCloser) {
	var both sync.WaitGroup
	for _, way := range [][2]io.ReadWriteCloser{{one, other}, {other, one}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // either end may break off
			_ = way[0].Close()
		})
	}
	both.Wait()
}

// execute runs the command of a session in a terminal.
func (a *agent) execute(ctx context.Context, ready chan<- func(message.Message)) {
	command := exec.Command("/bin/sh", "-c", "exec "+a.session.command)
	if a.server.Execute != nil {
		command = a.server.Execute(a.session.command)
	}
	terminal, err := pty.Start(command)
	if err != nil {
		a.send(message.Data, []byte("Unable to start command: "+err.Error()+"\r\n"))
		return
	}
	kill := func() { _ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) } // all that has the terminal; it may have ended
	defer context.AfterFunc(ctx, kill)()
	ready <- func(m message.Message) {
		size := message.TerminalSize{}
		switch {
		case ended(m):
			kill()
		case m.Kind == message.Size && json.Unmarshal(m.Payload, &size) == nil:
			_ = pty.Setsize(terminal, &pty.Winsize{Cols: uint16(size.Cols), Rows: uint16(size.Rows)}) //nolint:gosec // a terminal has some hundred; of one that has ended
		case m.Kind == message.Data:
			_, _ = terminal.Write(m.Payload) // of one that has ended
		}
	}
	a.copyOut(terminal)
	_ = command.Wait() // an agent does not tell how
	_ = terminal.Close()
}
