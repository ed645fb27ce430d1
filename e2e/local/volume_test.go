//go:build e2e

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

// mounted is a command that becomes berthd, in a mount namespace of its own in which a script has been run first: what it
// mounts is seen by berthd alone, and gone with it.
func (a *agent) mounted(script string) *exec.Cmd {
	a.t.Helper()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		a.t.Fatalf("these tests mount small volumes, with unshare(1) of util-linux: %v", err)
	}
	options := []string{"--mount"}
	if os.Getuid() != 0 {
		options = append(options, "--map-root-user")
	}
	probe := exec.CommandContext(a.t.Context(), unshare, append(options, "mount", "-t", "tmpfs", "tmpfs", a.t.TempDir())...)
	if output, err := probe.CombinedOutput(); err != nil {
		a.t.Fatalf("these tests need a mount namespace: be root, or allow user namespaces to everybody (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns): %v: %s", err, output)
	}
	if err := os.MkdirAll(a.env[contract.EnvData], 0o700); err != nil {
		a.t.Fatal(err)
	}
	return exec.Command(unshare, append(options, "sh", "-c", script+` && exec "$0"`, programs.berthd)...)
}

// onDisk has an agent's sessions work beside its volume, on the disk.
func (a *agent) onDisk() (work string) {
	work = filepath.Join(a.env["HOME"], "w")
	a.env[contract.EnvWork] = work
	return work
}

// startMounted starts berthd on what a script has mounted. From then on a.data is the volume as it is seen from outside,
// and so it is for the command berth.
func (a *agent) startMounted(script string) {
	a.t.Helper()
	a.launch(a.mounted(script))
	a.data = filepath.Join("/proc", itoa(a.process.Process.Pid), "root") + a.data
	a.env[contract.EnvData] = a.data
	a.awaitAnswer()
}

// startSmall starts berthd on a volume of 16 MB, which goes with the agent: what is left at the end is looked for in a directory that stays.
func (a *agent) startSmall(stays string) {
	a.t.Helper()
	a.startMounted(`mount -t tmpfs -o size=16m,mode=0700 tmpfs "$BERTH_DATA"`)
	a.t.Cleanup(func() {
		if a.noKey(); a.t.Failed() {
			a.showEvents()
		}
		a.data = stays
	})
}

// fill writes a file that takes all the room of a volume, and returns its name.
func fill(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "filler")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // there is no room to close it well
	for size := 64 << 10; size > 0; {
		if _, err := file.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// refusesToStart checks that berthd ends at once, with the exit status 1 and one line, which it returns.
func (a *agent) refusesToStart(command *exec.Cmd) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	bounded := exec.CommandContext(ctx, command.Path, command.Args[1:]...)
	bounded.Env = a.environ()
	output, err := bounded.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		a.t.Errorf("berthd ends with %v: %s", err, output)
	}
	checkLine(a.t, string(output), "berthd: ")
	return string(output)
}

// troubled waits until `berth status` names a problem, and exits with 1.
func (a *agent) troubled(says string) {
	a.t.Helper()
	a.eventually("berth status names the problem: "+says, func() bool {
		stdout, stderr, exit := a.berth("", "status")
		if exit == 0 {
			return false
		}
		checkLine(a.t, stderr, "berth: ")
		if exit != 1 || !strings.Contains(stderr, says) || !strings.Contains(stdout, "PROBLEM") {
			a.t.Fatalf("berth status: exit status %d, %s%s; want %q", exit, stdout, stderr, says)
		}
		return true
	})
}

func (a *agent) untroubled() {
	a.t.Helper()
	a.eventually("berth status names no problem", func() bool {
		_, _, exit := a.berth("", "status")
		return exit == 0
	})
}

// The volume is full while a session runs. Nothing is accepted, what runs is not lost, and goes on when there is room.
func TestFullVolume(t *testing.T) {
	for name, gated := range map[string]int{"in the middle": 8, "at the last step": stepsOfFull - 1} {
		t.Run(name, func(t *testing.T) { fullVolume(t, gated) })
	}
}

// stepsOfFull is how many steps the session takes that meets a full volume.
const stepsOfFull = 20

