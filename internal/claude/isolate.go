package claude

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Places are what isolation is about. All are absolute.
type Places struct {
	Work   string   // the directory with the sessions' own directories in it (Dirs.Root); made if it is missing
	CLI    string   // the program that sessions run
	Hidden []string // what no session may enter, such as the volume; Work may lie in it
}

// Isolation is how sessions are kept from the agent, and from each other.
type Isolation struct {
	places  Places
	uids    uidRange
	private bool     // sessions get mounts of their own
	shared  []string // directories that everybody can write
	open    []string // of those that are to be hidden, the ones that sessions can read all the same
	problem string   // why there are no users, although the agent is root

	sandbox sandbox // what all sessions' have in common
}

// Isolate looks at what this process may do and this kernel can do, by trying it, and makes the work dir. As root,
// sessions get users of their own, and mounts of their own where that is allowed. It never fails: String says what is in
// force, and Problem what is wrong.
func Isolate(ctx context.Context, places Places) *Isolation {
	i := &Isolation{places: places}
	if os.Geteuid() != 0 {
		_ = os.MkdirAll(places.Work, 0o700) // User says so if it cannot be made
		return i
	}
	if err := i.find(ctx); err != nil {
		i.uids, i.private, i.open = uidRange{}, false, nil
		i.problem = err.Error()
	}
	return i
}

// Users reports whether sessions run as users of their own.
func (i *Isolation) Users() bool { return i.uids.count > 0 }

// Problem says why sessions run as root; empty if they do not.
func (i *Isolation) Problem() string { return i.problem }

// String is what `berth status` says of the isolation that is in force.
func (i *Isolation) String() string {
	const users = "users of their own: each session has a uid without any rights, and "
	switch {
	case i.Users() && i.private:
		return users + "sees neither the agent's files nor other sessions'; /tmp is private to each"
	case i.Users() && len(i.open) > 0:
		return users + "cannot enter other sessions' files; but it can read " + strings.Join(i.open, " and ")
	case i.Users() && len(i.shared) == 0:
		return users + "cannot enter the agent's files or other sessions'; there is no directory that all can write"
	case i.Users():
		return users + "cannot enter the agent's files or other sessions'; shared are " + strings.Join(i.shared, ", ")
	case i.problem != "":
		return "none: sessions run as root, because " + i.problem
	case memoryClosed:
		return "none: sessions run as the agent's own user and can read its files, but not its memory; /tmp is shared"
	}
	return "none: sessions run as the agent's own user and can read its files; /tmp is shared"
}

// User returns the user of the session with these directories. It makes Dirs.Root, which stays the agent's, so that the
// session can replace nothing in it, and which only this user can enter. It is nil, which is a user too, if sessions run
// as the agent's own.
//
// A session keeps its uid as long as Dirs.Root is there. No two sessions of a work dir have the same.
func (i *Isolation) User(dirs Dirs) (*User, error) {
	if !i.Users() {
		return nil, os.MkdirAll(dirs.Root, 0o700)
	}
	id, err := i.uids.assign(i.places.Work, dirs.Root)
	if err != nil {
		return nil, fmt.Errorf("giving the session a user of its own: %w", err)
	}
	return i.user(id, dirs), nil
}

func (i *Isolation) user(id int, dirs Dirs) *User {
	box := i.sandbox
	box.UID, box.Temp, box.Private = id, dirs.Temp, i.private
	box.Keep = append([]string{dirs.Root}, box.Keep...)
	return &User{ID: id, box: box}
}

// versionTime bounds the run of the CLI that tells its version. It takes 10 ms.
const versionTime = 20 * time.Second

