package scripted

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// object is a JSON object.
type object = map[string]any

// reply is a message of the model's, with all its values.
type reply struct {
	id      string
	model   string
	blocks  []object
	stop    string
	usage   Usage
	chunk   int
	content int // bytes of text, thinking and JSON
}

// build makes the reply that a step is. Its placeholders are filled, unless it was computed.
func build(step Step, request Request, computed bool) (reply, error) {
	fill, fillValue := request.Fill, request.fillValue
	if computed {
		fill, fillValue = func(text string) string { return text }, func(value any) any { return value }
	}
	r := reply{id: newID("msg"), model: step.Model, stop: step.Stop, usage: step.Usage, chunk: step.Chunk}
	if r.model == "" {
		r.model = request.Model
	}
	if step.Thinking != "" {
		text := fill(step.Thinking)
		r.add(len(text), object{"type": "thinking", "thinking": text, "signature": newID("sig")})
	}
	if step.Text != "" {
		text := fill(step.Text)
		r.add(len(text), object{"type": "text", "text": text})
	}
	for _, tool := range step.Tools {
		input := object{}
		if tool.Input != nil {
			input, _ = fillValue(tool.Input).(object)
		}
		encoded, err := json.Marshal(input)
		if err != nil {
			return reply{}, fmt.Errorf("the input of tool %s: %w", tool.Name, err)
		}
		r.add(len(encoded), object{"type": "tool_use", "id": newID("toolu"), "name": tool.Name, "input": json.RawMessage(encoded)})
	}
	if r.stop == "" {
		r.stop = "end_turn"
		if len(step.Tools) > 0 {
			r.stop = "tool_use"
		}
	}
	if r.usage == (Usage{}) {
		r.usage = Usage{Input: tokens(len(request.Body)), Output: tokens(r.content)}
	}
	return r, nil
}

func (r *reply) add(bytes int, b object) {
	r.content += bytes
	r.blocks = append(r.blocks, b)
}

// tokens estimates how many tokens a text of so many bytes is.
func tokens(bytes int) int { return max(1, bytes/4) }

// newID makes an id of the form that the API's have.
func newID(prefix string) string { return prefix + "_01" + rand.Text()[:22] }

func (r reply) usageObject(output int) object {
	return object{
		"input_tokens":                r.usage.Input,
		"cache_creation_input_tokens": r.usage.CacheWrite,
		"cache_read_input_tokens":     r.usage.CacheRead,
		"output_tokens":               output,
		"service_tier":                "standard",
	}
}

// message is the reply in one piece.
func (r reply) message() object {
	return object{
		"id": r.id, "type": "message", "role": "assistant", "model": r.model, "content": r.blocks,
		"stop_reason": r.stop, "stop_sequence": nil, "usage": r.usageObject(r.usage.Output),
	}
}

// events is the reply as a stream.
func (r reply) events() []object {
	start := r.message()
	start["content"], start["stop_reason"], start["usage"] = []object{}, nil, r.usageObject(min(r.usage.Output, 1))
	list := []object{{"type": "message_start", "message": start}}
	for index, b := range r.blocks {
		list = append(list, r.blockEvents(index, b)...)
		if index == 0 {
			list = append(list[:2], append([]object{{"type": "ping"}}, list[2:]...)...)
		}
	}
	return append(list,
		object{"type": "message_delta", "delta": object{"stop_reason": r.stop, "stop_sequence": nil}, "usage": r.usageObject(r.usage.Output)},
		object{"type": "message_stop"})
}

func (r reply) blockEvents(index int, b object) []object {
	var (
		empty  object
		deltas []object
	)
	switch b["type"] {
	case "thinking":
		empty = object{"type": "thinking", "thinking": "", "signature": ""}
		for _, part := range split(b["thinking"].(string), r.chunk) {
			deltas = append(deltas, object{"type": "thinking_delta", "thinking": part})
		}
		deltas = append(deltas, object{"type": "signature_delta", "signature": b["signature"]})
	case "text":
		empty = object{"type": "text", "text": ""}
		for _, part := range split(b["text"].(string), r.chunk) {
			deltas = append(deltas, object{"type": "text_delta", "text": part})
		}
	case "tool_use":
		empty = object{"type": "tool_use", "id": b["id"], "name": b["name"], "input": object{}}
		for _, part := range split(string(b["input"].(json.RawMessage)), r.chunk) {
			deltas = append(deltas, object{"type": "input_json_delta", "partial_json": part})
		}
	}
	list := []object{{"type": "content_block_start", "index": index, "content_block": empty}}
	for _, delta := range deltas {
		list = append(list, object{"type": "content_block_delta", "index": index, "delta": delta})
	}
	return append(list, object{"type": "content_block_stop", "index": index})
}

// split cuts a text into parts of size bytes, or a little more where a character would be cut in two.
func split(text string, size int) []string {
	if size <= 0 || text == "" {
		return []string{text}
	}
	var parts []string
	for len(text) > size {
		end := size
		for end < len(text) && !utf8.RuneStart(text[end]) {
			end++
		}
		parts = append(parts, text[:end])
		text = text[end:]
	}
	if text != "" {
		parts = append(parts, text)
	}
	return parts
}