// fullVolume fills the volume in a step of the session.
func fullVolume(t *testing.T, gated int) {
	var steps []scripted.Step
	var wanted []string
	for number := range stepsOfFull {
		command := fmt.Sprintf("echo did %d.", number)
		if number == gated {
			command = "touch waits; while ! test -e gate; do sleep 0.05; done; " + command
		}
		if number >= gated {
			command += " $(head -c 3000 /dev/zero | tr '\\0' x)" // what is left of the log's last block must not do
		}
		steps = append(steps, scripted.Use(scripted.Bash(command)))
		wanted = append(wanted, fmt.Sprint(number))
	}
	a := plannedAgent(t, scripted.Options{Scripts: []scripted.Script{{Match: "take the steps", Steps: append(steps, scripted.Text("All done."))}}})
	work := a.onDisk()
	a.startMounted(`mount -t tmpfs -o size=4m,mode=0700 tmpfs "$BERTH_DATA"`)
	t.Cleanup(func() { // the volume goes with the agent: what finish looks at is where sessions worked
		if a.noKey(); t.Failed() {
			a.showEvents()
		}
		a.data = work
	})
	running := a.create(api.NewSession{Prompt: "take the steps"})
	a.eventually("the session waits", func() bool {
		_, err := os.Stat(filepath.Join(work, running.ID, "tree", "waits"))
		return err == nil
	})

	filler := fill(t, a.data)
	for range 3 {
		stdout, stderr, exit := a.berth("", "run", "one more")
		if exit != 1 || stdout != "" || !strings.Contains(stderr, "the volume cannot be written") || !strings.Contains(stderr, "no space left") {
			t.Errorf("exit status %d: %s%s", exit, stdout, stderr)
		}
		checkLine(t, stderr, "berth: ")
	}
	_, err := a.client.Create(t.Context(), api.NewSession{Prompt: "one more"})
	var refused *api.StatusError
	if !errors.As(err, &refused) || refused.Err.Code != api.CodeVolume || refused.Status != 507 {
		t.Errorf("the API says %+v", err)
	}
	a.onlySession(running.ID)
	a.troubled("the volume cannot be written")

	if err := os.WriteFile(filepath.Join(work, running.ID, "tree", "gate"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.idle(work, running.ID) // it has been interrupted
	a.troubled("the volume cannot be written")
	now, err := a.client.Session(t.Context(), running.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(a.log.String(), "sessions/"+running.ID+"/") {
		t.Error("the session did not notice that the volume is full")
	}
	if now.State.Ended() {
		t.Errorf("on a full volume it is %s: %+v", now.State, now.Error)
	}
	if _, stderr, exit := a.berth(strings.Repeat("and this\n", 1000), "send", running.ID, "-"); exit != 1 || !strings.Contains(stderr, "the volume cannot be written") {
		t.Errorf("a message to it: exit status %d: %s", exit, stderr)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	ended := a.end(running.ID)
	if ended.State != api.Succeeded || ended.Result != "All done." {
		t.Errorf("it is %s: %+v, %q", ended.State, ended.Error, ended.Result)
	}
	a.checkSteps(running.ID, wanted)
	a.untroubled()
	a.onlySession(running.ID)
	if stdout, stderr, exit := a.berth("", "run", "--detach", "one more"); exit != 0 {
		t.Errorf("there is room, and berth run ends with %d: %s%s", exit, stdout, stderr)
	} else if ended := a.end(strings.TrimSpace(stdout)); ended.State != api.Succeeded {
		t.Errorf("the next one is %s: %+v", ended.State, ended.Error)
	}
	a.idle(work, running.ID)
}

// idle waits until no process runs for a session.
func (a *agent) idle(work, id string) {
	a.t.Helper()
	there := &agent{t: a.t, data: work} // processes are told by where they work
	a.eventually("no process runs for the session", func() bool { return len(there.processes(id)) == 0 })
}

// onlySession checks that the agent, and its volume, have one session and nothing half accepted.
func (a *agent) onlySession(id string) {
	a.t.Helper()
	list, err := a.client.Sessions(a.t.Context())
	if err != nil || len(list) != 1 || list[0].ID != id {
		a.t.Errorf("the sessions are %+v: %v", list, err)
	}
	for name, want := range map[string][]string{"sessions": {id}, "spool": nil} {
		entries, err := os.ReadDir(filepath.Join(a.data, name))
		var names []string
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), ".probe") { // of a look at whether there is room
				names = append(names, entry.Name())
			}
		}
		if err != nil || !reflect.DeepEqual(names, want) {
			a.t.Errorf("%s on the volume has %q: %v", name, names, err)
		}
	}
}

// noKey checks that the key is not on a volume that is gone when the agent is.
func (a *agent) noKey() {
	a.t.Helper()
	err := filepath.WalkDir(a.data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			a.t.Errorf("%s holds the key", path)
		}
		return err
	})
	if err != nil {
		a.t.Error(err)
	}
}

