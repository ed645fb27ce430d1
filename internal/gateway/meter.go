package gateway

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"berth/internal/api"
)

// meter reads along what a reply took: from the events of a stream, or from a message in one piece. It is never
// wrong-footed by what it reads: what it cannot make sense of, it reckons from the number of bytes.
type meter struct {
	asked  asked
	events events
	whole  []byte // of a reply in one piece
	stream bool
	opaque bool // it cannot be read: compressed, say

	model   string
	seen    usage // by the reply's own account, but for what was written to the cache:
	written struct{ all, minutes, hour int64 }
	extra   nano   // of work that the account does not include
	figures bool   // there was an account
	content int64  // bytes of content so far
	stopped bool   // the reply came to its end
	ended   bool   // no more is read
	failure string // the type of the error that a stream ended in
}

// maxWhole is how much of a reply in one piece is kept for reading. The longest output is less than 1 MB.
const maxWhole = 8 << 20

// newMeter makes a meter for a reply with a Content-Type and a Content-Encoding.
func newMeter(a asked, contentType, encoding string) *meter {
	m := &meter{asked: a}
	m.stream = strings.HasPrefix(strings.ToLower(contentType), "text/event-stream")
	m.opaque = encoding != "" && !strings.EqualFold(encoding, "identity")
	m.events.take = m.event
	return m
}

// Write takes the next part of the reply. It never fails.
func (m *meter) Write(part []byte) {
	switch {
	case m.opaque:
		m.content += int64(len(part)) * 4 // what text is compressed to
	case m.stream:
		m.events.Write(part)
	case len(m.whole)+len(part) <= maxWhole:
		m.whole = append(m.whole, part...)
	default:
		m.content += int64(len(m.whole) + len(part))
		m.whole, m.opaque = nil, true
	}
}

// End tells the meter that there is no more. ok says that the reply ended in order.
func (m *meter) End(ok bool) {
	if m.ended || m.stream && !m.opaque {
		return
	}
	m.ended = true
	if m.opaque {
		m.stopped = ok
		return
	}
	m.content += int64(len(m.whole))
	var reply struct {
		Model     string     `json:"model"`
		Usage     *usageJSON `json:"usage"`
		Container container  `json:"container"`
	}
	err := json.Unmarshal(m.whole, &reply)
	m.contained(reply.Container)
	m.take(reply.Model, reply.Usage)
	m.stopped = ok && (err == nil || reply.Usage != nil)
}

// event takes an event of a stream (https://docs.claude.com/en/docs/build-with-claude/streaming).
func (m *meter) event(data []byte, length int) {
	var e struct {
		Type    string `json:"type"`
		Message struct {
			Model     string     `json:"model"`
			Usage     *usageJSON `json:"usage"`
			Container container  `json:"container"`
		} `json:"message"`
		Usage *usageJSON `json:"usage"`
		Delta struct {
			Text      string `json:"text"`
			Thinking  string `json:"thinking"`
			JSON      string `json:"partial_json"`
			Signature string `json:"signature"`

			Container container `json:"container"`
		} `json:"delta"`
		Error struct {
			Type string `json:"type"`
		} `json:"error"`
	}
	if data == nil || json.Unmarshal(data, &e) != nil && e.Type == "" {
		m.content += int64(length)
		return
	}
	m.contained(e.Message.Container, e.Delta.Container)
	switch e.Type {
	case "message_start":
		m.take(e.Message.Model, e.Message.Usage)
	case "message_delta":
		m.take("", e.Usage)
	case "content_block_delta":
		m.content += int64(len(e.Delta.Text) + len(e.Delta.Thinking) + len(e.Delta.JSON) + len(e.Delta.Signature))
	case "message_stop":
		m.stopped = true
	case "error":
		if m.failure = e.Error.Type; m.failure == "" {
			m.failure = "api_error"
		}
	}
}

// container is where the API runs code.
type container struct {
	ID string `json:"id"`
}

// contained notes that code ran in a container.
func (m *meter) contained(list ...container) {
	for _, each := range list {
		if each.ID != "" {
			m.seen.containers = 1
		}
	}
}

// take adds an account to what is known. Accounts are cumulative, so that the larger figure is the later one.
func (m *meter) take(model string, j *usageJSON) {
	if model != "" && len(model) <= 200 {
		m.model = model
	}
	if j == nil {
		return
	}
	m.figures = true
	u := j.usage()
	m.seen.input = max(m.seen.input, u.input)
	m.seen.output = max(m.seen.output, u.output)
	m.seen.cacheRead = max(m.seen.cacheRead, u.cacheRead)
	m.written.all = max(m.written.all, int64(j.CacheWrite))
	m.written.minutes = max(m.written.minutes, int64(j.Creation.Minutes))
	m.written.hour = max(m.written.hour, int64(j.Creation.Hour))
	m.seen.searches = max(m.seen.searches, u.searches)
	m.seen.containers = max(m.seen.containers, u.containers)
	m.seen.fast, m.seen.usOnly = m.seen.fast || u.fast, m.seen.usOnly || u.usOnly
	var extra nano
	for _, part := range j.Iterations {
		// The account's own figures are the sum of iterations of type "message"
		// (https://platform.claude.com/docs/en/build-with-claude/compaction).
		if part.Type == "message" || part.Type == "" {
			continue
		}
		name := part.Model
		if name == "" {
			name = m.name()
		}
		row, _ := prices.find(name)
		extra = min(extra+prices.cost(row, part.usage()), most)
	}
	m.extra = max(m.extra, extra)
}

