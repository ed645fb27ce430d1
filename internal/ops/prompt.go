package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"berth/internal/api"
)

// readPrompt takes a prompt or a message from an argument, a file or standard input. An argument that is there
// and empty is an empty prompt: it does not mean standard input, which may never end.
func readPrompt(ctx context.Context, stdio Stdio, argument *string, file string) (string, error) {
	switch {
	case argument != nil && file != "":
		return "", errors.New("there is a text and --file; give one of them")
	case argument != nil && *argument != "-":
		return *argument, nil
	case file != "" && file != "-":
		opened, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("--file: %w", err)
		}
		defer opened.Close() //nolint:errcheck // it was only read
		text, err := readText(ctx, opened)
		if err != nil {
			return "", fmt.Errorf("--file: %w", err)
		}
		return text, nil
	}
	if in, ok := stdio.In.(*os.File); ok && argument == nil && file == "" && term.IsTerminal(int(in.Fd())) {
		return "", errors.New("there is no text; give it as an argument, with --file, or on standard input")
	}
	return readText(ctx, stdio.In)
}

// readText reads no more than it takes to see that a text is too long. The last line's end is not of the text.
func readText(ctx context.Context, from io.Reader) (string, error) {
	type answer struct {
		text []byte
		err  error
	}
	// A read cannot be called off. The program ends before it does.
	read := make(chan answer, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(from, api.MaxPrompt+2))
		read <- answer{text, err}
	}()
	select {
	case all := <-read:
		if len(all.text) > api.MaxPrompt+1 {
			return "", fmt.Errorf("the text is too long, at most %d bytes are allowed: put long material into a file of the repository, and name the file", api.MaxPrompt)
		}
		return strings.TrimSuffix(string(all.text), "\n"), all.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
