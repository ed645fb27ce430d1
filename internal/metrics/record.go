package metrics

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"berth/internal/contract"
)

// record is something that happened, and a line of a file on the volume.
type record struct {
	Time        time.Time `json:"time"`
	Ended       *ended    `json:"ended,omitempty"`
	Interrupted int       `json:"interrupted,omitempty"`
	Resumed     int       `json:"resumed,omitempty"`
	Sample      *Sample   `json:"sample,omitempty"`
}

// ended is a session that ended.
type ended struct {
	Succeeded bool    `json:"succeeded"`
	Seconds   float64 `json:"seconds"`
	CostUSD   float64 `json:"cost_usd"`
	Tokens    int64   `json:"tokens"`
}

// What a request may hold (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html).
const (
	maxDatums = 1000
	maxValues = 150     // different ones in a datum
	maxBytes  = 900_000 // of 1 MB: it is an estimate

	datumBytes = 400 // without the values; names are short
	valueBytes = 24  // a value and its count
	mostDatums = 9   // that a record adds
)

// units are the metrics' units. CloudWatch has none for money.
var units = map[string]types.StandardUnit{
	contract.MetricSessionSuccess:  types.StandardUnitCount,
	contract.MetricSessionDuration: types.StandardUnitSeconds,
	contract.MetricSessionCost:     types.StandardUnitNone,
	contract.MetricSessionTokens:   types.StandardUnitCount,
	contract.MetricQueueDepth:      types.StandardUnitCount,
	contract.MetricActiveSessions:  types.StandardUnitCount,
	contract.MetricInterruptions:   types.StandardUnitCount,
	contract.MetricResumes:         types.StandardUnitCount,
	contract.MetricHeartbeat:       types.StandardUnitCount,
	contract.MetricKeyRefused:      types.StandardUnitCount,
	contract.MetricSpendMonth:      types.StandardUnitNone,
}

// batch gathers records for a request. A metric's values within a minute share a datum, each with how often it came.
type batch struct {
	series map[string]map[int64]*datum // by metric and minute
	order  []*datum
	datums int
	values int
}

type datum struct {
	metric string
	minute int64 // since 1970
	values []float64
	counts []float64
}

func newBatch() *batch { return &batch{series: map[string]map[int64]*datum{}} }

// full reports whether another record may not fit.
func (b *batch) full() bool {
	return b.datums+mostDatums > maxDatums || (b.datums+mostDatums)*datumBytes+(b.values+mostDatums)*valueBytes > maxBytes
}

func (b *batch) add(r record) {
	if e := r.Ended; e != nil {
		b.put(r, contract.MetricSessionSuccess, number(e.Succeeded))
		b.put(r, contract.MetricSessionDuration, e.Seconds)
		b.put(r, contract.MetricSessionCost, e.CostUSD)
		b.put(r, contract.MetricSessionTokens, float64(e.Tokens))
	}
	if r.Interrupted > 0 || r.Sample != nil { // zeros tell a quiet minute from one without an agent; their sum is the same
		b.put(r, contract.MetricInterruptions, float64(r.Interrupted))
	}
	if r.Resumed > 0 || r.Sample != nil {
		b.put(r, contract.MetricResumes, float64(r.Resumed))
	}
	if s := r.Sample; s != nil {
		b.put(r, contract.MetricQueueDepth, float64(s.Queue))
		b.put(r, contract.MetricActiveSessions, float64(s.Active))
		b.put(r, contract.MetricKeyRefused, number(s.KeyRefused))
		b.put(r, contract.MetricSpendMonth, s.SpendMonth)
		if s.Progressing { // the alarm is on its absence
			b.put(r, contract.MetricHeartbeat, 1)
		}
	}
}

func (b *batch) put(r record, metric string, value float64) {
	minute := r.Time.Unix() / int64(period/time.Second)
	minutes := b.series[metric]
	if minutes == nil {
		minutes = map[int64]*datum{}
		b.series[metric] = minutes
	}
	d := minutes[minute]
	if d != nil {
		if at := slices.Index(d.values, value); at >= 0 {
			d.counts[at]++
			return
		}
	}
	if d == nil || len(d.values) == maxValues {
		d = &datum{metric: metric, minute: minute}
		minutes[minute] = d
		b.order = append(b.order, d)
		b.datums++
	}
	d.values, d.counts = append(d.values, value), append(d.counts, 1)
	b.values++
}

// data is the batch as CloudWatch wants it.
func (b *batch) data(environment string) []types.MetricDatum {
	dimensions := []types.Dimension{{Name: aws.String(contract.MetricDimension), Value: aws.String(environment)}}
	list := make([]types.MetricDatum, 0, len(b.order))
	for _, d := range b.order {
		list = append(list, types.MetricDatum{
			MetricName: aws.String(d.metric), Dimensions: dimensions, Unit: units[d.metric],
			Timestamp: aws.Time(time.Unix(d.minute*int64(period/time.Second), 0).UTC()),
			Values:    d.values, Counts: d.counts,
		})
	}
	return list
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
