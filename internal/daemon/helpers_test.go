package daemon

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/gateway"
	"berth/internal/metrics"
	"berth/internal/session"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// agent is a daemon that a test can start again.
type agent struct {
	*Daemon
	t     *testing.T
	dir   string
	store *session.Store
	stop  func()
}

func newAgent(t *testing.T, places int) *agent {
	t.Helper()
	a := &agent{t: t, dir: t.TempDir(), stop: func() {}}
	a.open(places)
	t.Cleanup(func() { a.stop() })
	return a
}

// open opens the volume, and makes a daemon that does not run yet.
func (a *agent) open(places int) {
	a.t.Helper()
	store, err := session.Open(a.dir, time.Now)
	must(a.t, err)
	self, err := os.Executable()
	must(a.t, err)
	a.store = store
	ledger, err := gateway.OpenLedger("", store.Owner(), gateway.Limits{}, time.Now)
	must(a.t, err)
	work := filepath.Join(a.dir, "work")
	logger := slog.New(slog.DiscardHandler)
	upstream, err := url.Parse("http://127.0.0.1:9")
	must(a.t, err)
	a.Daemon, err = New(Config{
		Data: a.dir, Work: work, CLI: self, Reaper: []string{self, "reap"}, Places: places,
		Stall: time.Minute, Linger: time.Minute, CheckpointEvery: time.Minute, Logger: logger, Metrics: metrics.New(metrics.Config{Logger: logger}),
		Isolation: &claude.Isolation{}, Models: gateway.Config{Upstream: upstream, NoKey: true, Ledger: ledger},
	}, store)
	must(a.t, err)
	a.stop = func() {
		if err := store.Close(); err != nil {
			a.t.Error(err)
		}
		a.stop = func() {}
	}
}

// start runs the daemon until stop.
func (a *agent) start() *agent {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	daemon, closeStore := a.Daemon, a.stop
	go func() {
		defer close(ended)
		daemon.Run(ctx)
	}()
	a.stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			a.t.Error("the daemon does not stop")
		}
		closeStore()
	}
	return a
}

func (a *agent) create(prompt string) string {
	a.t.Helper()
	created, _, err := a.Create(a.t.Context(), api.NewSession{Prompt: prompt}, "")
	must(a.t, err)
	return created.ID
}

func (a *agent) send(id, text string) {
	a.t.Helper()
	_, err := a.Send(a.t.Context(), id, api.NewMessage{Text: text})
	must(a.t, err)
}

func (a *agent) get(id string) session.Record { return a.store.Get(id).Record() }

// await waits for a session's state.
func (a *agent) await(id string, want api.State) session.Record {
	a.t.Helper()
	until(a.t, func() bool { return a.get(id).State == want }, func() string {
		return "it is " + string(a.get(id).State) + ", not " + string(want) + ":\n" + a.events(id)
	})
	return a.get(id)
}

// saved makes a session that has ended well, and has a checkpoint.
func (a *agent) saved() (id string) {
	a.t.Helper()
	id = a.create("reply 1")
	if a.await(id, api.Succeeded).Checkpoint == "" {
		a.t.Fatal("it has no checkpoint")
	}
	return id
}

func (a *agent) events(id string) string {
	var all strings.Builder
	for line, err := range a.store.Get(id).Events(context.Background(), 0, false) {
		must(a.t, err)
		all.Write(line)
		all.WriteByte('\n')
	}
	return all.String()
}

// states are those that a session has been through.
func (a *agent) states(id string) string {
	var all []string
	must(a.t, a.store.Get(id).Each(func(event api.Event) {
		if event.Type == api.EventState {
			all = append(all, string(event.State))
		}
	}))
	return strings.Join(all, " ")
}

// answered counts how often the model was asked a message.
func (a *agent) answered(id, text string) int {
	found, err := filepath.Glob(filepath.Join(a.dir, "work", id, "config", "projects", "*", "*.jsonl"))
	must(a.t, err)
	count := 0
	for _, file := range found {
		transcript, err := os.ReadFile(file)
		must(a.t, err)
		count += strings.Count(string(transcript), `"content":"`+text+`"`)
	}
	return count
}

func until(t *testing.T, is func() bool, say func() string) {
	t.Helper()
	timeout, tick := time.After(20*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal(say())
		}
	}
}
