package redact_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/internal/redact"
)

const (
	key   = "sk-ant-api03-Zq/8+xY?&=" // with all that encodings change
	token = "ghp_0123456789abcdefABCDEF"
)

// spellings are the ways in which a secret comes along within other text.
func spellings(secret string) map[string]string {
	found := map[string]string{
		"plain": secret, "in a word": "x" + secret + "y", "twice": secret + secret, "query": url.QueryEscape(secret), "path": url.PathEscape(secret),
		"lower query": strings.ToLower(url.QueryEscape("?&=/+")) + secret, "URL": "https://user:" + url.QueryEscape(secret) + "@localhost/",
		"hex": hex.EncodeToString([]byte("a" + secret)), "HEX": fmt.Sprintf("%X", secret), "quoted": fmt.Sprintf("%q", secret),
	}
	for before := range 4 {
		for after := range 4 {
			text := []byte("abcd"[:before] + secret + "efgh"[:after])
			for name, encoding := range map[string]*base64.Encoding{"standard": base64.StdEncoding, "raw": base64.RawStdEncoding, "URL": base64.URLEncoding} {
				found[fmt.Sprintf("base64 %s %d %d", name, before, after)] = encoding.EncodeToString(text)
			}
		}
	}
	return found
}

// leaked says how a secret is in a text, if it is. It looks for it in other ways than the code does.
func leaked(text, secret string) string {
	if strings.Contains(text, secret) {
		return "plain"
	}
	if unescaped, err := url.QueryUnescape(text); err == nil && strings.Contains(unescaped, secret) {
		return "for a URL"
	}
	if unescaped, err := url.PathUnescape(text); err == nil && strings.Contains(unescaped, secret) {
		return "for a path"
	}
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_", r)
	})
	for _, word := range words {
		for skip := range min(4, len(word)) {
			standard := strings.NewReplacer("-", "+", "_", "/").Replace(word[skip:])
			for cut := range min(4, len(standard)) {
				if decoded, err := base64.RawStdEncoding.DecodeString(standard[:len(standard)-cut]); err == nil && bytes.Contains(decoded, []byte(secret)) {
					return "base64"
				}
				if decoded, err := hex.DecodeString(standard[:len(standard)-cut]); err == nil && bytes.Contains(decoded, []byte(secret)) {
					return "hex"
				}
			}
		}
	}
	return ""
}

func TestText(t *testing.T) {
	secrets := []string{key, token, "short", ""}
	for _, secret := range []string{key, token} {
		for name, spelling := range spellings(secret) {
			got := redact.Text("before "+spelling+" after", secrets)
			if how := leaked(got, secret); how != "" || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") || !strings.Contains(got, redact.Mark) {
				t.Errorf("%s: %q became %q: leaked %s", name, spelling, got, how)
			}
		}
	}
	for text, want := range map[string]string{
		"":                                "",
		"nothing, and short":              "nothing, and short",
		"a " + key + ", b " + token + ".": "a [redacted], b [redacted].",
		token[:len(token)-1]:              token[:len(token)-1],
	} {
		if got := redact.Text(text, secrets); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	for _, test := range []struct {
		text, want string
		secrets    []string
	}{
		{"abcdefghijkl", "[redacted]", []string{"abcdefgh", "efghijkl"}},
		{"-abcdefghijklmn-", "-[redacted]-", []string{"abcdefgh", "abcdefghijklmn"}},
		{"was redacted", "was redacted", []string{"redacted"}},
		{"x12345678", "[redacted]", []string{"12345678", "x[redact"}},
	} {
		if got := redact.Text(test.text, test.secrets); got != test.want {
			t.Errorf("%q without %q became %q, want %q", test.text, test.secrets, got, test.want)
		}
	}
}

type stringer struct{ text string }

func (s stringer) String() string { return s.text }

type marshaler struct{ text string }

func (m marshaler) MarshalText() ([]byte, error) { return []byte(m.text), nil }

type jsonMarshaler struct{ text string }

func (m jsonMarshaler) MarshalJSON() ([]byte, error) { return json.Marshal(m.text) }

type valuer struct{ value any }

