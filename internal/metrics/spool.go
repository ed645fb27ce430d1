package metrics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"berth/internal/contract"
)

const (
	// maxAge is how old a record may be: CloudWatch refuses what is two weeks old. The hour is for sending it.
	maxAge = 14*24*time.Hour - time.Hour

	// maxRecords bounds the records on the volume, at about 150 bytes each. A minute has one, and one for each
	// session that ends in it; two weeks of minutes are 20,160.
	maxRecords = 40_000

	// abandoned is how long nobody has written to a file whose daemon is gone. One that lives writes every minute.
	abandoned = 5 * time.Minute

	suffix = ".jsonl"
)

// spool keeps records on the volume until they are sent, in a file of this daemon's own:
//
//	{"time":"…","ended":{…}}     a record
//	{"sent":2}                   the first two that were left are sent, or given up
//
// It is emptied when all are sent. A line that is no JSON is what a crash left of one.
//
// While the volume cannot be written, records are kept in memory only, and the log says so.
type spool struct {
	dir, file string
	log       *slog.Logger

	mu      sync.Mutex
	records []record // not sent yet, in the order of the file
	base    int      // the number of the first of them, by which it is known although others come and go before it
	loaded  bool     // what an earlier daemon of the same name left is among records
	stale   bool     // the file is not as records are: it has to be written anew
	lines   int      // in the file
	failing bool     // the log says that the volume cannot be written
}

// line is a line of the file.
type line struct {
	record
	Sent int `json:"sent,omitempty"`
}

func newSpool(dir, owner string, log *slog.Logger) *spool {
	return &spool{dir: dir, file: filepath.Join(dir, url.PathEscape(owner)+suffix), log: log}
}

// append keeps records.
func (s *spool) append(records []record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	s.disown()
	s.records = append(s.records, records...)
	if over := len(s.records) - maxRecords; over > 0 {
		s.drop(over+maxRecords/8, "there are too many") // an eighth more, because the file is written anew
		s.stale = true
	}
	s.write(records)
}

// first returns the oldest records that CloudWatch still takes, so many at most, and the number of the first.
func (s *spool) first(count int, now time.Time) ([]record, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	s.disown()
	old := 0
	for old < len(s.records) && now.Sub(s.records[old].Time) > maxAge {
		old++
	}
	if old > 0 {
		s.drop(old, "they are two weeks old")
		s.mark(old)
	}
	return slices.Clone(s.records[:min(count, len(s.records))]), s.base
}

// sent forgets so many records from a number on, if they have not been dropped meanwhile.
func (s *spool) sent(number, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to := max(number-s.base, 0), min(number+count-s.base, len(s.records))
	if from >= to {
		return
	}
	s.stale = s.stale || from > 0 // what an earlier daemon left was read only now
	s.records = slices.Delete(s.records, from, to)
	s.base += to - from
	s.mark(to - from)
}

func (s *spool) length() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// close removes the file if nothing is left in it.
func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded && len(s.records) == 0 {
		_ = os.Remove(s.file) // an empty one does no harm
	}
}

// adopt takes over the files of daemons that are gone.
func (s *spool) adopt(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	if !s.loaded {
		return
	}
	files, _ := filepath.Glob(filepath.Join(globEscape(s.dir), "*"+suffix)) // the pattern is right
	for number, file := range files {
		if info, err := os.Lstat(file); file == s.file || err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < abandoned {
			continue
		}
		taken := fmt.Sprintf("%s.%d-%d%s", s.file, now.UnixNano(), number, suffix)
		if err := s.adoptFile(file, taken, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.note(err)
		}
	}
}

func (s *spool) adoptFile(file, taken string, now time.Time) error {
	// Others find it in use, unless they have seen it just before: then one of us fails to rename it.
	if err := os.Chtimes(file, time.Time{}, now); err != nil {
		return err
	}
	if err := os.Rename(file, taken); err != nil {
		return err
	}
	records, _, broken, err := read(taken)
	if err != nil {
		return err // it is found again
	}
	s.log.Info("metrics of a daemon that is gone are taken over", "file", filepath.Base(file), "records", len(records), "unreadable", broken)
	if len(records) > 0 {
		before := s.records
		s.records = slices.Concat(records, before)
		slices.SortStableFunc(s.records, func(a, b record) int { return a.Time.Compare(b.Time) })
		s.stale = true
		s.write(nil)
		if s.stale {
			s.records = before
			return nil // write has said why; it is found again
		}
	}
	return os.Remove(taken)
}

