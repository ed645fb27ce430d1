package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"berth/internal/contract"
)

// Key is the group `berth key`.
type Key struct {
	Set KeySet `cmd:"" help:"Set the Anthropic key of a deployment, and have its task take it."`
}

// KeySet is the verb `berth key set`.
type KeySet struct {
	Target
	KeyFile string        `name:"key-file" placeholder:"FILE" help:"Read the key from a file; - is standard input."`
	Timeout time.Duration `name:"timeout" default:"20m" help:"How long the service may take to be steady."`
}

// Help is the long help.
func (KeySet) Help() string {
	return `The key comes from a file, from standard input, or is asked for without being shown; never from an argument, which
others on this machine could read. Tasks read it when they start: a running one is replaced, and its sessions go on.

Examples:
  berth key set --env dev
  berth key set --env dev --key-file ~/.anthropic-key
  pass show anthropic | berth key set --env dev

Exit codes: 0 set, and the service runs with it; 1 failed; 2 a flag or the key cannot be used; 130 Ctrl-C.`
}

// Run puts the key into the secret and rolls the service.
func (v *KeySet) Run(ctx context.Context, stdio Stdio) (err error) {
	if err := v.needsEnv("key set"); err != nil {
		return err
	}
	d, err := v.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	defer d.orInterrupted(ctx, &err)
	key, err := readKey(ctx, stdio, v.KeyFile)
	if err != nil {
		return usage(ctx, err)
	}
	if err := d.client.SetKey(ctx, d.stack, key); err != nil {
		return err
	}
	d.say("the key is set")
	if d.stack.Parameters[contract.ParamDesiredCount] == "0" {
		_, err := fmt.Fprintln(stdio.Out, "The key is set; the next task starts with it.")
		return err
	}
	if err := d.restart(ctx); err != nil {
		return fmt.Errorf("the key is set, but the running task does not have it yet: %w", err)
	}
	if err := d.steady(ctx, v.Timeout); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdio.Out, "The key is set, and the task runs with it.")
	return err
}

// readKey reads a key from a file, from a pipe, or from a terminal without echo.
func readKey(ctx context.Context, stdio Stdio, file string) (string, error) {
	in, isFile := stdio.In.(*os.File)
	var text string
	var err error
	switch {
	case file != "" && file != "-":
		var raw []byte
		if raw, err = readLimited(file); err != nil {
			return "", fmt.Errorf("--key-file: %w", err)
		}
		text = string(raw)
	case file == "" && isFile && term.IsTerminal(int(in.Fd())):
		fmt.Fprintf(stdio.Err, "Anthropic API key (not shown): ")
		text, err = readSecret(ctx, in)
		fmt.Fprintln(stdio.Err)
	default:
		text, err = readText(ctx, stdio.In)
	}
	if err != nil {
		return "", err
	}
	return checkSecret(strings.TrimSpace(text))
}

// checkSecret refuses what cannot be a key. It never shows it.
func checkSecret(key string) (string, error) {
	const most = 4096
	switch {
	case key == "":
		return "", errors.New("there is no key: it is empty; give it with --key-file, on standard input, or when asked")
	case key == contract.SecretNotSet, len(key) > most:
		return "", errors.New("that is no key; it begins with sk-ant- and has about 100 characters")
	case strings.ContainsFunc(key, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) || unicode.IsControl(r) }):
		return "", errors.New("that is no key: it has blanks, line breaks or other characters than a key has; was more than the key given?")
	}
	return key, nil
}

func readLimited(file string) ([]byte, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(opened, 64<<10))
}

// readSecret reads a line from a terminal without echo. At Ctrl-C the terminal is as it was before.
func readSecret(ctx context.Context, in *os.File) (string, error) {
	before, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", err
	}
	type answer struct {
		text []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(int(in.Fd()))
		read <- answer{text, err}
	}()
	select {
	case got := <-read:
		return string(got.text), got.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(int(in.Fd()), before))
	}
}
