package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"berth/internal/api"
)

const (
	startEvent = "event: message_start\ndata: " + `{"type":"message_start","message":{"model":"claude-sonnet-4-6","usage":{"input_tokens":10,"output_tokens":1,` +
		`"cache_read_input_tokens":1000,"cache_creation_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200}}}}` + "\n\n"
	pingEvent  = "event: ping\ndata: {\"type\":\"ping\"}\n\n"
	textEvent  = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"0123456789\"}}\n\n"
	deltaEvent = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":42,\"server_tool_use\":{\"web_search_requests\":2}}}\n\n"
	stopEvent  = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	wholeText  = startEvent + pingEvent + textEvent + textEvent + deltaEvent + stopEvent
)

var wholeUsage = usage{input: 10, cacheRead: 1000, cacheWrite5m: 100, cacheWrite1h: 200, output: 42, searches: 2}

func read(stream string, a asked, parts ...string) *meter {
	kind := "application/json"
	if stream == "stream" {
		kind = "text/event-stream; charset=utf-8"
	}
	m := newMeter(a, kind, "")
	for _, part := range parts {
		m.Write([]byte(part))
	}
	return m
}

// However a stream is split, its figures are the same.
func TestMeterReadsStreamsSplitAnywhere(t *testing.T) {
	for _, text := range []string{wholeText, strings.ReplaceAll(wholeText, "\n", "\r\n"), strings.ReplaceAll(wholeText, "\n", "\r"), "\xef\xbb\xbf" + wholeText} {
		for cut := range len(text) {
			m := read("stream", asked{}, text[:cut], text[cut:])
			if got := m.used(); got != wholeUsage || !m.stopped || m.name() != "claude-sonnet-4-6" {
				t.Fatalf("cut at %d: %+v of %q", cut, got, m.model)
			}
		}
		m := read("stream", asked{}, strings.Split(text, "")...)
		if got := m.used(); got != wholeUsage || !m.stopped {
			t.Errorf("byte by byte: %+v", got)
		}
	}
}

