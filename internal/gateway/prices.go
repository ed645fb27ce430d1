package gateway

import (
	_ "embed"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
)

// nano is money: billionths of a US dollar. Every price per token of the table is a whole number of them, so that
// sums are exact in whatever order they come about.
type nano int64

const dollar nano = 1e9

// most is far beyond any bill, and leaves room for adding.
const most nano = math.MaxInt64 / 1024

func (n nano) usd() float64 { return float64(n) / float64(dollar) }

// fromUSD rounds to the nearest, but nothing only to nothing: a limit that is tiny is one. What is no number, or negative,
// is nothing.
func fromUSD(usd float64) nano {
	if !(usd > 0) {
		return 0
	}
	return nano(max(1, min(math.Round(usd*float64(dollar)), float64(most))))
}

// rates are US dollars per million tokens.
type rates struct {
	Input        float64 `json:"input"`
	CacheWrite5m float64 `json:"cache_write_5m"`
	CacheWrite1h float64 `json:"cache_write_1h"`
	CacheRead    float64 `json:"cache_read"`
	Output       float64 `json:"output"`
}

// price is a row of the price table.
type price struct {
	Model   string   `json:"model"` // without a date
	Aliases []string `json:"aliases"`
	rates
	Above *struct { // what all tokens of a request cost whose input, cached or not, is longer
		Tokens int64 `json:"tokens"`
		rates
	} `json:"above"`
	Fast   float64 `json:"fast"`  // what fast mode multiplies all prices by; 0 if it is not offered
	Dated  string  `json:"dated"` // when somebody last looked
	Source string  `json:"source"`
}

// priceTable is prices.json: Anthropic's public price list. What is in it comes from the pages that its rows
// name; fast mode and US-only inference are on the same page.
type priceTable struct {
	Dated     string  `json:"dated"`
	WebSearch float64 `json:"web_search"` // US dollars for a search
	Container float64 `json:"container"`  // US dollars for an hour of code execution
	USOnly    float64 `json:"us_only"`    // what inference in the US only multiplies prices of tokens by
	Models    []price `json:"models"`

	byName  map[string]*price
	dearest *price
}

//go:embed prices.json
var pricesJSON []byte

var prices = readPrices(pricesJSON)

func readPrices(text []byte) *priceTable {
	t := &priceTable{byName: map[string]*price{}}
	if err := json.Unmarshal(text, t); err != nil {
		panic("gateway: prices.json: " + err.Error()) // it is part of the program, and tested
	}
	for index := range t.Models {
		row := &t.Models[index]
		t.byName[row.Model] = row
		for _, alias := range row.Aliases {
			t.byName[alias] = row
		}
		if t.dearest == nil || row.Output > t.dearest.Output {
			t.dearest = row
		}
	}
	return t
}

// pinned is what follows a model's name: a date, a version of Bedrock's, or "latest".
var pinned = regexp.MustCompile(`(-(20\d{6}|latest)|-v\d+)+$`)

// find returns the row for a model as the API, Bedrock or Vertex AI name it, such as claude-opus-4-5,
// claude-sonnet-4-5-20250929, claude-opus-4-6[1m], us.anthropic.claude-haiku-4-5-20251001-v1:0 or
// claude-opus-4-1@20250805. A model that is not known costs what the dearest does, and known is false.
func (t *priceTable) find(model string) (row *price, known bool) {
	name := strings.ToLower(model)
	if start := strings.LastIndex(name, "claude-"); start > 0 {
		name = name[start:]
	}
	if end := strings.IndexAny(name, "@[:"); end >= 0 {
		name = name[:end]
	}
	if row, known := t.byName[pinned.ReplaceAllString(name, "")]; known {
		return row, true
	}
	return t.dearest, false
}

// usage is what a reply took, in tokens but for searches and containers, each of which counts for an hour: replies do not
// tell for how long code ran, nor whether the account had free hours left.
type usage struct {
	input, cacheRead, cacheWrite5m, cacheWrite1h, output int64
	searches, containers                                 int64
	fast, usOnly                                         bool
}

