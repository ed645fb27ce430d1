package session

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync"
	"time"

	"berth/internal/api"
)

// SyncAfter is how long a line may be written but not yet on the disk, if nobody was promised more.
const SyncAfter = time.Second

// eventLog is a file of lines that only grows. Appending is for one owner at a time; reading is for anybody,
// each at a pace of their own: a reader holds nothing that an append waits for.
type eventLog struct {
	path string

	mu      sync.Mutex
	file    *os.File      // nil until the first append, and after rest
	closed  bool          // nothing may be appended any more
	failed  error         // of a sync that nobody waited for; the system tells it only once
	size    int64         // bytes of whole lines; what lies beyond is to be cut off
	torn    bool          // something may lie beyond size
	syncing *time.Timer   // nil if everything is on the disk
	grown   chan struct{} // closed and replaced when size grows
}

// openLog reads the lines of a log from a byte on, which must not be beyond its end, and tells each to visit. It cuts
// off what a crash leaves at the end: a line without its end, and blocks that the disk never wrote, which read as
// zeros, unless something follows them that was promised to somebody.
func openLog(path string, from int64, visit func(line []byte) error) (*eventLog, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written, or Sync said so
	opened := &eventLog{path: path, size: from, grown: make(chan struct{})}
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			opened.torn = len(line) > 0 && opened.size > 0 // else it is no log at all, and left alone
			return opened, opened.mend(file)
		}
		if err != nil {
			return nil, err
		}
		err = visit(bytes.TrimSuffix(line, []byte("\n")))
		if errors.Is(err, ErrDamaged) && opened.size > 0 && bytes.IndexByte(line, 0) >= 0 && !promised(reader) {
			opened.torn = true
			return opened, opened.mend(file)
		}
		if err != nil {
			return nil, err
		}
		opened.size += int64(len(line))
	}
}

// promised reports whether a line follows whose writer was told that it is on the disk.
func promised(reader *bufio.Reader) bool {
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		var event api.Event
		if json.Unmarshal(line, &event) == nil && lasting(event.Type) {
			return true
		}
	}
}

// append writes whole lines, all or none, and with sync returns when they are on the disk. After an error the log is
// as it was.
func (l *eventLog) append(lines []byte, sync bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fs.ErrClosed
	}
	if err := l.failed; err != nil {
		l.failed = nil
		return err
	}
	if l.file == nil {
		file, err := os.OpenFile(l.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		l.file = file
	}
	if err := l.mend(l.file); err != nil {
		return err
	}
	l.torn = true
	if _, err := l.file.WriteAt(lines, l.size); err != nil {
		return errors.Join(err, l.mend(l.file))
	}
	if sync {
		if err := l.file.Sync(); err != nil {
			return errors.Join(err, l.mend(l.file))
		}
		l.stopTimer()
	} else if l.syncing == nil {
		l.syncing = time.AfterFunc(SyncAfter, l.flush)
	}
	l.torn = false
	l.size += int64(len(lines))
	close(l.grown)
	l.grown = make(chan struct{})
	return nil
}

// mend cuts off what lies beyond the last whole line.
func (l *eventLog) mend(file *os.File) error {
	if !l.torn {
		return nil
	}
	if err := file.Truncate(l.size); err != nil {
		return fmt.Errorf("cutting a torn line off: %w", err)
	}
	l.torn = false
	return nil
}

func (l *eventLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncing = nil
	if l.file != nil {
		l.failed = l.file.Sync() // for the next append to tell
	}
}

func (l *eventLog) stopTimer() {
	if l.syncing != nil {
		l.syncing.Stop()
		l.syncing = nil
	}
}

// rest closes the file until the next append, with everything on the disk.
func (l *eventLog) rest() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	l.stopTimer()
	err := errors.Join(l.file.Sync(), l.file.Close())
	l.file = nil
	return err
}

// close rests the log for good.
func (l *eventLog) close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.rest()
}

// extent returns how far the log goes, and a channel that is closed when it goes further.
func (l *eventLog) extent() (int64, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, l.grown
}

// lines returns the log's lines from an index on. At the end of the log it asks more whether to wait for
// further ones.
func (l *eventLog) lines(ctx context.Context, from int, more func() bool) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		file, err := os.Open(l.path)
		if err != nil {
			yield(nil, err)
			return
		}
		defer file.Close() //nolint:errcheck // it was only read
		at := cursor{path: l.path, file: file, reader: bufio.NewReader(nil)}
		for {
			size, grown := l.extent()
			if !at.advance(size, from, yield) {
				return
			}
			if !more() {
				if size, _ := l.extent(); at.read == size {
					return
				}
				continue
			}
			select {
			case <-grown:
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
		}
	}
}

// cursor is how far a reader of a log has come.
type cursor struct {
	path   string
	file   *os.File
	reader *bufio.Reader
	read   int64 // bytes
	index  int   // lines
}

// advance reads on to a byte, and yields the lines from an index on. It reports false when the sequence is over.
func (c *cursor) advance(size int64, from int, yield func(json.RawMessage, error) bool) bool {
	// Never a byte beyond: what lies there may be cut off and written anew.
	c.reader.Reset(io.NewSectionReader(c.file, c.read, size-c.read))
	for c.read < size {
		line, err := c.reader.ReadBytes('\n')
		if err != nil {
			yield(nil, fmt.Errorf("reading %s: %w", c.path, err))
			return false
		}
		c.read += int64(len(line))
		if c.index++; c.index > from && !yield(bytes.TrimSuffix(line, []byte("\n")), nil) {
			return false
		}
	}
	return true
}
