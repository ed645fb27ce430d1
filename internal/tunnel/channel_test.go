package tunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"berth/internal/tunnel/message"
)

// pipe is a wire without a network, whose other end is the test.
type pipe struct {
	to, from chan []byte
	closed   chan struct{}
	gone     atomic.Bool // the other end reads, and answers nothing
}

func newPipe() *pipe {
	return &pipe{to: make(chan []byte, 1000), from: make(chan []byte, 1000), closed: make(chan struct{})}
}

func (p *pipe) Read(ctx context.Context) ([]byte, error) {
	select {
	case frame := <-p.from:
		return frame, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) Write(_ context.Context, frame []byte, text bool) error {
	if !text {
		p.to <- frame
	}
	return nil
}

func (p *pipe) Close() {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
}

// say has the other end send a message.
func (p *pipe) say(number int64, kind message.Kind, payload string) {
	p.from <- message.Encode(message.Message{Type: message.Output, Number: number, ID: uuid.New(), Kind: kind, Payload: []byte(payload)}, time.Now())
}

// acknowledge answers as long as somebody is there.
func (p *pipe) acknowledge() {
	for {
		select {
		case <-p.closed:
			return
		case frame := <-p.to:
			m, err := message.Decode(frame)
			if err != nil {
				panic(err)
			}
			if m.Type == message.Ack || p.gone.Load() {
				continue
			}
			text, _ := json.Marshal(message.Acknowledgement{Type: m.Type, ID: m.ID.String(), Number: m.Number})
			p.from <- message.Encode(message.Message{Type: message.Ack, ID: uuid.New(), Payload: text}, time.Now())
		}
	}
}

func shaken(kind string) *pipe {
	p := newPipe()
	p.say(0, message.HandshakeRequest, `{"AgentVersion":"3.3","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"`+kind+`"}}]}`)
	p.say(1, message.HandshakeComplete, `{}`)
	return p
}

// A task that is killed tells nobody. It is missed within 20 s, also when nothing happens in the session; one that is
// there is not, however long nothing happens.
func TestAKilledTask(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *pipe) (over func() error, stop func()){
		"connections": func(t *testing.T, p *pipe) (func() error, func()) {
			// As smux does it, whose pools of timers are not for a clock of one test.
			c, err := openChannel(t.Context(), p, "token", nil)
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				for {
					if err := c.send(message.Data, []byte("nothing")); err != nil {
						return err
					}
					select {
					case <-c.ctx.Done():
					case <-time.After(ask):
					}
				}
			}, func() { c.close(net.ErrClosed) }
		},
		"command": func(t *testing.T, p *pipe) (func() error, func()) {
			ctx, cancel := context.WithCancel(t.Context())
			return func() error {
				_, err := runOver(ctx, p, "token", Terminal{In: &blocked{ctx}, Out: io.Discard}, "")
				return err
			}, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := shaken(map[string]string{"connections": message.TypePort, "command": message.TypeCommand}[name])
				go p.acknowledge()
				over, stop := open(t, p)
				ended := make(chan error, 1)
				go func() { ended <- over() }()
				select {
				case err := <-ended:
					t.Fatalf("with a task that answers, it ended: %v", err)
				case <-time.After(time.Hour):
				}
				p.gone.Store(true)
				killed := time.Now()
				err := <-ended
				if took := time.Since(killed); !errors.Is(err, errSilent) || took > 20*time.Second {
					t.Errorf("the task is missed after %s: %v", took, err)
				}
				stop()
				p.Close()
			})
		})
	}
}

// What arrives in another order, or twice, is taken in order and once, and acknowledged each time.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shaken(message.TypeCommand)
		var got []string
		c, err := openChannel(t.Context(), p, "token", func(m message.Message) error {
			got = append(got, string(m.Payload))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, number := range []int64{4, 2, 2, 3, 6, 4, 5} {
			p.say(number, message.Data, string(rune('a'+number-2)))
		}
		synctest.Wait()
		acknowledged := 0
		for len(p.to) > 0 {
			if m, err := message.Decode(<-p.to); err == nil && m.Type == message.Ack {
				acknowledged++
			}
		}
		if !slices.Equal(got, []string{"a", "b", "c", "d", "e"}) || acknowledged != 9 {
			t.Errorf("taken: %q, acknowledged: %d", got, acknowledged)
		}
		c.close(net.ErrClosed)
	})
}

// Whoever is slow to take what comes does not make the other end silent.
func TestASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shaken(message.TypeCommand)
		go p.acknowledge()
		c, err := openChannel(t.Context(), p, "token", func(message.Message) error {
			time.Sleep(10 * time.Minute) //nolint:forbidigo // of the bubble's clock
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		p.say(2, message.Data, "x")
		synctest.Wait()
		if err := c.send(message.Data, []byte("y")); err != nil {
			t.Error(err)
		}
		time.Sleep(11 * time.Minute) //nolint:forbidigo // of the bubble's clock
		if err := c.err(); err != nil {
			t.Errorf("the channel is over: %v", err)
		}
		c.close(net.ErrClosed)
	})
}

func TestHandshakes(t *testing.T) {
	for name, each := range map[string]struct{ request, want string }{
		"encrypted": {`{"RequestedClientActions":[{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"k"}}]}`, "KMS"},
		"unknown":   {`{"RequestedClientActions":[{"ActionType":"Dance"}]}`, "Dance"},
		"no type":   {`{"RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":7}]}`, "type of session"},
		"no JSON":   {`{`, "cannot be read"},
		"silent":    {"", errSilent.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipe()
				if each.request != "" {
					p.say(0, message.HandshakeRequest, each.request)
				}
				_, err := openChannel(t.Context(), p, "token", nil)
				if err == nil || !strings.Contains(err.Error(), each.want) {
					t.Errorf("it ends with %v, which does not tell of %q", err, each.want)
				}
			})
		})
	}
}

func TestWrap(t *testing.T) {
	command, mark := Wrap([]string{"echo", "it's"})
	if !strings.HasPrefix(command, "'/bin/sh' '-c' ") || !strings.HasSuffix(command, ` 'echo' 'it'\''s'`) {
		t.Errorf("a command becomes %s", command)
	}
	for _, parts := range [][]string{{"out" + mark + "12\x1f"}, {"out", mark, "12", "\x1f"}, {"ou", "t" + mark[:5], mark[5:] + "1", "2\x1f"}} {
		var out bytes.Buffer
		o := &output{to: &out, mark: []byte(mark), code: -1}
		for _, part := range parts {
			if err := o.write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.flush(); err != nil || out.String() != "out" || o.code != 12 {
			t.Errorf("of %q comes %q and %d, %v", parts, out.String(), o.code, err)
		}
	}
}

// FuzzOutput cuts an output with a mark somewhere into two: it stays the same, but for the mark.
func FuzzOutput(f *testing.F) {
	f.Add("before", "after", uint(3), uint8(7))
	f.Add("\x1fberth ", "\x1f", uint(9), uint8(0))
	f.Fuzz(func(t *testing.T, before, after string, cut uint, code uint8) {
		_, mark := Wrap(nil)
		text := before + mark + string('0'+rune(code%10)) + "\x1f" + after
		at := int(cut % uint(len(text)+1))
		var out bytes.Buffer
		o := &output{to: &out, mark: []byte(mark), code: -1}
		err := errors.Join(o.write([]byte(text[:at])), o.write([]byte(text[at:])), o.flush())
		if err != nil || out.String() != before+after || o.code != int(code%10) {
			t.Errorf("of %q comes %q and %d, %v", text, out.String(), o.code, err)
		}
	})
}
