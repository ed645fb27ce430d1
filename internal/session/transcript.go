package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

const transcriptFile = "transcript.jsonl"

// transcript is the copy of Claude Code's transcript on the volume.
type transcript struct {
	mu   sync.Mutex
	path string
	file *os.File // nil until it is first written
}

// TranscriptFile is where the copy of Claude Code's transcript is, if there is one.
func (s *Session) TranscriptFile() string {
	return s.transcript.path
}

// TranscriptSize is how many bytes the copy has.
func (s *Session) TranscriptSize() (int64, error) {
	info, err := os.Stat(s.TranscriptFile())
	if err != nil {
		return 0, ignoreMissing(err)
	}
	return info.Size(), nil
}

// KeepTranscript writes a part of Claude Code's transcript to the copy, at a byte of it, and returns when it is on the disk. What
// the copy has beyond that part is cut off. It is for a holder of the session.
func (s *Session) KeepTranscript(at int64, part []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.Verify(); err != nil {
		return fmt.Errorf("keeping the transcript of session %s: %w", s.ID(), err)
	}
	return s.transcript.write(at, part)
}

// take opens the file for its owner, if it is there. It is not opened by its name later: then it may be another owner's.
func (t *transcript) take() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	file, err := os.OpenFile(t.path, os.O_WRONLY, 0)
	if err == nil {
		t.file = file
	}
	return ignoreMissing(err)
}

func (t *transcript) write(at int64, part []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := false
	if t.file == nil {
		// With O_EXCL it is nobody else's.
		file, err := os.OpenFile(t.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return ErrLost
		}
		if err != nil {
			return err
		}
		t.file, fresh = file, true
	}
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < at {
		return fmt.Errorf("%s has %d bytes, and the next ones belong at %d", t.path, info.Size(), at)
	}
	_, err = t.file.WriteAt(part, at)
	if end := at + int64(len(part)); err == nil && info.Size() > end {
		err = t.file.Truncate(end)
	}
	if err == nil {
		err = t.file.Sync()
	}
	if err == nil && fresh {
		err = syncDir(filepath.Dir(t.path))
	}
	return err
}

func (t *transcript) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file != nil {
		_ = t.file.Close() // each write was synced
		t.file = nil
	}
}
