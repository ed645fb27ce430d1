package claude

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/contract"
)

// isolated is an isolation with a work dir and a volume, which are beside each other. Sessions' users can reach them.
func isolated(t *testing.T) (i *Isolation, volume string) {
	t.Helper()
	return isolatedWith(t, "/bin/sh")
}

// isolatedWith is one whose sessions run a program: it is to be seen by them wherever it lies, below /tmp too.
func isolatedWith(t *testing.T, cli string) (i *Isolation, volume string) {
	t.Helper()
	dir := t.TempDir()
	for up := dir; up != filepath.Dir(os.TempDir()) && len(up) > len(os.TempDir()); up = filepath.Dir(up) {
		must(t, os.Chmod(up, 0o755))
	}
	volume = filepath.Join(dir, "volume")
	must(t, os.Mkdir(volume, 0o755))
	must(t, os.WriteFile(filepath.Join(volume, "token"), []byte("volume's"), 0o644))
	return Isolate(t.Context(), Places{Work: filepath.Join(dir, "work"), CLI: cli, Hidden: []string{volume}}), volume
}

// session makes a session's directories and user.
func session(t *testing.T, i *Isolation, name string) (*User, Dirs) {
	t.Helper()
	dirs := DirsBelow(filepath.Join(i.places.Work, name))
	user, err := i.User(dirs)
	must(t, err)
	must(t, dirs.Make())
	must(t, os.MkdirAll(dirs.Tree, 0o700))
	must(t, os.WriteFile(filepath.Join(dirs.Tree, "work"), []byte(name), 0o644))
	must(t, user.adopt(dirs))
	return user, dirs
}

// shell runs a script as a user, and returns what it prints.
func shell(t *testing.T, user *User, dirs Dirs, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	args := append(user.Command(), "/bin/sh", "-c", script)
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Dir, command.WaitDelay = dirs.Tree, time.Second
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dirs.Temp, "HOME=" + dirs.Home}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Logf("%v: %s", err, output)
	}
	return string(output)
}

// ways are the isolations that this machine allows, by name.
func ways(t *testing.T) map[string]*Isolation {
	t.Helper()
	i, _ := isolated(t)
	found := map[string]*Isolation{"best": i}
	if i.private {
		other, _ := isolated(t)
		other.private = false
		found["no mounts"] = other
	}
	return found
}

func TestASessionHasNoRights(t *testing.T) {
	t.Parallel()
	for name, i := range ways(t) {
		user, dirs := session(t, i, "one")
		fields := map[string]string{}
		for line := range strings.Lines(shell(t, user, dirs, "cat /proc/self/status")) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			fields[key] = strings.Join(strings.Fields(value), " ")
		}
		want := map[string]string{"Uid": "", "NoNewPrivs": "0"}
		id := os.Getuid()
		if user != nil {
			id = user.ID
			const none = "0000000000000000"
			want = map[string]string{"NoNewPrivs": "1", "Groups": "", "CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none}
		}
		want["Uid"] = strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4))
		for key, value := range want {
			if fields[key] != value {
				t.Errorf("%s: %s is %q, not %q", name, key, fields[key], value)
			}
		}
	}
}

func TestASessionIsLimited(t *testing.T) {
	t.Parallel()
	i, _ := isolated(t)
	user, dirs := session(t, i, "one")
	got := shell(t, user, dirs, "ulimit -c; ulimit -n; cat /proc/self/oom_score_adj; umask; grep 'Max processes' /proc/self/limits")
	if user == nil {
		return // its limits are the agent's
	}
	var now unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &now))
	lines := strings.Split(got, "\n")
	want := []string{"0", fmt.Sprint(min(now.Max, maxOpenFiles)), strconv.Itoa(oomScore), "0022"}
	if !slices.Equal(lines[:4], want) || !strings.Contains(lines[4], " "+strconv.Itoa(maxProcesses)+" ") {
		t.Errorf("the limits are %q", lines)
	}
}

