//go:build e2e

package local

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

const (
	// matrixRuns is how many runs CI makes, and soakVariable names the number of others.
	matrixRuns   = 25
	soakVariable = "BERTH_SOAK"
	seedVariable = "BERTH_SEED" // of the one run that is to be made again

	matrixSteps = 8
	// matrixInterval is how long changes may be on the work disk alone, in seconds.
	matrixInterval = "1"
)

// stateOf prints what a step finds and what it leaves: git's id of the files, and all that git does not keep of them.
const stateOf = `state() { echo "$1 $(GIT_INDEX_FILE=$TMPDIR/index; export GIT_INDEX_FILE; rm -f $GIT_INDEX_FILE; git add -A . >/dev/null 2>&1; git write-tree) $(find . -path ./.git -prune -o ! -name '*.log' -printf '%m %y %p %l\n' | LC_ALL=C sort | sha256sum | cut -c1-40) $(git rev-parse HEAD) $(git symbolic-ref -q HEAD) $(git status --porcelain | sha256sum | cut -c1-40)"; }`

// Sessions with a repository, commits, edits that are not committed, deletions and further messages, whose agent, Claude
// Code or both are killed at any moment, and whose work disk may be gone when the agent comes back, as it is on Fargate.
func TestCrashMatrix(t *testing.T) {
	runs, first := matrixRuns, uint64(time.Now().UnixNano())
	if wanted, err := strconv.Atoi(os.Getenv(soakVariable)); err == nil {
		runs = wanted
	}
	if again, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		runs, first = 1, again
	}
	for run := range runs {
		seed := first + uint64(run)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			newMatrixRun(t, rand.New(rand.NewPCG(seed, 0))).play()
		})
	}
}

type matrixRun struct {
	*agent
	random   *rand.Rand
	work     string
	restores int
}

func newMatrixRun(t *testing.T, random *rand.Rand) *matrixRun {
	t.Helper()
	steps := []scripted.Step{}
	for number := range matrixSteps {
		command := fmt.Sprintf("%s\nstate before\n%s\nstate after\necho did %d.", stateOf, change(random, number), number)
		steps = append(steps, scripted.Step{Delay: time.Duration(100+random.IntN(700)) * time.Millisecond, Tools: []scripted.Tool{scripted.Bash(command)}})
	}
	// A place of its own, because a work disk goes away as a whole.
	work := filepath.Join(t.TempDir(), "disk")
	m := &matrixRun{random: random, work: work}
	m.agent = newAgent(t, scripted.Options{Scripts: []scripted.Script{
		{Name: "first", Match: "take the steps", Steps: append(steps[:matrixSteps/2:matrixSteps/2], scripted.Text("Half done."))},
		{Name: "second", Match: "take the rest", Steps: append(steps[matrixSteps/2:], scripted.Text("All done."))},
		// A kill after the last step may cost files of it, which the agent then says. That all steps were taken is seen in the log.
		{Name: "what the agent says", Steps: []scripted.Step{scripted.Text("All done.")}},
	}}, contract.EnvWork+"="+work, contract.EnvCheckpoint+"="+matrixInterval)
	return m
}

// change is something that a step does with files. Each leaves something that no other step does.
func change(random *rand.Rand, number int) string {
	changes := []string{
		"mkdir -p d/%[1]d && printf '\\0%[1]d\\377' > d/%[1]d/binary && chmod 600 d/%[1]d/binary",
		"echo %[1]d >> seed.txt && git commit -qam 'commit %[1]d'",
		"echo %[1]d > new%[1]d.txt && git add new%[1]d.txt",
		"git rm -q --cached gone.txt; rm -f gone.txt; echo %[1]d >> seed.txt",
		"ln -sf nowhere link%[1]d && mkdir -p empty%[1]d && echo '#!/bin/sh' > run%[1]d.sh && chmod 755 run%[1]d.sh",
		"git checkout -q -b side%[1]d && echo %[1]d > side%[1]d && git add . && git commit -qm 'side %[1]d'",
		"echo %[1]d >> kept.txt && git add kept.txt && echo more >> kept.txt && echo %[1]d > ignored.log",
		"mkdir -p x && date +%%N > x/%[1]d && chmod 400 x/%[1]d && rm -f new*.txt",
	}
	return fmt.Sprintf(changes[random.IntN(len(changes))], number)
}

