//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"berth/bench/harness"
	"berth/bench/slowvolume/slowfs"
	"berth/internal/api"
)

// sessionTime is how long a session may take.
const sessionTime = 15 * time.Minute

// agent is a berthd with a volume and an origin of its own: it would see the other's branches as new.
type agent struct {
	*harness.Agent
	bench   *bench
	name    string
	repo    string
	origins int            // that were made for its sessions
	volume  *slowfs.Volume // nil: it is a directory
}

// start starts a berthd. Where it works is on the local disk in any case.
func (b *bench) start(ctx context.Context, name string, slow bool) (a *agent, err error) {
	home := filepath.Join(b.dir, name)
	a = &agent{bench: b, name: name, repo: filepath.Join(home, "repository")}
	place := harness.Place{
		Home: home, Direct: filepath.Join(home, "volume"), Model: b.model,
		Env: []string{"IS_SANDBOX=1", "DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"},
	}
	place.Data = place.Direct
	if err := os.MkdirAll(place.Direct, 0o700); err != nil {
		return nil, err
	}
	if err := run(ctx, "cp", "-a", b.repo, a.repo); err != nil {
		return nil, err
	}
	if slow {
		if a.volume, err = slowfs.Mount(place.Direct, slowfs.Options{Delay: b.delay, Cached: b.cached, Flush: b.flush}); err != nil {
			return nil, err
		}
		place.Data = a.volume.Path
	}
	if a.Agent, err = b.programs.Start(ctx, place); err != nil {
		return nil, errors.Join(err, a.unmount())
	}
	return a, nil
}

// stop ends it, and unmounts its volume.
func (a *agent) stop() error {
	a.Stop()
	return a.unmount()
}

func (a *agent) unmount() error {
	if a.volume == nil {
		return nil
	}
	return a.volume.Close()
}

// session runs a session with all its messages, and returns how long it took from the first until the last is answered.
func (a *agent) session(ctx context.Context) (time.Duration, error) {
	if a.bench.changes {
		if err := run(ctx, "git", "-C", a.repo, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "--allow-empty", "-m", "Go on"); err != nil {
			return 0, err
		}
	}
	if a.bench.clones {
		a.origins++
		a.repo = filepath.Join(filepath.Dir(a.repo), fmt.Sprintf("repository-%d", a.origins))
		if err := run(ctx, "cp", "-a", a.bench.repo, a.repo); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	made, err := a.Client.Create(ctx, api.NewSession{Prompt: "message 1", Repo: a.repo})
	if err != nil {
		return 0, err
	}
	for message := 1; ; message++ {
		session, err := a.Ended(ctx, made.ID, sessionTime)
		if err != nil {
			return 0, err
		}
		if message == a.bench.messages {
			// Each message has a reply after those that edit.
			if want := a.bench.turns/a.bench.messages*a.bench.messages + a.bench.messages; session.Turns != want {
				return 0, fmt.Errorf("the session had %d replies of the model, want %d", session.Turns, want)
			}
			return time.Since(began), nil
		}
		if _, err := a.Client.Send(ctx, made.ID, api.NewMessage{Text: "message " + strconv.Itoa(message+1)}); err != nil {
			return 0, err
		}
	}
}

// run runs a command, and has its error say what that printed.
func run(ctx context.Context, words ...string) error {
	if output, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", words, err, output)
	}
	return nil
}