// cost is what usage costs at a row's prices, rounded up.
func (t *priceTable) cost(row *price, u usage) nano {
	at := row.rates
	if row.Above != nil && u.input+u.cacheRead+u.cacheWrite5m+u.cacheWrite1h > row.Above.Tokens {
		at = row.Above.rates
	}
	// A dollar for a million is a thousand billionths for one.
	sum := 1000 * (float64(u.input)*at.Input + float64(u.cacheRead)*at.CacheRead + float64(u.output)*at.Output +
		float64(u.cacheWrite5m)*at.CacheWrite5m + float64(u.cacheWrite1h)*at.CacheWrite1h)
	if u.fast {
		sum *= fastFactor(row)
	}
	if u.usOnly {
		sum *= t.USOnly
	}
	sum += (float64(u.searches)*t.WebSearch + float64(u.containers)*t.Container) * float64(dollar)
	// Binary fractions miss whole numbers by a little, which must not be rounded up.
	return nano(min(math.Ceil(sum-1e-3), float64(most)))
}

// fastFactor is what fast mode multiplies prices by: for a model that has no price for it, the most that it ever was.
func fastFactor(row *price) float64 {
	if row.Fast > 0 {
		return row.Fast
	}
	return 6
}

// worst is what a request can cost at most, as far as can be told before: every second byte a token, all of it
// written to the longer cache, and as much output as it allows.
func (t *priceTable) worst(row *price, a asked) nano {
	input := int64(a.bytes)/2 + 1
	return t.cost(row, usage{cacheWrite1h: input, output: a.maxTokens, searches: a.searches, containers: a.containers, fast: a.fast, usOnly: a.usOnly})
}

// estimate is what the input of a request will cost, as far as can be told before: every fourth byte a token.
func (t *priceTable) estimate(row *price, a asked) nano {
	return t.cost(row, usage{input: int64(a.bytes)/4 + 1, fast: a.fast, usOnly: a.usOnly})
}

// modest is what a request costs whose output is not a long one. Until some request has ended, it says what one comes to.
func (t *priceTable) modest(row *price, a asked) nano {
	return t.cost(row, usage{input: int64(a.bytes)/4 + 1, output: min(a.maxTokens, modestTokens), fast: a.fast, usOnly: a.usOnly})
}

const modestTokens = 4096

// asked is the part of a request that says what it may cost.
type asked struct {
	model        string
	bytes        int
	maxTokens    int64
	searches     int64 // of the API's own tool, at most
	containers   int64 // for the API's own code execution
	stream       bool
	fast, usOnly bool
}

// What a request may take that sets no bound: the most output of any model on the list
// (https://platform.claude.com/docs/en/about-claude/models/overview), and searches more than anyone has seen.
const (
	maxTokensDefault = 128_000
	searchesDefault  = 20
)

// ask reads a request's body. What cannot be read is taken for the worst.
func ask(body []byte) asked {
	var r struct {
		Model     string          `json:"model"`
		MaxTokens count           `json:"max_tokens"`
		Stream    bool            `json:"stream"`
		Speed     string          `json:"speed"`
		Geo       string          `json:"inference_geo"`
		Container json.RawMessage `json:"container"`
		Tools     []struct {
			Type    string `json:"type"`
			MaxUses count  `json:"max_uses"`
		} `json:"tools"`
	}
	_ = json.Unmarshal(body, &r) // the API says what is wrong with it
	a := asked{
		model: r.Model, bytes: len(body), maxTokens: int64(r.MaxTokens), stream: r.Stream,
		fast: r.Speed == "fast", usOnly: r.Geo == "us",
	}
	if a.maxTokens == 0 {
		a.maxTokens = maxTokensDefault
	}
	if len(r.Container) > 0 && string(r.Container) != "null" {
		a.containers = 1
	}
	for _, tool := range r.Tools {
		if strings.HasPrefix(tool.Type, "code_execution") {
			a.containers = 1
		}
		if !strings.HasPrefix(tool.Type, "web_search") {
			continue
		}
		if tool.MaxUses == 0 {
			tool.MaxUses = searchesDefault
		}
		a.searches += int64(tool.MaxUses)
	}
	return a
}

// rows lists what the table has, for tests.
func (t *priceTable) rows() []price { return slices.Clone(t.Models) }
