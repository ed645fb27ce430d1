// Package dockertest builds the agent's image and runs it, for tests and measurements: with a Docker daemon of its own, over bases made
// on this machine, and as a task definition says.
//
// Nothing is pulled: no registry of images is within reach of the tests. docs/image.md says what is different from Fargate.
package dockertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// client is Debian's: another one may come first on the PATH.
const client = "/usr/bin/docker"

// Daemon is a Docker daemon that nobody else uses.
type Daemon struct {
	Host string // for DOCKER_HOST

	process *exec.Cmd
	ended   chan error
	log     string
	memory  *httptest.Server // for builds; nil before Bases
}

// Start starts a daemon that keeps all it has below a directory. It needs root.
//
// It makes no bridge and no rules of a firewall: containers are on the machine's own network.
func Start(ctx context.Context, directory string) (*Daemon, error) {
	socket := filepath.Join(directory, "sock")
	if len(socket) > 100 {
		return nil, fmt.Errorf("dockertest: %s is too long for a socket", socket)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(directory, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the daemon has it
	program := exec.Command("dockerd", "--data-root", filepath.Join(directory, "root"), "--exec-root", filepath.Join(directory, "exec"),
		"--pidfile", filepath.Join(directory, "pid"), "--host", "unix://"+socket,
		"--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
	program.Stdout, program.Stderr = log, log
	// Ctrl-C at a terminal is for the test, which ends the daemon after its containers.
	// A test that is killed takes the daemon along.
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	d := &Daemon{Host: "unix://" + socket, process: program, ended: make(chan error, 1), log: log.Name()}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel takes the end of the thread that started a process for that of its parent
		defer runtime.UnlockOSThread()
		err := program.Start()
		started <- err
		if err == nil {
			d.ended <- program.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("dockertest: %w (on Debian: apt-get install docker.io)", err)
	}
	for {
		if _, err := d.Docker(ctx, "version"); err == nil {
			return d, nil
		}
		select {
		case err := <-d.ended:
			text, _ := os.ReadFile(d.log)
			return nil, fmt.Errorf("dockertest: dockerd ended: %w: %s", err, text)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), d.Stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop kills the containers that are left, ends the daemon and waits for it.
func (d *Daemon) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if d.memory != nil {
		d.memory.Close()
	}
	var problem error
	if left, err := d.Docker(ctx, "ps", "-q"); err == nil && left != "" {
		_, problem = d.Docker(ctx, append([]string{"kill"}, strings.Fields(left)...)...)
	}
	problem = errors.Join(problem, d.process.Process.Signal(syscall.SIGTERM))
	select {
	case <-d.ended: //nolint:errcheck // it was told to end
		return errors.Join(problem, unmount(filepath.Dir(d.log)))
	case <-ctx.Done():
		return errors.Join(problem, errors.New("dockertest: dockerd did not end on SIGTERM"), d.process.Process.Kill())
	}
}

// unmount takes away what a daemon has left mounted below a directory, such as the network of containers that have the machine's own:
// nobody could remove the directory.
func unmount(directory string) error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var problem error
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], directory+"/") {
			problem = errors.Join(problem, unix.Unmount(fields[1], unix.MNT_DETACH))
		}
	}
	return problem
}

// Docker runs the client, and returns what it prints. Containers are started with words that hold no secret: see Task.Start.
func (d *Daemon) Docker(ctx context.Context, words ...string) (string, error) {
	return d.run(d.Command(ctx, words...))
}

// Command is the client for this daemon, not started.
func (d *Daemon) Command(ctx context.Context, words ...string) *exec.Cmd {
	program := exec.CommandContext(ctx, client, words...)
	program.Env = append(os.Environ(), "DOCKER_HOST="+d.Host, "DOCKER_BUILDKIT=1")
	return program
}

func (d *Daemon) run(program *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	program.Stdout, program.Stderr = &stdout, &stderr
	if err := program.Run(); err != nil {
		return strings.TrimSpace(stdout.String()), fmt.Errorf("docker %s: %w: %s%s", program.Args[1], err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}
