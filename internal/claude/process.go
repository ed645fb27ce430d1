package claude

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// killAfter is how long a reaper has to end everything once it is told to.
	killAfter = reapGrace + 5*time.Second
	// holdTime is the usual Config.Hold: taking a turn up takes the CLI a second or two, on a busy machine more.
	holdTime   = 15 * time.Second
	stderrKept = 4 << 10
	// lateOutput is how long output may come after everything has ended, and pipeHolds how much, in bytes: Linux lets
	// nobody have a larger pipe unasked (pipe(7), pipe-max-size).
	lateOutput = time.Second
	pipeHolds  = 1 << 20
)

// Process is a running CLI and everything below it.
type Process struct {
	session    string
	user       int // 0 for the daemon's own
	command    *exec.Cmd
	control    *os.File // the reaper ends everything when it is closed
	transcript *Transcript
	keep       func(at int64, part []byte) error
	kept       int64
	stderr     tail
	lines      chan Line
	done       chan struct{} // closed when everything has ended
	exit       Exit

	told chan struct{} // input, closed or ready may have changed

	mu     sync.Mutex
	ready  bool            // the CLI has taken up what it has to before it may hear of anything else
	first  int             // how many messages it gets before that
	input  [][]byte        // lines that are to be written
	closed bool            // no more come
	open   map[string]bool // messages that were given and not answered
	over   bool            // the turn is over
	killed bool
}

// Exit says how the CLI ended.
type Exit struct {
	Code   int    // 128 + n if signal n ended it
	Stderr string // the last of what it complained about
}

// Start starts the CLI under the claim: anew, or to go on with the transcript if there is one. Its Lines have to
// be read until their end. Where the transcript ends in the middle of a turn, messages wait until the CLI has taken it up.
func (c *Claim) Start(config *Config) (*Process, error) {
	transcript, err := c.Transcript()
	if err != nil {
		return nil, err
	}
	resume := transcript.Exists()
	first, held := transcript.before()
	transcript.slim()
	if err := errors.Join(transcript.discard(resume), c.dirs.Make(), config.User.adopt(c.dirs), config.write(c.dirs)); err != nil {
		return nil, err
	}
	p := &Process{
		session: c.session, user: userOf(c.dirs.Root),
		transcript: transcript, keep: config.Keep, kept: config.Kept, stderr: tail{keep: stderrKept},
		lines: make(chan Line), done: make(chan struct{}), told: make(chan struct{}, 1), open: map[string]bool{},
		ready: !held, first: first,
	}
	args := slices.Concat(config.Reaper[1:], config.User.arguments(), []string{config.CLI}, config.args(c.session, c.dirs, resume))
	if !resume {
		p.kept = 0 // what was kept is of a transcript that is no more
	}
	p.command = exec.Command(config.Reaper[0], args...)
	p.command.Dir, p.command.Env = c.dirs.Tree, config.env(c.session, c.dirs)
	stdin, output, err := p.start(c.lock)
	if err != nil {
		return nil, fmt.Errorf("starting Claude Code: %w", err)
	}
	raw := make(chan Line, 256)
	if held {
		go p.hold(cmp.Or(config.Hold, holdTime))
	}
	go p.write(stdin)
	go p.wait(output)
	go p.scan(output, raw)
	go p.settle(raw)
	return p, nil
}

// start starts the reaper, with the CLI below it, and returns the ends of its input and output.
func (p *Process) start(lock *os.File) (stdin io.WriteCloser, output *os.File, err error) {
	output, stdout, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer stdout.Close() //nolint:errcheck // it is the child's
	controlled, control, err := os.Pipe()
	if err != nil {
		return nil, nil, errors.Join(err, output.Close())
	}
	defer controlled.Close() //nolint:errcheck // it is the child's
	p.control = control
	p.command.Stdout, p.command.Stderr = stdout, &p.stderr
	p.command.ExtraFiles = []*os.File{controlled, lock} // 3 and 4
	p.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.command.WaitDelay = 5 * time.Second
	stdin, err = p.command.StdinPipe()
	if err == nil {
		err = p.command.Start()
	}
	if err != nil {
		return nil, nil, errors.Join(err, output.Close(), control.Close())
	}
	return stdin, output, nil
}

