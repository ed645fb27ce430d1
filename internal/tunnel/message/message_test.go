package message

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// What AWS's own code makes of the message below: github.com/aws/session-manager-plugin 1.2.0.0, SerializeClientMessage.
const theirs = "00000074696e7075745f73747265616d5f64617461202020202020202020202020202020" +
	"000000010000019ac854ec7b0000000000000007000000000000000099abb87a348be00101a20627df5e4b97" +
	"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824000000010000000568656c6c6f"

var (
	sent = Message{Type: Input, Number: 7, ID: uuid.MustParse("01a20627-df5e-4b97-99ab-b87a348be001"), Kind: Data, Payload: []byte("hello")}
	when = time.UnixMilli(1764297600123)
)

func TestAsAWSDoes(t *testing.T) {
	if got := hex.EncodeToString(Encode(sent, when)); got != theirs {
		t.Errorf("a message is laid out as\n%s\nand AWS's client lays it out as\n%s", got, theirs)
	}
	frame, _ := hex.DecodeString(theirs)
	got, err := Decode(frame)
	if diff := cmp.Diff(sent, got); err != nil || diff != "" {
		t.Errorf("AWS's message reads as %v (-want +got):\n%s", err, diff)
	}
}

func TestBadMessages(t *testing.T) {
	good := Encode(sent, when)
	change := func(how func([]byte)) []byte {
		frame := append([]byte(nil), good...)
		how(frame)
		return frame
	}
	for name, frame := range map[string][]byte{
		"nothing":          nil,
		"a header only":    good[:header],
		"cut off":          good[:len(good)-1],
		"too much":         append(append([]byte(nil), good...), 0),
		"another payload":  change(func(f []byte) { f[len(f)-1] ^= 1 }),
		"a short header":   change(func(f []byte) { f[3] = 8 }),
		"a long header":    change(func(f []byte) { f[0] = 0xff }),
		"no type":          change(func(f []byte) { copy(f[typeOffset:], make([]byte, typeLength)) }),
		"too much to read": Encode(Message{Type: Input, Payload: make([]byte, MaxPayload+1)}, when),
	} {
		if got, err := Decode(frame); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

// A header that has grown, and a message that carries nothing and is not filled in.
func TestOtherMessages(t *testing.T) {
	good := Encode(sent, when)
	longer := append(append(append([]byte{0, 0, 0, header + 4}, good[4:header]...), 1, 2, 3, 4), good[header:]...)
	if got, err := Decode(longer); err != nil || string(got.Payload) != "hello" {
		t.Errorf("with a longer header it reads as %+v, %v", got, err)
	}
	bare := Encode(Message{Type: Pause}, when)
	clear(bare[36:header])
	if got, err := Decode(bare); err != nil || got.Type != Pause {
		t.Errorf("a pause reads as %+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(sent, when))
	f.Add(Encode(Message{Type: Pause}, when))
	f.Add(Encode(Message{Type: Ack, Payload: []byte(`{"AcknowledgedMessageSequenceNumber":1}`)}, when))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := Decode(frame)
		if err != nil || m.Type == Start || m.Type == Pause {
			return
		}
		again, err := Decode(Encode(m, when))
		if diff := cmp.Diff(m, again); err != nil || diff != "" {
			t.Errorf("written and read again, it is another one: %v\n%s", err, diff)
		}
	})
}
