package ops

import (
	"context"
	"fmt"
	"slices"

	"berth/internal/cloud"
	"berth/internal/cost"
)

// left says what is there still, and what it costs.
func (t *teardown) left(ctx context.Context) error {
	var err error
	if t.holds, err = t.client.Holds(ctx, t.names); err != nil {
		return err
	}
	t.stack = nil
	things := t.heldThings()
	if len(things) == 0 {
		_, err := fmt.Fprintf(t.stdio.Out, "Nothing is left of %s.\n", t.names.Stack())
		return err
	}
	for _, thing := range slices.Sorted(slices.Values(things)) {
		if _, err := fmt.Fprintln(t.stdio.Out, "Left: "+thing); err != nil {
			return err
		}
	}
	costs := "What is left costs nothing that berth has a price for."
	if dollars, ok := monthly(t.holds, t.client.Region); ok {
		costs = fmt.Sprintf("What is left costs about %s a month.", money(dollars))
		if dollars < 0.005 {
			costs = "What is left costs less than a cent a month."
		}
	}
	_, err = fmt.Fprintf(t.stdio.Out, "%s `berth up %s` takes it on again, `berth down %s --purge` deletes it.\n", costs, t.client.Flags(t.names), t.client.Flags(t.names))
	return err
}

// monthly is what storage that is left costs, by berth's own price table; not if that has no prices for the region.
func monthly(held *cloud.Holds, region string) (dollars float64, ok bool) {
	table, err := cost.Load(region)
	if err != nil {
		return 0, false
	}
	bytes := map[cost.Key]int64{cost.ECRStorage: held.ImageBytes, cost.LogsStorage: held.LogBytes}
	for _, each := range held.FileSystems {
		bytes[cost.EFSStandard] += each.SizeBytes
	}
	for i := range held.RecoveryPoints {
		bytes[cost.BackupEFS] += held.RecoveryPoints[i].SizeBytes
	}
	for key, n := range bytes {
		price, found := table.Prices[key]
		if !found {
			return 0, false
		}
		var rate float64
		if _, err := fmt.Sscan(price.USD, &rate); err != nil {
			return 0, false
		}
		dollars += rate * float64(n) / (1 << 30)
	}
	return dollars, true
}