func TestMeterReckonsWhatIsNotSaid(t *testing.T) {
	const body = 4000
	for name, test := range map[string]struct {
		kind    string
		text    string
		want    usage
		stopped bool
	}{
		"nothing came":            {"stream", "", usage{input: 1001}, false},
		"cut after some text":     {"stream", startEvent + textEvent + textEvent, usage{input: 10, cacheRead: 1000, cacheWrite5m: 100, cacheWrite1h: 200, output: 8}, false},
		"cut before any figures":  {"stream", textEvent, usage{input: 1001, output: 4}, false},
		"cut within an event":     {"stream", startEvent + deltaEvent[:40], usage{input: 10, cacheRead: 1000, cacheWrite5m: 100, cacheWrite1h: 200, output: 1}, false},
		"no figures at all":       {"stream", stopEvent, usage{input: 1001}, true},
		"garbage":                 {"stream", "data: {]\n\n\x00\xff\n\n: comment\n\nid: 7\n\n", usage{input: 1001, output: 4}, false},
		"an error":                {"stream", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n", usage{}, false},
		"an error without a type": {"stream", "data: {\"type\":\"error\"}\n\n", usage{}, false},
		"a huge event":            {"stream", startEvent + "data: " + strings.Repeat("x", maxEvent+1) + "\n\n" + deltaEvent + stopEvent, wholeUsage, true},
		"a huge line, unended":    {"stream", startEvent + "data: " + strings.Repeat("x", 1_000_000), usage{input: 10, cacheRead: 1000, cacheWrite5m: 100, cacheWrite1h: 200, output: 1}, false},
		"figures that are none": {
			"stream", `data: {"type":"message_start","message":{"usage":{"input_tokens":-5,"output_tokens":"7","cache_read_input_tokens":1e999,"cache_creation_input_tokens":null}}}` + "\n\n",
			usage{cacheRead: maxCount},
			false,
		},
		"figures of a wrong kind": {"stream", `data: {"type":"message_start","message":7,"usage":[],"delta":"x"}` + "\n\n", usage{input: 1001}, false},
		"in one piece":            {"json", `{"type":"message","model":"claude-opus-5-5","usage":{"input_tokens":3,"output_tokens":9,"cache_creation_input_tokens":4}}`, usage{input: 3, output: 9, cacheWrite5m: 4}, true},
		"one piece, cut":          {"json", `{"type":"message","model":"claude-opus-5-5","usa`, usage{input: 1001, output: 20}, false},
		"a list":                  {"json", `[1,2]`, usage{input: 1001, output: 2}, false},
		"input told later":        {"stream", startEvent + `data: {"type":"message_delta","usage":{"input_tokens":20,"output_tokens":3,"cache_creation_input_tokens":900}}` + "\n\n" + stopEvent, usage{input: 20, output: 3, cacheRead: 1000, cacheWrite5m: 700, cacheWrite1h: 200}, true},
	} {
		m := read(test.kind, asked{bytes: body}, test.text)
		m.End(test.kind == "json" && test.stopped)
		if got := m.used(); got != test.want || m.stopped != test.stopped {
			t.Errorf("%s: %+v, stopped %t; want %+v, %t", name, got, m.stopped, test.want, test.stopped)
		}
	}
}

func TestMeterTellsModelAndPrice(t *testing.T) {
	m := read("stream", asked{model: "claude-opus-5-5"}, wholeText)
	var r api.Request
	m.report(&r)
	want := api.Request{
		Model: "claude-sonnet-4-6", Tokens: api.Tokens{Input: 10, Output: 42, CacheRead: 1000, CacheWrite: 300}, Searches: 2,
		CostUSD: (10*3+1000*0.3+100*3.75+200*6+42*15)/1e6 + 0.02,
	}
	if r.CostUSD -= want.CostUSD; r.CostUSD > 1e-12 || r.CostUSD < -1e-12 {
		t.Errorf("it is off by %g", r.CostUSD)
	}
	r.CostUSD = want.CostUSD
	if r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	m = read("stream", asked{model: "claude-opus-9"}, strings.ReplaceAll(wholeText, "claude-sonnet-4-6", "claude-sonnet-9"))
	m.report(&r)
	if r.Model != "claude-sonnet-9" || r.PricedAs != "claude-opus-4-1" || r.CostUSD < want.CostUSD {
		t.Errorf("an unknown model: %+v", r)
	}
	compaction := `{"model":"claude-opus-5-5","usage":{"input_tokens":1,"output_tokens":1,"iterations":[{"type":"compaction","input_tokens":1000,"output_tokens":100},{"type":"message","input_tokens":1,"output_tokens":1}]}}`
	if cost, _ := func() (nano, string) { m := read("json", asked{}, compaction); m.End(true); return m.cost() }(); cost != 1001*4000+101*20_000 {
		t.Errorf("with a compaction: %d", cost)
	}
}

// What a request may still come to gets less as more is known, and is never less than it has cost.
func TestMeterBoundsTheRest(t *testing.T) {
	a := asked{model: "claude-sonnet-4-6", bytes: 100_000, maxTokens: 1000, searches: 2}
	m := newMeter(a, "text/event-stream", "")
	last := m.worst()
	for _, part := range strings.SplitAfter(wholeText, "\n\n") {
		m.Write([]byte(part))
		cost, _ := m.cost()
		if now := m.worst(); now > last || now < cost {
			t.Errorf("after %.30q: at most %d, before %d, so far %d", part, now, last, cost)
		} else {
			last = now
		}
	}
	if row, _ := prices.find(a.model); last >= prices.worst(row, a) {
		t.Errorf("%d is no less than before", last)
	}
}

func TestMeterOfCompressedReplies(t *testing.T) {
	m := newMeter(asked{bytes: 400}, "text/event-stream", "gzip")
	m.Write(make([]byte, 100))
	m.End(true)
	if got := m.used(); got.output != 160 || got.input != 101 || !m.stopped {
		t.Errorf("%+v", got)
	}
}

// Whatever comes, however it is split: nothing panics, memory is bounded, and no figure is absurd.
func FuzzMeter(f *testing.F) {
	for _, seed := range []string{
		wholeText, startEvent, textEvent, stopEvent, "\r\r\n\n", "data", "data:", ":\n", "\xef\xbb\xbfdata: {}\n\n",
		`{"usage":{"input_tokens":1e30,"iterations":[{"type":"x","usage":{}}]}}`, "data: {\"type\":\"error\"}\n\n",
		`{"model":"claude-opus-4-1","usage":{"input_tokens":5}}`, strings.Repeat("data: x\n", 50) + "\n",
	} {
		f.Add([]byte(seed), uint8(3), true)
		f.Add([]byte(seed), uint8(200), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8, stream bool) {
		kind := "json"
		if stream {
			kind = "stream"
		}
		a := asked{model: "claude-opus-5-5", bytes: 100, maxTokens: 10}
		m, at := read(kind, a), 0
		var last nano
		for part := range bytes.SplitSeq(text, []byte{size}) { // parts of no and of any size
			end := at + len(part)
			m.Write(text[at:end])
			if end < len(text) {
				m.Write(text[end : end+1])
			}
			at = end + 1
			if len(m.events.line)+len(m.events.data) > maxEvent {
				t.Fatalf("%d bytes are kept", len(m.events.line)+len(m.events.data))
			}
			cost, _ := m.cost()
			if stream && m.figures && cost < last && m.failure == "" && m.model == "" {
				t.Fatalf("it costs %d after %d", cost, last)
			}
			if m.figures {
				last = cost
			}
		}
		one := read(kind, a, string(text))
		one.End(true)
		m.End(true)
		if fmt.Sprint(one.used(), one.model, one.stopped) != fmt.Sprint(m.used(), m.model, m.stopped) {
			t.Fatalf("in one piece %+v, split %+v", one.used(), m.used())
		}
		cost, _ := m.cost()
		if worst := m.worst(); cost < 0 || cost > most || worst < cost {
			t.Fatalf("it costs %d of %d", cost, worst)
		}
	})
}
