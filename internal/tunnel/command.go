package tunnel

import (
	"bytes"
	"crypto/rand"
	"io"
	"strconv"
	"strings"
)

// maxMark is how long what follows a mark can be: a number and the end of the mark.
const maxMark = 8

// end ends a mark.
const end = '\x1f'

// Wrap makes of a command and its arguments what ECS's ExecuteCommand takes for one, and the mark by which Run finds
// the exit code in its output. ECS does not tell the exit code of a command that has a terminal, so that the command
// is run by a shell, which writes it behind everything else.
func Wrap(args []string) (command, mark string) {
	name := rand.Text()
	script := []string{"/bin/sh", "-c", `"$@"; printf '\037berth %s %d\037' "$0" "$?"`, name}
	for i, arg := range append(script, args...) {
		if i > 0 {
			command += " "
		}
		command += quote(arg)
	}
	return command, "\x1fberth " + name + " "
}

// quote quotes an argument for what takes the command apart: like a shell, but without its variables.
func quote(arg string) string {
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// output writes a command's output, and keeps back the mark and what follows it.
type output struct {
	to   io.Writer
	mark []byte // empty if there is none to find
	held []byte // may be the beginning of the mark
	code int    // -1 until it is known
}

// write writes what is not a part of the mark.
func (o *output) write(part []byte) error {
	if len(o.mark) == 0 {
		_, err := o.to.Write(part)
		return err
	}
	o.held = append(o.held, part...)
	if at := bytes.Index(o.held, o.mark); at >= 0 {
		rest := o.held[at+len(o.mark):]
		until := bytes.IndexByte(rest, end)
		if until < 0 && len(rest) < maxMark {
			return o.pass(at)
		}
		if code, err := strconv.Atoi(string(rest[:max(0, until)])); err == nil {
			o.code = code
			if err := o.pass(at); err != nil {
				return err
			}
			o.held = append([]byte(nil), o.held[len(o.mark)+until+1:]...)
		}
		return o.pass(len(o.held))
	}
	keep := min(len(o.mark)-1, len(o.held))
	for ; keep > 0 && !bytes.HasPrefix(o.mark, o.held[len(o.held)-keep:]); keep-- {
	}
	return o.pass(len(o.held) - keep)
}

// pass writes the first n bytes of what is held.
func (o *output) pass(n int) error {
	_, err := o.to.Write(o.held[:n])
	o.held = append([]byte(nil), o.held[n:]...)
	return err
}

// flush writes what was held back, and is no mark as the output has ended.
func (o *output) flush() error { return o.pass(len(o.held)) }