// Whatever is not a session's own is closed to it.
func TestASessionSeesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	for name, i := range ways(t) {
		user, dirs := session(t, i, "one")
		_, other := session(t, i, "other")
		must(t, os.WriteFile(filepath.Join(other.Temp, "secret"), []byte("other's"), 0o666))
		closed := map[string]string{
			"volume": "cat " + i.places.Hidden[0] + "/token", "volume's names": "ls -A " + i.places.Hidden[0], "other's temp": "ls " + other.Temp,
			"other's tree": "ls " + other.Tree, "all sessions": "ls -A " + i.places.Work + " | grep -v '^one$'", "environment": fmt.Sprintf("cat /proc/%d/environ", os.Getpid()),
			"files": fmt.Sprintf("ls /proc/%d/fd", os.Getpid()), "lock": "echo x | tee " + dirs.Lock, "its root": "mv -v " + dirs.Home + " " + dirs.Root + "/x",
			"the agent": fmt.Sprintf("kill -0 %d && echo hit", os.Getpid()),
		}
		for what, script := range closed {
			got := shell(t, user, dirs, "if { "+script+"; } 2>/dev/null >"+dirs.Temp+"/got && test -s "+dirs.Temp+"/got; then echo open; fi")
			if (got != "") != (user == nil) {
				t.Errorf("%s: %s: %q", name, what, got)
			}
		}
		if got := shell(t, user, dirs, "pwd; echo x > ../tree/file; cat file; touch $TMPDIR/b; ls "+dirs.Tree); got != dirs.Tree+"\nx\nfile\nwork\n" {
			t.Errorf("%s: its own: %q", name, got)
		}
	}
}

func TestSharedDirectoriesArePrivateWhereTheKernelAllows(t *testing.T) {
	t.Parallel()
	i, _ := isolated(t)
	user, dirs := session(t, i, "one")
	another, others := session(t, i, "another")
	for _, dir := range i.shared {
		name := fmt.Sprintf("%s/berth-test-%d", dir, os.Getpid())
		shell(t, user, dirs, "echo mine > "+name)
		_, err := os.Lstat(name)
		got := shell(t, another, others, "cat "+name+" 2>/dev/null")
		_ = os.Remove(name)
		if (err == nil || got != "") && i.private {
			t.Errorf("%s is shared: %v, %q", dir, err, got)
		}
	}
	if i.private {
		if got := shell(t, user, dirs, "ls -A /tmp/; ls -A /proc | grep -c '^[0-9]'"); !strings.Contains(got, fmt.Sprintf("berth-test-%d\n", os.Getpid())) || !strings.HasSuffix(got, "\n3\n") && !strings.HasSuffix(got, "\n4\n") {
			t.Errorf("it sees %q", got)
		}
	}
}

func TestStatusTellsWhatIsInForce(t *testing.T) {
	t.Parallel()
	i, _ := isolated(t)
	if i.Users() != (os.Geteuid() == 0) || i.Problem() != "" {
		t.Errorf("users %v, problem %q", i.Users(), i.Problem())
	}
	want := "none: sessions run as the agent's own user"
	if i.Users() {
		want = "users of their own"
	}
	if !strings.HasPrefix(i.String(), want) {
		t.Errorf("it says %q", i.String())
	}
	for _, each := range []struct {
		i    *Isolation
		want string
	}{
		{&Isolation{uids: uidRange{count: 1}, private: true}, "/tmp is private"},
		{&Isolation{uids: uidRange{count: 1}, shared: []string{"/tmp"}}, "shared are /tmp"},
		{&Isolation{uids: uidRange{count: 1}}, "no directory that all can write"},
		{&Isolation{uids: uidRange{count: 1}, open: []string{"/data"}}, "it can read /data"},
		{&Isolation{problem: "of it"}, "as root, because of it"},
	} {
		if !strings.Contains(each.i.String(), each.want) {
			t.Errorf("it says %q, not %q", each.i.String(), each.want)
		}
	}
}

