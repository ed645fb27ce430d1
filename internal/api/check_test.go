package api_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"berth/internal/api"
)

func TestCheckPrompt(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		code api.Code
		says string
	}{
		"words":           {"write a program", "", ""},
		"lines and tabs":  {"a\r\n\tb\n", "", ""},
		"every script":    {"schön 漢字 🚢 \ufffd \u2028", "", ""},
		"longest":         {strings.Repeat("x", api.MaxPrompt), "", ""},
		"too long":        {strings.Repeat("x", api.MaxPrompt+1), api.CodePromptTooLarge, "524289 bytes, and at most 524288"},
		"empty":           {"", api.CodeBadRequest, "is empty"},
		"blank":           {" \n\t\u00a0", api.CodeBadRequest, "is empty"},
		"escape":          {"line\nwith \x1b[31m", api.CodeBadRequest, "U+001B at byte 11, on line 2"},
		"NUL":             {"\x00x", api.CodeBadRequest, "U+0000 at byte 1, on line 1"},
		"delete":          {"x\x7f", api.CodeBadRequest, "U+007F"},
		"C1":              {"x\u009b", api.CodeBadRequest, "U+009B"},
		"not UTF-8":       {"ab\xff", api.CodeBadRequest, "byte 3, on line 1, is 0xff"},
		"cut off":         {"ab\xe6\xbc", api.CodeBadRequest, "byte 3"},
		"U+FFFD and then": {"\ufffd\xff", api.CodeBadRequest, "byte 4"},
	} {
		checkCode(t, name, api.CheckPrompt(test.text), test.code, "the prompt", test.says)
		checkCode(t, name, api.CheckMessage(test.text), test.code, "the message", test.says)
	}
}

func TestCheckRef(t *testing.T) {
	for _, ref := range []string{"", "main", "feature/x-1", "v1.2.3", "0123456789abcdef0123456789abcdef01234567", "ünïcode", "a@b", strings.Repeat("x", api.MaxRef)} {
		checkCode(t, ref, api.CheckRef(ref), "")
	}
	for _, ref := range []string{"-b", "--upload-pack=x", "a..b", "a b", "a\tb", "a\nb", "a\x00", "a~1", "a^", "a:b", "a?", "a*", "a[", `a\b`, "a@{1}", "\xff", strings.Repeat("x", api.MaxRef+1)} {
		checkCode(t, ref, api.CheckRef(ref), api.CodeBadRequest, "ref")
	}
}

func TestCheckOptions(t *testing.T) {
	for _, options := range []api.Options{
		{},
		{Model: "claude-opus-4-1"},
		{Model: "opus[1m]", PermissionMode: "plan", MaxTurns: 1, MaxBudgetUSD: 0.01, TimeoutSeconds: 0.5},
		{Model: "arn:aws:bedrock:us-east-1::inference-profile/x@1"},
	} {
		checkCode(t, options.Model, options.Check(), "")
	}
	for says, options := range map[string]api.Options{
		"the model \"-p\"":               {Model: "-p"},
		"the model":                      {Model: strings.Repeat("x", 201)},
		"model \"a b\"":                  {Model: "a b"},
		"model \"a\\n\"":                 {Model: "a\n"},
		"permission mode \"yolo\"":       {PermissionMode: "yolo"},
		"max_turns is -1":                {MaxTurns: -1},
		"max_turns is 100001":            {MaxTurns: 100001},
		"max_budget_usd is NaN":          {MaxBudgetUSD: math.NaN()},
		"max_budget_usd is -0.5":         {MaxBudgetUSD: -0.5},
		"timeout_seconds is 1e-07: it ":  {TimeoutSeconds: 1e-7},
		"max_budget_usd is 4e-10: it ":   {MaxBudgetUSD: 4e-10},
		"timeout_seconds is +Inf":        {TimeoutSeconds: math.Inf(1)},
		"timeout_seconds is 1e+300: it ": {TimeoutSeconds: 1e300},
	} {
		checkCode(t, says, options.Check(), api.CodeBadRequest, says)
	}
}

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:1": true, "127.255.1.2:80": true, "localhost": true, "LocalHost:8787": true, "[::1]": true, "[::1]:8": true, "::1": true,
		"": false, "10.0.0.1": false, "0.0.0.0:80": false, "example.com": false, "localhost.example.com": false, "127.0.0.1.example.com:80": false,
		"[::1%25lo]:80": false, "127.1": false, "0x7f000001": false, "2130706433": false, "localhost:80:90": false, "[::2]:80": false, "user@localhost": false,
	} {
		if got := api.LoopbackHost(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}

// checkCode checks an error's code (none if empty) and that its message, on one line, has some words.
func checkCode(t *testing.T, name string, err error, code api.Code, says ...string) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	coded := new(api.Error)
	if !errors.As(err, &coded) || coded.Code != code {
		t.Errorf("%s: %v, want code %s", name, err, code)
		return
	}
	for _, words := range says {
		if !strings.Contains(coded.Message, words) || strings.Contains(coded.Message, "\n") {
			t.Errorf("%s: %q does not say %q on one line", name, coded.Message, words)
		}
	}
}

func TestCheckTask(t *testing.T) {
	checkCode(t, "right", api.NewSession{Prompt: "x", Ref: "main", Options: api.Options{MaxTurns: 1}}.Check(), "")
	checkCode(t, "prompt", api.NewSession{}.Check(), api.CodeBadRequest, "prompt")
	checkCode(t, "ref", api.NewSession{Prompt: "x", Ref: "-x"}.Check(), api.CodeBadRequest, "ref")
	checkCode(t, "options", api.NewSession{Prompt: "x", Options: api.Options{MaxTurns: -1}}.Check(), api.CodeBadRequest, "max_turns")
}
