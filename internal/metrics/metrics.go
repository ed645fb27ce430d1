// Package metrics counts what sessions do, and tells CloudWatch and whoever asks in Prometheus' format.
//
// What happened is first written to the volume and goes from there to CloudWatch, once a minute, with the time at
// which it happened. So it outlasts a CloudWatch that cannot be reached, and the daemon itself. It arrives at least
// once: where a request's answer is lost, or the daemon is killed before it could note it, it is sent again.
package metrics

import (
	"context"
	"log/slog"
	"math"
	"slices"
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
	// minutes after it last wrote anything; what one of the same name left, at once.
	Owner string

	// Client is where metrics go. Nil: nowhere, and only Handler tells them.
	Client Client

	// Sample is asked once a minute, and when Run begins. Nil: there are no figures of that kind.
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

const (
	// period is the resolution of CloudWatch's metrics.
	period = time.Minute

	// flushTime bounds how long Run goes on when it should end.
	flushTime = 5 * time.Second

	// maxWaiting bounds what was recorded and is not written yet, as when the volume hangs.
	maxWaiting = 10_000
)

// Recorder counts. Its methods may be called at the same time; none of them but Run waits for anything.
type Recorder struct {
	config Config
	prom   *prom
	spool  *spool // nil without a Client
	wake   chan struct{}

	mu      sync.Mutex
	waiting []record // recorded, and neither counted nor written yet
	lost    int      // recorded while too many were waiting

	keeping sync.Mutex // held while records go from waiting to the volume, so that they keep their order

	// Of the goroutine that sends.
	trouble trouble
	share   int       // how many records go into a request at most; fewer while it is sought what is refused
	looked  time.Time // when others' files were last looked for
}

// New makes a Recorder. Nothing is counted, written or sent before Run, but what is recorded before is kept for it.
func New(config Config) *Recorder {
	if config.Now == nil {
		config.Now = time.Now
	}
	r := &Recorder{config: config, prom: newProm(), wake: make(chan struct{}, 1), share: maxShare}
	if config.Client != nil {
		r.spool = newSpool(config.Dir, config.Owner, config.Logger)
	}
	return r
}

// SessionEnded records a session that has ended: whether it succeeded, how long it took, what it cost in US dollars,
// and its tokens in and out.
func (r *Recorder) SessionEnded(succeeded bool, seconds, costUSD float64, tokens int64) {
	r.record(record{Ended: &ended{Succeeded: succeeded, Seconds: sound(seconds), CostUSD: sound(costUSD), Tokens: max(tokens, 0)}})
}

// Interrupted records a session that was cut off by a stop, a crash or a Spot reclaim.
func (r *Recorder) Interrupted() { r.record(record{Interrupted: 1}) }

// Resumed records an interrupted session that was taken up again.
func (r *Recorder) Resumed() { r.record(record{Resumed: 1}) }

// sound makes a figure one that CloudWatch takes, and a counter: one that is not keeps all that is sent with it out.
func sound(figure float64) float64 {
	const limit = 1e100 // CloudWatch's is 2^360
	if math.IsNaN(figure) {
		return 0
	}
	return min(max(figure, 0), limit)
}

func (r *Recorder) record(what record) {
	what.Time = r.config.Now()
	r.mu.Lock()
	if len(r.waiting) < maxWaiting {
		r.waiting = append(r.waiting, what)
	} else {
		r.lost++
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it is awake already
	}
}

// Run counts and sends until ctx is done; then it sends once more, and returns after a few seconds at most. What is
// recorded after that is lost, so that ctx has to outlast the sessions.
func (r *Recorder) Run(ctx context.Context) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx, sending)
	}()
	select {
	case <-done: // ctx is done, too
		return
	case <-ctx.Done():
	}
	timer := time.NewTimer(flushTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C: // CloudWatch does not answer, or the volume hangs, which no context ends
		r.config.Logger.Warn("the last metrics were not sent in time", "unsent", r.unsent())
	}
}

func (r *Recorder) run(ctx, sending context.Context) {
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-r.wake:
				r.keep()
			case <-ctx.Done():
				return
			}
		}
	})
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for ctx.Err() == nil {
		r.adopt()
		r.sample()
		r.send(sending)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	writer.Wait()
	r.keep()
	r.send(sending)
	if r.spool != nil {
		r.spool.close()
	}
}

// sample records how the agent is.
func (r *Recorder) sample() {
	if r.config.Sample == nil {
		return
	}
	now := r.config.Now()
	sample := r.config.Sample()
	sample.SpendMonth = sound(sample.SpendMonth)
	r.keep(record{Time: now, Sample: &sample})
}

// keep writes to the volume what has been recorded, and only then counts it.
func (r *Recorder) keep(more ...record) {
	r.keeping.Lock()
	defer r.keeping.Unlock()
	r.mu.Lock()
	records, lost := slices.Concat(r.waiting, more), r.lost
	r.waiting, r.lost = nil, 0
	r.mu.Unlock()
	if lost > 0 {
		r.config.Logger.Error("figures of sessions were lost: the volume took none for too long", "lost", lost)
	}
	if len(records) == 0 {
		return
	}
	if r.spool != nil {
		r.spool.append(records)
	}
	for _, each := range records {
		r.prom.count(each)
	}
}

// adopt takes over what daemons left that are gone.
func (r *Recorder) adopt() {
	now := r.config.Now()
	if r.spool == nil || now.Sub(r.looked) < abandoned {
		return
	}
	r.looked = now
	r.spool.adopt(now)
}

func (r *Recorder) unsent() int {
	if r.spool == nil {
		return 0
	}
	return r.spool.length()
}
