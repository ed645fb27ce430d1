package cost

import (
	"fmt"
	"math/big"
	"strings"

	"berth/internal/options"
)

// Facts that the rows are computed with.
const (
	// hoursPerMonth is an average month, as AWS's own pricing calculator counts it.
	hoursPerMonth = 730

	// includedDiskGB of ephemeral storage come with every Fargate task
	// (https://aws.amazon.com/fargate/pricing/).
	includedDiskGB = 20

	// freeDataOutGB leave AWS for the internet free of charge each month, counted over the whole
	// account (https://aws.amazon.com/ec2/pricing/on-demand/, "Data Transfer").
	freeDataOutGB = 100

	// dataOutTierGB is where the next, lower step of the price begins: 10 TB after the free part
	// (same page). Estimates end there.
	dataOutTierGB = 10_240

	// insightsMetrics is the number of custom metrics that Container Insights makes of one cluster
	// with one service of one task family on Fargate: 10 with three sets of dimensions each (CPU,
	// memory and ephemeral storage, utilised and reserved; network and storage, in and out), 5 of
	// the service (deployments, task sets, and tasks desired, pending and running), 3 of the cluster
	// (container instances, services, tasks). Counted from the table in
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-metrics-ECS.html
	insightsMetrics = 10*3 + 5 + 3

	// insightsLogsGB is what Container Insights logs of one task in a month: an event a minute for
	// the cluster, the service, the task and the container, of about 1 KB each, as the examples in
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-reference-performance-logs-ECS.html
	insightsLogsGB = 0.2

	// requestsPerHour are the daemon's PutMetricData requests: one a minute, for the heartbeat, takes
	// all the other metrics along.
	requestsPerHour = 60

	// logMonthsForEver is how long logs that are never deleted are taken to have been gathered.
	logMonthsForEver = 12
)

// Row is one line of an estimate.
type Row struct {
	Resource   string `json:"resource"`
	Quantity   string `json:"quantity"`
	Assumption string `json:"assumption"`
	Monthly    USD    `json:"monthly_usd"`
}

// Estimate is what a deployment costs a month.
type Estimate struct {
	Region      string      `json:"region"`
	PricesDated string      `json:"prices_dated"` // the day of the oldest price that was used
	Rows        []Row       `json:"rows"`
	Total       USD         `json:"total_usd"` // the sum of the rows as rounded
	Live        bool        `json:"live"`
	Assumptions Assumptions `json:"assumptions"`
	Notes       []string    `json:"notes"`

	newest string
}

// UnpricedError says which rows of an estimate have no price.
type UnpricedError struct {
	Region    string
	Resources []string
	Live      bool
}

func (e *UnpricedError) Error() string {
	missing := strings.Join(e.Resources, ", ")
	if e.Live {
		return fmt.Sprintf("no price for %s in %s: neither the AWS Price List API nor the embedded table has one", missing, e.Region)
	}
	return fmt.Sprintf("the embedded prices of %s do not cover: %s; --live asks AWS for them", e.Region, missing)
}

// New estimates what a deployment costs a month at the prices of table.
//
// The error is Assumptions.Check's, or an *UnpricedError.
func New(o options.Options, a Assumptions, table Table) (Estimate, error) {
	if err := a.Check(); err != nil {
		return Estimate{}, err
	}
	b := newBuilder(o, a, table)
	b.build()
	if len(b.missing) > 0 {
		return Estimate{}, &UnpricedError{Region: table.Region, Resources: b.missing, Live: table.Live}
	}
	estimate := Estimate{Region: table.Region, Rows: b.rows, Live: table.Live, Assumptions: a, Notes: b.notes()}
	backup := a.backupGB()
	estimate.Assumptions.BackupGB = &backup
	for _, row := range b.rows {
		estimate.Total += row.Monthly
	}
	estimate.PricesDated, estimate.newest = table.dates(b.used)
	return estimate, nil
}

// Needed lists the prices that an estimate takes, in the order of its rows.
func Needed(o options.Options, a Assumptions) []Key {
	b := newBuilder(o, a, Table{})
	b.build()
	return b.used
}

// builder makes the rows, and notes which prices they take.
type builder struct {
	options     options.Options
	assumptions Assumptions
	table       Table

	rows    []Row
	used    []Key
	missing []string // names of prices that the table lacks
	seen    map[Key]bool
}

func newBuilder(o options.Options, a Assumptions, table Table) *builder {
	return &builder{options: o, assumptions: a, table: table, seen: make(map[Key]bool)}
}

// rate returns the price of one unit; 0 where there is none, which is noted.
func (b *builder) rate(key Key) *big.Rat {
	price, found := b.table.Prices[key]
	if !b.seen[key] {
		b.seen[key] = true
		b.used = append(b.used, key)
		if !found {
			b.missing = append(b.missing, skus[key].name)
		}
	}
	if !found {
		return new(big.Rat)
	}
	return price.rate
}

// show writes a price as "$0.04048 per vCPU-hour".
func (b *builder) show(key Key) string {
	return fmt.Sprintf("$%s per %s", trim(b.table.Prices[key].USD), b.table.Prices[key].Unit)
}

func (b *builder) row(resource, quantity, assumption string, dollars *big.Rat) {
	b.rows = append(b.rows, Row{resource, quantity, assumption, cents(dollars)})
}

// trim takes the zeros off a decimal number's end that say nothing, but leaves two decimals.
func trim(usd string) string {
	whole, fraction, _ := strings.Cut(usd, ".")
	fraction = strings.TrimRight(fraction, "0")
	for len(fraction) < 2 {
		fraction += "0"
	}
	return whole + "." + fraction
}
