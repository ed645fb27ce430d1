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
// for anybody, each at a pace of their own: a reader holds nothing that an append waits for, nor waits for the disk with one.
type eventLog struct {
	path string

	writing sync.Mutex  // held while the owner's file is written; before mu
	file    *os.File    // the owner's; nil if this is none
	failed  error       // of a sync that nobody waited for; the system tells it only once
	syncing *time.Timer // nil if nothing waits to be synced
	dirty   bool        // something was changed since it was last synced

	mu    sync.Mutex    // held for moments
	size  int64         // bytes of whole lines that count; what lies beyond is to be cut off
	torn  bool          // something may lie beyond size
	grown chan struct{} // closed and replaced when size grows
	anew  int           // how often it was read from its beginning: what was there is not what is
}

func newLog(path string) *eventLog { return &eventLog{path: path, grown: make(chan struct{})} }

// take opens the file for appending. What was appended by others is not known before the next read.
func (l *eventLog) take() error {
	file, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.file, l.failed = file, nil
	return nil
}

// read reads a log's lines from a byte on, and tells each to visit. It returns where the last one ends. It stops before what a crash leaves
// at the end: a line without its end, and blocks that the disk never wrote, which read as zeros, unless something follows
// them that was promised to somebody; torn says that there is such an end.
func read(file io.ReadSeeker, from int64, visit func(line []byte) error) (size int64, torn bool, err error) {
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return from, false, err
	}
	reader := bufio.NewReader(file)
	for size = from; ; {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, len(line) > 0 && size > 0, nil // else it is no log at all, and left alone
		}
		if err != nil {
			return size, false, err
		}
		err = visit(bytes.TrimSuffix(line, []byte("\n")))
		if errors.Is(err, ErrDamaged) && size > 0 && bytes.IndexByte(line, 0) >= 0 {
			follows, unread := promised(reader)
			if unread != nil {
				return size, false, unread
			}
			if !follows {
				return size, true, nil
			}
		}
		if err != nil {
			return size, false, err
		}
		size += int64(len(line))
	}
}

// grow tells readers how far the log goes.
func (l *eventLog) grow(size int64, torn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.torn = torn
	if size != l.size {
		l.size = size
		close(l.grown)
		l.grown = make(chan struct{})
	}
}

// restart tells readers that the log is another one, to be read from its beginning.
func (l *eventLog) restart() {
	l.mu.Lock()
	if l.size > 0 {
		l.anew++
	}
	l.mu.Unlock()
	l.grow(0, false)
}

// promised reports whether a line follows whose writer was told that it is on the disk.
func promised(reader *bufio.Reader) (bool, error) {
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		var event api.Event
		if json.Unmarshal(line, &event) == nil && lasting(event.Type) {
			return true, nil
		}
	}
}

// append writes whole lines beyond the log's size, and with sync returns when they are on the disk. They count when grow says so; until
// then, and after an error, the log is as it was.
func (l *eventLog) append(lines []byte, sync bool) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.file == nil {
		return fs.ErrClosed
	}
	if err := l.failed; err != nil {
		l.failed = nil
		return err
	}
	if err := l.mend(); err != nil {
		return err
	}
	size := l.tear()
	l.dirty = true
	if _, err := l.file.WriteAt(lines, size); err != nil {
		return errors.Join(err, l.mend())
	}
	if sync {
		if err := l.sync(); err != nil {
			return errors.Join(err, l.mend())
		}
		l.stopTimer()
	} else if l.syncing == nil {
		l.syncing = time.AfterFunc(SyncAfter, l.flush)
	}
	return nil
}

// tear notes that something is written beyond the log's size, and returns that.
func (l *eventLog) tear() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.torn = true
	return l.size
}

// mend cuts off what lies beyond the last whole line, for whoever writes.
func (l *eventLog) mend() error {
	l.mu.Lock()
	torn, size := l.torn, l.size
	l.mu.Unlock()
	if !torn {
		return nil
	}
	l.dirty = true
	if err := l.file.Truncate(size); err != nil {
		return fmt.Errorf("cutting a torn line off: %w", err)
	}
	l.grow(size, false)
	return nil
}

// cut is mend, for an owner that has just read the log.
func (l *eventLog) cut() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.mend()
}

func (l *eventLog) flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.syncing = nil
	if l.file != nil {
		l.failed = l.sync() // for the next append to tell
	}
}

// sync is for whoever writes.
func (l *eventLog) sync() error {
	err := l.file.Sync()
	l.dirty = l.dirty && err != nil
	return err
}

func (l *eventLog) stopTimer() {
	if l.syncing != nil {
		l.syncing.Stop()
		l.syncing = nil
	}
}

// rest closes the file until it is taken again, with everything on the disk.
func (l *eventLog) rest() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.file == nil {
		return nil
	}
	l.stopTimer()
	err := error(nil)
	if l.dirty {
		err = l.sync()
	}
	err = errors.Join(err, l.file.Close())
	l.file, l.dirty = nil, false
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
