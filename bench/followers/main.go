//go:build linux

// Command followers measures a thousand followers of one busy session: whether each of them gets every event, how long
// after it happened, and what that takes of memory and processor time. The session is one of the real Claude Code, which
// uses several tools in each reply of a scripted model. Followers are connections of this process, over loopback. It
// needs the Claude Code CLI; `make bench` sees to that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"berth/bench/harness"
	"berth/internal/api"
	"berth/internal/scripted"
)

// patience bounds the whole session.
const patience = 5 * time.Minute

// settings are what the command line says.
type settings struct {
	followers, replies, tools int
	think                     time.Duration
}

func main() {
	var set settings
	flag.IntVar(&set.followers, "followers", 1000, "how many connections follow the session")
	flag.IntVar(&set.replies, "replies", 40, "replies of the model that use tools")
	flag.IntVar(&set.tools, "tools", 4, "tools that each of them uses")
	flag.DurationVar(&set.think, "think", 200*time.Millisecond, "how long the model takes for a reply")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, set)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, set settings) error {
	if set.followers < 1 || set.replies < 1 || set.tools < 1 {
		return errors.New("there have to be followers, replies, and tools in them")
	}
	if err := allowFiles(uint64(set.followers) + 200); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-followers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := harness.Build(ctx, dir)
	if err != nil {
		return err
	}
	open := make(chan struct{}) // closed when all followers are there
	model, err := scripted.New(scripted.Options{Scripts: scripts(set), Key: harness.Key, OnRequest: func(scripted.Record) {
		select {
		case <-open:
		case <-ctx.Done():
		}
	}})
	if err != nil {
		return err
	}
	url, stop, err := model.Listen(ctx, "")
	if err != nil {
		return err
	}
	defer stop()
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o711); err != nil { //nolint:gosec // sessions' users have to get to their own directories below it
		return err
	}
	agent, err := programs.Start(ctx, harness.Place{Home: home, Data: filepath.Join(dir, "volume"), Model: url})
	if err != nil {
		return err
	}
	defer agent.Stop()
	return follow(ctx, set, agent, filepath.Join(dir, "volume"), sync.OnceFunc(func() { close(open) }))
}

// scripts are a session that reads files, several at a time.
func scripts(set settings) []scripted.Script {
	var use []scripted.Tool
	for number := range set.tools {
		use = append(use, scripted.Bash(fmt.Sprintf("echo 'what the tool number %d of this reply has to say'", number+1)))
	}
	var steps []scripted.Step
	for range set.replies {
		step := scripted.Use(use...)
		step.Delay = set.think
		steps = append(steps, step)
	}
	return []scripted.Script{{Name: "busy", Steps: append(steps, scripted.Text("Done."))}}
}

// allowFiles raises the number of files that this process and those below it may have open.
func allowFiles(needed uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	// An agent has a connection and a file for each follower.
	if limit.Max < 2*needed {
		return fmt.Errorf("a process may open %d files here, and %d are needed: raise it (ulimit -Hn)", limit.Max, 2*needed)
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// follow has everybody follow a session from its first event to its last, and prints what came of it.
func follow(ctx context.Context, set settings, agent *harness.Agent, data string, open func()) error {
	defer open()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	endpoint, err := api.ReadEndpoint(data)
	if err != nil {
		return err
	}
	before, err := agent.Memory()
	if err != nil {
		return err
	}
	made, err := agent.Client.Create(ctx, api.NewSession{Prompt: "be busy"})
	if err != nil {
		return err
	}
	followers := make([]*follower, set.followers)
	var group, connected sync.WaitGroup
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	for index := range followers {
		f := &follower{endpoint: endpoint, session: made.ID, client: &http.Client{Transport: transport}}
		followers[index] = f
		connected.Add(1)
		there := sync.OnceFunc(connected.Done)
		group.Go(func() { defer there(); f.err = f.run(ctx, there) })
	}
	connected.Wait()
	from, err := agent.CPU()
	if err != nil {
		return err
	}
	began := time.Now()
	open()
	with, err := watch(ctx, agent, made.ID)
	if err != nil {
		return err
	}
	group.Wait()
	took := time.Since(began)
	to, err := agent.CPU()
	if err != nil {
		return err
	}
	session, err := agent.Client.Session(ctx, made.ID)
	if err != nil {
		return err
	}
	for _, f := range followers {
		if f.err != nil {
			return f.err
		}
		if len(f.got) != session.Events {
			return fmt.Errorf("a follower got %d events of %d", len(f.got), session.Events)
		}
	}
	return report(followers, began, took, to-from, before, with)
}

// watch waits until the session has ended, and returns the most memory that the agent had meanwhile.
func watch(ctx context.Context, agent *harness.Agent, id string) (most harness.Memory, err error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		session, err := agent.Client.Session(ctx, id)
		if err != nil {
			return most, err
		}
		now, err := agent.Memory()
		if err != nil {
			return most, err
		}
		most = harness.Memory{RSS: max(most.RSS, now.RSS), PSS: max(most.PSS, now.PSS), Peak: now.Peak}
		switch {
		case session.State == api.Succeeded:
			return most, nil
		case session.State.Ended():
			return most, harness.Failed(session)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return most, ctx.Err()
		}
	}
}

func report(followers []*follower, began time.Time, took, cpu time.Duration, before, with harness.Memory) error {
	var all, first, last []time.Duration // delays: each one's, and of each event the first's and the last's
	live := 0
	for index, event := range followers[0].times {
		if event.Before(began) {
			continue // it was there before
		}
		live++
		var least, most time.Duration
		for number, f := range followers {
			delay := f.got[index].Sub(event)
			all = append(all, delay)
			if number == 0 || delay < least {
				least = delay
			}
			most = max(most, delay)
		}
		first, last = append(first, least), append(last, most)
	}
	if live == 0 {
		return errors.New("no event came while everybody followed")
	}
	deliveries := float64(live * len(followers))
	fmt.Printf("%d followers of a session of %d events; %d of them came live, %.0f a second\n",
		len(followers), len(followers[0].got), live, float64(live)/took.Seconds())
	fmt.Printf("  events that each follower got: %d of %d, each once and in order\n", len(followers[0].got), len(followers[0].got))
	fmt.Printf("  from an event's time, in whole milliseconds, to its arrival: median %s, p99 %s, worst %s\n", at(all, 0.5), at(all, 0.99), at(all, 1))
	fmt.Printf("  at the first follower that has it: median %s, p99 %s; at the last one: median %s, p99 %s\n",
		at(first, 0.5), at(first, 0.99), at(last, 0.5), at(last, 0.99))
	fmt.Printf("  memory of berthd before: %s\n  memory of berthd with them: %s; %.0f KB a follower\n", before, with, (with.PSS-before.PSS)*1024/float64(len(followers)))
	fmt.Printf("  processor time of berthd: %.2f s in %.1f s, %.1f µs for each event of each follower\n", cpu.Seconds(), took.Seconds(), cpu.Seconds()*1e6/deliveries)
	return nil
}

// at is a quantile.
func at(times []time.Duration, part float64) time.Duration {
	slices.Sort(times)
	return times[min(int(part*float64(len(times))), len(times)-1)].Round(100 * time.Microsecond)
}
