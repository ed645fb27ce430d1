package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/internal/contract"
)

// fakeCLI is a program that says what version it is.
func fakeCLI(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "claude")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho '1.2.3 (a stand-in)'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func environment(t *testing.T, changes map[string]string) func(string) string {
	t.Helper()
	env := map[string]string{"HOME": t.TempDir(), "PATH": os.Getenv("PATH"), contract.EnvClaude: fakeCLI(t)}
	for name, value := range changes {
		env[name] = value
	}
	return func(name string) string { return env[name] }
}

func TestSettings(t *testing.T) {
	getenv := environment(t, map[string]string{
		contract.EnvListen: "127.0.0.1:0", contract.EnvMaxSessions: "7", contract.EnvAnthropicAPIKey: "key", contract.EnvAPIToken: "token",
		contract.EnvAnthropicBaseURL: "http://127.0.0.1:9/v", contract.EnvEnvironment: "dev",
	})
	set, err := readSettings(t.Context(), getenv)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(getenv("HOME"), ".local", "share", "berth")
	if set.data != data || set.work != filepath.Join(data, "work") || set.listen != "127.0.0.1:0" || set.places != 7 || set.key.get() != "key" ||
		set.token != "token" || set.upstream.String() != "http://127.0.0.1:9/v" || !set.structured {
		t.Errorf("the settings are %+v", set)
	}
	set, err = readSettings(t.Context(), environment(t, map[string]string{
		contract.EnvAnthropicAPIKey: contract.SecretNotSet, contract.EnvAPIToken: contract.SecretNotSet, contract.EnvWork: "/somewhere",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if set.key.get() != "" || set.token != "" || set.work != "/somewhere" || set.listen != contract.Listen || set.places != placesDefault ||
		set.upstream.String() != upstreamDefault || set.structured {
		t.Errorf("the settings are %+v", set)
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		want   string
	}{
		"all interfaces":   {map[string]string{contract.EnvListen: "0.0.0.0:8787"}, "0.0.0.0:8787"},
		"a name":           {map[string]string{contract.EnvListen: "localhost:1"}, "not a loopback address"},
		"no port":          {map[string]string{contract.EnvListen: "127.0.0.1"}, "127.0.0.1"},
		"no places":        {map[string]string{contract.EnvMaxSessions: "0"}, `"0" is not a number from 1 to 1000`},
		"places in words":  {map[string]string{contract.EnvMaxSessions: "four"}, contract.EnvMaxSessions},
		"another scheme":   {map[string]string{contract.EnvAnthropicBaseURL: "file:///etc"}, contract.EnvAnthropicBaseURL},
		"a password":       {map[string]string{contract.EnvAnthropicBaseURL: "https://me:pass-word@127.0.0.1"}, contract.EnvAnthropicBaseURL},
		"no CLI":           {map[string]string{contract.EnvClaude: "/nowhere/claude"}, "/nowhere/claude"},
		"a key of lines":   {map[string]string{contract.EnvAnthropicAPIKey: "pass-word\nmore"}, contract.EnvAnthropicAPIKey},
		"two keys":         {map[string]string{contract.EnvAnthropicAPIKey: "pass-word", contract.EnvAnthropicAPIKeyFile: "/f"}, "both"},
		"no limit":         {map[string]string{contract.EnvSpendLimitDayUSD: "-1"}, contract.EnvSpendLimitDayUSD},
		"no retention":     {map[string]string{contract.EnvRetentionDays: "soon"}, contract.EnvRetentionDays},
		"no GitHub":        {map[string]string{contract.EnvGitHubAPIURL: "ftp://x"}, contract.EnvGitHubAPIURL},
		"no home, no data": {map[string]string{"HOME": ""}, contract.EnvData},
	} {
		_, err := readSettings(t.Context(), environment(t, c.change))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "pass-word") {
			t.Errorf("%s: the error is %v, want one with %s", name, err, c.want)
		}
	}
}

func TestTheTokenStays(t *testing.T) {
	first, second := &settings{data: t.TempDir()}, &settings{}
	if err := first.keepToken(); err != nil {
		t.Fatal(err)
	}
	second.data = first.data
	if err := second.keepToken(); err != nil || second.token != first.token || len(first.token) != 64 {
		t.Errorf("the tokens are %q and %q: %v", first.token, second.token, err)
	}
	info, err := os.Stat(filepath.Join(first.data, "token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v: %v", info, err)
	}
}

func TestASecretInAFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	s, err := newSecret(func(name string) string {
		return map[string]string{contract.EnvAnthropicAPIKeyFile: file}[name]
	}, contract.EnvAnthropicAPIKey, contract.EnvAnthropicAPIKeyFile)
	if err != nil || s.get() != "" {
		t.Fatal(err, s.get())
	}
	for _, text := range []string{"first-key\n", "a-second-key\n", ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.get(); got != strings.TrimSpace(text) {
			t.Errorf("the key is %q, not %q", got, text)
		}
	}
	if err := os.Remove(file); err != nil || s.get() != "" {
		t.Error(err, s.get())
	}
	// Keys that were replaced may still work: no log line may have them in it either.
	if all := s.all(); !slices.Equal(all, []string{"", "first-key", "a-second-key"}) {
		t.Errorf("the log hides %q", all)
	}
}
