package tunnel

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"berth/internal/tunnel/message"
)

const (
	// clientVersion is the version of AWS's session-manager-plugin whose ways are followed here. The agent looks at
	// it to tell whether several connections can share a session.
	clientVersion = "1.2.0.0"

	// patience is how long the other end may leave a message unacknowledged. Together with ask it is how soon a task
	// that was killed is missed: nobody else tells.
	patience = 15 * time.Second

	// ask is how often something is sent, that there is something to acknowledge.
	ask = 4 * time.Second

	// chunk is how much a message carries: what AWS's client sends.
	chunk = 1024

	// ahead is how many messages may wait for their acknowledgement.
	ahead = 256

	// earlyMost is how many messages are kept that came before their turn.
	earlyMost = 1024

	again     = 250 * time.Millisecond // the first pause before a message is sent once more; it doubles up to againMost
	againMost = 2 * time.Second
	tick      = again / 2
)

// wire carries the frames of one websocket. One goroutine reads; several may write at once.
type wire interface {
	Read(ctx context.Context) (frame []byte, err error)
	Write(ctx context.Context, frame []byte, text bool) error
	Close()
}

// errSilent ends a channel whose other end does not answer any more.
var errSilent = fmt.Errorf("the task has not answered for %s", patience)

// closedError ends a channel that Session Manager has closed, for the reason that it gives, if any.
type closedError struct{ reason string }

func (e *closedError) Error() string {
	if e.reason == "" {
		return "Session Manager has closed the session"
	}
	return "Session Manager has closed the session: " + e.reason
}

// channel is one data channel of Session Manager: a stream of messages each way over a websocket. Either end numbers
// those that it sends, acknowledges those that it gets, and sends those again that are not acknowledged: the agent
// drops what comes before its end is ready.
type channel struct {
	wire   wire
	take   func(message.Message) error // takes what the agent sends, in order; it may block
	ctx    context.Context             // done when the channel is over
	cancel context.CancelCauseFunc
	done   sync.WaitGroup
	ready  chan struct{} // closed once the handshake is complete
	kind   message.SessionType
	agent  string // its version
	banner string // what the account's preferences have to say

	slots   chan struct{} // one for each message that waits for its acknowledgement
	sending sync.Mutex    // held while messages are numbered and written

	mu      sync.Mutex
	number  int64   // of the next message to be sent
	waiting []*sent // for their acknowledgements, in order
	heard   time.Time
	busy    bool // take has a message

	// The reader's own.
	expected int64
	early    map[int64]message.Message
}

// sent is a message that waits for its acknowledgement.
type sent struct {
	number int64
	frame  []byte
	at     time.Time // when it was sent last
	pause  time.Duration
}

// openChannel shows the token, and serves the channel until it is over or closed. take gets what comes after the
// handshake.
func openChannel(ctx context.Context, w wire, token string, take func(message.Message) error) (*channel, error) {
	c := &channel{
		wire: w, take: take, ready: make(chan struct{}), slots: make(chan struct{}, ahead), early: map[int64]message.Message{}, heard: time.Now(),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	hello, err := json.Marshal(message.OpenChannel{
		MessageSchemaVersion: "1.0", RequestID: uuid.NewString(), TokenValue: token, ClientID: uuid.NewString(), ClientVersion: clientVersion,
	})
	if err == nil {
		err = w.Write(ctx, hello, true)
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("show Session Manager the session's token: %w", err)
	}
	c.done.Go(c.read)
	c.done.Go(c.repeat)
	select {
	case <-c.ready:
		return c, nil
	case <-c.ctx.Done():
		err = context.Cause(c.ctx)
	case <-time.After(patience):
		err = errSilent
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.close(err)
	return nil, err
}

// close ends the channel, and waits until nothing of it runs any more. The first cause is what err tells.
func (c *channel) close(cause error) {
	c.cancel(cause)
	c.wire.Close()
	c.done.Wait()
}

// err is why the channel is over, or nil.
func (c *channel) err() error { return context.Cause(c.ctx) }

// send sends a payload, in as many messages as it takes. It waits while too many are unacknowledged.
func (c *channel) send(kind message.Kind, payload []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	for {
		part := payload[:min(chunk, len(payload))]
		payload = payload[len(part):]
		select {
		case c.slots <- struct{}{}:
		case <-c.ctx.Done():
			return c.err()
		}
		c.mu.Lock()
		frame := message.Encode(message.Message{Type: message.Input, Number: c.number, ID: uuid.New(), Kind: kind, Payload: part}, time.Now())
		c.waiting = append(c.waiting, &sent{c.number, frame, time.Now(), again})
		c.number++
		c.mu.Unlock()
		if err := c.write(frame); err != nil {
			return err
		}
		if len(payload) == 0 {
			return nil
		}
	}
}

// terminate asks the agent to end the session, if that can be said at once: one that nobody uses ends by itself later.
func (c *channel) terminate() {
	said := make(chan struct{})
	go func() {
		defer close(said)
		_ = c.send(message.Flag, binary.BigEndian.AppendUint32(nil, message.FlagTerminate)) // see above
	}()
	select {
	case <-said:
	case <-time.After(time.Second):
	}
}

// write writes a frame; a wire that takes none for a while is over.
func (c *channel) write(frame []byte) error {
	ctx, cancel := context.WithTimeoutCause(c.ctx, patience, errSilent)
	defer cancel()
	if err := c.wire.Write(ctx, frame, false); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		c.cancel(fmt.Errorf("the connection to Session Manager is lost: %w", err))
		return c.err()
	}
	return nil
}

// repeat sends what is not acknowledged once more, and misses the other end when it stays silent.
func (c *channel) repeat() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-ticker.C:
			frame, err := c.due(now)
			if err != nil {
				c.cancel(err)
				c.wire.Close() // the reader waits for it
				return
			}
			if frame != nil && c.write(frame) != nil {
				return
			}
		}
	}
}

