package main

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"berth/internal/ops"
)

// parse reads a command line. The error is a usage error, in words for people.
func parse(parser *kong.Kong, args []string) (*kong.Context, error) {
	for _, arg := range args {
		// kong would replace what is not UTF-8, and a prompt or a name would silently be another.
		if !utf8.ValidString(arg) {
			return nil, &ops.UsageError{Err: fmt.Errorf("the argument %.80q is not valid UTF-8; convert it first", arg)}
		}
	}
	for {
		command, err := parser.Parse(args)
		if err == nil {
			return command, nil
		}
		joined, found := joinNumber(args, err.Error())
		if !found {
			return nil, &ops.UsageError{Err: fmt.Errorf("%w; see %s --help", explain(err), verbOf(err))}
		}
		args = joined
	}
}

// likeFlag is kong's error where a flag's value begins with "-". It names the flag with its short form, if it has one.
var likeFlag = regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+): expected \S+ value but got "(-[^"]*)" \(`)

// joinNumber makes "--flag=-1" of "--flag -1", where kong refused the second for looking like a flag. No flag of berth's is a digit.
func joinNumber(args []string, refusal string) ([]string, bool) {
	matches := likeFlag.FindStringSubmatch(refusal)
	if matches == nil || !strings.ContainsRune("0123456789.", rune((matches[2] + "x")[1])) {
		return nil, false
	}
	for i := 1; i < len(args); i++ {
		if args[i] == matches[2] && strings.HasPrefix(args[i-1], "-") && !strings.Contains(args[i-1], "=") {
			joined := append([]string{}, args[:i-1]...)
			return append(append(joined, matches[1]+"="+matches[2]), args[i+1:]...), true
		}
	}
	return nil, false
}

// wordings are what kong says of a value, and what is said in its place; $1 is the flag.
var wordings = []struct {
	kong *regexp.Regexp
	say  string
}{
	{likeFlag, `$1: "$2" looks like a flag; $1=$2 takes it as a value, if it is meant as one`},
	{regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+): (?:.*: )?missing value.*`), `$1: it needs a value`},
	{regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+): expected \S+ value but got "EOL".*`), `$1: it needs a value`},
	{regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+): expected a valid \d+ bit u?int but got ("[^"]*")$`), `$1: $2 is not a whole number`},
	{regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+): expected a float but got ("[^"]*").*`), `$1: $2 is not a number`},
	{regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+): expected duration but got ("([^"]*)"): time: missing unit.*`), `$1: $2 has no unit; write ${3}s, ${3}m or ${3}h`},
	{regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+): expected duration but got ("[^"]*").*`), `$1: $2 is not a duration such as 90s, 30m or 2h`},
	{regexp.MustCompile(`^expected "(<[^"]*)"$`), `$1 is missing`},
}

// worded is an error in other words.
type worded struct {
	error
	text string
}

func (e *worded) Error() string { return e.text }
func (e *worded) Unwrap() error { return e.error }

// explain says in words for people what kong says in a program's.
func explain(err error) error {
	for _, wording := range wordings {
		if found := wording.kong.FindStringSubmatchIndex(err.Error()); found != nil {
			return &worded{err, string(wording.kong.ExpandString(nil, wording.say, err.Error(), found))}
		}
	}
	return err
}
