package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

const (
	// refreshEvery is how often other owners' files are looked at, far from the limits.
	refreshEvery = 10 * time.Second
	// othersTime is how long after its last line another owner counts as alive. While a reply comes it writes one a second.
	othersTime = 30 * time.Second
	// monthsKept is how many months are read: a session's own limit does not reach back further.
	monthsKept = 13
	// quiet is how long after its end a month is left alone: no request goes on for so long.
	quiet = 48 * time.Hour
)

// ownerFiles are the files of an owner in the directory of a month.
type ownerFiles struct {
	sums     fs.FileInfo // nil if there are none
	journals map[int]fs.FileInfo
}

// progress is how far another owner's files have been read.
type progress struct {
	sums    fs.FileInfo
	through int
	read    map[int]int64
	written time.Time // when a journal was last written to
}

var (
	monthName   = regexp.MustCompile(`^\d{4}-\d{2}$`)
	sumsName    = regexp.MustCompile(`^([\w-]+)\.json$`)
	journalName = regexp.MustCompile(`^([\w-]+)\.(\d{1,9})\.jsonl$`)
)

func journalFile(owner string, number int) string { return fmt.Sprintf("%s.%d.jsonl", owner, number) }

// load reads all months that count.
func (l *Ledger) load() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	var names []string
	for _, entry := range entries {
		if name := strings.TrimSuffix(entry.Name(), ".json"); monthName.MatchString(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names[max(0, len(names)-monthsKept):] {
		if err := l.loadMonth(name); err != nil {
			return err
		}
	}
	l.refreshed = l.now()
	return nil
}

// loadMonth reads a month. A file that another daemon takes away meanwhile is in another one now.
func (l *Ledger) loadMonth(name string) error {
	for try := 1; ; try++ {
		m, all, err := l.readMonth(name)
		if errors.Is(err, fs.ErrNotExist) && try < 10 {
			continue
		}
		if err != nil {
			return err
		}
		l.months[name] = m
		return l.tidy(name, m, all)
	}
}

// readMonth reads the files of a month, and returns their names.
func (l *Ledger) readMonth(name string) (*month, []string, error) {
	dir := filepath.Join(l.dir, name)
	owners, all, err := list(dir) // before the sums of the month: they are there before any of these goes
	if err != nil {
		return nil, nil, err
	}
	m := &month{others: map[string]*account{}}
	var of []string
	text, err := os.ReadFile(dir + ".json")
	switch {
	case err == nil:
		merged, err := readSums(dir+".json", text)
		if err != nil {
			return nil, nil, err
		}
		m.others[""], of = &merged.account, merged.Of
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	for owner, files := range owners {
		files.leaveOut(owner, of)
		a := newAccount()
		next, err := fetch(dir, owner, files, a.file)
		if err != nil {
			return nil, nil, err
		}
		a = next.into(a)
		if owner == l.owner {
			m.own = a
			for number := range owners[owner].journals {
				l.writer.next[name] = max(l.writer.next[name], number)
			}
			l.writer.next[name] = max(l.writer.next[name], a.file.through)
		} else {
			m.others[owner] = a
		}
	}
	return m, all, nil
}

// leaveOut drops the files that the sums of the month have.
func (f *ownerFiles) leaveOut(owner string, of []string) {
	if slices.Contains(of, owner+".json") {
		f.sums = nil
	}
	for number := range f.journals {
		if slices.Contains(of, journalFile(owner, number)) {
			delete(f.journals, number)
		}
	}
}

// tidy puts the files of a month that is over into one, and this owner's journals of an earlier run into sums.
func (l *Ledger) tidy(name string, m *month, files []string) error {
	dir := filepath.Join(l.dir, name)
	begin, err := time.Parse("2006-01", name)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if over := l.now().After(begin.AddDate(0, 1, 0).Add(quiet)); over && len(files) > 0 {
		total := newAccount()
		for a := range m.accounts() {
			total.plus(a)
		}
		all := &sums{Version: sumsVersion, account: *total, Of: files}
		if err := all.write(dir + ".json"); err != nil {
			return err
		}
		removeAll(dir, files)
		_ = os.Remove(dir) // which fails if another daemon has put something into it, as it should
		l.months[name] = &month{others: map[string]*account{"": total}}
		return nil
	}
	if m.own == nil {
		return nil
	}
	m.own.open = map[string]line{} // who made these requests is gone
	var own []string
	for _, file := range files {
		if match := journalName.FindStringSubmatch(file); match != nil && match[1] == l.owner {
			own = append(own, file)
		}
	}
	if len(own) == 0 {
		return nil
	}
	s := &sums{Version: sumsVersion, account: *m.own, Through: l.writer.next[name]}
	if err := s.write(filepath.Join(dir, l.owner+".json")); err != nil {
		return err
	}
	removeAll(dir, own)
	return nil
}

func (s *sums) write(file string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(text, '\n'), 0o600, renameio.WithTempDir(filepath.Dir(file)))
}

// removeAll removes files that are summed up. What stays does no harm: the sums name it.
func removeAll(dir string, files []string) {
	for _, file := range files {
		_ = os.Remove(filepath.Join(dir, file))
	}
}

// list finds the files of a month by owner. A directory that is not there has none.
func list(dir string) (owners map[string]*ownerFiles, all []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	owners = map[string]*ownerFiles{}
	of := func(owner string) *ownerFiles {
		if owners[owner] == nil {
			owners[owner] = &ownerFiles{journals: map[int]fs.FileInfo{}}
		}
		return owners[owner]
	}
	for _, entry := range entries {
		name := entry.Name()
		isSums, isJournal := sumsName.FindStringSubmatch(name), journalName.FindStringSubmatch(name)
		if isSums == nil && isJournal == nil {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, name)
		if isSums != nil {
			of(isSums[1]).sums = info
			continue
		}
		number, err := strconv.Atoi(isJournal[2])
		if err != nil {
			return nil, nil, err
		}
		of(isJournal[1]).journals[number] = info
	}
	return owners, all, nil
}

// news is what has been read of an owner's files.
type news struct {
	sums     *sums // begins anew with these, unless nil
	fresh    bool  // begins anew
	info     fs.FileInfo
	journals map[int][]byte
	written  time.Time // the latest of the journals
}

// fetch reads what is new in an owner's files. An error for a file that is not there means that the owner has
// summed it up meanwhile.
func fetch(dir, owner string, files *ownerFiles, at progress) (*news, error) {
	n := &news{info: files.sums, journals: map[int][]byte{}}
	through := at.through
	changed := (files.sums == nil) != (at.sums == nil) ||
		files.sums != nil && (files.sums.Size() != at.sums.Size() || !files.sums.ModTime().Equal(at.sums.ModTime()))
	if changed || at.read == nil {
		n.fresh, through, at.read = true, 0, nil
		if files.sums != nil {
			name := filepath.Join(dir, owner+".json")
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			if n.sums, err = readSums(name, text); err != nil {
				return nil, err
			}
			through = n.sums.Through
		}
	}
	for number, info := range files.journals {
		if info.ModTime().After(n.written) {
			n.written = info.ModTime()
		}
		if number <= through || info.Size() <= at.read[number] {
			continue
		}
		text, err := readFrom(filepath.Join(dir, journalFile(owner, number)), at.read[number])
		if err != nil {
			return nil, err
		}
		n.journals[number] = text
	}
	return n, nil
}

func readFrom(name string, offset int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.NewSectionReader(file, offset, 1<<40))
}

