// Package message has the messages of AWS Session Manager's data channel: how they are laid out in a frame of the
// websocket, and the JSON that some of them carry. Both ends of the channel use it, berth and the tests' stand-in.
//
// A message is a header of 116 bytes, the length of its payload, and the payload. All numbers are big-endian:
//
//	offset  0  4  length of the header
//	        4  32 type, padded with blanks or zeros
//	       36  4  version of the schema, 1
//	       40  8  milliseconds since 1970
//	       48  8  sequence number
//	       56  8  flags: 1 the first of a stream, 2 the last
//	       64  16 id, a UUID whose second half comes first
//	       80  32 SHA-256 of the payload
//	      112  4  kind of the payload
//	      116  4  length of the payload
//
// Nobody has described it but AWS's own programs, session-manager-plugin and amazon-ssm-agent (both Apache-2.0).
package message

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The types of messages.
const (
	Input  = "input_stream_data"  // from the client to the agent
	Output = "output_stream_data" // from the agent to the client
	Ack    = "acknowledge"        // of one of those two
	Closed = "channel_closed"     // the session is over
	Start  = "start_publication"  // the agent's end is there
	Pause  = "pause_publication"  // the agent's end is away
)

// Kind is what a payload is.
type Kind uint32

// The kinds of payloads.
const (
	Data              Kind = 1
	Size              Kind = 3 // of the terminal, as TerminalSize
	HandshakeRequest  Kind = 5
	HandshakeResponse Kind = 6
	HandshakeComplete Kind = 7
	Flag              Kind = 10 // one of the flags
	Stderr            Kind = 11
	ExitCode          Kind = 12
)

// The flags of a payload of kind Flag, in four bytes.
const (
	FlagTerminate    uint32 = 2 // from the client: end the session
	FlagConnectError uint32 = 3 // from the agent: nothing listens at the port
)

// Message is one message.
type Message struct {
	Type    string
	Number  int64 // its place in the stream
	Flags   uint64
	ID      uuid.UUID
	Kind    Kind
	Payload []byte
}

const (
	header     = 116
	typeOffset = 4
	typeLength = 32
	idOffset   = 64
	sumOffset  = 80

	// MaxPayload is the size of the largest payload that is read. Session Manager's own ends send 1 KiB.
	MaxPayload = 1 << 20
)

// Encode lays a message out. The type must not be longer than 32 bytes.
func Encode(m Message, now time.Time) []byte {
	frame := make([]byte, header+4, header+4+len(m.Payload))
	binary.BigEndian.PutUint32(frame, header)
	copy(frame[typeOffset:], m.Type+strings.Repeat(" ", max(0, typeLength-len(m.Type))))
	binary.BigEndian.PutUint32(frame[36:], 1)
	binary.BigEndian.PutUint64(frame[40:], uint64(now.UnixMilli()))
	binary.BigEndian.PutUint64(frame[48:], uint64(m.Number)) //nolint:gosec // the same bits, as Decode reads them
	binary.BigEndian.PutUint64(frame[56:], m.Flags)
	copy(frame[idOffset:], m.ID[8:])
	copy(frame[idOffset+8:], m.ID[:8])
	sum := sha256.Sum256(m.Payload)
	copy(frame[sumOffset:], sum[:])
	binary.BigEndian.PutUint32(frame[112:], uint32(m.Kind))
	binary.BigEndian.PutUint32(frame[header:], uint32(len(m.Payload))) //nolint:gosec // at most MaxPayload
	return append(frame, m.Payload...)
}

// Decode reads a frame. The payload is a part of it.
func Decode(frame []byte) (Message, error) {
	if len(frame) < header+4 {
		return Message{}, fmt.Errorf("a message of %d bytes is too short to be one", len(frame))
	}
	// A newer header may be longer; the payload's length is the last of it.
	length := binary.BigEndian.Uint32(frame)
	if length < header || uint64(length)+4 > uint64(len(frame)) {
		return Message{}, fmt.Errorf("a message of %d bytes says that its header has %d", len(frame), length)
	}
	m := Message{
		Type:    string(bytes.Trim(frame[typeOffset:typeOffset+typeLength], " \x00")),
		Number:  int64(binary.BigEndian.Uint64(frame[48:])), //nolint:gosec // the same bits, as Encode writes them
		Flags:   binary.BigEndian.Uint64(frame[56:]),
		Kind:    Kind(binary.BigEndian.Uint32(frame[112:])),
		Payload: frame[length+4:],
	}
	copy(m.ID[8:], frame[idOffset:])
	copy(m.ID[:8], frame[idOffset+8:])
	switch {
	case m.Type == "":
		return Message{}, errors.New("a message has no type")
	case m.Type == Start, m.Type == Pause: // they carry nothing, and are not always filled in
		return m, nil
	case len(m.Payload) > MaxPayload:
		return Message{}, fmt.Errorf("a message of %d bytes is longer than any should be", len(m.Payload))
	case int64(binary.BigEndian.Uint32(frame[length:])) != int64(len(m.Payload)):
		return Message{}, fmt.Errorf("a message with a payload of %d bytes says that it has %d", len(m.Payload), binary.BigEndian.Uint32(frame[length:]))
	}
	if sum := sha256.Sum256(m.Payload); len(m.Payload) > 0 && !bytes.Equal(sum[:], frame[sumOffset:sumOffset+len(sum)]) {
		return Message{}, errors.New("a message was changed on its way: its checksum is wrong")
	}
	return m, nil
}
