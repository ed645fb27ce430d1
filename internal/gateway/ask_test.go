package gateway

import "testing"

// Whatever a session sends, what it may cost is reckoned, and in order.
func FuzzAsk(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"model":"claude-haiku-4-5","max_tokens":32000,"stream":true}`, `{"max_tokens":-1}`, `{"max_tokens":1e300}`, `{"max_tokens":"x"}`,
		`{"model":7,"speed":"fast","inference_geo":"us","tools":[{"type":"web_search_20250305","max_uses":1e18},{"type":"code_execution_20250825"}]}`,
		`{"tools":{"type":"web_search"},"container":{"id":1}}`, `{"container":null,"model":"\ud800"}`, `{"model":"claude-opus-4-1@20250805","tools":[null]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a := ask(body)
		row, _ := prices.find(a.model)
		estimate, modest, worst := prices.estimate(row, a), prices.modest(row, a), prices.worst(row, a)
		if estimate <= 0 || modest < estimate || worst < modest || worst > most {
			t.Fatalf("%d, %d, %d for %.200q", estimate, modest, worst, body)
		}
		if a.maxTokens <= 0 || a.searches < 0 || a.containers < 0 || a.containers > 1 {
			t.Fatalf("%+v for %.200q", a, body)
		}
	})
}