// due is the frame that is to be sent once more, if any: the oldest, as the rest may just be behind it.
func (c *channel) due(now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || c.busy {
		c.heard = now
		return nil, nil
	}
	if now.Sub(c.heard) >= patience {
		return nil, errSilent
	}
	oldest := c.waiting[0]
	if now.Sub(oldest.at) < oldest.pause {
		return nil, nil
	}
	oldest.at, oldest.pause = now, min(2*oldest.pause, againMost)
	return oldest.frame, nil
}

// read takes what comes until the channel is over.
func (c *channel) read() {
	for {
		frame, err := c.wire.Read(c.ctx)
		if err != nil {
			err = fmt.Errorf("the connection to Session Manager is lost: %w", err)
		} else {
			err = c.frame(frame)
		}
		if err != nil {
			c.cancel(err)
			return
		}
	}
}

// frame takes one message of any type. Its error ends the channel.
func (c *channel) frame(frame []byte) error {
	m, err := message.Decode(frame)
	if err != nil {
		return fmt.Errorf("Session Manager sends what cannot be read: %w", err)
	}
	switch m.Type {
	case message.Ack:
		c.acknowledged(m.Payload)
	case message.Closed:
		closed := message.ChannelClosed{}
		_ = json.Unmarshal(m.Payload, &closed) // without a reason it is closed all the same
		return &closedError{closed.Output}
	case message.Output:
		return c.output(m)
	}
	return nil // a pause tells nothing that is not found out by asking; other types are from a newer service
}

// acknowledged forgets a message that has arrived.
func (c *channel) acknowledged(payload []byte) {
	ack := message.Acknowledgement{Number: -1}
	if json.Unmarshal(payload, &ack) != nil {
		return // the message will be sent again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, each := range c.waiting {
		if each.number == ack.Number {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			c.heard = time.Now()
			<-c.slots
			return
		}
	}
}

// output takes a message of the agent's stream: now, later when it is its turn, or not at all if it was there before.
func (c *channel) output(m message.Message) error {
	if m.Number > c.expected && len(c.early) >= earlyMost {
		return nil // not acknowledged, it comes again
	}
	if err := c.acknowledge(m); err != nil {
		return err
	}
	if m.Number < c.expected {
		return nil
	}
	c.early[m.Number] = m
	for {
		next, there := c.early[c.expected]
		if !there {
			return nil
		}
		delete(c.early, c.expected)
		c.expected++
		if err := c.deliver(next); err != nil {
			return err
		}
	}
}

func (c *channel) acknowledge(m message.Message) error {
	payload, err := json.Marshal(message.Acknowledgement{Type: m.Type, ID: m.ID.String(), Number: m.Number, Sequential: true})
	if err != nil {
		return err
	}
	return c.write(message.Encode(message.Message{Type: message.Ack, Flags: 3, ID: uuid.New(), Payload: payload}, time.Now()))
}

// deliver takes a message whose turn it is.
func (c *channel) deliver(m message.Message) error {
	switch m.Kind {
	case message.HandshakeRequest:
		return c.shake(m.Payload)
	case message.HandshakeComplete:
		done := message.HandshakeDone{}
		_ = json.Unmarshal(m.Payload, &done) // it has nothing that is needed
		select {
		case <-c.ready:
		default:
			c.banner = done.CustomerMessage
			close(c.ready)
		}
		return nil
	default: // for whoever has the channel
	}
	// Whoever takes it may be slow. Meanwhile nothing is read, so that no silence can be heard.
	c.taking(true)
	defer c.taking(false)
	return c.take(m)
}

func (c *channel) taking(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy, c.heard = busy, time.Now()
}

// errEncrypted means that the account's preferences want what this client does not have.
var errEncrypted = errors.New("the Session Manager preferences of this account and region encrypt sessions with a KMS key, which berth does not do; " +
	"turn it off there (Systems Manager, Session Manager, Preferences, KMS encryption)")

// shake answers the agent's handshake.
func (c *channel) shake(payload []byte) error {
	request := message.Handshake{}
	if err := json.Unmarshal(payload, &request); err != nil {
		return fmt.Errorf("the agent's handshake cannot be read: %w", err)
	}
	c.agent = request.AgentVersion
	answer := message.HandshakeAnswer{ClientVersion: clientVersion, Actions: []message.ActionAnswer{}}
	var refused error
	for _, action := range request.Actions {
		did := message.ActionAnswer{Type: action.Type, Status: message.Succeeded}
		switch {
		case action.Type == message.ActionKMS:
			refused = errEncrypted
		case action.Type != message.ActionSessionType:
			refused = fmt.Errorf("the agent asks for %.40q, which is not known here; a newer berth may know it", action.Type)
		case json.Unmarshal(action.Parameters, &c.kind) != nil:
			refused = fmt.Errorf("the agent's handshake cannot be read: its type of session is %.80q", action.Parameters)
		}
		if refused != nil {
			did.Status, did.Error = message.Unsupported, refused.Error()
			answer.Errors = append(answer.Errors, did.Error)
		}
		answer.Actions = append(answer.Actions, did)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return errors.Join(c.send(message.HandshakeResponse, text), refused)
}
