package gateway

import (
	"strings"
	"testing"
	"time"
)

// Every row is complete, comes from somewhere, and keeps to what the price list says of multiples.
func TestEveryRowOfThePriceTable(t *testing.T) {
	if len(prices.rows()) < 20 {
		t.Fatalf("only %d rows", len(prices.rows()))
	}
	for _, row := range prices.rows() {
		t.Logf("%-18s in %5.2f, written %6.3f and %5.2f, read %5.3f, out %5.2f; fast ×%g; %s %s",
			row.Model, row.Input, row.CacheWrite5m, row.CacheWrite1h, row.CacheRead, row.Output, row.Fast, row.Dated, row.Source)
		bands := []rates{row.rates}
		if row.Above != nil {
			bands = append(bands, row.Above.rates)
			if row.Above.Tokens < 100_000 || row.Above.Input <= row.Input {
				t.Errorf("%s: above %+v", row.Model, row.Above)
			}
		}
		for _, at := range bands {
			// Claude 3 Haiku's are rounded.
			rounded := row.Model == "claude-3-haiku"
			if !rounded && (!near(at.CacheWrite5m, 1.25*at.Input) || !near(at.CacheWrite1h, 2*at.Input)) || at.CacheRead <= 0 ||
				at.CacheRead > 0.1001*at.Input && !rounded || !near(at.Output, 5*at.Input) && row.Above == nil {
				t.Errorf("%s: %+v", row.Model, at)
			}
			for _, each := range []float64{at.Input, at.CacheWrite5m, at.CacheWrite1h, at.CacheRead, at.Output} {
				if whole := each * 1000; !near(whole, float64(int64(whole+0.5))) {
					t.Errorf("%s: %g $/MTok is no whole number of billionths for a token", row.Model, each)
				}
			}
		}
		if _, err := time.Parse(time.DateOnly, row.Dated); err != nil || !strings.HasPrefix(row.Source, "https://") {
			t.Errorf("%s: from %q, %q", row.Model, row.Source, row.Dated)
		}
		if found, known := prices.find(row.Model); !known || found.Model != row.Model {
			t.Errorf("%s is found as %s", row.Model, found.Model)
		}
	}
	if _, err := time.Parse(time.DateOnly, prices.Dated); err != nil {
		t.Error(err)
	}
}

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }

func TestModelsAreFoundByAnyOfTheirNames(t *testing.T) {
	for name, want := range map[string]string{
		"claude-sonnet-4-5-20250929":                      "claude-sonnet-4-5",
		"claude-sonnet-4-5":                               "claude-sonnet-4-5",
		"Claude-Opus-4-1-20250805":                        "claude-opus-4-1",
		"claude-opus-4-20250514":                          "claude-opus-4",
		"claude-opus-4-0":                                 "claude-opus-4",
		"claude-haiku-4-5-20251001":                       "claude-haiku-4-5",
		"claude-opus-4-6[1m]":                             "claude-opus-4-6",
		"claude-opus-4-1@20250805":                        "claude-opus-4-1",
		"us.anthropic.claude-haiku-4-5-20251001-v1:0":     "claude-haiku-4-5",
		"anthropic.claude-3-5-sonnet-20241022-v2:0":       "claude-3-5-sonnet",
		"claude-3-5-haiku-latest":                         "claude-3-5-haiku",
		"anthropic/claude-sonnet-5-5":                     "claude-sonnet-5-5",
		"global.anthropic.claude-opus-5-5":                "claude-opus-5-5",
		"arn:aws:bedrock:x:1:p/anthropic.claude-opus-4-8": "claude-opus-4-8",
	} {
		if row, known := prices.find(name); !known || row.Model != want {
			t.Errorf("%s is %s, %t; want %s", name, row.Model, known, want)
		}
	}
	for _, name := range []string{"", "gpt-5", "claude-opus-4-9", "claude-", "claude-sonnet-4-5-turbo", strings.Repeat("claude-", 1000)} {
		if row, known := prices.find(name); known || row.Output != 75 {
			t.Errorf("%.40q is %s, %t: unknown models cost what the dearest does", name, row.Model, known)
		}
	}
}

