package message

import "encoding/json"

// OpenChannel is the first that a client sends, as text: it shows the token that StartSession gave.
type OpenChannel struct {
	MessageSchemaVersion string // 1.0
	RequestID            string `json:"RequestId"`
	TokenValue           string
	ClientID             string `json:"ClientId"`
	ClientVersion        string
}

// Acknowledgement is the payload of an Ack.
type Acknowledgement struct {
	Type       string `json:"AcknowledgedMessageType"`
	ID         string `json:"AcknowledgedMessageId"`
	Number     int64  `json:"AcknowledgedMessageSequenceNumber"`
	Sequential bool   `json:"IsSequentialMessage"`
}

// ChannelClosed is the payload of a Closed. Output says why, if there is more to say than that it ended.
type ChannelClosed struct {
	SessionID string `json:"SessionId"`
	Output    string
}

// TerminalSize is the payload of kind Size.
type TerminalSize struct {
	Cols uint32 `json:"cols"`
	Rows uint32 `json:"rows"`
}

// Handshake is the payload of kind HandshakeRequest: what the agent wants from the client before it begins.
type Handshake struct {
	AgentVersion string
	Actions      []Action `json:"RequestedClientActions"`
}

// Action is one thing of a Handshake.
type Action struct {
	Type       string          `json:"ActionType"`
	Parameters json.RawMessage `json:"ActionParameters"`
}

// The actions that are known.
const (
	ActionSessionType = "SessionType"
	ActionKMS         = "KMSEncryption"
)

// SessionType is the parameter of ActionSessionType.
type SessionType struct {
	Type       string          `json:"SessionType"`
	Properties json.RawMessage `json:",omitempty"`
}

// The types of sessions that berth starts.
const (
	TypePort    = "Port"                // forwards to a port
	TypeCommand = "InteractiveCommands" // runs a command in a terminal
)

// HandshakeAnswer is the payload of kind HandshakeResponse.
type HandshakeAnswer struct {
	ClientVersion string
	Actions       []ActionAnswer `json:"ProcessedClientActions"`
	Errors        []string
}

// ActionAnswer says what became of an Action.
type ActionAnswer struct {
	Type   string `json:"ActionType"`
	Status int    `json:"ActionStatus"` // one of the next three
	Result any    `json:"ActionResult"`
	Error  string
}

// What can become of an Action.
const (
	Succeeded   = 1
	Failed      = 2
	Unsupported = 3
)

// HandshakeDone is the payload of kind HandshakeComplete.
type HandshakeDone struct {
	CustomerMessage string // of the account's preferences
}