// Version runs the CLI as sessions run it, and returns its version. Its error says what to do.
func (i *Isolation) Version(ctx context.Context) (version string, err error) {
	user, dirs, remove, err := i.scratch()
	if err != nil {
		return "", err
	}
	defer remove()
	limited, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	args := append(user.Command(), i.places.CLI, "--version")
	command := exec.CommandContext(limited, args[0], args[1:]...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dirs.Home, "TMPDIR=" + dirs.Temp, "DISABLE_AUTOUPDATER=1"}
	command.Dir, command.WaitDelay = dirs.Home, time.Second
	output, err := command.Output()
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(exit.Stderr) > 0 {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		if closed := closedTo(i.places.CLI); user != nil && closed != "" {
			return "", fmt.Errorf("sessions' users cannot run %s, because they cannot enter %s: install it elsewhere, or open that directory (chmod o+x)", i.places.CLI, closed)
		}
		return "", fmt.Errorf("sessions cannot run %s --version: %w", i.places.CLI, err)
	}
	version, _, _ = strings.Cut(strings.TrimSpace(string(output)), "\n")
	return version, nil
}

// scratch makes directories as a session's, and a user for them.
func (i *Isolation) scratch() (user *User, dirs Dirs, remove func(), err error) {
	root, err := os.MkdirTemp(i.places.Work, ".try-*")
	if err != nil {
		return nil, dirs, nil, err
	}
	dirs, remove = DirsBelow(root), func() { _ = os.RemoveAll(root) }
	if user, err = i.User(dirs); err == nil {
		err = errors.Join(dirs.Make(), user.Own(dirs.Home, dirs.Config, dirs.Temp))
	}
	if err != nil {
		remove()
	}
	return user, dirs, remove, err
}

// User is who a session's processes run as. A nil one is the agent's own user.
type User struct {
	ID  int // the uid, and the gid of the group that only it is in
	box sandbox
}

// Own gives files to the user, directories with all that is in them, and closes them to everybody else. No process of
// the user may run meanwhile. Files that the user has already stay as they are, and so do those that have another name: they may
// be somebody else's.
func (u *User) Own(paths ...string) error {
	if u == nil {
		return nil
	}
	for _, path := range paths {
		if err := own(path, u.ID); err != nil {
			return fmt.Errorf("giving %s to the session's user: %w", path, err)
		}
	}
	return nil
}

// adopt gives the user what is not its own yet: directories that were made just now or before sessions had users, and
// what the agent writes into them.
func (u *User) adopt(dirs Dirs) error {
	if u == nil {
		return nil
	}
	for _, dir := range []string{dirs.Home, dirs.Temp, dirs.Tree} {
		if !ownedBy(dir, u.ID) {
			if err := u.Own(dir); err != nil {
				return err
			}
		}
	}
	return u.Own(filepath.Join(dirs.Home, gitConfigName), dirs.Config)
}

// Command is what runs a program as the user, when the program and its arguments are added to it: without any rights,
// and with the session's mounts. It hands the environment on unchanged, so there must be no secret in it: other
// processes of the user can read it. It is empty for a nil user.
func (u *User) Command() []string {
	if u == nil {
		return nil
	}
	return append([]string{ownProgram()}, u.arguments()...)
}

// sandbox is what Helper needs to know to run a program as a user. It is handed on as an argument.
type sandbox struct {
	UID     int      `json:"uid"`
	Private bool     `json:"private,omitempty"` // mounts of its own
	Temp    string   `json:"temp,omitempty"`    // what it has for /tmp
	Shared  []string `json:"shared,omitempty"`  // directories that everybody can write
	Hide    []string `json:"hide,omitempty"`    // directories that are to be empty
	Keep    []string `json:"keep,omitempty"`    // what is to be seen nevertheless
}

// closedTo returns the first directory on the way to a path that users who are nobody in particular cannot enter;
// empty if there is none.
func closedTo(path string) string {
	for _, dir := range ancestors(path) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return dir
		}
	}
	return ""
}

// ancestors lists the directories that a path lies in, the outermost first, also by its name without symbolic links.
func ancestors(path string) (list []string) {
	names := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		names = append(names, real)
	}
	for _, name := range names {
		var up []string
		for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
			up = append([]string{dir}, up...)
			if dir == filepath.Dir(dir) {
				break
			}
		}
		list = append(list, up...)
	}
	return list
}
