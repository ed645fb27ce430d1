package server_test

import (
	"net/http"
	"strings"
	"testing"

	"berth/internal/api"
	"berth/internal/server"
)

// Nothing of this may reach the agent.
func TestHostileRequests(t *testing.T) {
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	nothing := func(*http.Request) {}
	prompt := func(rest string) string { return `{"prompt":"x",` + rest + `}` }
	agent := &fakeAgent{}
	h, logged := handler(agent)
	for name, test := range map[string]struct {
		method, path, body string
		change             func(*http.Request)
		status             int
		code               api.Code
		says               string
	}{
		"no token":           {"GET", "/v1/status", "", func(r *http.Request) { r.Header.Del("Authorization") }, 401, api.CodeUnauthorized, "has no API token: send the one in endpoint.json"},
		"wrong token":        {"GET", "/v1/status", "", header("Authorization", "Bearer wrong"), 401, api.CodeUnauthorized, "token is wrong"},
		"token's beginning":  {"GET", "/v1/status", "", header("Authorization", "Bearer "+token[:5]), 401, api.CodeUnauthorized, "token is wrong"},
		"basic":              {"GET", "/v1/status", "", header("Authorization", "Basic "+token), 401, api.CodeUnauthorized, ""},
		"unknown, no token":  {"GET", "/nowhere", "", header("Authorization", ""), 401, api.CodeUnauthorized, ""},
		"other host":         {"GET", "/healthz", "", host("evil.example"), 403, api.CodeForbidden, `"evil.example"`},
		"host like ours":     {"GET", "/v1/status", "", host("127.0.0.1.evil.example:8787"), 403, api.CodeForbidden, ""},
		"host localhost.":    {"GET", "/v1/status", "", host("localhost.evil.example"), 403, api.CodeForbidden, ""},
		"no host":            {"GET", "/v1/status", "", host(""), 403, api.CodeForbidden, ""},
		"origin of the web":  {"POST", "/v1/sessions", prompt(`"ref":""`), header("Origin", "https://evil.example"), 403, api.CodeForbidden, "evil.example"},
		"origin null":        {"GET", "/v1/status", "", header("Origin", "null"), 403, api.CodeForbidden, ""},
		"other port":         {"GET", "/v1/status", "", header("Origin", "http://127.0.0.1:3000"), 403, api.CodeForbidden, ""},
		"cross-site":         {"GET", "/v1/status", "", header("Sec-Fetch-Site", "cross-site"), 403, api.CodeForbidden, ""},
		"same-site":          {"GET", "/v1/status", "", header("Sec-Fetch-Site", "same-site"), 403, api.CodeForbidden, ""},
		"unknown path":       {"GET", "/v1/nothing", "", nothing, 404, api.CodeNotFound, `"/v1/nothing"`},
		"root":               {"GET", "/", "", nothing, 404, api.CodeNotFound, ""},
		"no docs":            {"GET", "/docs", "", nothing, 404, api.CodeNotFound, ""},
		"trailing slash":     {"GET", "/v1/status/", "", nothing, 404, api.CodeNotFound, ""},
		"double slash":       {"GET", "//v1//status", "", nothing, 404, api.CodeNotFound, ""},
		"wrong method":       {"DELETE", "/v1/sessions", "", nothing, 405, api.CodeBadRequest, "GET, HEAD, POST"},
		"id with ../":        {"GET", "/v1/sessions/../../etc/passwd", "", nothing, 404, api.CodeNotFound, ""},
		"id with %2e%2e%2f":  {"GET", "/v1/sessions/%2e%2e%2f%2e%2e%2fetc", "", nothing, 404, api.CodeNotFound, ""},
		"id with ..%2f":      {"GET", "/v1/sessions/..%2f..%2fetc/diff", "", nothing, 404, api.CodeNotFound, ""},
		"id with %252e":      {"GET", "/v1/sessions/%252e%252e%252f", "", nothing, 404, api.CodeNotFound, "UUID"},
		"id with backslash":  {"GET", `/v1/sessions/..%5c..%5cetc`, "", nothing, 404, api.CodeNotFound, "UUID"},
		"id with a NUL":      {"GET", "/v1/sessions/" + id + "%00", "", nothing, 404, api.CodeNotFound, "UUID"},
		"id ..":              {"GET", "/v1/sessions/%2e%2e", "", nothing, 404, api.CodeNotFound, ""},
		"no UUID":            {"GET", "/v1/sessions/1/diff", "", nothing, 404, api.CodeNotFound, `"1"`},
		"UUID in capitals":   {"GET", "/v1/sessions/" + strings.ToUpper(id), "", nothing, 404, api.CodeNotFound, "UUID"},
		"UUID in braces":     {"GET", "/v1/sessions/%7B" + id + "%7D/events", "", nothing, 404, api.CodeNotFound, "UUID"},
		"UUID as a URN":      {"POST", "/v1/sessions/urn:uuid:" + id + "/stop", "", nothing, 404, api.CodeNotFound, "UUID"},
		"not JSON":           {"POST", "/v1/sessions", `{"prompt":`, nothing, 400, api.CodeBadRequest, "not JSON"},
		"two values":         {"POST", "/v1/sessions", prompt(`"ref":""`) + "{}", nothing, 400, api.CodeBadRequest, "not JSON"},
		"a list":             {"POST", "/v1/sessions", `["x"]`, nothing, 422, api.CodeBadRequest, "expected object"},
		"nothing":            {"POST", "/v1/sessions", "", nothing, 400, api.CodeBadRequest, "body is required"},
		"unknown field":      {"POST", "/v1/sessions", prompt(`"colour":"red"`), nothing, 422, api.CodeBadRequest, "colour: unexpected property"},
		"wrong type":         {"POST", "/v1/sessions", `{"prompt":7}`, nothing, 422, api.CodeBadRequest, "prompt: expected string, not 7"},
		"null":               {"POST", "/v1/sessions", `{"prompt":null}`, nothing, 422, api.CodeBadRequest, "prompt"},
		"no prompt":          {"POST", "/v1/sessions", `{}`, nothing, 422, api.CodeBadRequest, "prompt"},
		"text":               {"POST", "/v1/sessions", prompt(`"ref":""`), header("Content-Type", "text/plain"), 415, api.CodeBadRequest, "application/json"},
		"strange type":       {"POST", "/v1/sessions", prompt(`"ref":""`), header("Content-Type", ";a+b"), 415, api.CodeBadRequest, ""},
		"not UTF-8":          {"POST", "/v1/sessions", "{\"prompt\":\"\xff\"}", nothing, 400, api.CodeBadRequest, "UTF-8"},
		"empty prompt":       {"POST", "/v1/sessions", `{"prompt":" \n\t "}`, nothing, 400, api.CodeBadRequest, "prompt is empty"},
		"empty message":      {"POST", "/v1/sessions/" + id + "/messages", `{"text":""}`, nothing, 400, api.CodeBadRequest, "message is empty"},
		"control characters": {"POST", "/v1/sessions", `{"prompt":"a\nb\u001bc"}`, nothing, 400, api.CodeBadRequest, "U+001B at byte 4, on line 2"},
		"large prompt":       {"POST", "/v1/sessions", `{"prompt":"` + strings.Repeat("x", api.MaxPrompt+1) + `"}`, nothing, 413, api.CodePromptTooLarge, "524289 bytes"},
		"large body":         {"POST", "/v1/sessions", `{"prompt":"` + strings.Repeat("x", 1<<20) + `"}`, nothing, 413, api.CodePromptTooLarge, "1048576"},
		"large body, hidden": {"POST", "/v1/sessions", `{"prompt":"` + strings.Repeat("x", 1<<20) + `"}`, func(r *http.Request) { r.ContentLength = -1 }, 413, api.CodePromptTooLarge, "1048576"},
		"negative turns":     {"POST", "/v1/sessions", prompt(`"max_turns":-1`), nothing, 422, api.CodeBadRequest, "max_turns: expected number >= 0, not -1"},
		"half a turn":        {"POST", "/v1/sessions", prompt(`"max_turns":1.5`), nothing, 422, api.CodeBadRequest, "max_turns"},
		"negative budget":    {"POST", "/v1/sessions", prompt(`"max_budget_usd":-0.1`), nothing, 422, api.CodeBadRequest, "max_budget_usd"},
		"NaN":                {"POST", "/v1/sessions", prompt(`"max_budget_usd":NaN`), nothing, 400, api.CodeBadRequest, "not JSON"},
		"infinite":           {"POST", "/v1/sessions", prompt(`"timeout_seconds":1e999`), nothing, 400, api.CodeBadRequest, ""},
		"too long":           {"POST", "/v1/sessions", prompt(`"timeout_seconds":1e300`), nothing, 400, api.CodeBadRequest, "timeout_seconds"},
		"model as a flag":    {"POST", "/v1/sessions", prompt(`"model":"--dangerously"`), nothing, 400, api.CodeBadRequest, "model"},
		"mode":               {"POST", "/v1/sessions", prompt(`"permission_mode":"root"`), nothing, 422, api.CodeBadRequest, "permission_mode"},
		"ref as a flag":      {"POST", "/v1/sessions", prompt(`"ref":"--upload-pack=x"`), nothing, 400, api.CodeBadRequest, "begins with '-'"},
		"ref with ..":        {"POST", "/v1/sessions", prompt(`"ref":"a..b"`), nothing, 400, api.CodeBadRequest, "'..'"},
		"resume as a flag":   {"POST", "/v1/sessions/" + id + "/resume", `{"model":"-p"}`, nothing, 400, api.CodeBadRequest, "model"},
		"no state":           {"GET", "/v1/sessions?state=done", "", nothing, 400, api.CodeBadRequest, `"done"`},
		"unknown question":   {"GET", "/v1/sessions?status=queued", "", nothing, 400, api.CodeBadRequest, "status"},
		"no index":           {"GET", "/v1/sessions/" + id + "/events?from=x", "", nothing, 400, api.CodeBadRequest, "from"},
		"negative index":     {"GET", "/v1/sessions/" + id + "/events?from=-1", "", nothing, 400, api.CodeBadRequest, "from"},
		"no event":           {"GET", "/v1/sessions/" + id + "/events", "", header("Last-Event-ID", "zero"), 400, api.CodeBadRequest, `"zero"`},
		"format":             {"GET", "/v1/sessions/" + id + "/diff?format=html", "", nothing, 400, api.CodeBadRequest, "format"},
		"after no session":   {"GET", "/v1/sessions?after=zzz", "", nothing, 400, api.CodeBadRequest, `"zzz"`},
		"half an escape":     {"GET", "/v1/sessions?repo=%zz", "", nothing, 400, api.CodeBadRequest, "cannot be read"},
		"semicolons":         {"GET", "/v1/sessions?limit=1;order=newest", "", nothing, 400, api.CodeBadRequest, "cannot be read"},
		"twice":              {"GET", "/v1/sessions?limit=1&limit=2", "", nothing, 400, api.CodeBadRequest, `"limit" 2 times`},
		"strange at status":  {"GET", "/v1/status?x=1", "", nothing, 400, api.CodeBadRequest, "x"},
		"far from":           {"GET", "/v1/sessions/" + id + "/events?from=9223372036854775807", "", nothing, 400, api.CodeBadRequest, "from"},
		"last of all":        {"GET", "/v1/sessions/" + id + "/events", "", header("Last-Event-ID", "9223372036854775807"), 400, api.CodeBadRequest, "9223372036854775807"},
		"last with a sign":   {"GET", "/v1/sessions/" + id + "/events", "", header("Last-Event-ID", "+1"), 400, api.CodeBadRequest, `"+1"`},
		"a key twice":        {"POST", "/v1/sessions", prompt(`"prompt":"y"`), nothing, 400, api.CodeBadRequest, `"prompt" twice`},
		"twice further in":   {"POST", "/v1/sessions", prompt(`"settings":{"a":[{"b":1,"c":{},"b":2}]}`), nothing, 400, api.CodeBadRequest, `"b" twice`},
		"half a character":   {"POST", "/v1/sessions", `{"prompt":"a\ud800b"}`, nothing, 400, api.CodeBadRequest, `\ud800 is half a character`},
		"the other half":     {"POST", "/v1/sessions", `{"prompt":"a\\\udc00"}`, nothing, 400, api.CodeBadRequest, `\udc00 is half a character`},
		"no time":            {"POST", "/v1/sessions", prompt(`"timeout_seconds":1e-7`), nothing, 400, api.CodeBadRequest, "timeout_seconds"},
		"no money":           {"POST", "/v1/sessions", prompt(`"max_budget_usd":4e-10`), nothing, 400, api.CodeBadRequest, "max_budget_usd"},
	} {
		t.Run(name, func(t *testing.T) {
			agent.calls = nil
			logged.Reset()
			r := request(test.method, test.path, test.body)
			test.change(r)
			w := answer(h, r)
			got := refusal(t, w)
			if w.Code != test.status || got.Code != test.code || !strings.Contains(got.Message, test.says) {
				t.Errorf("status %d, %+v; want %d, %s, %q", w.Code, got, test.status, test.code, test.says)
			}
			if len(got.Message) > 300 || strings.Contains(got.Message, token) {
				t.Errorf("the message is %q", got.Message)
			}
			if len(agent.calls) > 0 {
				t.Errorf("the agent was asked: %q", agent.calls)
			}
			if logged.Len() > 0 {
				t.Errorf("the log says %s", logged)
			}
		})
	}
}

func TestWithoutATokenNobodyIsAnswered(t *testing.T) {
	h := server.New(&fakeAgent{}, metrics, "", nil)
	for _, authorization := range []string{"", "Bearer", "Bearer "} {
		r := request("GET", "/v1/status", "")
		r.Header.Set("Authorization", authorization)
		if w := answer(h, r); w.Code != 401 {
			t.Errorf("%q: status %d", authorization, w.Code)
		}
	}
}

func TestOwnHostsAreAnswered(t *testing.T) {
	h, _ := handler(&fakeAgent{})
	for _, host := range []string{"127.0.0.1:8787", "127.0.0.1", "127.8.9.10:1", "localhost:8787", "LOCALHOST", "[::1]:8787", "[::1]"} {
		r := request("GET", "/v1/status", "")
		r.Host = host
		r.Header.Set("Origin", "http://"+host)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		if w := answer(h, r); w.Code != 200 {
			t.Errorf("%s: status %d, %s", host, w.Code, w.Body)
		}
	}
}
