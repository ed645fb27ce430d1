package cost

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"berth/internal/options"
)

// pairs are CPU and memory that Fargate offers, each at least as large as the one before.
var pairs = [][2]int{{256, 512}, {256, 2048}, {512, 2048}, {1024, 2048}, {1024, 8192}, {2048, 8192}, {2048, 16384}, {4096, 16384}, {8192, 61440}, {16384, 122880}}

func drawAssumptions(t *rapid.T) Assumptions {
	amount := func(name string, most int) float64 { return drawAmount(t, name, 0, float64(most)) }
	a := Assumptions{
		Hours: amount("hours", 730), EFSGB: amount("efs", 5000), EFSInfrequentShare: amount("share", 100),
		EFSInfrequentGB: amount("access", 100), LogsGB: amount("logs", 500), ImagesGB: amount("images", 50),
		DataOutGB: amount("out", 5000), PublicIPs: rapid.IntRange(0, 1).Draw(t, "addresses"),
	}
	if rapid.Bool().Draw(t, "sessions") {
		a.SessionsPerDay, a.CostPerSession = drawAmount(t, "sessions per day", 1, 500), drawAmount(t, "cost per session", 0.01, 50)
	}
	return a
}

// drawAmount draws a number with as many decimals as an assumption may have.
func drawAmount(t *rapid.T, name string, least, most float64) float64 {
	const parts = 10_000
	return float64(rapid.IntRange(int(math.Round(least*parts)), int(most*parts)).Draw(t, name)) / parts
}

func drawOptions(t *rapid.T, pair [2]int, architecture options.Architecture, spot bool) options.Options {
	return options.Options{
		CPU: pair[0], MemoryMiB: pair[1], Architecture: architecture, UseFargateSpot: spot, VpcID: options.VpcDefault,
		EphemeralStorageGiB: rapid.IntRange(20, 200).Draw(t, "disk"),
		LogRetentionDays:    rapid.SampledFrom([]int{0, 1, 7, 3653}).Draw(t, "retention"),
		SpendLimitUSD:       rapid.SampledFrom([]float64{0, 100}).Draw(t, "limit"),
	}
}

func total(t *rapid.T, o options.Options, a Assumptions, table Table) USD {
	e, err := New(o, a, table)
	if err != nil {
		t.Fatal(err)
	}
	var sum USD
	for _, row := range e.Rows {
		if row.Monthly < 0 {
			t.Fatalf("row %+v costs less than nothing", row)
		}
		sum += row.Monthly
	}
	if sum != e.Total {
		t.Fatalf("the rows add up to %s, the total is %s", sum, e.Total)
	}
	return e.Total
}

func TestTotalIsTheSumAndGrowsWithTheTask(t *testing.T) {
	table := home(t)
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(pairs)-2).Draw(t, "smaller pair")
		j := rapid.IntRange(i+1, len(pairs)-1).Draw(t, "larger pair")
		architecture := rapid.SampledFrom([]options.Architecture{options.ARM64, options.X8664}).Draw(t, "architecture")
		o, a := drawOptions(t, pairs[i], architecture, rapid.Bool().Draw(t, "spot")), drawAssumptions(t)
		small := total(t, o, a, table)
		o.CPU, o.MemoryMiB = pairs[j][0], pairs[j][1]
		if large := total(t, o, a, table); large < small {
			t.Fatalf("%v costs %s, the smaller %v costs %s", pairs[j], large, pairs[i], small)
		}
	})
}

func TestTotalGrowsWithHours(t *testing.T) {
	table := home(t)
	rapid.Check(t, func(t *rapid.T) {
		o, a := drawOptions(t, rapid.SampledFrom(pairs).Draw(t, "pair"), options.X8664, false), drawAssumptions(t)
		more := a
		more.Hours = drawAmount(t, "more hours", a.Hours, 730)
		if less, most := total(t, o, a, table), total(t, o, more, table); most < less {
			t.Fatalf("%v h cost %s, %v h cost %s", a.Hours, less, more.Hours, most)
		}
	})
}

func TestSpotAndARMCostNoMore(t *testing.T) {
	table := home(t)
	rapid.Check(t, func(t *rapid.T) {
		o, a := drawOptions(t, rapid.SampledFrom(pairs).Draw(t, "pair"), options.X8664, false), drawAssumptions(t)
		full := total(t, o, a, table)
		for _, cheaper := range []struct {
			architecture options.Architecture
			spot         bool
		}{{options.X8664, true}, {options.ARM64, false}, {options.ARM64, true}} {
			o.Architecture, o.UseFargateSpot = cheaper.architecture, cheaper.spot
			if got := total(t, o, a, table); got > full {
				t.Fatalf("%+v costs %s, x86_64 on demand %s", cheaper, got, full)
			}
		}
	})
}

func TestCentsRoundsHalfAwayFromZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		thousandths := rapid.IntRange(0, 1_000_000_000).Draw(t, "thousandths of a dollar")
		dollars := exact(0)
		if _, ok := dollars.SetString(fmt.Sprintf("%d/1000", thousandths)); !ok {
			t.Fatal("not a fraction")
		}
		if got, want := cents(dollars), USD((thousandths+5)/10); got != want {
			t.Fatalf("%d/1000 dollars are %d cents, want %d", thousandths, got, want)
		}
	})
}