// into adds the news to an account, and returns it, or the one that takes its place.
func (n *news) into(a *account) *account {
	if n.fresh {
		a = newAccount()
		a.file = progress{sums: n.info, read: map[int]int64{}}
		if n.sums != nil {
			a.plus(&n.sums.account)
			a.file.through = n.sums.Through
		}
	}
	if n.written.After(a.file.written) {
		a.file.written = n.written
	}
	numbers := make([]int, 0, len(n.journals))
	for number := range n.journals {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		a.file.read[number] += int64(a.readLines(n.journals[number]))
	}
	return a
}

// refresh reads what other owners have written, if the last time is so long ago. A file that cannot be read now is read later.
func (l *Ledger) refresh(every time.Duration) {
	if l.writer == nil || !l.refreshing.TryLock() {
		return
	}
	defer l.refreshing.Unlock()
	now := l.now().UTC()
	l.lock.Lock()
	due := now.Sub(l.refreshed) >= every || now.Before(l.refreshed)
	if due {
		l.refreshed = now
	}
	l.lock.Unlock()
	if !due {
		return
	}
	_, this := period(now)
	l.refreshMonth(this)
	if _, last := period(now.AddDate(0, 0, -now.Day())); now.Day() <= 4 {
		l.refreshLast(last)
	}
}

func (l *Ledger) refreshMonth(name string) {
	dir := filepath.Join(l.dir, name)
	owners, _, err := list(dir)
	if err != nil {
		return
	}
	for owner, files := range owners {
		if owner == l.owner {
			continue
		}
		l.lock.Lock()
		a := l.month(name).others[owner]
		if a == nil {
			a = newAccount()
		}
		at := a.file
		l.lock.Unlock()
		n, err := fetch(dir, owner, files, at)
		if err != nil {
			continue
		}
		l.lock.Lock()
		l.month(name).others[owner] = n.into(a)
		l.lock.Unlock()
	}
}

// refreshLast reads the month before this one, which another daemon may have put into one file.
func (l *Ledger) refreshLast(name string) {
	text, err := os.ReadFile(filepath.Join(l.dir, name+".json"))
	if err != nil {
		l.refreshMonth(name)
		return
	}
	merged, err := readSums(name, text)
	if err != nil {
		return
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	if m := l.month(name); m.others[""] == nil {
		l.months[name] = &month{others: map[string]*account{"": &merged.account}}
	}
}
