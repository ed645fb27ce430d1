package ops

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// escapes are the sequences that a terminal acts on: those with parameters (colours, movements), strings
// (titles, links, device control; ended by BEL or ST) and the short ones. Each introducer has a one-byte form
// of the range C1 beside that with ESC. A string that is not ended within its line is not one: only its
// introducer goes, so that it cannot take what follows with it.
var escapes = regexp.MustCompile(`(?:\x1b\[|\x{9b})[0-?]*[ -/]*[@-~]` +
	`|(?:\x1b[\]PX^_]|[\x{9d}\x{90}\x{98}\x{9e}\x{9f}])[^\n\x07\x1b\x{9c}]*(?:\x07|\x1b\\|\x{9c})` +
	`|\x1b[ -/]*[0-~]`)

// printable is a text without anything that a terminal acts on or that hides what is there, such as escape
// sequences, control characters and marks that turn the direction of writing; newlines and tabs stay. A
// carriage return becomes a newline, for nothing may be written over.
func printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
		return text
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = escapes.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case r == '\r', r == '\u2028', r == '\u2029', r == '\v', r == '\f', r == '\u0085':
			return '\n'
		case r == '\u200d', r == '\u200c': // these join and part letters and emoji
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, text)
}

// own are the beginnings of the lines that berth itself writes: marks (with those that look the same in most
// fonts), its name, and the lines of a summary.
var own = regexp.MustCompile(`^(?:[>＞›●⬤○◯·•∙⋅‧✓✔✗✘■…│┃` + spinnerPictures + `]|(?i:berth):|(?:files|next|why|branch|pull request) {2})`)

// unlike puts a bar before each line of a text that could be taken for one of berth's own.
func unlike(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		const enough = 64 // characters that are seen; a line may be of megabytes
		var seen strings.Builder
		for _, r := range line {
			if isBlank(r) && seen.Len() == 0 || isUnseen(r) {
				continue
			}
			if isBlank(r) {
				r = ' '
			}
			if seen.WriteRune(r); seen.Len() >= enough {
				break
			}
		}
		if own.MatchString(seen.String()) {
			lines[i] = "│ " + line
		}
	}
	return strings.Join(lines, "\n")
}

// isBlank reports whether a character takes room and shows nothing: space, or what fonts draw as space.
func isBlank(r rune) bool {
	return unicode.IsSpace(r) || r == '\u2800' || r == '\u3164' || r == '\uffa0' || r == '\u115f' || r == '\u1160'
}

// isUnseen reports whether a character shows nothing by itself.
func isUnseen(r rune) bool {
	return unicode.In(r, unicode.M, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// oneLine is a text as one line of at most so many columns.
func oneLine(text string, width int) string {
	if most := 16 * width; len(text) > most { // a text of megabytes is not looked at to its end
		text = text[:most]
	}
	return cut(strings.Join(strings.Fields(printable(text)), " "), width)
}

// cut shortens a line to at most so many columns, and marks where it was cut.
func cut(line string, width int) string {
	if width <= 0 {
		return ""
	}
	used, end := 0, 0 // end is where the mark still has room
	for i, r := range line {
		if used <= width-1 {
			end = i
		}
		if used += columns(r); used > width {
			return line[:end] + "…"
		}
	}
	return line
}

// widths does not look at the environment, as the package's own functions do: terminals, other than fonts of
// old, take one column for what is ambiguous.
var widths = runewidth.Condition{StrictEmojiNeutral: true}

// columns is how much of a terminal's width a character takes: none for marks on other characters, two for
// ideographs and emoji (https://www.unicode.org/reports/tr11/). Terminals do not agree about emoji of several
// characters. These count as their parts, and what asks for a picture as one more: rather too much than a line
// that wraps.
func columns(r rune) int {
	switch {
	case r == '\ufe0f':
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me): // of these runewidth knows some
		return 0
	}
	return widths.RuneWidth(r)
}

// columnsOf is how much of a terminal's width a line takes.
func columnsOf(line string) (sum int) {
	for _, r := range line {
		sum += columns(r)
	}
	return sum
}

// shortID is the part of a session's id that people type: its random end. A UUIDv7 begins with the time.
func shortID(id string) string {
	if len(id) <= 12 {
		return printable(id)
	}
	return printable(id[len(id)-12:])
}

// age is how long ago something was.
func age(then, now time.Time) string { return duration(max(now.Sub(then), 0).Seconds()) }

// duration is a number of seconds for people: two units at most.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
}

// money is an amount of US dollars for people. Small ones keep two digits that say something.
func money(dollars float64) string {
	switch {
	case dollars > 0 && dollars < 0.0001:
		return "<$0.0001"
	case dollars > 0 && dollars < 0.01:
		return fmt.Sprintf("$%.4f", dollars)
	}
	return fmt.Sprintf("$%.2f", dollars)
}

// count is a number for people: 950, 12.3k, 4.5M.
func count(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d", n)
	case n < 999_950:
		return fmt.Sprintf("%.1fk", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1fM", float64(n)/1e6)
}

// bytesText is a number of bytes for people, in units of 1000: disks are sold in them.
func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for units := "kMGTP"; value >= 999.95 && unit < len(units)-1; unit++ {
		value /= 1000
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGTP"[unit])
}

// clock is a time of day for people, in a zone of theirs; with the day, unless that is the day of another time.
func clock(at, beside time.Time, zone *time.Location) string {
	at, beside = at.In(zone), beside.In(zone)
	if at.Format(time.DateOnly) == beside.Format(time.DateOnly) {
		return at.Format("15:04")
	}
	return at.Format("2006-01-02 15:04")
}

// plural is a number of things.
func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