// An agent that cannot write to its volume does not start, and what is on the volume is as it was.
func TestVolumeThatCannotBeWritten(t *testing.T) {
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Text("Done.")}}}})
	ended := a.end(a.create(api.NewSession{Prompt: "be there"}).ID)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"empty and read-only": `mount -t tmpfs -o ro tmpfs "$BERTH_DATA"`,
		"used and read-only":  `mount --bind "$BERTH_DATA" "$BERTH_DATA" && mount -o remount,bind,ro,nosuid,nodev "$BERTH_DATA"`,
		"full":                `mount -t tmpfs -o size=1m tmpfs "$BERTH_DATA" && { head -c 2000000 /dev/zero >"$BERTH_DATA/filler" || true; } 2>/dev/null`,
	} {
		t.Run(name, func(t *testing.T) {
			said := a.refusesToStart(a.mounted(script))
			if !strings.Contains(said, a.data) || !strings.Contains(said, "the volume cannot be") {
				t.Errorf("it does not name the volume: %s", said)
			}
		})
	}
	a.start()
	if again, err := a.client.Session(t.Context(), ended.ID); err != nil || !reflect.DeepEqual(again, ended) {
		t.Errorf("the session was %+v\nand is %+v: %v", ended, again, err)
	}
}

// Without Claude Code nothing starts; if it goes away later, sessions wait for it.
func TestVolumeWithoutClaude(t *testing.T) {
	t.Parallel()
	a := plannedAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Text("Done.")}}}})
	link := filepath.Join(filepath.Dir(programs.cli), ".claude-of-a-test")
	t.Cleanup(func() { _ = os.Remove(link) })
	a.env[contract.EnvClaude] = link
	said := a.refusesToStart(exec.Command(programs.berthd))
	if !strings.Contains(said, link) || !strings.Contains(said, contract.EnvClaude) {
		t.Errorf("it does not say what is missing and what to do: %s", said)
	}
	if _, stderr, exit := a.berth("", "run", "do it"); exit != 3 {
		t.Errorf("no agent runs, and berth run ends with %d: %s", exit, stderr)
	}

	installCLI(t, link)
	a.start()
	a.untroubled()
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	var waiting []string
	for range 2 {
		stdout, stderr, exit := a.berth("", "run", "--detach", "do it")
		if exit != 0 {
			t.Fatalf("exit status %d: %s", exit, stderr)
		}
		waiting = append(waiting, strings.TrimSpace(stdout))
	}
	a.troubled("the Claude Code CLI cannot be run")
	for _, id := range waiting {
		if now, err := a.client.Session(t.Context(), id); err != nil || now.State != api.Queued {
			t.Errorf("without Claude Code it is %+v: %v", now, err)
		}
	}
	installCLI(t, link)
	for _, id := range waiting {
		if ended := a.end(id); ended.State != api.Succeeded || ended.Attempts != 1 {
			t.Errorf("it is %s after %d attempts: %+v", ended.State, ended.Attempts, ended.Error)
		}
	}
	a.untroubled()
}

// installCLI makes another name of the CLI: one that is a link would be followed when the agent starts.
func installCLI(t *testing.T, name string) {
	t.Helper()
	cli, err := filepath.EvalSymlinks(programs.cli)
	if err == nil && os.Link(cli, name) != nil { // on another disk
		err = exec.Command("cp", "--", cli, name).Run()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Somebody else has the address.
func TestPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nobody connects to it
	a := plannedAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: []scripted.Step{scripted.Text("Done.")}}}})
	address := listener.Addr().String()
	a.env[contract.EnvListen] = address
	said := a.refusesToStart(exec.Command(programs.berthd))
	if !strings.Contains(said, address) || !strings.Contains(said, "set "+contract.EnvListen) {
		t.Errorf("it does not say which address and what to do: %s", said)
	}
	if _, err := os.Stat(filepath.Join(a.data, api.EndpointFile)); err == nil {
		t.Error("clients are led to an agent that did not start")
	}

	a.env[contract.EnvListen] = "127.0.0.1:0"
	a.start()
	if stdout, stderr, exit := a.berth("", "run", "do it"); exit != 0 {
		t.Errorf("it does not work with a free port: exit status %d: %s%s", exit, stdout, stderr)
	}
}
