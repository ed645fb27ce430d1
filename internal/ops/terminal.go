package ops

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// The terminal's rules. What verbs show of a session goes through this file; it keeps them.
//
//   - What was asked for goes to standard output: ids, tables, patches, and a session's transcript. All else
//     goes to standard error, with "berth: " or "· " before it.
//   - Text of others (the model's, a tool's, a prompt, an error's) passes printable first. No escape sequence
//     is ever written that is not one of the constants below.
//   - What Claude says cannot pass for a line of berth's own: unlike marks those lines of it that would.
//   - Colours are written to a terminal only, each stream for itself, unless envNoColour is set
//     (https://no-color.org) or TERM is dumb.
//   - The live line is written to standard error if that is a terminal that can rewrite a line. It is at the
//     bottom, never as wide as the terminal, and gone before anything else is written.
//   - Lines that are cut are cut at the terminal's width, or at pipeWidth where there is none. Those that stay
//     keep minWidth, and wrap where there is less. What Claude says is never cut.
const (
	dim    = "\x1b[2m"
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	plain  = "\x1b[0m"

	envNoColour = "NO_COLOR" //nolint:misspell // others' word

	spinnerPictures = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

	clearLine = "\r\x1b[K"
	pipeWidth = 160
	minWidth  = 30
)

// terminal is where a session is shown.
type terminal struct {
	out, err             io.Writer
	colourOut, colourErr bool
	canLive              bool
	width                func() int // of the terminal; pipeWidth if there is none

	live   bool  // the live line is there
	failed error // the first error of writing to out
}

// newTerminal looks at where the standard streams lead.
func newTerminal(stdio Stdio) *terminal {
	out, outIs := terminalFile(stdio.Out)
	err, errIs := terminalFile(stdio.Err)
	able := stdio.Getenv("TERM") != "dumb"
	colour := able && stdio.Getenv(envNoColour) == ""
	t := &terminal{
		out: stdio.Out, err: stdio.Err, colourOut: outIs && colour, colourErr: errIs && colour, canLive: errIs && able,
		width: func() int { return pipeWidth },
	}
	for _, each := range []struct {
		file *os.File
		is   bool
	}{{err, errIs}, {out, outIs}} {
		if each.is {
			t.width = func() int { return fileWidth(each.file) }
		}
	}
	return t
}

func terminalFile(w io.Writer) (*os.File, bool) {
	file, ok := w.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}

// fileWidth asks each time: windows change their size.
func fileWidth(file *os.File) int {
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		return 80
	}
	return width
}

// room is how wide a line may be that stays.
func (t *terminal) room() int { return max(t.width(), minWidth) }

// say writes a line of the transcript. It may hold newlines.
func (t *terminal) say(style, text string) {
	t.clear()
	if _, err := io.WriteString(t.out, styled(t.colourOut, style, text)+"\n"); err != nil && t.failed == nil {
		t.failed = err
	}
}

// notice writes a line that is not of the transcript.
func (t *terminal) notice(style, text string) {
	t.clear()
	_, _ = io.WriteString(t.err, styled(t.colourErr, style, text)+"\n") // where could one say so?
}

// show rewrites the live line.
func (t *terminal) show(line string) {
	if !t.canLive {
		return
	}
	_, _ = io.WriteString(t.err, clearLine+styled(t.colourErr, dim, cut(line, t.width()-1)))
	t.live = true
}

// clear takes the live line away.
func (t *terminal) clear() {
	if t.live {
		_, _ = io.WriteString(t.err, clearLine)
		t.live = false
	}
}

// styled puts a style around each line, so that a pager that takes lines apart shows it right.
func styled(colour bool, style, text string) string {
	if !colour || style == "" || text == "" {
		return text
	}
	return style + strings.ReplaceAll(text, "\n", plain+"\n"+style) + plain
}

// spinner is the part of the live line that moves: its n-th picture at a time.
func spinner(since time.Duration) string {
	pictures := []rune(spinnerPictures)
	return string(pictures[int(since/liveEvery)%len(pictures)])
}