// name is the model that answered; the one that was asked, until that is known.
func (m *meter) name() string {
	if m.model != "" {
		return m.model
	}
	return m.asked.model
}

// used is the usage so far. What no account has told yet is reckoned: input at a token for every four bytes, output
// at one for every two and a half, which is what newer models make of English
// (https://platform.claude.com/docs/en/about-claude/models/overview, "Context").
func (m *meter) used() usage {
	u := m.seen
	u.cacheWrite5m, u.cacheWrite1h = split(m.written.all, m.written.minutes, m.written.hour)
	if !m.figures && m.failure != "" {
		return u // an error costs nothing
	}
	if !m.figures {
		u.input = int64(m.asked.bytes)/4 + 1
		u.fast, u.usOnly = m.asked.fast, m.asked.usOnly
	}
	if !m.stopped || !m.figures {
		u.output = max(u.output, (m.content*2+4)/5)
	}
	return u
}

// cost is what the reply has cost so far, and the model that was priced if it is another than the one that
// answered.
func (m *meter) cost() (cost nano, pricedAs string) {
	row, known := prices.find(m.name())
	if !known {
		pricedAs = row.Model
	}
	return min(prices.cost(row, m.used())+m.extra, most), pricedAs
}

// worst is what the reply can cost at most now, which is less once its input is known.
func (m *meter) worst() nano {
	cost, _ := m.cost()
	if !m.figures {
		row, _ := prices.find(m.asked.model)
		return max(cost, prices.worst(row, m.asked))
	}
	row, _ := prices.find(m.name())
	u := m.used()
	u.output = max(u.output, m.asked.maxTokens)
	u.searches, u.containers = max(u.searches, m.asked.searches), max(u.containers, m.asked.containers)
	return min(prices.cost(row, u)+m.extra, most)
}

// report fills in what the reply took.
func (m *meter) report(r *api.Request) {
	u := m.used()
	var cost nano
	cost, r.PricedAs = m.cost()
	r.Model, r.CostUSD = m.name(), cost.usd()
	r.Tokens = api.Tokens{Input: u.input, Output: u.output, CacheRead: u.cacheRead, CacheWrite: u.cacheWrite5m + u.cacheWrite1h}
	r.Searches = int(u.searches)
	r.Cut = !m.stopped
}

// usageJSON is an account of usage (https://docs.claude.com/en/api/messages, "usage").
type usageJSON struct {
	Input      count `json:"input_tokens"`
	Output     count `json:"output_tokens"`
	CacheRead  count `json:"cache_read_input_tokens"`
	CacheWrite count `json:"cache_creation_input_tokens"`
	Creation   struct {
		Minutes count `json:"ephemeral_5m_input_tokens"`
		Hour    count `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	Server struct {
		Searches   count `json:"web_search_requests"`
		Executions count `json:"code_execution_requests"`
	} `json:"server_tool_use"`
	Speed      string `json:"speed"`
	Geo        string `json:"inference_geo"`
	Iterations []struct {
		Type  string `json:"type"`
		Model string `json:"model"`
		usageJSON
	} `json:"iterations"`
}

func (j *usageJSON) usage() usage {
	u := usage{
		input: int64(j.Input), output: int64(j.Output), cacheRead: int64(j.CacheRead),
		searches: int64(j.Server.Searches), containers: min(1, int64(j.Server.Executions)), fast: j.Speed == "fast", usOnly: j.Geo == "us",
	}
	u.cacheWrite5m, u.cacheWrite1h = split(int64(j.CacheWrite), int64(j.Creation.Minutes), int64(j.Creation.Hour))
	return u
}

// split tells tokens that were written to the cache for five minutes from those for an hour. Some accounts give the
// sum only: then it is for five minutes, but for what is known to be for an hour.
func split(all, minutes, hour int64) (fiveMinutes, oneHour int64) {
	return max(minutes, all-hour), hour
}

// count is a number in JSON that counts something: whatever else is there counts nothing, and what is beyond reason
// is cut off.
type count int64

const maxCount = 1e9

// UnmarshalJSON never fails.
func (c *count) UnmarshalJSON(text []byte) error {
	number, err := strconv.ParseFloat(string(text), 64)
	switch {
	case math.IsNaN(number) || number <= 0 || err != nil && number != math.Inf(1):
		*c = 0
	default:
		*c = count(min(number, maxCount))
	}
	return nil
}