func TestTheCLIIsTriedAsSessionsRunIt(t *testing.T) {
	t.Parallel()
	i, _ := isolated(t)
	dir := filepath.Dir(i.places.Work)
	i.places.CLI = filepath.Join(dir, "cli")
	i.sandbox.Keep = []string{i.places.CLI}
	must(t, os.WriteFile(i.places.CLI, []byte("#!/bin/sh\necho 1.2.3\nid -u"), 0o755))
	if version, err := i.Version(t.Context()); err != nil || version != "1.2.3" {
		t.Errorf("the version is %q: %v", version, err)
	}
	i.private = false
	closed := filepath.Join(dir, "closed")
	must(t, os.Mkdir(closed, 0o700))
	must(t, os.Rename(i.places.CLI, filepath.Join(closed, "cli")))
	i.places.CLI = filepath.Join(closed, "cli")
	version, err := i.Version(t.Context())
	if i.Users() && (err == nil || !strings.Contains(err.Error(), "cannot enter "+closed)) || !i.Users() && version != "1.2.3" {
		t.Errorf("the version is %q: %v", version, err)
	}
}

func TestASessionKeepsItsUser(t *testing.T) {
	t.Parallel()
	i, _ := isolated(t)
	first, dirs := session(t, i, "one")
	second, _ := session(t, i, "two")
	again, err := i.User(dirs)
	must(t, err)
	if !i.Users() {
		if first != nil || second != nil || again != nil {
			t.Error("there are users")
		}
		return
	}
	if first.ID == second.ID || again.ID != first.ID || userOf(dirs.Root) != first.ID || !i.uids.has(first.ID) {
		t.Errorf("the users are %d, %d, %d", first.ID, second.ID, again.ID)
	}
	// A copy has the same group, and only one can be right.
	copied := DirsBelow(dirs.Root + "-copy")
	must(t, os.Mkdir(copied.Root, 0o710))
	must(t, os.Lchown(copied.Root, 0, first.ID))
	other, err := i.User(copied)
	must(t, err)
	if other.ID == first.ID {
		t.Errorf("two have user %d", other.ID)
	}
}

