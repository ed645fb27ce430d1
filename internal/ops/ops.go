// Package ops holds the verbs of the command berth: one file for each, with its flags beside it.
//
// A verb is a struct that kong fills in; its Run does the work and returns an error, which ends the
// program with ExitCode. Results go to Stdio.Out, everything else to Stdio.Err.
package ops

import (
	"errors"
	"io"
	"os"
	"strings"
)

// Exit codes of the command. Verbs that have more of them document those in their help.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// Stdio is where a verb reads and writes, and the environment that it reads.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// OSStdio is the process's own.
func OSStdio() Stdio { return Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv} }

// UsageError marks an error as the caller's: a flag or option that cannot be used.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ExitCode is what the process exits with after err.
func ExitCode(err error) int {
	var usage *UsageError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	}
	return ExitFailed
}

// Lines are what a person is told of err: a line for each error that it joins, with no line break
// inside, whatever a cause's message holds.
func Lines(err error) []string {
	var usage *UsageError
	if errors.As(err, &usage) {
		err = usage.Err
	}
	// fmt.Errorf with two %w has the same method, and a text of its own that must not get lost.
	if joined, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		var lines []string
		for _, each := range joined.Unwrap() {
			lines = append(lines, Lines(each)...)
		}
		return lines
	}
	return []string{strings.Join(strings.Fields(err.Error()), " ")}
}
