package tunnel

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/coder/websocket"

	"berth/internal/tunnel/message"
)

// Session is what Session Manager gives for a session that was started: by StartSession, or by ECS's ExecuteCommand.
type Session struct {
	ID    string
	URL   string // of the websocket; whoever has it and the token has the session
	Token string
}

// socket is a wire over a websocket.
type socket struct{ connection *websocket.Conn }

// dial opens a session's websocket.
func dial(ctx context.Context, session Session) (*socket, error) {
	address, err := url.Parse(session.URL)
	if err != nil || address.Scheme != "wss" && address.Scheme != "ws" {
		return nil, fmt.Errorf("Session Manager names %.80q for a websocket", session.URL)
	}
	connection, response, err := websocket.Dial(ctx, session.URL, &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
	if response != nil && response.Body != nil {
		_ = response.Body.Close() // Dial has read what there is
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		status := ""
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			status = " (" + response.Status + ")"
		}
		return nil, fmt.Errorf("cannot connect to %s, Session Manager's websocket%s: %w", address.Host, status, err)
	}
	connection.SetReadLimit(message.MaxPayload + 1<<10)
	return &socket{connection}, nil
}

func (s *socket) Read(ctx context.Context) ([]byte, error) {
	_, frame, err := s.connection.Read(ctx)
	return frame, err
}

func (s *socket) Write(ctx context.Context, frame []byte, text bool) error {
	kind := websocket.MessageBinary
	if text {
		kind = websocket.MessageText
	}
	return s.connection.Write(ctx, kind, frame)
}

func (s *socket) Close() { _ = s.connection.CloseNow() } // nothing is lost with it that is still wanted
