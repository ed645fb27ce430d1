//go:build !linux

package claude

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// errLinux is what every part of isolation says elsewhere.
var errLinux = errors.New("only Linux has what it takes")

const memoryClosed = false

type uidRange struct{ count int }

func (uidRange) assign(string, string) (int, error) { return 0, errLinux }

func (*Isolation) find(context.Context) error { return errLinux }

func ownProgram() string { return os.Args[0] }

func own(string, int) error { return errLinux }

func ownedBy(string, int) bool { return true }

func userOf(string) int { return 0 }

func killAll(int) *exec.Cmd { return exec.Command("false") }

func kill(int) error { return errLinux }

func runAs(string, []string) (int, error) { return 1, errLinux }

func tryAs(string) error { return errLinux }

func preferForOOM(int) error { return nil }

// Undumpable does nothing: what it is for is Linux's.
func Undumpable() error { return nil }