func (v valuer) LogValue() slog.Value { return slog.AnyValue(v.value) }

type broken struct{ text string }

func (b *broken) Error() string { return b.text } // of nil, it panics

type nested struct {
	Name  string
	Inner *nested
	List  []any
	Map   map[string]string
}

// values hold a text in every way.
func values(text string) map[string]any {
	return map[string]any{
		"string": text, "error": errors.New(text), "wrapped": fmt.Errorf("reading: %w", fmt.Errorf("deep: %w", errors.New(text))), "joined": errors.Join(io.EOF, errors.New(text)),
		"Stringer": stringer{text}, "pointer": &stringer{text}, "text": marshaler{text}, "JSON": jsonMarshaler{text}, "bytes": []byte(text), "raw": json.RawMessage(`"` + text + `"`),
		"LogValuer": valuer{text}, "deep LogValuer": valuer{valuer{errors.New(text)}}, "group": slog.GroupValue(slog.String("a", "b"), slog.Group("c", slog.Any("d", errors.New(text)))),
		"struct": nested{Name: text}, "deep": nested{Inner: &nested{List: []any{1, map[string]any{"x": []string{text}}}}}, "key": map[string]int{text: 1},
		"map": nested{Map: map[string]string{"a": text}}, "nil": (*broken)(nil), "typed": &broken{text}, "URL": &url.URL{Host: "localhost", RawQuery: text},
		"attrs": []slog.Attr{slog.String("a", text)}, "function": func() {},
	}
}

// handlers are those of the standard library.
var handlers = map[string]func(io.Writer) slog.Handler{
	"JSON": func(w io.Writer) slog.Handler {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{AddSource: true, Level: slog.LevelDebug})
	},
	"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
}

func TestNoSecretGetsIntoTheLog(t *testing.T) {
	for name, handler := range handlers {
		var output bytes.Buffer
		secrets := func() []string { return []string{key, token} }
		check := func(what, secret string) {
			t.Helper()
			if how := leaked(output.String(), secret); how != "" || !strings.Contains(output.String(), "redacted") {
				t.Errorf("%s: %s leaked %s: %s", name, what, how, &output)
			}
			output.Reset()
		}
		for _, secret := range []string{key, token} {
			for spelled, text := range spellings(secret) {
				logger := slog.New(redact.Handler(handler(&output), secrets))
				logger.Info("a message with " + text)
				check("message, "+spelled, secret)
				logger.Info("m", text, 1)
				check("name, "+spelled, secret)
				logger.With("a", text).WithGroup("g").With(text, "b").Info("m", "c", text)
				check("with, "+spelled, secret)
				logger.WithGroup(text).Info("m", "a", 1)
				check("group, "+spelled, secret)
				for kind, value := range values(text) {
					if kind == "nil" || kind == "function" {
						continue
					}
					if spelled == "quoted" && (kind == "raw" || kind == "URL") {
						continue // which quotation marks there are not good in
					}
					logger.Info("m", "a", value)
					check(kind+", "+spelled, secret)
				}
			}
		}
	}
}

func TestWhatHasNoSecretStaysAsItIs(t *testing.T) {
	for name := range handlers {
		var plain, redacted bytes.Buffer
		drop := func(_ []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		}
		options := &slog.HandlerOptions{ReplaceAttr: drop}
		one, two := slog.Handler(slog.NewJSONHandler(&plain, options)), slog.Handler(slog.NewJSONHandler(&redacted, options))
		if name == "text" {
			one, two = slog.NewTextHandler(&plain, options), slog.NewTextHandler(&redacted, options)
		}
		for _, logger := range []*slog.Logger{slog.New(one), slog.New(redact.Handler(two, func() []string { return []string{key, "1234567890"} }))} {
			logger = logger.With("a", 1, "b", io.EOF).WithGroup("").WithGroup("g").With()
			for _, value := range []any{
				"text", 12, 12.5, true, time.Second, time.Unix(0, 0).UTC(), uint(7), nil, io.EOF,
				nested{Name: "n"},
				[]byte("b"),
				slog.GroupValue(slog.Int("c", 1)),
				valuer{3},
				valuer{io.EOF},
				(*broken)(nil),
			} {
				logger.Info("m", "v", value)
			}
			logger.Debug("not said")
		}
		if plain.String() != redacted.String() {
			t.Errorf("%s: with\n%swithout\n%s", name, &redacted, &plain)
		}
	}
}

