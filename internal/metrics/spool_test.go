package metrics

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// of are records at minutes.
func of(minutes ...int) (records []record) {
	for _, minute := range minutes {
		records = append(records, record{Time: start.Add(time.Duration(minute) * time.Minute), Ended: &ended{Seconds: float64(minute)}})
	}
	return records
}

func minutesOf(records []record) (minutes []int) {
	for _, each := range records {
		minutes = append(minutes, int(each.Ended.Seconds))
	}
	return minutes
}

// kept are the minutes of the records that a spool has.
func kept(s *spool) []int {
	records, _ := s.first(maxRecords, start)
	return minutesOf(records)
}

func wantKept(t *testing.T, s *spool, want ...int) {
	t.Helper()
	if got := kept(s); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

// forget has the oldest records sent.
func forget(s *spool, count int) {
	_, number := s.first(count, start)
	s.sent(number, count)
}

func TestWhatIsKeptOutlastsTheDaemon(t *testing.T) {
	dir, lines := t.TempDir(), &log{}
	first := newSpool(dir, "a/b", lines.logger())
	first.append(of(1, 2))
	first.append(of(3, 4))
	forget(first, 1)

	second := newSpool(dir, "a/b", lines.logger())
	wantKept(t, second, 2, 3, 4)
	forget(second, 2)
	second.append(of(5))
	wantKept(t, newSpool(dir, "a/b", lines.logger()), 4, 5)
	forget(second, 2)
	wantKept(t, newSpool(dir, "a/b", lines.logger()))
	second.close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if said := lines.lines(); len(said) != 0 {
		t.Errorf("said %q", said)
	}
}

// Wherever a crash cuts the file, whole lines count, and the next daemon goes on with a sound file.
func TestTornFile(t *testing.T) {
	whole := newSpool(t.TempDir(), "one", (&log{}).logger())
	whole.append(of(1, 2, 3))
	forget(whole, 1)
	whole.append(of(4))
	text, err := os.ReadFile(whole.file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(text) + 1 {
		want := [][]int{{}, {1}, {1, 2}, {1, 2, 3}, {2, 3}, {2, 3, 4}}[bytes.Count(text[:cut], []byte("\n"))]
		s := newSpool(t.TempDir(), "one", (&log{}).logger())
		if err := os.WriteFile(s.file, text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s.append(of(5))
		next := newSpool(s.dir, "one", (&log{}).logger())
		if got := kept(next); !slices.Equal(got, append(want, 5)) {
			t.Fatalf("cut at %d: kept %v, want %v and 5", cut, got, want)
		}
	}
}

func TestOtherDaemonsFiles(t *testing.T) {
	dir, lines := t.TempDir(), &log{}
	gone := newSpool(dir, "gone", lines.logger())
	gone.append(of(1, 3))
	alive := newSpool(dir, "alive", lines.logger())
	alive.append(of(2, 4))

	modified := time.Now()
	alive.adopt(modified.Add(abandoned - time.Second))
	wantKept(t, alive, 2, 4)
	alive.adopt(modified.Add(abandoned + time.Second))
	wantKept(t, alive, 1, 2, 3, 4)
	wantKept(t, newSpool(dir, "alive", lines.logger()), 1, 2, 3, 4)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files %v, %v", left, err)
	}

	// It was not gone after all.
	gone.append(of(5))
	wantKept(t, gone, 5)
	wantKept(t, newSpool(dir, "gone", lines.logger()), 5)
	if said := lines.with("another daemon has taken over"); len(said) != 1 {
		t.Errorf("said %q", lines.lines())
	}
}

func TestOnlyOneAdopts(t *testing.T) {
	dir := t.TempDir()
	newSpool(dir, "gone", (&log{}).logger()).append(of(1, 2, 3))
	var others []*spool
	done := make(chan struct{})
	for number := range 4 {
		other := newSpool(dir, fmt.Sprint(number), (&log{}).logger())
		others = append(others, other)
		go func() {
			other.adopt(time.Now().Add(2 * abandoned))
			done <- struct{}{}
		}()
	}
	for range others {
		<-done
	}
	var all []int
	for _, each := range others {
		all = append(all, kept(each)...)
	}
	if !slices.Equal(all, []int{1, 2, 3}) {
		t.Errorf("kept %v", all)
	}
}

func TestBounds(t *testing.T) {
	lines := &log{}
	s := newSpool(t.TempDir(), "one", lines.logger())
	for range 5 {
		s.append(make([]record, maxRecords/4))
	}
	info, err := os.Stat(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if s.length() > maxRecords || info.Size() > 10<<20 {
		t.Errorf("%d records, %d bytes", s.length(), info.Size())
	}
	if said := lines.with("dropped"); len(said) != 1 {
		t.Errorf("said %q", lines.lines())
	}
}

func TestTwoWeeksOld(t *testing.T) {
	lines := &log{}
	s := newSpool(t.TempDir(), "one", lines.logger())
	s.append(of(0, 1, 2, 3))
	records, number := s.first(maxRecords, start.Add(maxAge+90*time.Second))
	if got := minutesOf(records); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("would send %v", got)
	}
	s.sent(number, 1)
	wantKept(t, newSpool(s.dir, "one", lines.logger()), 3)
	if said := lines.with("dropped=2"); len(said) != 1 {
		t.Errorf("said %q", lines.lines())
	}
}

func TestVolumeThatCannotBeWritten(t *testing.T) {
	dir, lines := filepath.Join(t.TempDir(), "metrics"), &log{}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSpool(dir, "one", lines.logger())
	s.append(of(1))
	s.append(of(2))
	wantKept(t, s, 1, 2)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	s.append(of(3))
	wantKept(t, newSpool(dir, "one", lines.logger()), 1, 2, 3)
	if said := lines.lines(); len(said) != 2 {
		t.Errorf("said %q, want that it fails, and that it works again", said)
	}
}

// What is dropped while a request is under way is not taken for what the request had.
func TestSentAfterDropped(t *testing.T) {
	s := newSpool(t.TempDir(), "one", (&log{}).logger())
	s.append(of(1, 2, 3, 4, 5))
	_, number := s.first(3, start)
	s.drop(2, "of the test")
	s.stale = true
	s.sent(number, 3)
	wantKept(t, s, 4, 5)
	wantKept(t, newSpool(s.dir, "one", s.log), 4, 5)
}

// Whatever happens in whatever order, a spool has what was appended and not sent, also after a crash.
func TestSpoolAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		open := func() *spool { return newSpool(dir, "one", (&log{}).logger()) }
		s, next := open(), 0
		var model []int
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var more []int
				for range rapid.IntRange(1, 80).Draw(t, "count") {
					more = append(more, next)
					next++
				}
				s.append(of(more...))
				model = append(model, more...)
			},
			"sent": func(t *rapid.T) {
				count := rapid.IntRange(0, len(model)).Draw(t, "sent")
				forget(s, count)
				model = model[count:]
			},
			"crash": func(*rapid.T) { s = open() },
			"": func(t *rapid.T) {
				if got := kept(s); !slices.Equal(got, model) {
					t.Fatalf("kept %v, want %v", got, model)
				}
			},
		})
	})
}
