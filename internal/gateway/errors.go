package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
)

// failure is an error in the form of the Messages API (https://docs.claude.com/en/api/errors).
type failure struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
}

// refuse answers with an error. What Claude Code 2.1.330 makes of one (cli_e2e_test.go): it repeats a 401, 409, 5xx
// and 429 for minutes, a 400 and a 422 some times with fewer features; and not at all a 402, a 403, which it calls a
// failure to authenticate, a 404, of which it says that there is no such model, and a 429 with x-should-retry: false.
func refuse(w http.ResponseWriter, status int, kind, message string) {
	f := failure{Type: "error"}
	f.Error.Type, f.Error.Message = kind, oneLine(message)
	answer, err := json.Marshal(f)
	if err != nil { // strings can always be written
		answer = []byte(`{"type":"error","error":{"type":"api_error","message":"the gateway failed"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // a session that is gone misses nothing
}

func oneLine(message string) string { return strings.Join(strings.Fields(message), " ") }

// without takes a key out of a text.
func without(key string, text []byte) []byte {
	if key == "" || !bytes.Contains(text, []byte(key)) {
		return text
	}
	return bytes.ReplaceAll(text, []byte(key), []byte("…"))
}

// short cuts a text of somebody else's for a message.
func short(text string) string {
	text = oneLine(strings.ToValidUTF8(text, "?"))
	if chars := []rune(text); len(chars) > 300 {
		return string(chars[:299]) + "…"
	}
	return text
}
