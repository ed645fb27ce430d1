package ops

import (
	"strings"
	"testing"
	"time"

	"berth/internal/api"
)

func TestWriteStatus(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	status := api.Status{
		Version: "v1.2.3", ClaudeVersion: "2.1.330", PID: 77, StartedAt: now.Add(-90 * time.Minute), Data: "/volume", Work: "/work",
		Model: "https://api.anthropic.com", Key: "refused", Isolation: "users of their own", Places: 4,
		Sessions: map[api.State]int{api.Queued: 12, api.Preparing: 1, api.Running: 3, api.Waiting: 2, api.Failed: 1},
		Problems: []string{"the API refuses the key:\n401", "the volume\x1b[2J is full"},
		Spend:    api.Spend{Day: "2026-11-23", DayUSD: 5.004, DayLimitUSD: 5, MonthUSD: 20.5, MonthLimitUSD: 100, PricesDated: "2026-11-22"},
		Volume:   api.Volume{Total: 20e9, Free: 1500e6},
	}
	var text strings.Builder
	if err := writeStatus(&text, &status, "http://127.0.0.1:8787", now); err != nil {
		t.Fatal(err)
	}
	want := `agent        berthd v1.2.3, up for 1 h 30 min, process 77
address      http://127.0.0.1:8787
claude       2.1.330
model        https://api.anthropic.com (key: refused)
volume       /volume (18.5 GB of 20.0 GB used, 92 %)
work         /work
isolation    users of their own
places       4, of which 4 taken
queued       12
preparing    1
running      3
waiting      2
failed       1
spent today  $5.00: the limit of $5.00 is reached (2026-11-23, UTC)
this month   $20.50 of $100.00
prices       dated 2026-11-22
PROBLEM      the API refuses the key: 401
PROBLEM      the volume is full
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_940: "999.9 kB", 999_960: "1.0 MB", 20e9: "20.0 GB", 3e12: "3.0 TB", 9e18: "9000.0 PB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
