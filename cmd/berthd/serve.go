package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/daemon"
	"berth/internal/gateway"
	"berth/internal/scripted"
	"berth/internal/server"
	"berth/internal/session"
)

type serve struct {
	Scripted bool `help:"Use the scripted model instead of an API: a stand-in that plays the same short session whatever it is asked, and needs no key."`
}

// Run is the agent, from taking the volume to letting go of it.
func (v *serve) Run(ctx context.Context) (err error) {
	set, err := readSettings(ctx, os.Getenv)
	if err != nil {
		return err
	}
	logger := newLogger(set.structured)
	store, err := session.Open(set.data, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := errors.Join(set.keepToken(), os.MkdirAll(set.work, 0o700)); err != nil {
		return err
	}
	listener, err := listen(set.listen)
	if err != nil {
		return err
	}
	closed := api.Status{Version: version(), ClaudeVersion: set.cliVersion, StartedAt: time.Now().UTC(), Key: "set", Model: set.upstream.String()}
	closed.Isolation = "none: sessions run as the agent's own user, each with directories of its own"
	if set.key == "" {
		closed.Key = "missing"
	}
	if v.Scripted {
		stop, err := v.useScripted(ctx, set)
		if err != nil {
			return err
		}
		defer stop()
		closed.Key, closed.Model = "not needed", "scripted"
	}
	models := gateway.New(gateway.Config{Upstream: set.upstream, Key: func() string { return set.key }, NoKey: v.Scripted, Log: logger})
	modelListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for sessions' requests to the model: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	agent := daemon.New(daemon.Config{
		Data: set.data, Work: set.work, CLI: set.cli, Reaper: []string{self, "reap"}, Places: set.places,
		Gateway: daemon.Gateway{
			URL: "http://" + modelListener.Addr().String(), Grant: func(session string) string { return models.Grant(session, gateway.Budget{}) }, Revoke: models.Revoke,
			Keyed: set.key != "" || v.Scripted,
		},
		Status: closed, Stall: daemon.StallTime, Linger: daemon.LingerTime, Logger: logger,
	}, store)
	return together(ctx, set, logger, agent, listener, modelListener, models)
}

// together runs the agent's parts until ctx is done or one of them fails. Sessions are interrupted while the
// gateway and the API still answer, so that clients see it.
func together(ctx context.Context, set *settings, logger *slog.Logger, agent *daemon.Daemon, listener, modelListener net.Listener, models http.Handler) error {
	group, failing := errgroup.WithContext(ctx)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	group.Go(func() error { return server.Serve(serving, listener, server.New(agent, set.token, logger)) })
	group.Go(func() error { return server.Serve(serving, modelListener, models) })
	group.Go(func() error {
		defer stopServing()
		agent.Run(failing)
		return nil
	})
	endpoint := filepath.Join(set.data, api.EndpointFile)
	where := "http://" + listener.Addr().String()
	if err := writeEndpoint(endpoint, api.Endpoint{URL: where, Token: set.token}); err != nil {
		logger.Error("clients will not find the agent", contract.LogFieldError, err)
	}
	logger.Info("the agent answers", "url", where, "volume", set.data, "claude", set.cliVersion, "places", set.places)
	err := group.Wait()
	_ = os.Remove(endpoint) // it names nobody now
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

func newLogger(structured bool) *slog.Logger {
	if structured {
		return slog.New(slog.NewJSONHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
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
