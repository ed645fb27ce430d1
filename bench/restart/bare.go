//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"

	"berth/bench/harness"
	"berth/internal/contract"
)

// bare is a session of Claude Code by itself, in a clone of the repository.
type bare struct {
	bench *bench
	id    string
	dir   string
}

// newBare starts a session, and kills it in the middle of its turn.
func (b *bench) newBare(ctx context.Context, dir string) (*bare, error) {
	made := &bare{bench: b, id: uuid.NewString(), dir: filepath.Join(dir, "tree")}
	if output, err := exec.CommandContext(ctx, "git", "clone", "--quiet", b.repo, made.dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("git clone: %w: %s", err, output)
	}
	command := made.command(ctx, "work", "--session-id", made.id)
	if err := command.Start(); err != nil {
		return nil, err
	}
	err := made.works(ctx)
	return made, errors.Join(err, kill(command))
}

// resume resumes the session, and kills it again. It returns how long it took from its start to its first request.
func (s *bare) resume(ctx context.Context, b *bench) (time.Duration, error) {
	b.forget()
	command := s.command(ctx, "go on", "--resume", s.id)
	began := time.Now()
	if err := command.Start(); err != nil {
		return 0, err
	}
	record, err := b.request(ctx, s.id)
	if err == nil {
		err = s.works(ctx)
	}
	return record.Time.Sub(began), errors.Join(err, kill(command))
}

// works waits until the long command of the session is at work, and its output has grown.
func (s *bare) works(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for from := s.logged(); s.logged() <= from; {
		select {
		case <-ticker.C:
		case <-limited.Done():
			return fmt.Errorf("bare Claude Code does not work: %w", limited.Err())
		}
	}
	return nil
}

// logged is how long the log of the long command is.
func (s *bare) logged() int64 {
	info, err := os.Stat(filepath.Join(s.dir, "log.txt"))
	if err != nil {
		return 0
	}
	return info.Size()
}

func (s *bare) command(ctx context.Context, prompt string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, s.bench.programs.CLI,
		append([]string{"-p", prompt, "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"}, args...)...)
	home := filepath.Dir(s.dir)
	command.Dir = s.dir
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CLAUDE_CONFIG_DIR=" + filepath.Join(home, ".claude"), "IS_SANDBOX=1",
		contract.EnvAnthropicBaseURL + "=" + s.bench.place.Model, contract.EnvAnthropicAPIKey + "=" + harness.Key,
		"DISABLE_AUTOUPDATER=1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return command
}

// kill ends a command with all of its group. The long command, which has a group of its own, sees it and ends too.
func kill(command *exec.Cmd) error {
	err := syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
	_ = command.Wait() // it was killed
	return err
}
