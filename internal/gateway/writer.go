package gateway

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// syncEvery is how often what was written is synced.
	syncEvery = time.Second
	// queueLimit is how many jobs may wait for a volume that does not take them before figures of replies that
	// still come are left out; first and last lines never are.
	queueLimit = 10_000
)

// writer writes a ledger's lines in the order in which they come, so that nobody else waits for the volume.
type writer struct {
	dir, owner string
	next       map[string]int // the number of the latest journal, by month
	files      map[string]*os.File
	unsynced   map[string]bool
	synced     time.Time
	failed     map[string]error // of the last write that no sums have made good since, by month

	before func() // of each operation on the volume, for tests; nil is nothing

	wake chan struct{} // has one in it when there is something to do
	done chan struct{}

	lock   sync.Mutex
	queue  []job
	closed bool
}

// job is something to write.
type job struct {
	month   string
	text    []byte
	written chan<- error // told how it went, unless nil; has room
	sums    *sums        // if not nil: text begins a journal, and these take the place of those before
}

// newWriter makes a writer, which writes once run is called.
func newWriter(dir, owner string) *writer {
	return &writer{
		dir: dir, owner: owner, next: map[string]int{}, files: map[string]*os.File{}, unsynced: map[string]bool{}, failed: map[string]error{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// put takes a job. It never waits.
func (w *writer) put(j job) {
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.closed {
		if j.written != nil {
			j.written <- errors.New("the ledger is closed")
		}
		return
	}
	w.queue = append(w.queue, j)
	w.poke()
}

// full reports whether the volume lags far behind.
func (w *writer) full() bool {
	w.lock.Lock()
	defer w.lock.Unlock()
	return len(w.queue) > queueLimit
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close writes what is left. Its error says what is not on the volume: neither as a line, nor in sums.
func (w *writer) close() error {
	w.lock.Lock()
	w.closed = true
	w.poke()
	w.lock.Unlock()
	<-w.done
	return errors.Join(slices.Collect(maps.Values(w.failed))...)
}

func (w *writer) run() {
	defer close(w.done)
	timer := time.NewTimer(syncEvery)
	timer.Stop()
	for {
		select {
		case <-w.wake:
		case <-timer.C:
		}
		w.lock.Lock()
		jobs, closed := w.queue, w.closed
		w.queue = nil
		w.lock.Unlock()
		w.do(jobs)
		switch {
		case closed:
			w.sync()
			w.forget()
			return
		case len(w.unsynced) == 0:
		case time.Since(w.synced) >= syncEvery:
			w.sync()
		default:
			timer.Reset(syncEvery - time.Since(w.synced))
		}
	}
}

// do writes jobs, as many as possible at once.
func (w *writer) do(jobs []job) {
	for len(jobs) > 0 {
		count, text := 1, jobs[0].text
		for count < len(jobs) && jobs[count].month == jobs[0].month && jobs[count].sums == nil {
			if count == 1 {
				text = append([]byte(nil), text...)
			}
			text = append(text, jobs[count].text...)
			count++
		}
		var err error
		if jobs[0].sums != nil {
			if err = w.begin(jobs[0].month, text, jobs[0].sums); err == nil {
				delete(w.failed, jobs[0].month) // the sums have what was not written
			}
		} else {
			err = w.append(jobs[0].month, text)
		}
		if err != nil {
			w.failed[jobs[0].month] = err
		}
		for _, each := range jobs[:count] {
			if each.written != nil {
				each.written <- err
			}
		}
		jobs = jobs[count:]
	}
}

// append writes to the month's journal.
func (w *writer) append(month string, text []byte) error {
	if w.before != nil {
		w.before()
	}
	file := w.files[month]
	if file == nil {
		var err error
		if file, err = w.create(month); err != nil {
			return err
		}
		w.files[month] = file
	}
	if _, err := file.Write(text); err != nil {
		// Its last line may be torn: what comes next goes to another file.
		delete(w.files, month)
		delete(w.unsynced, month)
		return fmt.Errorf("noting spend: %w", errors.Join(err, file.Close()))
	}
	w.unsynced[month] = true
	return nil
}

func (w *writer) create(month string) (*os.File, error) {
	dir := filepath.Join(w.dir, month)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	w.next[month]++
	return os.OpenFile(filepath.Join(dir, journalFile(w.owner, w.next[month])), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
}

// begin begins a journal, then puts sums in the place of those before it. Whoever reads in between has the requests of
// text twice, under the same ids, which is once.
func (w *writer) begin(month string, text []byte, s *sums) error {
	last := w.next[month]
	if file := w.files[month]; file != nil {
		delete(w.files, month)
		delete(w.unsynced, month) // the sums have it, and are synced
		if err := file.Close(); err != nil {
			return err
		}
	}
	if len(text) > 0 {
		if err := w.append(month, text); err != nil {
			return err
		}
		// Of the requests under way the journals before it told, too, and those go now.
		if err := w.syncMonth(month); err != nil {
			return err
		}
	}
	dir := filepath.Join(w.dir, month)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.Version, s.Through = sumsVersion, last
	if err := s.write(filepath.Join(dir, w.owner+".json")); err != nil {
		return err
	}
	for number := last; number > 0; number-- {
		if os.Remove(filepath.Join(dir, journalFile(w.owner, number))) != nil {
			break // those before it went earlier
		}
	}
	return nil
}

func (w *writer) sync() {
	for month := range w.unsynced {
		if err := w.syncMonth(month); err != nil {
			w.failed[month] = err
		}
	}
	w.synced = time.Now()
	w.retire()
}

func (w *writer) syncMonth(month string) error {
	delete(w.unsynced, month)
	if err := w.files[month].Sync(); err != nil {
		return fmt.Errorf("noting spend: %w", err)
	}
	return nil
}

// retire closes journals of months that are over. What is written to one later goes to a new one.
func (w *writer) retire() {
	for month, file := range w.files {
		if len(w.files) > 1 && month < w.latest() {
			_ = file.Close() // it was synced
			delete(w.files, month)
		}
	}
}

func (w *writer) latest() (name string) {
	for month := range w.files {
		name = max(name, month)
	}
	return name
}

func (w *writer) forget() {
	for _, file := range w.files {
		_ = file.Close() // it was synced
	}
}