func TestOwnTouchesNothingElse(t *testing.T) {
	t.Parallel()
	i, volume := isolated(t)
	user, dirs := session(t, i, "one")
	foreign := filepath.Join(volume, "foreign")
	must(t, os.Mkdir(foreign, 0o755))
	const mode = 0o640
	must(t, os.Chmod(filepath.Join(volume, "token"), mode))
	inTree := func(name string) string { return filepath.Join(dirs.Tree, name) }
	must(t, os.MkdirAll(inTree("a/b"), 0o755))
	must(t, os.WriteFile(inTree("a/b/setuid"), []byte("x"), 0o755))
	must(t, os.Chmod(inTree("a/b/setuid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	must(t, os.Symlink(foreign, inTree("a/link")))
	must(t, os.Symlink("/does/not/exist", inTree("dangling")))
	must(t, os.Link(filepath.Join(volume, "token"), inTree("linked")))
	must(t, syscall.Mkfifo(inTree("fifo"), 0o666))
	must(t, os.Link(filepath.Join(volume, "token"), filepath.Join(dirs.Root, "file")))
	must(t, user.Own(dirs.Tree, filepath.Join(dirs.Root, "file")))
	stat := func(path string) *syscall.Stat_t {
		info, err := os.Lstat(path)
		must(t, err)
		return info.Sys().(*syscall.Stat_t)
	}
	id := uint32(os.Getuid())
	if user != nil {
		id = uint32(user.ID)
	}
	for _, name := range []string{"", "a", "a/b", "a/b/setuid", "a/link", "dangling", "fifo"} {
		if got := stat(inTree(name)).Uid; got != id {
			t.Errorf("%q is %d's, not %d's", name, got, id)
		}
	}
	if stat(foreign).Uid != uint32(os.Getuid()) || stat(filepath.Join(volume, "token")).Uid != uint32(os.Getuid()) {
		t.Error("a link was followed")
	}
	if user != nil && stat(inTree("a/b/setuid")).Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0 {
		t.Error("a setuid bit is left")
	}
	if linked, token := stat(inTree("linked")), stat(filepath.Join(volume, "token")); linked.Ino != token.Ino || token.Mode&0o777 != mode {
		t.Errorf("the file with another name was copied, or closed: %o, not %o", token.Mode&0o777, mode)
	}
	if user != nil && user.Own(inTree("missing")) == nil {
		t.Error("what is not there was given away")
	}
}

// stubborn is a session that does all it can to outlive its end. Its own limit keeps it from filling the test's machine.
const stubborn = `
ulimit -p 100 2>/dev/null || ulimit -u 100
trap '' TERM INT HUP
cat > $TMPDIR/loop <<'END'
#!/bin/sh
setsid env -i $0 &
setsid env -i $0 &
exit
END
chmod +x $TMPDIR/loop
(setsid env -i sh -c 'trap "" TERM; (sleep 600 &) ; exec sleep 600' &)
$TMPDIR/loop 2>/dev/null
touch $TMPDIR/ready
sleep 600
`

// A user's processes are gone when the reaper is, whatever they did; also when the reaper is killed.
func TestAHostileSessionIsEnded(t *testing.T) {
	t.Parallel()
	i, _ := isolated(t)
	if !i.Users() {
		i.places.CLI = "" // an ordinary user's cannot be found once they have hidden: TestNothingIsLeftBehind has the rest
		return
	}
	self, err := os.Executable()
	must(t, err)
	for name, end := range map[string]func(*exec.Cmd, *os.File){
		"asked":  func(_ *exec.Cmd, control *os.File) { _ = control.Close() },
		"killed": func(command *exec.Cmd, _ *os.File) { _ = command.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			user, dirs := session(t, i, name)
			controlled, control, err := os.Pipe()
			must(t, err)
			lock, err := os.Create(dirs.Lock)
			must(t, err)
			args := append([]string{"reap"}, user.arguments()...)
			command := exec.Command(self, append(args, "/bin/sh", "-c", stubborn)...)
			var said bytes.Buffer
			command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dirs.Temp, contract.EnvSession + "=" + name}
			command.Dir, command.ExtraFiles, command.Stderr, command.WaitDelay = dirs.Tree, []*os.File{controlled, lock}, &said, time.Second
			must(t, command.Start())
			must(t, controlled.Close())
			must(t, lock.Close())
			t.Cleanup(func() { _, _ = killAll(user.ID).CombinedOutput() })
			until(t, "hostile process", func() bool { _, err := os.Stat(filepath.Join(dirs.Temp, "ready")); return err == nil })
			end(command, control)
			_ = command.Wait() // it was killed, or ended
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			claim, err := Take(ctx, name, dirs)
			must(t, err)
			claim.Release()
			if left := runningAs(user.ID); len(left) > 0 {
				t.Errorf("%d processes are left\n%s", len(left), said.String())
			}
		})
	}
}

func TestTheKillerHitsNobodyElse(t *testing.T) {
	t.Parallel()
	for _, id := range []int{0, 1, os.Getuid(), contract.SessionUIDFirst - 1, contract.SessionUIDFirst + contract.SessionUIDs} {
		if err := kill(id); err == nil {
			t.Fatalf("it would kill %d's", id)
		}
	}
}

func TestUsersAreThoseThatAreMapped(t *testing.T) {
	t.Parallel()
	const full, small, one = "         0          0 4294967295\n", "0 100000 65536\n", "0 1000 1\n1 100000 65535\n"
	if !maps(full, 200_000, 2_000_000) || maps(small, 200_000, 2_000_000) || !maps(small, 20_000, 60_000) || !maps(one, 20_000, 60_000) {
		t.Error("they are not")
	}
}

func TestUndumpableClosesTheProcess(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(self, "undumpable")
	command.Env = []string{"SECRET=x"}
	if os.Geteuid() == 0 {
		dir, _ := isolated(t)
		copied := filepath.Join(filepath.Dir(dir.places.Work), "self")
		text, err := os.ReadFile(self)
		must(t, err)
		must(t, os.WriteFile(copied, text, 0o755))
		command = exec.Command(copied, "undumpable")
		command.Env = []string{"SECRET=x"}
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
}
