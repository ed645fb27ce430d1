package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/api"
)

// trap is a log that panics, once, when it is told something: which is how a test has a fault in the middle of the agent's work.
type trap struct {
	message string
	sprung  *atomic.Bool
}

func (t trap) Enabled(context.Context, slog.Level) bool { return true }
func (t trap) WithAttrs([]slog.Attr) slog.Handler       { return t }
func (t trap) WithGroup(string) slog.Handler            { return t }

func (t trap) Handle(_ context.Context, record slog.Record) error {
	if record.Message == t.message && t.sprung.CompareAndSwap(false, true) {
		panic("it was a trap")
	}
	return nil
}

// A fault of the agent's own, in a run or in what goes on beside it, costs a session an attempt, and the other sessions nothing. Its
// Claude Code has ended then.
func TestAFaultInTheMiddleOfARunCutsOneSessionOff(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{"checkpoint": "no checkpoint was made", "run": "Claude Code has ended a turn"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t, 2)
			sprung := &atomic.Bool{}
			a.config.Logger, a.config.CheckpointEvery = slog.New(trap{message, sprung}), 10*time.Millisecond
			a.start()
			gate, other, beside := filepath.Join(t.TempDir(), "gate"), filepath.Join(t.TempDir(), "gate"), ""
			id := a.create("wait " + gate)
			a.await(id, api.Running)
			if name == "checkpoint" {
				beside = a.create("wait " + other)
				a.await(beside, api.Running)
			} else {
				must(t, os.WriteFile(gate, nil, 0o600))
			}
			files := 0
			until(t, func() bool {
				if beside != "" && !sprung.Load() {
					// Whatever checkpoint is just being made, the next one has something to save, and cannot.
					a.overtake(id)
					files++
					must(t, os.WriteFile(filepath.Join(a.get(id).WorkDir, fmt.Sprint(files)), nil, 0o600))
				}
				return a.get(id).Cuts > 0
			}, func() string { return a.events(id) })
			if all := a.events(id); !sprung.Load() || !strings.Contains(all, "a fault of its own: it was a trap") {
				t.Errorf("nothing tells of it:\n%s", all)
			}
			if beside == "" {
				a.await(id, api.Succeeded) // it goes on by itself
				return
			}
			must(t, os.WriteFile(other, nil, 0o600))
			a.await(beside, api.Succeeded)
		})
	}
}

// overtake puts another agent's checkpoint in the place of a session's.
func (a *agent) overtake(id string) (ref, commit string) {
	a.t.Helper()
	mirrors, err := filepath.Glob(filepath.Join(a.mirrors.Dir(), "*.git"))
	if err != nil || len(mirrors) != 1 {
		a.t.Fatal(mirrors, err)
	}
	ref, commit = filepath.Join(mirrors[0], "refs", "berth", id), strings.Repeat("1", 40)+"\n"
	must(a.t, os.MkdirAll(filepath.Dir(ref), 0o700))
	must(a.t, os.WriteFile(ref, []byte(commit), 0o600))
	return ref, commit
}

// What is left of a session that was removed goes, though the agent was killed in between.
func TestARemovalThatWasCutOffIsFinished(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	id := a.saved()
	ref := fmt.Sprintf("refs/berth/%s", id)
	if !strings.Contains(a.refs(), ref) {
		t.Fatalf("its checkpoint is not among %s", a.refs())
	}
	a.stop()
	must(t, os.Rename(filepath.Join(a.dir, "sessions", id), filepath.Join(a.dir, "spool", "old.killed."+id)))
	a.open(1)
	a.tidy(t.Context())
	if refs := a.refs(); strings.Contains(refs, ref) {
		t.Errorf("its checkpoint is among %s", refs)
	}
	for _, left := range []string{filepath.Join("spool", "old.killed."+id), filepath.Join("work", id)} {
		if _, err := os.Lstat(filepath.Join(a.dir, left)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
}

// refs lists the files of the mirrors' refs, and what is packed.
func (a *agent) refs() string {
	a.t.Helper()
	var all strings.Builder
	must(a.t, filepath.WalkDir(a.mirrors.Dir(), func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "packed-refs" {
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		}
		if strings.Contains(path, "/refs/") {
			all.WriteString(path + "\n")
		}
		return err
	}))
	return all.String()
}

// What only the transcript has is on the volume before the log has it: a run that ends with its disk must not leave a log that has more
// than the next one goes on from.
func TestWhatIsRecoveredIsKeptFirst(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 1).start()
	id := a.create("reply 1")
	a.await(id, api.Succeeded)
	a.stop()
	a.open(1)
	local, err := filepath.Glob(filepath.Join(a.dir, "work", id, "config", "projects", "*", "*.jsonl"))
	if err != nil || len(local) != 1 {
		t.Fatal(local, err)
	}
	text, err := os.ReadFile(local[0])
	must(t, err)
	const step = `{"type":"assistant","uuid":"11111111-1111-4111-8111-111111111111","message":{"id":"late","model":"m","content":[{"type":"text","text":"late"}]}}`
	must(t, os.WriteFile(local[0], append(text, step+"\n"...), 0o600))
	a.send(id, "reply 2")
	r, _ := a.next()
	must(t, r.begin())
	claim, _, err := r.ready(t.Context())
	must(t, err)
	claim.Release()
	copied, err := os.ReadFile(r.session.TranscriptFile())
	must(t, err)
	if all := a.events(id); !strings.Contains(string(copied), step) || !strings.Contains(all, `"recovered":true`) || r.kept != int64(len(copied)) {
		t.Errorf("the copy has %d bytes, %d are said to be kept:\n%s\nthe log:\n%s", len(copied), r.kept, copied, all)
	}
	r.release()
	a.done(r)
}

// A fault of the agent's own costs a session an attempt, and the other sessions nothing.
func TestAFaultOfTheAgentsOwnCutsOneSessionOff(t *testing.T) {
	t.Parallel()
	a := newAgent(t, 2)
	a.config.Reaper = nil // whose arguments come after the first one: there is none
	id, other := a.create("reply 1"), a.create("reply 2")
	a.start()
	for _, each := range []string{id, other} {
		until(t, func() bool { return a.get(each).Cuts > 0 }, func() string { return a.events(each) })
		if all := a.events(each); !strings.Contains(all, "fault of its own") {
			t.Errorf("nothing tells of it:\n%s", all)
		}
	}
}
