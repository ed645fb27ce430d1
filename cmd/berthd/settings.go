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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/daemon"
	"berth/internal/gateway"
	"berth/internal/metrics"
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
	key, github        *secret
	githubAPI          string // empty: GitHub's own
	githubHost         string // whose repositories the GitHub token is for
	upstream           *url.URL
	places             int
	limits             gateway.Limits
	retention          time.Duration // of ended sessions; 0 is for ever
	checkpoint         time.Duration // how long changes may be on the work disk alone
	structured         bool          // log lines are JSON
	metricEnvironment  string        // empty: no metrics are sent
}

func readSettings(_ context.Context, getenv func(string) string) (*settings, error) {
	s := &settings{listen: contract.Listen, places: placesDefault, structured: getenv(contract.EnvEnvironment) != "", githubHost: "github.com"}
	if environment := getenv(contract.EnvEnvironment); environment != "" {
		s.metricEnvironment = contract.Names{Project: getenv(contract.EnvProject), Environment: environment}.MetricEnvironment()
	}
	return s, errors.Join(s.readSecrets(getenv), s.readPlace(getenv), s.readNumbers(getenv), s.readGitHub(getenv), s.findCLI(getenv))
}

func (s *settings) readSecrets(getenv func(string) string) (err error) {
	s.key, err = newSecret(getenv, contract.EnvAnthropicAPIKey, contract.EnvAnthropicAPIKeyFile)
	github, githubErr := newSecret(getenv, contract.EnvGitHubToken, contract.EnvGitHubTokenFile)
	token, tokenErr := newSecret(getenv, contract.EnvAPIToken, "")
	s.github = github
	if tokenErr == nil {
		s.token = token.get()
	}
	return errors.Join(err, githubErr, tokenErr)
}

func (s *settings) readGitHub(getenv func(string) string) error {
	s.githubAPI = getenv(contract.EnvGitHubAPIURL)
	if s.githubAPI == "" {
		return nil
	}
	address, err := url.Parse(s.githubAPI)
	if err != nil || address.Host == "" || address.User != nil || address.Scheme != "http" && address.Scheme != "https" {
		return fmt.Errorf("%s is not the http or https URL of GitHub's API", contract.EnvGitHubAPIURL)
	}
	s.githubHost = address.Host
	return nil
}

// credential is what git shows to a host.
func (s *settings) credential(host string) (user, token string) {
	if token = s.github.get(); token == "" || host != s.githubHost {
		return "", ""
	}
	return "x-access-token", token
}

// secrets are what no log line may have in it.
func (s *settings) secrets() []string {
	return append(slices.Concat(s.key.all(), s.github.all()), s.token, os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN"), os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"))
}

// cloudWatch is where metrics go; nil if that is nowhere, as on a laptop.
func (s *settings) cloudWatch(ctx context.Context) (metrics.Client, error) {
	if s.metricEnvironment == "" {
		return nil, nil
	}
	return metrics.NewCloudWatch(ctx, "")
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
	if days := getenv(contract.EnvRetentionDays); days != "" {
		number, err := strconv.ParseFloat(days, 64)
		if err != nil || !(number > 0 && number <= 36500) {
			return fmt.Errorf("%s: %q is not a number of days above 0, up to 36500; without it ended sessions are kept for ever", contract.EnvRetentionDays, days)
		}
		s.retention = time.Duration(number * float64(24*time.Hour))
	}
	s.checkpoint = daemon.CheckpointTime
	if seconds := getenv(contract.EnvCheckpoint); seconds != "" {
		number, err := strconv.ParseFloat(seconds, 64)
		if err != nil || !(number >= 1 && number <= 3600) {
			return fmt.Errorf("%s: %q is not a number of seconds from 1 to 3600", contract.EnvCheckpoint, seconds)
		}
		s.checkpoint = time.Duration(number * float64(time.Second))
	}
	for name, limit := range map[string]*float64{contract.EnvSpendLimitDayUSD: &s.limits.DayUSD, contract.EnvSpendLimitUSD: &s.limits.MonthUSD} {
		if text := getenv(name); text != "" {
			if *limit, err = strconv.ParseFloat(text, 64); err != nil || !(*limit > 0 && *limit <= 1e9) {
				return fmt.Errorf("%s: %q is not a number of US dollars above 0; without it there is no limit", name, text)
			}
		}
	}
	if places := getenv(contract.EnvMaxSessions); places != "" {
		if s.places, err = strconv.Atoi(places); err != nil || s.places < 1 || s.places > 1000 {
			return fmt.Errorf("%s: %q is not a number from 1 to 1000", contract.EnvMaxSessions, places)
		}
	}
	return nil
}

// findCLI finds the Claude Code CLI.
func (s *settings) findCLI(getenv func(string) string) error {
	name := getenv(contract.EnvClaude)
	if name == "" {
		name = "claude"
	}
	found, err := exec.LookPath(name)
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err == nil {
		// Sessions may not be able to follow a link: what it lies in may be hidden from them.
		s.cli, err = filepath.EvalSymlinks(found)
	}
	if err != nil {
		return fmt.Errorf("the Claude Code CLI cannot be run: %w; set %s to its path", err, contract.EnvClaude)
	}
	return nil
}

// keepToken makes up the API's token, and finds it again at the next start. Of two agents that start at once on one
// volume, the first one's stays.
func (s *settings) keepToken() error {
	if s.token != "" {
		return nil
	}
	file := filepath.Join(s.data, "token")
	pending := filepath.Join(s.data, ".token-"+rand.Text())
	for range 2 {
		text, err := os.ReadFile(file)
		if s.token = strings.TrimSpace(string(text)); s.token != "" {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading the API's token: %w", err)
		}
		random := make([]byte, 32)
		_, _ = rand.Read(random) // it never fails (crypto/rand)
		err = renameio.WriteFile(pending, []byte(hex.EncodeToString(random)+"\n"), 0o600, renameio.WithTempDir(s.data))
		if err == nil {
			err = os.Link(pending, file)
			_ = os.Remove(pending)
		}
		if errors.Is(err, fs.ErrExist) && len(text) == 0 && missingOrEmpty(file) {
			err = os.Remove(file) // a crash left it empty
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keeping the API's token: %w", err)
		}
	}
	return s.keepToken()
}

func missingOrEmpty(file string) bool {
	info, err := os.Stat(file)
	return err != nil || info.Size() == 0
}
