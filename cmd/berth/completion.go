package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
)

// completion is the verb `berth completion`. The shell asks berth itself at each tab.
type completion struct {
	Shell string `arg:"" help:"bash, zsh or fish; the login shell if left out." enum:"bash,zsh,fish," default:""`
	Code  bool   `name:"code" short:"c" help:"Print the code itself, for the shell to read."`
}

// Help is the long help.
func (completion) Help() string {
	return `Without --code it says which line to put into the shell's start file.

Examples:
  berth completion
  source <(berth completion -c bash)
  source <(berth completion -c zsh)
  berth completion -c fish | source

Exit codes: 0 printed; 1 the login shell is none of these; 2 the shell cannot be used.`
}

// zshFirst is what zsh's completion for other shells' code takes, and what a start file without compinit lacks.
const zshFirst = "(( $+functions[compdef] )) || { autoload -U compinit && compinit }\n"

// Run prints the code or how to use it.
func (c *completion) Run(ctx *kong.Context) error {
	var text bytes.Buffer
	out, exit := ctx.Stdout, ctx.Exit
	ctx.Stdout, ctx.Exit = &text, func(int) {} // it would end the program
	err := (&kongcompletion.Completion{Shell: c.Shell, Code: c.Code}).Run(ctx)
	ctx.Stdout, ctx.Exit = out, exit
	if err != nil {
		return fmt.Errorf("%w; name one: berth completion bash, zsh or fish", err)
	}
	code := text.String()
	if c.Code && strings.Contains(code, "bashcompinit") {
		code = zshFirst + code
	}
	_, err = io.WriteString(out, code)
	return err
}
