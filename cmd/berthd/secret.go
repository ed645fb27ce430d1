package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"berth/internal/contract"
)

// secret is a key or a token. One that is in a file is read again when the file changes.
type secret struct {
	file string

	mu       sync.Mutex
	text     string
	earlier  []string // what was in the file before: it may still work, and so must not be told
	modified time.Time
	size     int64
}

// maxSecret is how long a secret may be, in bytes.
const maxSecret = 16 << 10

// maxEarlier is how many earlier secrets are remembered.
const maxEarlier = 8

// newSecret reads a secret from a variable, or from the file that another one names. Its errors never show it.
func newSecret(getenv func(string) string, variable, fileVariable string) (*secret, error) {
	s := &secret{}
	if fileVariable != "" {
		s.file = getenv(fileVariable)
	}
	value := getenv(variable)
	if value == contract.SecretNotSet {
		value = ""
	}
	if s.file != "" {
		if value != "" {
			return s, fmt.Errorf("%s and %s are both set: set one", variable, fileVariable)
		}
		if _, err := os.Stat(s.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, fmt.Errorf("%s: %w", fileVariable, err)
		}
		return s, nil
	}
	if s.text = strings.TrimSpace(value); strings.ContainsFunc(s.text, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return s, fmt.Errorf("%s has a space or a control character in it: copy it again", variable)
	}
	return s, nil
}

// all returns the secret as it is now, and what it was before.
func (s *secret) all() []string {
	now := s.get()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{now}, s.earlier...)
}

// get returns the secret as it is now; "" if there is none.
func (s *secret) get() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == "" {
		return s.text
	}
	info, err := os.Stat(s.file)
	if err != nil || info.Size() > maxSecret {
		if errors.Is(err, fs.ErrNotExist) {
			s.remember()
			s.text, s.modified = "", time.Time{}
		}
		return s.text
	}
	if info.ModTime().Equal(s.modified) && info.Size() == s.size {
		return s.text
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return s.text
	}
	s.remember()
	s.text, s.modified, s.size = strings.TrimSpace(string(text)), info.ModTime(), info.Size()
	if s.text == contract.SecretNotSet {
		s.text = ""
	}
	return s.text
}

func (s *secret) remember() {
	if s.text != "" && !slices.Contains(s.earlier, s.text) {
		s.earlier = append(s.earlier[max(0, len(s.earlier)-maxEarlier+1):], s.text)
	}
}