// load reads what an earlier daemon of the same name left.
func (s *spool) load() {
	if s.loaded {
		return
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		s.note(err)
		return
	}
	records, lines, broken, err := read(s.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.note(err)
		return
	}
	if broken > 0 {
		s.log.Warn("metrics on the volume cannot be read, and are left out", "lines", broken)
	}
	s.stale = len(s.records) > 0 || broken > 0
	s.records = append(records, s.records...)
	s.base -= len(records)
	s.loaded, s.lines = true, lines
}

// disown lets go of records whose file is not there any more: a daemon that was thought gone comes back, and another
// one has taken them over.
func (s *spool) disown() {
	if !s.loaded || s.stale || s.lines == 0 {
		return
	}
	if _, err := os.Lstat(s.file); errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("another daemon has taken over the metrics that were kept here", "records", len(s.records))
		s.base += len(s.records)
		s.records, s.lines = nil, 0
	}
}

// drop gives up the oldest records. The caller sees to the file.
func (s *spool) drop(count int, why string) {
	s.log.Error("metrics that CloudWatch has not got are dropped: "+why, "dropped", count, "until", s.records[count-1].Time)
	s.records = s.records[count:]
	s.base += count
}

// mark notes in the file that the oldest are sent or given up.
func (s *spool) mark(count int) {
	switch {
	case s.stale || !s.loaded:
		s.write(nil)
	case len(s.records) == 0:
		err := os.Truncate(s.file, 0)
		s.lines, s.stale = 0, err != nil
		s.note(err)
	case s.lines > 2*len(s.records)+100:
		s.stale = true
		s.write(nil)
	default:
		s.add(line{Sent: count})
	}
}

// write brings records, the last of s.records, to the volume, with all others that are not on it.
func (s *spool) write(records []record) {
	if !s.loaded {
		s.stale = true
		return
	}
	lines := make([]line, 0, len(records))
	if !s.stale {
		for _, each := range records {
			lines = append(lines, line{record: each})
		}
		s.add(lines...)
		return
	}
	for _, each := range s.records {
		lines = append(lines, line{record: each})
	}
	text, err := encode(lines)
	if err == nil {
		err = renameio.WriteFile(s.file, text, 0o600, renameio.WithTempDir(s.dir))
	}
	s.stale, s.lines = err != nil, len(lines)
	s.note(err)
}

// add puts lines at the end of the file.
func (s *spool) add(lines ...line) {
	text, err := encode(lines)
	if err == nil {
		err = appendTo(s.file, text)
	}
	s.lines += len(lines)
	s.stale = err != nil
	s.note(err)
}

// note says when the volume can no more, or again, be written.
func (s *spool) note(err error) {
	switch {
	case err != nil && !s.failing:
		s.log.Warn("metrics cannot be kept on the volume", contract.LogFieldError, err)
	case err == nil && s.failing:
		s.log.Info("metrics can be kept on the volume again")
	}
	s.failing = err != nil
}

func encode(lines []line) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, each := range lines {
		if err := encoder.Encode(each); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

func appendTo(name string, text []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// read returns the records of a file that are not sent, and how many lines it has, and how many that are no JSON.
func read(name string) (records []record, lines, broken int, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, 0, err
	}
	defer func() { _ = file.Close() }() // it was only read
	const limit = maxRecords * 1000     // bytes; more is none of ours
	text, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return nil, 0, 0, err
	}
	for each := range bytes.Lines(text) {
		lines++
		var l line
		// A line without an end may lack what makes its figures whole.
		if each[len(each)-1] != '\n' || json.Unmarshal(each, &l) != nil || l.Sent == 0 && l.Time.IsZero() {
			broken++
			continue
		}
		if l.Sent > 0 {
			records = records[min(l.Sent, len(records)):]
			continue
		}
		records = append(records, l.record)
	}
	return records, lines, broken, nil
}

// globEscape makes a directory's name mean itself in a pattern.
func globEscape(name string) string {
	var escaped []byte
	for _, b := range []byte(name) {
		if bytes.IndexByte([]byte(`*?[\`), b) >= 0 {
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, b)
	}
	return string(escaped)
}
