package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"berth/internal/contract"
)

// Endpoint is where an agent answers, and the token that it asks for.
type Endpoint struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

// EndpointFile is the file in a volume that holds the agent's Endpoint as JSON, mode 0600, while the agent
// accepts requests.
const EndpointFile = "endpoint.json"

// ErrUnreachable is wrapped by every error that means that no agent answers.
var ErrUnreachable = errors.New("the agent cannot be reached")

// LocalData returns the directory that an agent on this machine uses as its volume: the one that
// BERTH_DATA names, else one below the user's data directory
// (https://specifications.freedesktop.org/basedir-spec/latest/).
func LocalData(getenv func(string) string) (string, error) {
	if dir := getenv(contract.EnvData); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "berth"), nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("cannot tell where the agent keeps its data: HOME is %q; set %s to a directory", home, contract.EnvData)
	}
	return filepath.Join(home, ".local", "share", "berth"), nil
}

// ReadEndpoint reads where the agent answers that uses a directory as its volume.
func ReadEndpoint(data string) (Endpoint, error) {
	file := filepath.Join(data, EndpointFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return Endpoint{}, fmt.Errorf("%w: none has %s as its volume; start one with `berth up --local`", ErrUnreachable, data)
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("%w: %w; name a volume of your own with %s", ErrUnreachable, err, contract.EnvData)
	}
	var endpoint Endpoint
	if err := json.Unmarshal(text, &endpoint); err != nil || endpoint.URL == "" {
		return Endpoint{}, fmt.Errorf("%w: %s does not name a URL; start the agent again with `berth up --local`", ErrUnreachable, file)
	}
	return endpoint, nil
}
