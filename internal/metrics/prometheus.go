package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// prom is the same figures for Prometheus.
type prom struct {
	registry                          *prometheus.Registry
	sessions                          *prometheus.CounterVec
	duration                          prometheus.Histogram
	cost, tokens, interrupts, resumes prometheus.Counter

	queue, active, heartbeat, keyRefused, spend prometheus.Gauge
}

func newProm() *prom {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "berth", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "berth", Name: name, Help: help})
	}
	p := &prom{
		registry: prometheus.NewRegistry(),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "berth", Name: "sessions_total", Help: "Sessions that ended, by whether they succeeded.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "berth", Name: "session_duration_seconds", Help: "How long sessions took that ended.",
			Buckets: []float64{10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400},
		}),
		cost:       counter("cost_usd_total", "US dollars of model use, of sessions that ended."),
		tokens:     counter("tokens_total", "Tokens in and out, of sessions that ended."),
		interrupts: counter("interruptions_total", "Sessions cut off by a stop, a crash or a Spot reclaim."),
		resumes:    counter("resumes_total", "Sessions taken up again after an interruption."),
		queue:      gauge("queue_depth", "Sessions waiting for a place."),
		active:     gauge("active_sessions", "Sessions running."),
		heartbeat:  gauge("heartbeat", "1 while every running session makes progress, else 0; looked at once a minute."),
		keyRefused: gauge("key_refused", "1 while the API refuses the key, else 0."),
		spend:      gauge("spend_month_usd", "US dollars of model use since the month began (UTC)."),
	}
	for _, result := range []string{succeeded, failed} {
		p.sessions.WithLabelValues(result) // from the start, at zero
	}
	p.registry.MustRegister(p.sessions, p.duration, p.cost, p.tokens, p.interrupts, p.resumes, p.queue, p.active, p.heartbeat, p.keyRefused, p.spend)
	return p
}

// Values of the label "result".
const (
	succeeded = "succeeded"
	failed    = "failed"
)

func (p *prom) count(r record) {
	if e := r.Ended; e != nil {
		result := failed
		if e.Succeeded {
			result = succeeded
		}
		p.sessions.WithLabelValues(result).Inc()
		p.duration.Observe(e.Seconds)
		p.cost.Add(e.CostUSD)
		p.tokens.Add(float64(e.Tokens))
	}
	p.interrupts.Add(float64(r.Interrupted))
	p.resumes.Add(float64(r.Resumed))
	if s := r.Sample; s != nil {
		p.queue.Set(float64(s.Queue))
		p.active.Set(float64(s.Active))
		p.heartbeat.Set(number(s.Progressing))
		p.keyRefused.Set(number(s.KeyRefused))
		p.spend.Set(s.SpendMonth)
	}
}

// Handler answers with the same figures as text in Prometheus' format. Counters begin at zero when the daemon does;
// how the agent is was asked within the last minute.
func (r *Recorder) Handler() http.Handler {
	return promhttp.HandlerFor(r.prom.registry, promhttp.HandlerOpts{})
}
