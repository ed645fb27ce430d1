package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fill notes what so many sessions spend, a month's worth, and kills the daemon.
func fill(b *testing.B, dir string, sessions, requests int) (lines int) {
	b.Helper()
	at := newClock("2026-05-01 00:00")
	l, err := OpenLedger(dir, "bench", Limits{}, at.now)
	if err != nil {
		b.Fatal(err)
	}
	for session := range sessions {
		for range requests {
			o := order{session: fmt.Sprintf("0197a3c4-0000-7000-8000-%012d", session), model: "claude-sonnet-4-6", estimate: 30_000_000, worst: 1}
			c, err := l.reserve(b.Context(), o, nil)
			if err != nil {
				b.Fatal(err)
			}
			l.lock.Lock()
			l.write(c.month, c.line, nil)
			l.lock.Unlock()
			c.figure("claude-sonnet-4-6", 12_345_678, 20_000_000, true)
			for range 5 {
				at.add(time.Second)
				c.figure("claude-sonnet-4-6", 13_456_789, 20_000_000, false)
			}
			c.end("claude-sonnet-4-6", 14_567_890)
			lines += 8
		}
		if session%100 == 0 {
			flush(b, l) // or it would all wait in memory
		}
	}
	flush(b, l)
	return lines
}

// BenchmarkOpenLedger opens what 10,000 sessions with 50 requests each, of five seconds, leave behind in a month: by the
// daemon that was killed, by another one, and when the month is over.
func BenchmarkOpenLedger(b *testing.B) {
	const sessions, requests = 10_000, 50
	made := b.TempDir()
	began := time.Now()
	lines := fill(b, made, sessions, requests)
	b.Logf("%d lines noted, %.1f µs each", lines, time.Since(began).Seconds()*1e6/float64(lines))
	for _, c := range []struct {
		name, owner, at string
	}{{"again", "bench", "2026-05-31 00:00"}, {"another", "two", "2026-05-31 00:00"}, {"over", "two", "2026-07-01 00:00"}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				dir := filepath.Join(b.TempDir(), "spend")
				if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				l, err := OpenLedger(dir, c.owner, Limits{}, newClock(c.at).now)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if got := l.Session("0197a3c4-0000-7000-8000-000000004242"); got < 0.7283 || got > 0.7285 {
					b.Fatalf("%g", got)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
