package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"berth/internal/api"
	"berth/internal/claude"
	"berth/internal/contract"
	"berth/internal/daemon"
	"berth/internal/gateway"
	"berth/internal/metrics"
	"berth/internal/redact"
	"berth/internal/scripted"
	"berth/internal/server"
	"berth/internal/session"
	"berth/internal/workspace"
)

type serve struct {
	Scripted bool `help:"Use the scripted model instead of an API: a stand-in that plays the same short session whatever it is asked, and needs no key."`
}

// Run is the agent, from taking the volume to letting go of it.
func (v *serve) Run(ctx context.Context) (err error) {
	if err := claude.Undumpable(); err != nil {
		return fmt.Errorf("closing the agent's memory to sessions: %w", err)
	}
	set, err := readSettings(ctx, os.Getenv)
	if err != nil {
		return err
	}
	logger := newLogger(set)
	store, err := session.Open(set.data, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := set.keepToken(); err != nil {
		return err
	}
	ledger, err := gateway.OpenLedger(filepath.Join(set.data, "spend"), store.Owner(), set.limits, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	listener, err := listen(set.listen)
	if err != nil {
		return err
	}
	modelListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for sessions' requests to the model: %w", err)
	}
	model := set.upstream.String()
	if v.Scripted {
		stop, err := v.useScripted(ctx, set)
		if err != nil {
			return err
		}
		defer stop()
		model = "scripted"
	}
	isolation := claude.Isolate(ctx, claude.Places{Work: set.work, CLI: set.cli, Hidden: []string{set.data}})
	set.cliVersion, err = isolation.Version(ctx)
	if err != nil {
		return fmt.Errorf("the Claude Code CLI cannot be run: %w; set %s to another one", err, contract.EnvClaude)
	}
	if problem := isolation.Problem(); problem != "" {
		logger.Warn("sessions run as root", contract.LogFieldError, problem)
	}
	client, err := set.cloudWatch(ctx)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var agent *daemon.Daemon
	recorder := metrics.New(metrics.Config{
		Environment: set.metricEnvironment, Dir: filepath.Join(set.data, "metrics"), Owner: store.Owner(), Client: client, Logger: logger,
		Sample: func() metrics.Sample { return agent.Sample() },
	})
	agent, err = daemon.New(daemon.Config{
		Data: set.data, Work: set.work, CLI: set.cli, Reaper: []string{self, "reap"}, Places: set.places,
		Status: api.Status{Version: version(), ClaudeVersion: set.cliVersion, StartedAt: time.Now().UTC(), Model: model, Isolation: isolation.String()},
		Stall:  daemon.StallTime, Linger: daemon.LingerTime, LogSize: daemon.LogSize, CheckpointEvery: set.checkpoint, Retention: set.retention,
		Logger: logger, Metrics: recorder, Isolation: isolation,
		Mirrors:   workspace.MirrorConfig{Credential: set.credential, GitHubAPI: set.githubAPI},
		Models:    gateway.Config{Upstream: set.upstream, Key: set.key.get, NoKey: v.Scripted, Ledger: ledger, Log: logger},
		ModelsURL: "http://" + modelListener.Addr().String(),
	}, store)
	if err != nil {
		return err
	}
	return together(ctx, set, logger, agent, recorder, listener, modelListener)
}

// together runs the agent's parts until ctx is done or one of them fails. Sessions are interrupted while the
// gateway and the API still answer, so that clients see it.
func together(ctx context.Context, set *settings, logger *slog.Logger, agent *daemon.Daemon, recorder *metrics.Recorder, listener, modelListener net.Listener) error {
	group, failing := errgroup.WithContext(ctx)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	group.Go(func() error {
		return server.Serve(serving, listener, server.New(agent, recorder.Handler(), set.token, logger))
	})
	group.Go(func() error { return server.Serve(serving, modelListener, agent.Models()) })
	group.Go(func() error { recorder.Run(serving); return nil })
	group.Go(func() error {
		defer stopServing()
		agent.Run(failing)
		return nil
	})
	endpoint := filepath.Join(set.data, api.EndpointFile)
	where := api.Endpoint{URL: "http://" + listener.Addr().String(), Token: set.token}
	if err := writeEndpoint(endpoint, where); err != nil {
		logger.Error("clients will not find the agent", contract.LogFieldError, err)
	}
	logger.Info("the agent answers", "url", where.URL, "volume", set.data, "claude", set.cliVersion, "places", set.places)
	err := group.Wait()
	if left, readErr := api.ReadEndpoint(set.data); readErr == nil && left == where {
		_ = os.Remove(endpoint) // it names nobody now
	}
	logger.Info("the agent has stopped")
	return err
}

// useScripted starts the scripted model and points the settings to it.
func (v *serve) useScripted(ctx context.Context, set *settings) (stop func(), err error) {
	model, err := scripted.New(scripted.Options{Scripts: scripted.Demo()})
	if err != nil {
		return nil, err
	}
	address, stop, err := model.Listen(context.WithoutCancel(ctx), "")
	if err != nil {
		return nil, err
	}
	set.upstream, err = url.Parse(address)
	return stop, err
}

func newLogger(set *settings) *slog.Logger {
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, nil)
	if set.structured {
		handler = slog.NewJSONHandler(os.Stderr, nil)
	}
	return slog.New(redact.Handler(handler, set.secrets))
}

func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program listens on %s; set %s to another address, or to 127.0.0.1:0 for any free port: %w", address, contract.EnvListen, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return listener, nil
}

func writeEndpoint(file string, endpoint api.Endpoint) error {
	text, err := json.Marshal(endpoint)
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(text, '\n'), 0o600, renameio.WithTempDir(filepath.Dir(file)))
}
