package claude

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"berth/internal/contract"
)

// uidRange is the numbers that sessions' users have.
type uidRange struct{ first, count int }

// ranges are those that may be had, the better one first.
var ranges = []uidRange{
	{contract.SessionUIDFirst, contract.SessionUIDs},
	{contract.SmallSessionUIDFirst, contract.SmallSessionUIDs},
}

// usableRange returns the first range whose users exist in this user namespace, with those of the killers.
func usableRange() (uidRange, error) {
	for _, r := range ranges {
		ok := true
		for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
			text, err := os.ReadFile(file)
			if err != nil {
				return uidRange{}, err
			}
			ok = ok && maps(string(text), r.first, r.first+2*r.count-1)
		}
		if ok {
			return r, nil
		}
	}
	return uidRange{}, errors.New("this user namespace has too few users (see /proc/self/uid_map)")
}

// maps reports whether a line of a map (user_namespaces(7)) has all of these users.
func maps(text string, first, last int) bool {
	for line := range bytes.Lines([]byte(text)) {
		var inside, outside, length int
		_, err := fmt.Sscan(string(line), &inside, &outside, &length)
		if err == nil && inside <= first && last < inside+length {
			return true
		}
	}
	return false
}

func (r uidRange) has(id int) bool { return id >= r.first && id < r.first+r.count }

// assigning is held while a user is chosen.
var assigning sync.Mutex

// assign returns the user of a session's directory, which the directory's group says. One without gets a free one: which
// no other directory of the work dir has, nobody who runs, and nobody who is known on this machine. They are spread by the
// directory's name, because other agents of the machine take theirs from the same range.
func (r uidRange) assign(work, root string) (int, error) {
	assigning.Lock()
	defer assigning.Unlock()
	if err := os.MkdirAll(root, 0o700); err != nil {
		return 0, err
	}
	taken, err := groups(work, filepath.Base(root))
	if err != nil {
		return 0, err
	}
	info, err := os.Lstat(root)
	if err != nil {
		return 0, err
	}
	id, sum := groupOf(info), sha256.Sum256([]byte(root))
	if !r.has(id) || taken[id] {
		start := int(binary.BigEndian.Uint32(sum[:]) % uint32(r.count)) //nolint:gosec // count is a constant
		for n := 0; ; n++ {
			if n == r.count {
				return 0, errors.New("all users are taken")
			}
			if id = r.first + (start+n)%r.count; !taken[id] && free(id) {
				break
			}
		}
	}
	// Its user may go through it, and do nothing to it.
	return id, errors.Join(os.Lchown(root, 0, id), os.Chmod(root, 0o710)) //nolint:gosec // see above
}

// groups returns the groups of the directories in a directory, but of one.
func groups(dir, but string) (map[int]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[int]bool{}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || entry.Name() == but {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[groupOf(info)] = true
	}
	return found, nil
}

func groupOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Gid)
	}
	return 0
}

// ownedBy reports whether a file is a user's.
func ownedBy(path string, id int) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == id && int(stat.Gid) == id
}

func free(id int) bool {
	_, err := user.LookupId(strconv.Itoa(id))
	return err != nil && len(runningAs(id)) == 0
}

// userOf returns the user that a session's directory was given to; 0 if it was given to none.
func userOf(root string) int {
	info, err := os.Lstat(root)
	if err != nil || os.Geteuid() != 0 {
		return 0
	}
	id := groupOf(info)
	for _, r := range ranges {
		if r.has(id) {
			return id
		}
	}
	return 0
}

// runningAs returns the processes of a user that are still more than an entry in a table.
func runningAs(id int) (pids []int) {
	for pid := range processes() {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err != nil {
			continue
		}
		_, state, _ := bytes.Cut(text, []byte("\nState:\t"))
		_, uids, _ := bytes.Cut(text, []byte("\nUid:\t"))
		uids, _, _ = bytes.Cut(uids, []byte("\n"))
		if bytes.HasPrefix(state, []byte("Z")) || bytes.HasPrefix(state, []byte("X")) {
			continue
		}
		for each := range bytes.FieldsSeq(uids) {
			if string(each) == strconv.Itoa(id) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// killAll returns a command that kills every process of a user, at one stroke: while kill(2) goes through the processes,
// none can start another, so that no chain of them gets away.
func killAll(id int) *exec.Cmd {
	command := exec.Command(ownProgram(), modeKill, strconv.Itoa(id)) //nolint:gosec // this very program, and a number
	command.Env = []string{}
	return command
}

// kill is what killAll starts. It can end the user's processes, but they cannot end it: that takes its real or its saved
// uid, which nobody else has.
func kill(id int) error {
	killer := 0
	for _, r := range ranges {
		if r.has(id) {
			killer = id + r.count
		}
	}
	if killer == 0 {
		return fmt.Errorf("%d is no session's user", id)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setresgid(killer, killer, killer), syscall.Setresuid(killer, id, killer)); err != nil {
		return err
	}
	if syscall.Getuid() != killer || syscall.Geteuid() != id { // else it would hit everybody
		return errors.New("becoming another user had no effect")
	}
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return nil
}
