package metrics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"berth/internal/contract"
)

// running is a recorder that runs, and what ends it.
func running(t *testing.T, client Client, sample func() Sample) (r *Recorder, stop func(), lines *log) {
	lines = &log{}
	r = New(Config{Environment: "e", Dir: t.TempDir(), Owner: "one", Client: client, Sample: sample, Logger: lines.logger()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	synctest.Wait()
	return r, func() { cancel(); <-done }, lines
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stuck := &memory{}, atomic.Bool{}
		r, stop, _ := running(t, client, func() Sample { return Sample{Progressing: !stuck.Load(), Active: 1} })
		pass(10 * time.Second)
		r.SessionEnded(true, 1, 1, 1)
		r.SessionEnded(false, 1, 1, 1)
		pass(10*period - 10*time.Second)
		if _, beats := client.sum(contract.MetricHeartbeat); client.calls != 11 || beats != 11 {
			t.Errorf("%d requests, %v heartbeats in ten minutes, want 11 with that at the start", client.calls, beats)
		}
		if sum, count := client.sum(contract.MetricSessionSuccess); sum != 1 || count != 2 {
			t.Errorf("%v of %v sessions succeeded", sum, count)
		}
		stuck.Store(true)
		pass(5 * period)
		if _, beats := client.sum(contract.MetricHeartbeat); beats != 11 {
			t.Errorf("%v heartbeats, although nothing makes progress", beats)
		}
		calls := client.calls
		r.Interrupted()
		stop()
		if sum, _ := client.sum(contract.MetricInterruptions); sum != 1 || client.calls != calls+1 {
			t.Errorf("%v interruptions after the end, in %d requests", sum, client.calls-calls)
		}
	})
}

func TestTheEndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &memory{answer: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		r, stop, lines := running(t, client, nil)
		r.Resumed()
		pass(period)
		began := time.Now()
		stop()
		if took := time.Since(began); took > flushTime {
			t.Errorf("it took %s", took)
		}
		if len(lines.with("unsent=1")) != 1 {
			t.Errorf("said %q", lines.lines())
		}
		synctest.Wait()
	})
}

func TestNothingWaitsForTheVolume(t *testing.T) {
	r := New(Config{Client: &memory{}, Dir: t.TempDir(), Owner: "one", Logger: (&log{}).logger()})
	r.spool.mu.Lock() // as while a write hangs
	defer r.spool.mu.Unlock()
	for range maxWaiting + 10 {
		r.SessionEnded(true, 1, 1, 1)
		r.Interrupted()
		r.Resumed()
	}
	if len(r.waiting) != maxWaiting || r.lost != 2*maxWaiting+30 {
		t.Errorf("%d wait, %d are lost", len(r.waiting), r.lost)
	}
}

func TestBacklogGoesOutInPortions(t *testing.T) {
	const minutes = 12 * 60
	synctest.Test(t, func(t *testing.T) {
		client := &memory{answer: func(context.Context) error { return errors.New("away") }}
		r, stop, _ := running(t, client, func() Sample { return Sample{} })
		for minute := range minutes {
			r.SessionEnded(true, float64(minute), 1, 1)
			pass(period)
		}
		client.mu.Lock()
		client.answer, client.calls = nil, 0
		client.mu.Unlock()
		pass(5 * period)
		stop()
		if _, count := client.sum(contract.MetricSessionDuration); count != minutes || client.calls > 20 {
			t.Errorf("%v figures arrived in %d requests", count, client.calls)
		}
	})
}

func TestRequestsKeepCloudWatchsLimits(t *testing.T) {
	b := newBatch()
	for second := 0; !b.full(); second++ {
		b.add(record{Time: start.Add(time.Duration(second) * time.Second), Ended: &ended{Seconds: float64(second), CostUSD: float64(second) / 3, Tokens: int64(second)}})
	}
	data := b.data("e")
	if len(data) > maxDatums || len(data) < 200 {
		t.Errorf("%d datums", len(data))
	}
	busy := newBatch()
	for value := range 400 {
		busy.add(record{Time: start, Ended: &ended{Seconds: float64(value)}})
	}
	for _, d := range busy.data("e") {
		if len(d.Values) > maxValues || len(d.Values) != len(d.Counts) {
			t.Errorf("%s has %d values, %d counts", *d.MetricName, len(d.Values), len(d.Counts))
		}
	}
}

