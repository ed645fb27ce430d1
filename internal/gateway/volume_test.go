package gateway

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A journal that gets long is summed up, and nothing is lost or counted twice by it.
func TestLongJournalsAreSummedUp(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	l, other := openAt(t, dir, "one", Limits{}, at), openAt(t, dir, "other", Limits{}, at)
	long := leave(t, l, "long", "m", 7)
	for number := range 9000 {
		o := order{session: fmt.Sprint("session-", number%100), model: "claude-sonnet-4-6", estimate: 3, worst: 5}
		c, err := l.reserve(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.lock.Lock()
		l.write(c.month, c.line, nil)
		l.lock.Unlock()
		c.end("", 4)
	}
	flush(t, l) // a figure is left out while the writer has its hands full
	long.figure("", 8, 9, true)
	check := func(what string, l *Ledger) {
		t.Helper()
		checkSession(t, what, l, "long", 8e-9)
		checkSession(t, what, l, "session-42", 360e-9)
		if got := l.Spend().MonthUSD * 1e9; got < 36007.9 || got > 36008.1 {
			t.Errorf("%s: %g", what, got)
		}
	}
	flush(t, l)
	at.add(refreshEvery)
	check("itself", l)
	check("another daemon", other)
	check("killed", killed(t, dir, "one", at))
	check("killed, another daemon", killed(t, dir, "two", at))
	files, err := filepath.Glob(filepath.Join(dir, "2026-05", "one.*"))
	if err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
	var size int64
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > journalSize+100_000 {
		t.Errorf("%d bytes are kept", size)
	}
}

// A month that is over becomes one file, once it is certain that nobody writes to it.
func TestOldMonthsBecomeOneFile(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-31 23:59")
	one, two := openAt(t, dir, "one", Limits{}, at), openAt(t, dir, "two", Limits{}, at)
	leave(t, one, "a", "m", 1).end("m", dollar)
	late := leave(t, two, "a", "m", 1)
	at.add(time.Hour)
	late.end("m", dollar)
	flush(t, two)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	one = openAt(t, dir, "one", Limits{}, at)
	checkSession(t, "an hour later", one, "a", 2)
	if _, err := os.Stat(filepath.Join(dir, "2026-05.json")); err == nil {
		t.Error("the month has just ended")
	}
	leftOver := filepath.Join(t.TempDir(), "left")
	if err := os.CopyFS(leftOver, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	at.add(3 * 24 * time.Hour)
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		one = openAt(t, dir, "one", Limits{}, at)
		checkSession(t, "days later", one, "a", 2)
		if days := one.Report().Days; days["2026-05-31"] != 2 {
			t.Errorf("by day: %v", days)
		}
		if found, err := filepath.Glob(filepath.Join(dir, "2026-05*")); err != nil || len(found) != 1 || filepath.Base(found[0]) != "2026-05.json" {
			t.Errorf("%v, %v", found, err)
		}
	}
	checkSession(t, "the other daemon", two, "a", 2)
	// A crash after the month's file was made, and before the others were gone, leaves them.
	if err := os.CopyFS(filepath.Join(dir, "2026-05"), os.DirFS(filepath.Join(leftOver, "2026-05"))); err != nil {
		t.Fatal(err)
	}
	checkSession(t, "left over", openAt(t, dir, "three", Limits{}, at), "a", 2)
	checkSession(t, "cleared", openAt(t, dir, "three", Limits{}, at), "a", 2)
	if _, err := os.Stat(filepath.Join(dir, "2026-05")); err == nil {
		t.Error("what is left over stays")
	}
}

// A slow volume holds up a request that leaves, and no reply.
func TestASlowVolumeHoldsNoStreamUp(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	l, err := OpenLedger(dir, "one", Limits{}, at.now)
	if err != nil {
		t.Fatal(err)
	}
	goOn := make(chan struct{})
	waiting := make(chan struct{}, 100)
	c := leave(t, l, "a", "m", 1)
	l.writer.before = func() {
		waiting <- struct{}{}
		<-goOn
	}
	for step := range 1000 {
		at.add(time.Second)
		c.figure("m", nano(step), 2000, false) // would hang
	}
	checkSession(t, "meanwhile", l, "a", 999e-9)
	left := make(chan *charge)
	go func() { left <- leave(t, l, "a", "m", 5) }()
	<-waiting
	select {
	case <-left:
		t.Error("a request has left that is not noted")
	default:
	}
	close(goOn)
	(<-left).end("m", 5)
	c.end("m", 1000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkSession(t, "after all", openAt(t, dir, "one", Limits{}, at), "a", 1005e-9)
}

// Nothing leaves that cannot be noted; when the volume can be written again, things go on.
func TestAVolumeThatCannotBeWritten(t *testing.T) {
	dir, at := t.TempDir(), newClock("2026-05-10 12:00")
	l := openAt(t, dir, "one", Limits{}, at)
	block := filepath.Join(dir, "2026-05")
	if err := os.WriteFile(block, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.admit(t.Context(), order{session: "a", estimate: 5}, nil); err == nil || !strings.Contains(err.Error(), "cannot be noted on the agent's volume") {
		t.Errorf("it left: %v", err)
	}
	checkSession(t, "not left", l, "a", 0)
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	leave(t, l, "a", "m", 5).end("m", 6)
	flush(t, l)
	checkSession(t, "gone on", killed(t, dir, "one", at), "a", 6e-9)
}

// Journals may hold anything after a crash: reading them never fails, in parts as in one go.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"i":"x-1","d":"2026-05-10","s":"a","m":"m","n":5}`+"\n"+`{"i":"x-1","n":7,"f":true}`+"\n"), 60)
	f.Add([]byte(`{"forget":true,"s":"a"}`+"\n\n\x00\n{\"i\":\"\"}\n"), 3)
	f.Add([]byte(`{"i":"x","d":"2026-05-10","s":"","n":9223372036854775807}`+"\n"+`{"i":"x","n":-9223372036854775808}`+"\n"), 70)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		cut = max(0, min(cut, len(text)))
		whole, parts := newAccount(), newAccount()
		read := whole.readLines(text)
		if read > len(text) || read > 0 && text[read-1] != '\n' {
			t.Fatalf("%d bytes are read", read)
		}
		first := parts.readLines(text[:cut])
		if again := first + parts.readLines(text[first:]); again != read {
			t.Fatalf("in parts %d bytes, in one go %d", again, read)
		}
		if !maps.Equal(whole.Days, parts.Days) || !maps.Equal(whole.Sessions, parts.Sessions) || !maps.Equal(whole.Models, parts.Models) {
			t.Fatalf("%v and %v", whole, parts)
		}
		for _, each := range []map[string]nano{whole.Days, whole.Models, whole.Sessions, whole.ended().Days} {
			for name, sum := range each {
				if sum < 0 || sum > most {
					t.Fatalf("%q has %d", name, sum)
				}
			}
		}
		for _, next := range []string{string(text), string(text[:cut])} {
			if s, err := readSums("it", []byte(next)); err == nil && s.Sessions == nil {
				t.Fatal("no sums")
			}
		}
	})
}