func (m *matrixRun) play() {
	m.t.Helper()
	session := m.create(api.NewSession{Prompt: "take the steps", Repo: matrixRepo(m.t)})
	m.disasters(session.ID, "first")
	m.end(session.ID)
	m.ask(session.ID, "take the rest")
	m.disasters(session.ID, "second")
	ended := m.end(session.ID)
	if ended.State != api.Succeeded || ended.Result != "All done." {
		m.t.Errorf("it is %s: %+v, %q", ended.State, ended.Error, ended.Result)
	}
	m.check(ended)
	if err := m.stop(); err != nil {
		m.t.Errorf("berthd: %v", err)
	}
	m.nothingIsLeft(session.ID)
}

// disasters are one or two, and at times a message that is no task, in the middle of a turn or after its end.
func (m *matrixRun) disasters(id, phase string) {
	m.t.Helper()
	for range 1 + m.random.IntN(2) {
		// Between two looks, and between any two lines.
		<-time.After(time.Duration(200+m.random.IntN(2500)) * time.Millisecond)
		if m.random.IntN(3) == 0 && phase == "first" {
			m.ask(id, "hurry") // it may be answered after the task
		}
		m.disaster(id)
	}
}

func (m *matrixRun) ask(id, text string) {
	m.t.Helper()
	if _, err := m.client.Send(m.t.Context(), id, api.NewMessage{Text: text}); err != nil {
		m.t.Fatal(err)
	}
}

// disaster kills the agent, Claude Code, or both.
func (m *matrixRun) disaster(id string) {
	m.t.Helper()
	const agentAlone, claudeAlone, kinds = 0, 2, 4
	what := m.random.IntN(kinds)
	if what != agentAlone {
		for _, pid := range m.claudes(id) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	if what == claudeAlone {
		return
	}
	m.kill()
	if m.random.IntN(2) == 0 {
		// A process in the middle of an exec has no environment to be known by, and may still write.
		m.eventually("the machine is gone", func() bool { return len(m.processes(id)) == 0 && os.RemoveAll(m.work) == nil })
	}
	m.start()
}

// matrixRepo makes a repository to start from.
func matrixRepo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `git init -q -b main . && echo seed > seed.txt && echo kept > kept.txt && echo gone > gone.txt && echo '*.log' > .gitignore && git add . &&
		git -c user.name=t -c user.email=t@example.com commit -q -m first`
	command := exec.CommandContext(t.Context(), "sh", "-c", script)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return dir
}

var (
	beforeStep = regexp.MustCompile(`before ([0-9a-f]{40} [^\\"]*)`)
	afterStep  = regexp.MustCompile(`after ([0-9a-f]{40} [^\\"]*)`)
)

// check looks through the log: every step is there once, in order, and where the files were restored, they were what the last
// checkpoint had.
func (m *matrixRun) check(session *api.Session) {
	m.t.Helper()
	var wanted []string
	for number := range matrixSteps {
		wanted = append(wanted, strconv.Itoa(number))
	}
	m.checkSteps(session.ID, wanted)
	seen := sight{states: map[string]state{}}
	for _, event := range m.events(session.ID) {
		switch event.Type {
		case api.EventCheckpoint:
			seen.checkpoints, seen.lost = append(seen.checkpoints, event.Checkpoint.Commit), 0
			seen.began = event.Time.Add(-time.Duration(event.Checkpoint.Seconds * float64(time.Second)))
			if len(event.Checkpoint.LeftOut) > 0 {
				m.t.Errorf("left out: %v", event.Checkpoint.LeftOut)
			}
		case api.EventRestore:
			m.restores++
			m.checkRestored(&event, &seen)
		case api.EventState:
			if event.State == api.Running {
				// A step that this run does not begin is one that the one before it did: its beginning is in no log.
				seen.expected, seen.restored = seen.restored, ""
			}
		case api.EventClaude:
			m.checkStep(&event, &seen)
		default:
		}
	}
}

