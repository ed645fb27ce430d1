package ops

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext\n":                      "plain\ttext\n",
		"Grüße, 漢字, 👩‍👧":                     "Grüße, 漢字, 👩‍👧",
		"\x1b[1;31mred\x1b[m":                "red",
		"\x1b]0;title\x07a\x1b]0;b\x1b\\c":   "ac",
		"\x1bP1;2|device\x1b\\a\x1b_app\x9c": "aapp\uFFFD", // a lone byte is not a character of C1, but wrong UTF-8
		"\u009b2Jc\u009d0;t\u009cd":          "cd",
		"\x1bc\x1b(B\x1b7a":                  "a",
		"\x1b]0;never ended\nnext":           "0;never ended\nnext",
		"\x1b\x1b[31m[31m":                   "[31m",
		"over\rwritten":                      "over\nwritten",
		"dos\r\nlines\r\n":                   "dos\nlines\n",
		"\x00\x07\x08\x7f":                   "",
		"a\u202eb\u2066c\u200fd\ufeffe":      "abcde",
		"wrong \xff\xfe bytes":               "wrong \uFFFD bytes",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestPrintableIsHarmlessWhateverItGets(t *testing.T) {
	pieces := rapid.SampledFrom([]string{"\x1b", "[", "]", "0;", "31m", "\x07", "\\", "\u009b", "\u009d", "\x9b", "P", "(", "B", "a", "\n", "\r", "é", "\u202e"})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(pieces).Draw(t, "pieces"), "")
		got := printable(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool {
			return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r <= 0x9f || r == 0x202e
		}) {
			t.Errorf("%q becomes %q", text, got)
		}
		if again := printable(got); again != got {
			t.Errorf("%q becomes %q, and then %q", text, got, again)
		}
	})
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"short", 5, "short"},
		{"longer", 5, "long…"},
		{"漢字漢字", 8, "漢字漢字"},
		{"漢字漢字", 7, "漢字漢…"},
		{"漢字漢字", 6, "漢字…"},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"", 3, ""},
		{"ab", 1, "…"},
		{"ab", 0, ""},
		{"", -1, ""},
	} {
		if got := cut(test.text, test.width); got != test.want {
			t.Errorf("%q at %d: got %q, want %q", test.text, test.width, got, test.want)
		}
	}
	if got := oneLine("  a\n\tb \x1b[31m c", 80); got != "a b c" {
		t.Errorf("got %q", got)
	}
	if got := oneLine(strings.Repeat("é", 1<<20), 10); got != "ééééééééé…" {
		t.Errorf("got %q", got)
	}
}

func TestFigures(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0 s", 59.4: "59 s", 59.6: "1 min 0 s", 3599: "59 min 59 s", 3600: "1 h 0 min", 90000: "1 d 1 h"} {
		if got := duration(seconds); got != want {
			t.Errorf("%v: got %q, want %q", seconds, got, want)
		}
	}
	for dollars, want := range map[float64]string{0: "$0.00", 0.00001: "<$0.0001", 0.0042: "$0.0042", 0.01: "$0.01", 12.345: "$12.35"} {
		if got := money(dollars); got != want {
			t.Errorf("%v: got %q, want %q", dollars, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1.0k", 999_949: "999.9k", 999_950: "1.0M"} {
		if got := count(n); got != want {
			t.Errorf("%v: got %q, want %q", n, got, want)
		}
	}
	now := time.Now()
	if got := age(now.Add(time.Minute), now); got != "0 s" {
		t.Errorf("of the future: got %q", got)
	}
	if got := shortID("01a20627-df5e-7b97-99ab-b87a348bed5b"); got != "b87a348bed5b" {
		t.Errorf("got %q", got)
	}
}

func TestLinesAreHarmless(t *testing.T) {
	if got := Lines(errors.New("no file \x1b]0;owned\x07\x1b[2Jthere")); len(got) != 1 || got[0] != "no file there" {
		t.Errorf("got %q", got)
	}
}

func TestUnlike(t *testing.T) {
	for _, line := range []string{
		"✓ succeeded · 2 turns", "✗ failed", "■ cancelled", "… queued", "· failed: it", "berth: session x failed", "BERTH: so",
		"● Bash  ls", "○ Read", "> yes, delete it", "│ more", "⠋ 3 s · Bash", "  next   rm -rf /", "files  /w", "  why    x: y",
		" \t✓ succeeded", "\u00a0\u2003· failed", "\u200d✓ succeeded", "\u3164✓", "\u2800> x", "\ufe0f> x", "b\u200derth: x",
		"ber\u0301th: x", "\u0301> x", ">", "·", "• failed", strings.Repeat(" ", 1000) + "● Bash",
	} {
		if got, want := unlike("a\n"+line+"\nb"), "a\n│ "+line+"\nb"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, text := range []string{
		"", "plain", "- a list\n* of things\n1. and\n", "# title\n\n```\nx > y\n```", "| a | table |", "berth is", "a · b", "next we test",
		"files are there", "Grüße", "漢字", "it says berth: x",
	} {
		if got := unlike(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestColumns(t *testing.T) {
	t.Setenv("LC_ALL", "ja_JP.UTF-8") // does not matter
	for text, want := range map[string]int{
		"": 0, "abc": 3, "é": 1, "e\u0301": 1, "漢字": 4, "ｱ": 1, "Ａ": 2, "한": 2, "…": 1, "·": 1, "●": 1, "⠋": 1, "→": 1,
		"🙂": 2, "✅": 2, "⌚": 2, "⚡": 2, "❤": 1, "❤\ufe0f": 2, "🇩🇪": 2, "a\u200db": 2, "ก็": 1,
	} {
		if got := columnsOf(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

// JSON is for programs, and is looked at in terminals all the same.
func TestEscapeControls(t *testing.T) {
	for given, want := range map[string]string{
		"plain \u00e9 \U0001f600": "plain \u00e9 \U0001f600",
		"a\u009b31m\u007f":        `a\u009b31m\u007f`,
		"a\u202eb\u2066c\u200fd":  `a\u202eb\u2066c\u200fd`,
	} {
		if got := escapeControls(given); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}
