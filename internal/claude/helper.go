package claude

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// The first argument of a helper, which says what it does.
const (
	modeReap = "reap" // Reap
	modeAs   = "as"   // become a session's user, and then a program
	modeTry  = "try"  // like as, without a program
	modeKill = "kill" // kill every process of a session's user
)

// Helper is for the beginning of main: it reports whether this process is a helper that this package started from the
// same program, and if so, does its work and returns its exit status. args are os.Args.
func Helper(args []string) (status int, is bool) {
	if len(args) < 3 {
		return 0, false
	}
	var err error
	switch args[1] {
	case modeReap:
		return Reap(args[2], args[3:]), true
	case modeAs:
		status, err = runAs(args[2], args[3:])
	case modeTry:
		status, err = 1, tryAs(args[2])
	case modeKill:
		var id int
		if id, err = strconv.Atoi(args[2]); err == nil {
			err = kill(id)
		}
		status = 1
	default:
		return 0, false
	}
	if err == nil {
		return 0, true
	}
	fmt.Fprintln(os.Stderr, "berthd:", err)
	return status, true
}

// arguments are those that have Helper run a program, whose name and arguments follow, as the user.
func (u *User) arguments() []string {
	if u == nil {
		return nil
	}
	return []string{modeAs, u.box.String(), "--"}
}

func (b *sandbox) String() string {
	text, _ := json.Marshal(b) // numbers and strings
	return string(text)
}

func parseSandbox(text string) (*sandbox, error) {
	box := &sandbox{}
	if err := json.Unmarshal([]byte(text), box); err != nil {
		return nil, err
	}
	if box.UID == 0 {
		return nil, errors.New("there is no user")
	}
	return box, nil
}