// Lines returns the CLI's output: what is not a message as it comes, messages once they are in the
// transcript. It is closed when the CLI has ended.
func (p *Process) Lines() <-chan Line { return p.lines }

// Exit waits until everything has ended, and says how. Lines has to be read by then or meanwhile.
func (p *Process) Exit() Exit {
	<-p.done
	return p.exit
}

// Send gives the CLI a message with a UUID. It may be called in the middle of a turn, and does not wait for the CLI to
// read it. It reports false if the message cannot be taken any more: when the turn is over and every message answered, the
// CLI's input ends, and with it the CLI, as soon as its background commands have.
func (p *Process) Send(uuid, text string) bool {
	line, err := json.Marshal(map[string]any{
		"type": "user", "uuid": uuid, "message": map[string]string{"role": "user", "content": text},
	})
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
	}
	if p.closed {
		return false
	}
	p.input = append(p.input, append(line, '\n'))
	p.open[uuid] = true
	p.tell()
	return true
}

func (p *Process) tell() {
	select {
	case p.told <- struct{}{}:
	default:
	}
}

// Stop asks the CLI to end: SIGINT cuts its turn off with a result, SIGTERM at once. What is left after grace is
// killed. It returns at once; Lines is closed when all has ended.
func (p *Process) Stop(signal syscall.Signal, grace time.Duration) {
	_ = p.command.Process.Signal(signal) // it may have ended
	go func() {
		if p.ended(grace) {
			return
		}
		p.mu.Lock()
		p.killed = true
		_ = p.control.Close()
		p.mu.Unlock()
		if !p.ended(killAfter) {
			_ = p.command.Process.Kill()
		}
	}()
}

func (p *Process) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// hold keeps messages from a CLI that has a turn to take up, until it has, for so long at most. It would take one that waits
// when it starts for its next prompt, and leave the turn as it is.
func (p *Process) hold(most time.Duration) {
	if p.ended(most) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = true
	p.tell()
}

// due takes the lines that may be written now, for whoever has the mutex.
func (p *Process) due() (lines [][]byte) {
	count := len(p.input)
	if !p.ready {
		count = min(count, p.first)
		p.first -= count
	}
	lines, p.input = p.input[:count:count], p.input[count:]
	return lines
}

// write hands messages to the CLI, until there will be no more or it has ended. A CLI that does not read blocks only
// this.
func (p *Process) write(stdin io.WriteCloser) {
	defer stdin.Close() //nolint:errcheck // who would read has ended, or is told so
	for {
		p.mu.Lock()
		lines, closed := p.due(), p.closed
		p.mu.Unlock()
		for _, line := range lines {
			if _, err := stdin.Write(line); err != nil {
				return
			}
		}
		if closed {
			return
		}
		select {
		case <-p.told:
		case <-p.done:
			return
		}
	}
}

// wait waits for the reaper, which ends last.
func (p *Process) wait(output *os.File) {
	_ = p.command.Wait() // its status says more than its error
	p.exit = Exit{Code: exitCode(p.command.ProcessState), Stderr: p.stderr.String()}
	p.mu.Lock()
	if !p.killed {
		_ = p.control.Close()
		p.killed = true
	}
	p.mu.Unlock()
	// A reaper that was itself killed, or stopped, has left something behind. Any other has left nothing, and what the user
	// runs is the daemon's own work on the session's files.
	user := 0
	if p.command.ProcessState.ExitCode() < 0 {
		user = p.user
	}
	for tries := 0; sweep(p.session, user) > 0 && tries < 100; tries++ {
		<-time.After(10 * time.Millisecond)
	}
	// Nothing writes any more, unless it escaped the reaper: whoever waits for more waits in vain.
	_ = output.SetReadDeadline(time.Now().Add(lateOutput))
	close(p.done)
}

func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() { //nolint:misspell // syscall spells it so
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