// sight is what the log has shown so far.
type sight struct {
	checkpoints []string         // their commits
	began       time.Time        // when the last one began
	states      map[string]state // what a step left, by git's id of the files
	restored    string           // what the files were restored to, if Claude Code has not run since
	expected    string           // what the next step has to find, if anything
	lost        int              // steps since the last checkpoint
}

// state is what a step left: its files, and what is staged of them.
type state struct {
	text  string
	known time.Time
}

// checkRestored checks that the files are those of the last checkpoint, or of one that a kill met before it was in the log: it
// is newer than any that the log has.
func (m *matrixRun) checkRestored(event *api.Event, seen *sight) {
	m.t.Helper()
	m.t.Logf("restored after %d steps without a checkpoint", seen.lost)
	seen.restored, seen.expected = "", ""
	// The checkpoint may have met a later step in its middle: with the files that it left, and before it had staged them.
	maps.DeleteFunc(seen.states, func(_ string, left state) bool { return left.known.After(seen.began) })
	if event.Checkpoint != nil {
		seen.restored = event.Checkpoint.Tree
	}
	last := len(seen.checkpoints) - 1
	switch {
	case last < 0:
	case event.Checkpoint == nil:
		m.t.Errorf("nothing is restored, and the last checkpoint was %s", seen.checkpoints[last])
	case slices.Contains(seen.checkpoints[:last], event.Checkpoint.Commit) && event.Checkpoint.Commit != seen.checkpoints[last]:
		m.t.Errorf("restored is %+v, which is an older checkpoint: the last one was %s", event.Checkpoint, seen.checkpoints[last])
	}
}

// checkStep checks what a step has found. One that is written down before Claude Code runs again was taken before the files
// were restored.
func (m *matrixRun) checkStep(event *api.Event, seen *sight) {
	m.t.Helper()
	line := string(event.Claude)
	if !strings.Contains(line, "tool_result") {
		return
	}
	before, after := beforeStep.FindStringSubmatch(line), afterStep.FindStringSubmatch(line)
	if before == nil || after == nil {
		return
	}
	seen.lost++
	if seen.expected != "" {
		tree, _, _ := strings.Cut(before[1], " ")
		if tree != seen.expected {
			m.t.Errorf("after the restoration a step found %s, not %s", tree, seen.expected)
		}
		if left := seen.states[tree].text; left != "" && left != before[1] {
			m.t.Errorf("after the restoration a step found\n%s, and before it was\n%s", before[1], left)
		}
	}
	seen.expected = ""
	tree, _, _ := strings.Cut(after[1], " ")
	seen.states[tree] = state{after[1], event.Time}
}

// nothingIsLeft sees that an agent that has ended leaves nothing but what lasts.
func (m *matrixRun) nothingIsLeft(id string) {
	m.t.Helper()
	m.eventually("no process is left", func() bool { return len(m.processes("")) == 0 })
	names := func(dir string) (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			m.t.Error(err)
		}
		for _, entry := range entries {
			list = append(list, entry.Name())
		}
		return list
	}
	for dir, want := range map[string][]string{
		filepath.Join(m.data, "sessions", id): {"events.jsonl", "session.json", "transcript.jsonl"},
		filepath.Join(m.data, "spool"):        nil,
		filepath.Join(m.data, "daemons"):      nil,
		m.work:                                {".disk", id},
	} {
		if got := names(dir); !slices.Equal(got, want) {
			m.t.Errorf("%s holds %v, want %v", dir, got, want)
		}
	}
	for _, name := range names(m.data) {
		if strings.HasPrefix(name, ".") {
			m.t.Errorf("%s is left", name)
		}
	}
}
