// Package ops holds the verbs of the command berth: one file for each, with its flags beside it.
//
// A verb is a struct that kong fills in; its Run does the work and returns an error, which ends the
// program with ExitCode. Results go to Stdio.Out, everything else to Stdio.Err.
package ops

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"berth/internal/api"
)

// Exit codes of the command. A verb's help lists those that it has.
const (
	ExitOK          = 0
	ExitFailed      = 1   // also: the session failed or was cancelled
	ExitUsage       = 2   // a flag, an argument or a value cannot be used
	ExitUnreachable = 3   // no agent answers
	ExitLimit       = 4   // a limit that the user set ended the session
	ExitInterrupted = 130 // Ctrl-C; a session goes on
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

// usage marks an error as the caller's, unless it came of being interrupted.
func usage(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &UsageError{err}
}

// interruptedError is how a verb ends at Ctrl-C that has something to say about it.
type interruptedError struct{ text string }

func (e *interruptedError) Error() string { return e.text }
func (e *interruptedError) Unwrap() error { return context.Canceled }

// ExitCode is what the process exits with after err.
func ExitCode(err error) int {
	var usage *UsageError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, api.ErrUnreachable):
		return ExitUnreachable
	}
	if command := new(CommandError); errors.As(err, &command) {
		return command.Code
	}
	var said *api.Error
	if errors.As(err, &said) {
		switch {
		case said.Code.Limit():
			return ExitLimit
		case said.Code == api.CodeBadRequest, said.Code == api.CodePromptTooLarge:
			return ExitUsage
		}
	}
	return ExitFailed
}

// Lines are what a person is told of err: nothing if a command that was run has told it, else a line for each error that it joins, with no line break
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
	if command := new(CommandError); errors.As(err, &command) {
		return nil
	}
	if err == context.Canceled { //nolint:errorlint // one that wraps it says more
		return []string{"interrupted"}
	}
	if said := new(api.Error); errors.As(err, &said) && said.Code == api.CodeUnauthorized {
		return []string{"the agent that answers has another volume: it does not take the token of this one; `berth up` starts this one's agent, BERTH_DATA names another volume"}
	}
	// The text may hold others' words: the agent's, a session's, a file's name.
	return []string{strings.Join(strings.Fields(printable(err.Error())), " ")}
}
