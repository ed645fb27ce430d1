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

// eventLog is a file of lines that only grows. Appending is for one owner at a time, between take and rest; reading is
// for anybody, each at a pace of their own: a reader holds nothing that an append waits for.
type eventLog struct {
	path string

	mu      sync.Mutex
	file    *os.File      // the owner's; nil if this is none
	failed  error         // of a sync that nobody waited for; the system tells it only once
	size    int64         // bytes of whole lines; what lies beyond is to be cut off
	torn    bool          // something may lie beyond size
	syncing *time.Timer   // nil if everything is on the disk
	grown   chan struct{} // closed and replaced when size grows
	anew    int           // how often it was read from its beginning: what was there is not what is
}

func newLog(path string) *eventLog { return &eventLog{path: path, grown: make(chan struct{})} }

// take opens the file for appending. What was appended by others is not known before the next read.
func (l *eventLog) take() error {
	file, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file, l.failed = file, nil
	return nil
}

// current reports whether the owner's file is still the log. A file whose state cannot be told is taken for it.
func (l *eventLog) current() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return false
	}
	mine, err := l.file.Stat()
	if err != nil {
		return true
	}
	named, err := os.Stat(l.path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return os.SameFile(mine, named)
}

// read reads the lines on from the log's size, and tells each to visit. It stops before what a crash leaves at the end: a line
// without its end, and blocks that the disk never wrote, which read as zeros, unless something follows them that was
// promised to somebody.
func (l *eventLog) read(visit func(line []byte) error) error {
	from, _ := l.extent()
	info, err := os.Stat(l.path)
	if err != nil || info.Size() == from {
		return err
	}
	file, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return err
	}
	reader := bufio.NewReader(file)
	for size := from; ; {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			l.grow(size, len(line) > 0 && size > 0) // else it is no log at all, and left alone
			return nil
		}
		if err != nil {
			return err
		}
		err = visit(bytes.TrimSuffix(line, []byte("\n")))
		if errors.Is(err, ErrDamaged) && size > 0 && bytes.IndexByte(line, 0) >= 0 && !promised(reader) {
			l.grow(size, true)
			return nil
		}
		if err != nil {
			return err
		}
		size += int64(len(line))
	}
}

// grow tells readers how far the log goes.
func (l *eventLog) grow(size int64, torn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.torn = torn
	if size == 0 && l.size > 0 {
		l.anew++
	}
	if size != l.size {
		l.size = size
		close(l.grown)
		l.grown = make(chan struct{})
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
	if l.file == nil {
		return fs.ErrClosed
	}
	if err := l.failed; err != nil {
		l.failed = nil
		return err
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

// cut is mend, for an owner that has just read the log.
func (l *eventLog) cut() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mend(l.file)
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

// rest closes the file until it is taken again, with everything on the disk.
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

// extent returns how far the log goes, and a channel that is closed when it goes further.
func (l *eventLog) extent() (int64, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, l.grown
}

// times returns how often the log was read from its beginning.
func (l *eventLog) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.anew
}

// lines returns the log's lines from an index on. At the end of the log it asks more whether to wait for
// further ones.
func (l *eventLog) lines(ctx context.Context, from int, more func() bool) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		at := cursor{path: l.path, reader: bufio.NewReader(nil), times: l.times()}
		defer at.close()
		for {
			size, grown := l.extent()
			if anew := l.times(); anew != at.times {
				from = max(from, at.index)
				at.close()
				at.read, at.index, at.times = 0, 0, anew
				continue
			}
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
	anew   bool  // the file was just opened once more
	times  int   // how often the log had been read from its beginning
}

func (c *cursor) close() {
	if c.file != nil {
		_ = c.file.Close() // it was only read
		c.file = nil
	}
}

// advance reads on to a byte, and yields the lines from an index on. It reports false when the sequence is over.
func (c *cursor) advance(size int64, from int, yield func(json.RawMessage, error) bool) bool {
	again := false
	for c.read < size {
		if c.file == nil {
			file, err := os.Open(c.path)
			if err != nil {
				yield(nil, err)
				return false
			}
			c.file = file
		}
		if !again {
			// Never a byte beyond: what lies there may be cut off and written anew.
			c.reader.Reset(io.NewSectionReader(c.file, c.read, size-c.read))
		}
		line, err := c.reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) && !c.anew {
			c.close() // the log is another file now, with the same beginning
			c.anew, again = true, false
			continue
		}
		again, c.anew = true, false
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
