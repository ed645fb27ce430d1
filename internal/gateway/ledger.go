package gateway

import (
	"time"

	"berth/internal/api"
)

// Limits are what all sessions together may spend, in US dollars; 0 is no limit. Days and months are those of UTC.
type Limits struct {
	DayUSD   float64
	MonthUSD float64
}

// Ledger knows what was spent on the model: by session, day, month and model.
type Ledger struct{}

// OpenLedger reads what was spent from a directory on the volume, such as <data>/spend, and makes it if need
// be. The owner names this daemon: no other that lives may have the same name. Spend of other owners counts
// too. The error names a file that cannot be read or made.
func OpenLedger(dir, owner string, limits Limits, now func() time.Time) (*Ledger, error) {
	return &Ledger{}, nil
}

// Spend returns what was spent today and this month, with the limits.
func (l *Ledger) Spend() api.Spend { return api.Spend{} }

// Report returns Spend, and spend by day and by model.
func (l *Ledger) Report() api.SpendReport { return api.SpendReport{} }

// Session returns what a session has spent, in US dollars, requests under way included as far as they are known.
func (l *Ledger) Session(id string) float64 { return 0 }

// Forget drops what is known of a session that is deleted. What it spent still counts for days and months.
func (l *Ledger) Forget(id string) {}

// Close writes what is not written yet.
func (l *Ledger) Close() error { return nil }
