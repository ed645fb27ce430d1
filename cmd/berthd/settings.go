package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"berth/internal/api"
	"berth/internal/contract"
)

// upstreamDefault is the Messages API (https://docs.anthropic.com/en/api/overview).
const upstreamDefault = "https://api.anthropic.com"

// placesDefault is how many sessions run at once if nobody says: four take about 0.8 GB.
const placesDefault = 4

// settings is the environment, read and checked.
type settings struct {
	data, work, listen string
	cli, cliVersion    string
	token              string // empty: made up, and kept in the volume
	key                string
	upstream           *url.URL
	places             int
	structured         bool // log lines are JSON
}

func readSettings(ctx context.Context, getenv func(string) string) (*settings, error) {
	s := &settings{
		listen: contract.Listen, token: getenv(contract.EnvAPIToken), key: getenv(contract.EnvAnthropicAPIKey),
		places: placesDefault, structured: getenv(contract.EnvEnvironment) != "",
	}
	if s.key == contract.SecretNotSet {
		s.key = ""
	}
	if s.token == contract.SecretNotSet {
		s.token = ""
	}
	return s, errors.Join(s.readPlace(getenv), s.readNumbers(getenv), s.readCLI(ctx, getenv))
}

func (s *settings) readPlace(getenv func(string) string) (err error) {
	if s.data, err = api.LocalData(getenv); err != nil {
		return err
	}
	s.work = filepath.Join(s.data, "work")
	if work := getenv(contract.EnvWork); work != "" {
		if s.work, err = filepath.Abs(work); err != nil {
			return err
		}
	}
	base := getenv(contract.EnvAnthropicBaseURL)
	if base == "" {
		base = upstreamDefault
	}
	s.upstream, err = url.Parse(base)
	if err != nil || s.upstream.Host == "" || s.upstream.User != nil || s.upstream.Scheme != "http" && s.upstream.Scheme != "https" {
		return fmt.Errorf("%s is not the http or https URL of a Messages API", contract.EnvAnthropicBaseURL)
	}
	return nil
}

func (s *settings) readNumbers(getenv func(string) string) error {
	if listen := getenv(contract.EnvListen); listen != "" {
		s.listen = listen
	}
	host, _, err := net.SplitHostPort(s.listen)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s: %q is not a loopback address with a port, such as %s", contract.EnvListen, s.listen, contract.Listen)
	}
	if places := getenv(contract.EnvMaxSessions); places != "" {
		if s.places, err = strconv.Atoi(places); err != nil || s.places < 1 || s.places > 1000 {
			return fmt.Errorf("%s: %q is not a number from 1 to 1000", contract.EnvMaxSessions, places)
		}
	}
	return nil
}

// readCLI finds the Claude Code CLI, and asks it what it is.
func (s *settings) readCLI(ctx context.Context, getenv func(string) string) error {
	name := getenv(contract.EnvClaude)
	if name == "" {
		name = "claude"
	}
	found, err := exec.LookPath(name)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return fmt.Errorf("the Claude Code CLI cannot be run: %w; set %s to its path", err, contract.EnvClaude)
	}
	s.cli = found
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	command := exec.CommandContext(limited, found, "--version")
	command.Env = []string{"PATH=" + getenv("PATH"), "HOME=" + os.TempDir(), "DISABLE_AUTOUPDATER=1"}
	command.WaitDelay = time.Second
	output, err := command.Output()
	if err != nil {
		return fmt.Errorf("the Claude Code CLI cannot be run: %s --version: %w; set %s to another one", found, err, contract.EnvClaude)
	}
	s.cliVersion, _, _ = strings.Cut(strings.TrimSpace(string(output)), "\n")
	return nil
}

// keepToken makes up the API's token, and finds it again at the next start.
func (s *settings) keepToken() error {
	if s.token != "" {
		return nil
	}
	file := filepath.Join(s.data, "token")
	text, err := os.ReadFile(file)
	if s.token = strings.TrimSpace(string(text)); s.token != "" {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the API's token: %w", err)
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	s.token = hex.EncodeToString(random)
	if err := renameio.WriteFile(file, []byte(s.token+"\n"), 0o600, renameio.WithTempDir(s.data)); err != nil {
		return fmt.Errorf("keeping the API's token: %w", err)
	}
	return nil
}