func TestFiguresAreSound(t *testing.T) {
	for figure, want := range map[float64]float64{math.Inf(1): 1e100, math.Inf(-1): 0, -3: 0, 2.5: 2.5} {
		if got := sound(figure); got != want {
			t.Errorf("%v becomes %v, want %v", figure, got, want)
		}
	}
	if got := sound(math.NaN()); got != 0 {
		t.Errorf("NaN becomes %v", got)
	}
}

// scrape asks the handler, and returns the figures by name and label.
func scrape(t *testing.T, r *Recorder) map[string]float64 {
	t.Helper()
	response := httptest.NewRecorder()
	r.Handler().ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	figures := map[string]float64{}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				name = family.GetName() + " " + label.GetValue()
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				figures[name] = metric.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				figures[name] = metric.GetGauge().GetValue()
			default:
				figures[name+" sum"] = metric.GetHistogram().GetSampleSum()
				figures[name+" count"] = float64(metric.GetHistogram().GetSampleCount())
			}
		}
	}
	return figures
}

// Without a client, figures are there for Prometheus, and the volume is left alone.
func TestPrometheus(t *testing.T) {
	r := New(Config{Dir: "/dev/null/nowhere", Logger: (&log{}).logger(), Sample: func() Sample {
		return Sample{Queue: 3, Active: 2, KeyRefused: true, SpendMonth: 12.5, Progressing: true}
	}})
	if got := scrape(t, r); got["berth_sessions_total failed"] != 0 || len(got) != 13 {
		t.Errorf("at the start %v", got)
	}
	r.SessionEnded(true, 60, 0.25, 1000)
	r.SessionEnded(true, 60, 0.5, 3000)
	r.SessionEnded(false, math.NaN(), -1, -7)
	r.Interrupted()
	r.Resumed()
	r.Resumed()
	r.sample()
	r.send(t.Context())
	want := map[string]float64{
		"berth_sessions_total succeeded": 2, "berth_sessions_total failed": 1,
		"berth_session_duration_seconds sum": 120, "berth_session_duration_seconds count": 3,
		"berth_cost_usd_total": 0.75, "berth_tokens_total": 4000, "berth_queue_depth": 3, "berth_active_sessions": 2,
		"berth_interruptions_total": 1, "berth_resumes_total": 2, "berth_heartbeat": 1, "berth_key_refused": 1, "berth_spend_month_usd": 12.5,
	}
	if got := scrape(t, r); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// What was counted is on the volume, whenever the daemon is killed.
func TestKilledDaemonKeepsWhatItCounted(t *testing.T) {
	dir := t.TempDir()
	if os.Getenv("BERTH_TEST_RECORD") != "" {
		recordForEver(t, os.Getenv("BERTH_TEST_RECORD"))
	}
	for round := range 3 {
		command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), "BERTH_TEST_RECORD="+dir)
		output, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		counted := 0.0
		lines := bufio.NewScanner(output)
		for counted < 20*float64(round+1) && lines.Scan() {
			_, _ = fmt.Sscan(lines.Text(), &counted)
		}
		_ = command.Process.Kill()
		rest, _ := io.ReadAll(output)
		for _, line := range strings.Fields(string(rest)) {
			_, _ = fmt.Sscan(line, &counted)
		}
		_ = command.Wait()
		s := newSpool(dir, "one", (&log{}).logger())
		s.load()
		if got := s.length(); float64(got) < counted {
			t.Errorf("%d are kept, %v were counted", got, counted)
		}
		forget(s, s.length())
	}
}

// recordForEver records sessions until it is killed, and says how many have been counted.
func recordForEver(t *testing.T, dir string) {
	away := &memory{answer: func(context.Context) error { return errors.New("away") }}
	r := New(Config{Client: away, Dir: dir, Owner: "one", Logger: (&log{}).logger()})
	go r.Run(t.Context())
	for {
		r.SessionEnded(true, 1, 1, 1)
		fmt.Println(scrape(t, r)["berth_sessions_total succeeded"])
	}
}