func TestSecretsOfDigits(t *testing.T) {
	for name, handler := range handlers {
		for value, secret := range map[any]string{
			1234567890123: "1234567890123", uint64(98765432109): "98765432", 12345678.25: "12345678.25",
			time.Duration(1234567890123): "1234567890123", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC): "2026-01-02T03:04:05Z",
		} {
			var output bytes.Buffer
			slog.New(redact.Handler(handler(&output), func() []string { return []string{secret} })).Info("m", "a", value)
			if strings.Contains(output.String(), secret) && !strings.Contains(output.String(), "redacted") {
				t.Errorf("%s: %s", name, &output)
			}
		}
	}
}

// A secret is known later than an attribute that has it, and changes.
func TestSecretsThatChange(t *testing.T) {
	var output bytes.Buffer
	var secrets []string
	logger := slog.New(redact.Handler(slog.NewTextHandler(&output, nil), func() []string { return secrets })).With("a", key)
	for range 2 {
		for _, known := range [][]string{{key}, {token}, {key, token}} {
			secrets = known
			output.Reset()
			logger.Info("m", "b", token)
			for _, secret := range []string{key, token} {
				if redacted := leaked(output.String(), secret) == ""; redacted != strings.Contains(strings.Join(known, " "), secret) {
					t.Errorf("with %q: %s", known, &output)
				}
			}
		}
	}
}

// What a caller passes in is left as it is.
func TestAttributesAreNotChanged(t *testing.T) {
	attrs := []slog.Attr{slog.String("a", key), slog.Group("g", slog.String("b", key))}
	logger := slog.New(redact.Handler(slog.DiscardHandler, func() []string { return []string{key} }))
	logger.LogAttrs(context.Background(), slog.LevelInfo, "m", attrs...)
	redact.Handler(slog.NewTextHandler(io.Discard, nil), func() []string { return []string{key} }).WithAttrs(attrs)
	if attrs[0].Value.String() != key || attrs[1].Value.Group()[0].Value.String() != key {
		t.Errorf("attributes became %v", attrs)
	}
}

func FuzzText(f *testing.F) {
	f.Add("", "12345678", "")
	f.Add("Authorization: Bearer ", key, "\n")
	f.Add("https://x:", token, "@localhost")
	f.Add("[redac", "ted]ted]", "ted]")
	f.Add("aaaaaaa", "aaaaaaaa", "aaaaaaa")
	f.Add("%2", "F%2F%2F%2F", "%")
	f.Add("\xff", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", "\xff")
	f.Add("\"", "quo\"te\\d\n<&>", "\"")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		if ignored := redact.Mark; len(secret) < 8 || strings.Contains(ignored, secret) {
			if got := redact.Text(before+secret+after, []string{secret}); got != before+secret+after {
				t.Errorf("became %q", got)
			}
			return
		}
		text := before + secret + after
		for _, spelled := range []string{text, url.QueryEscape(text), base64.StdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)), hex.EncodeToString([]byte(text))} {
			got := redact.Text(spelled, []string{secret})
			if strings.Contains(got, secret) || got == spelled {
				t.Errorf("%q became %q", spelled, got)
			}
		}
	})
}

func BenchmarkNothingFound(b *testing.B) {
	secrets := []string{key, token, strings.Repeat("s3cret-", 8), "another one of them", "and a fifth"}
	for name, handler := range map[string]slog.Handler{
		"bare":     slog.NewJSONHandler(io.Discard, nil),
		"redacted": redact.Handler(slog.NewJSONHandler(io.Discard, nil), func() []string { return secrets }),
	} {
		logger := slog.New(handler).With("session", "0190d7a4-7a3f-7c3e-8c8e-3d4f5a6b7c8d")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				logger.Info("session ended", "state", "succeeded", "cost_usd", 0.25, "duration_seconds", 93.5, "repo", "https://git.example.com/team/project.git")
			}
		})
	}
}
