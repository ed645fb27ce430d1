package scripted_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"berth/internal/scripted"
)

type object = map[string]any

// serve starts a server, and ends it with the test.
func serve(t *testing.T, o scripted.Options) (*scripted.Server, string) {
	t.Helper()
	server, err := scripted.New(o)
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := server.Listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return server, url
}

// ask builds the body of a request that a prompt starts; more messages follow it.
func ask(prompt string, stream bool, more ...object) object {
	return object{
		"model": "claude-test", "max_tokens": 1000, "stream": stream,
		"messages": append([]object{{"role": "user", "content": prompt}}, more...),
	}
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	data   []byte
}

// call makes a request. The error may come with the part of the answer that was there.
func call(t *testing.T, method, url string, body any, header ...string) (answer, error) {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	for index := 0; index < len(header); index += 2 {
		request.Header.Set(header[index], header[index+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	data, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, data}, errors.Join(err, response.Body.Close())
}

// message makes a request that has to succeed, and returns the message.
func message(t *testing.T, url string, body object, header ...string) object {
	t.Helper()
	got, err := call(t, http.MethodPost, url+"/v1/messages?beta=true", body, header...)
	if err != nil {
		t.Fatal(err)
	}
	if got.status != http.StatusOK {
		t.Fatalf("status %d: %s", got.status, got.data)
	}
	if body["stream"] == true {
		return assemble(t, events(t, got.data))
	}
	return decode(t, got.data)
}

func decode(t *testing.T, data []byte) object {
	t.Helper()
	var value object
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return value
}

// events decodes a stream, and sees that each event is named as its data says.
func events(t *testing.T, data []byte) []object {
	t.Helper()
	var list []object
	for chunk := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n\n"), "\n\n") {
		name, rest, found := strings.Cut(chunk, "\n")
		line, isData := strings.CutPrefix(rest, "data: ")
		if !found || !isData || strings.Contains(line, "\n") {
			t.Fatalf("no event: %q", chunk)
		}
		event := decode(t, []byte(line))
		if name != "event: "+event["type"].(string) {
			t.Errorf("%q is named otherwise than %q", name, line)
		}
		list = append(list, event)
	}
	return list
}

// assemble makes the message that a stream tells of, as a client does, and checks the order of events.
func assemble(t *testing.T, list []object) object {
	t.Helper()
	var (
		m      object
		blocks []any
		open   object
		input  string
		done   bool
	)
	for number, event := range list {
		if done || (m == nil) != (event["type"] == "message_start") {
			t.Fatalf("event %d is out of place: %v", number, event)
		}
		switch event["type"] {
		case "message_start":
			m = event["message"].(object)
		case "ping":
		case "content_block_start":
			if open != nil || event["index"] != float64(len(blocks)) {
				t.Fatalf("event %d: a block begins in another: %v", number, event)
			}
			open, input = event["content_block"].(object), ""
		case "content_block_delta":
			delta := event["delta"].(object)
			switch delta["type"] {
			case "text_delta":
				open["text"] = open["text"].(string) + delta["text"].(string)
			case "thinking_delta":
				open["thinking"] = open["thinking"].(string) + delta["thinking"].(string)
			case "signature_delta":
				open["signature"] = delta["signature"]
			case "input_json_delta":
				input += delta["partial_json"].(string)
			default:
				t.Fatalf("event %d: unknown delta %v", number, delta)
			}
		case "content_block_stop":
			if open["type"] == "tool_use" {
				open["input"] = decode(t, []byte(input))
			}
			blocks, open = append(blocks, open), nil
		case "message_delta":
			delta := event["delta"].(object)
			m["stop_reason"], m["usage"] = delta["stop_reason"], event["usage"]
		case "message_stop":
			done = true
		default:
			t.Fatalf("event %d is unknown: %v", number, event)
		}
	}
	if !done || open != nil {
		t.Fatalf("the stream does not end: %v", list)
	}
	m["content"] = blocks
	return m
}

// text returns the text of a message's blocks.
func text(m object) string {
	var all string
	for _, b := range m["content"].([]any) {
		if part, is := b.(object)["text"].(string); is {
			all += part
		}
	}
	return all
}