func TestCosts(t *testing.T) {
	const million = 1_000_000
	for _, test := range []struct {
		model string
		usage usage
		want  nano
	}{
		{"claude-sonnet-4-6", usage{input: million}, 3 * dollar},
		{"claude-sonnet-4-6", usage{cacheRead: million}, 3 * dollar / 10},
		{"claude-sonnet-4-6", usage{cacheWrite5m: million}, 375 * dollar / 100},
		{"claude-sonnet-4-6", usage{cacheWrite1h: million}, 6 * dollar},
		{"claude-sonnet-4-6", usage{output: million}, 15 * dollar},
		{"claude-sonnet-4-6", usage{input: 1}, 3000},
		{"claude-opus-5-5", usage{input: 3, cacheRead: 7, output: 11}, 12_000 + 1_400 + 220_000},
		{"claude-opus-5-5", usage{input: 10, fast: true}, 80_000},
		{"claude-haiku-4-5", usage{input: 10, fast: true}, 60_000}, // it is not offered: the most that it ever was
		{"claude-opus-5-5", usage{input: 10, usOnly: true}, 44_000},
		{"claude-sonnet-4-5", usage{input: 200_000}, 600_000_000},
		{"claude-sonnet-4-5", usage{input: 1, cacheRead: 200_000, output: 10}, 6_000 + 120_000_000 + 225_000},
		{"claude-sonnet-4-6", usage{input: 1, cacheRead: 200_000, output: 10}, 3_000 + 60_000_000 + 150_000},
		{"claude-haiku-5-5", usage{input: 100_001}, 50_000_500},
		{"claude-sonnet-4-6", usage{searches: 3}, 30_000_000},
		{"claude-sonnet-4-6", usage{}, 0},
		{"nobody-knows", usage{output: 2}, 150_000},
		{"claude-opus-4", usage{input: maxCount, output: maxCount, cacheRead: maxCount, cacheWrite1h: maxCount, searches: maxCount, fast: true}, most},
	} {
		row, _ := prices.find(test.model)
		if got := prices.cost(row, test.usage); got != test.want {
			t.Errorf("%s %+v costs %d, want %d", test.model, test.usage, got, test.want)
		}
	}
}

func TestWhatARequestMayCost(t *testing.T) {
	body := `{"model":"claude-opus-5-5","max_tokens":1000,"stream":true,"tools":[{"type":"web_search_20250305","max_uses":8},{"name":"Bash"}]}`
	a := ask([]byte(body))
	if a.model != "claude-opus-5-5" || a.maxTokens != 1000 || !a.stream || a.searches != 8 || a.bytes != len(body) {
		t.Errorf("%+v", a)
	}
	row, _ := prices.find(a.model)
	if got, want := prices.worst(row, a), nano(len(body)/2+1)*8000+1000*20_000+80_000_000; got != want {
		t.Errorf("at most %d, want %d", got, want)
	}
	for _, odd := range []string{"", "x", "[]", `{"max_tokens":"many","tools":5}`, `{"max_tokens":-1,"model":3,"tools":[{"type":"web_search_1","max_uses":null}]}`} {
		if a := ask([]byte(odd)); a.maxTokens != maxTokensDefault || a.model != "" {
			t.Errorf("%q: %+v", odd, a)
		}
	}
}

func TestMoney(t *testing.T) {
	for usd, want := range map[float64]string{0: "$0.00", 5: "$5.00", 12.345: "$12.35", 0.5: "$0.5", 0.01234: "$0.0123"} {
		if got := money(usd); got != want {
			t.Errorf("%g is %s, want %s", usd, got, want)
		}
	}
	for usd, want := range map[float64]nano{0: 0, -1: 0, 1.5: 1_500_000_000, 1e300: most} {
		if got := fromUSD(usd); got != want {
			t.Errorf("%g is %d, want %d", usd, got, want)
		}
	}
}
