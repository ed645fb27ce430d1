package workspace

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// The oldest git that can do what is asked of it: sync what it writes as told (core.fsync), and keep what is not needed
// any more in one pack (cruft packs).
const (
	leastMajor = 2
	leastMinor = 37
)

// Able says what keeps git from being run, for people; nil if nothing does.
func Able() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, err := git{dir: "/"}.line(ctx, "version")
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("git is not installed on the agent's machine: install git 2.37 or newer")
	}
	if err != nil {
		return fmt.Errorf("git cannot be run on the agent's machine: %w", err)
	}
	return enough(text)
}

// enough checks what `git version` says: "git version 2.39.5", and whatever follows.
func enough(text string) error {
	words := strings.Fields(text)
	if len(words) >= 3 {
		parts := strings.SplitN(words[2], ".", 3)
		major, err := strconv.Atoi(parts[0])
		if err == nil && len(parts) > 1 {
			minor, err := strconv.Atoi(parts[1])
			if err == nil && (major > leastMajor || major == leastMajor && minor >= leastMinor) {
				return nil
			}
		}
	}
	return fmt.Errorf("%.80q is too old or unknown: install git %d.%d or newer on the agent's machine", text, leastMajor, leastMinor)
}
