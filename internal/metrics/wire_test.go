package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/contract"
)

// connected makes a recorder whose CloudWatch is on loopback.
func connected(t *testing.T, w *wire) (*Recorder, *clock, *log) {
	noAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "an example")
	t.Setenv("AWS_ENDPOINT_URL", w.url)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	client, err := NewCloudWatch(t.Context(), "eu-north-1")
	if err != nil || client == nil {
		t.Fatalf("client %v, error %v", client, err)
	}
	now, lines := &clock{now: start}, &log{}
	r := New(Config{
		Environment: "claude-code-dev", Dir: filepath.Join(t.TempDir(), "metrics"), Owner: "one", Client: client, Logger: lines.logger(), Now: now.Now,
		Sample: func() Sample {
			return Sample{Queue: 3, Active: 2, KeyRefused: true, SpendMonth: 12.5, Progressing: true}
		},
	})
	return r, now, lines
}

func TestEveryMetricArrives(t *testing.T) {
	w := newWire(t)
	r, _, lines := connected(t, w)
	r.SessionEnded(true, 60, 0.25, 1000)
	r.SessionEnded(true, 60, 0.5, 3000)
	r.SessionEnded(false, 90, 0, 7)
	r.Interrupted()
	r.Resumed()
	r.Resumed()
	r.sample()
	r.send(t.Context())

	want := map[string]figure{
		contract.MetricSessionSuccess:  {Unit: "Count", Values: map[float64]float64{1: 2, 0: 1}},
		contract.MetricSessionDuration: {Unit: "Seconds", Values: map[float64]float64{60: 2, 90: 1}},
		contract.MetricSessionCost:     {Unit: "None", Values: map[float64]float64{0.25: 1, 0.5: 1, 0: 1}},
		contract.MetricSessionTokens:   {Unit: "Count", Values: map[float64]float64{1000: 1, 3000: 1, 7: 1}},
		contract.MetricQueueDepth:      {Unit: "Count", Values: map[float64]float64{3: 1}},
		contract.MetricActiveSessions:  {Unit: "Count", Values: map[float64]float64{2: 1}},
		contract.MetricInterruptions:   {Unit: "Count", Values: map[float64]float64{1: 1, 0: 1}},
		contract.MetricResumes:         {Unit: "Count", Values: map[float64]float64{1: 2, 0: 1}},
		contract.MetricHeartbeat:       {Unit: "Count", Values: map[float64]float64{1: 1}},
		contract.MetricKeyRefused:      {Unit: "Count", Values: map[float64]float64{1: 1}},
		contract.MetricSpendMonth:      {Unit: "None", Values: map[float64]float64{12.5: 1}},
	}
	got := w.figures(contract.MetricNamespace)
	for _, metric := range contract.Metrics {
		expected := want[metric]
		expected.Metric, expected.Dimension, expected.Time = metric, "Environment=claude-code-dev", start.Truncate(time.Minute)
		if len(got[metric]) != 1 || fmt.Sprint(got[metric][0]) != fmt.Sprint(expected) {
			t.Errorf("%s: %v, want %v", metric, got[metric], expected)
		}
	}
	if len(got) != len(contract.Metrics) || len(w.got) != 1 {
		t.Errorf("%d metrics in %d requests, want %d in one", len(got), len(w.got), len(contract.Metrics))
	}
	if signed := w.header.Get("Authorization"); !strings.Contains(signed, "AKIDEXAMPLE/") || !strings.Contains(signed, "/eu-north-1/monitoring/") {
		t.Errorf("signed as %q", signed)
	}
	if said := lines.lines(); len(said) != 0 {
		t.Errorf("it said %q", said)
	}
}

func TestOutagesAreWaitedOutAndSaidOnce(t *testing.T) {
	for name, outage := range map[string]struct {
		status     int
		code, said string
	}{
		"throttled":   {400, "ThrottlingException", "CloudWatch throttles metrics"},
		"denied":      {403, "AccessDenied", "CloudWatch denies access"},
		"expired":     {400, "ExpiredTokenException", "CloudWatch denies access"},
		"unavailable": {503, "ServiceUnavailable", "CloudWatch cannot be reached"},
		"broken":      {500, "InternalFailure", "CloudWatch cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			r, now, lines := connected(t, w)
			w.fail(outage.status, outage.code)
			for range 3 {
				r.SessionEnded(true, 1, 1, 1)
				r.sample()
				r.send(t.Context())
				now.pass(period)
			}
			if said := lines.lines(); len(said) != 1 || !strings.Contains(said[0], outage.said+"; metrics are kept") {
				t.Errorf("three failures were told as %q", said)
			}
			w.fail(0, "")
			r.send(t.Context())
			r.send(t.Context())
			if said := lines.lines(); len(said) != 2 || !strings.Contains(said[1], "takes metrics again") {
				t.Errorf("its end was told as %q", said)
			}
			got := w.figures(contract.MetricNamespace)[contract.MetricSessionSuccess]
			for minute, each := range got {
				if want := start.Truncate(period).Add(time.Duration(minute) * period); !each.Time.Equal(want) || each.Values[1] != 1 {
					t.Errorf("figure %d: %v, want it at %s", minute, each, want)
				}
			}
			if len(got) != 3 {
				t.Errorf("%d figures arrived, want 3", len(got))
			}
			if left := r.unsent(); left != 0 {
				t.Errorf("%d are left", left)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	w := newWire(t)
	w.url = gone.URL
	gone.Close()
	r, _, lines := connected(t, w)
	r.sample()
	r.send(t.Context())
	if said := lines.with("CloudWatch cannot be reached"); len(said) != 1 || r.unsent() != 1 {
		t.Errorf("said %q, %d kept", lines.lines(), r.unsent())
	}
}

func TestChangesOfTroubleAreSaid(t *testing.T) {
	w := newWire(t)
	r, _, lines := connected(t, w)
	r.sample()
	for _, code := range []string{"ThrottlingException", "AccessDenied", "AccessDenied", "ThrottlingException", ""} {
		w.fail(403, code)
		r.send(t.Context())
	}
	if said := lines.lines(); len(said) != 4 {
		t.Errorf("said %q, want four lines", said)
	}
}

func TestNoCredentialsMeansNoClient(t *testing.T) {
	noAWS(t)
	t.Setenv("AWS_DEFAULTS_MODE", "auto")
	if client, err := NewCloudWatch(t.Context(), "eu-north-1"); client != nil || err != nil {
		t.Errorf("client %v, error %v, want neither", client, err)
	}
}

func TestMetadataServiceIsNeverAsked(t *testing.T) {
	noAWS(t)
	t.Setenv("AWS_DEFAULTS_MODE", "auto")
	config := filepath.Join(t.TempDir(), "config")
	t.Setenv("AWS_CONFIG_FILE", config)
	text := "[default]\nrole_arn = arn:aws:iam::123456789012:role/example\ncredential_source = Ec2InstanceMetadata\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWire(t)
	t.Setenv("AWS_ENDPOINT_URL", w.url)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	client, err := NewCloudWatch(t.Context(), "eu-north-1")
	if client == nil || err != nil {
		t.Fatalf("client %v, error %v", client, err)
	}
	lines := &log{}
	r := New(Config{Dir: t.TempDir(), Owner: "one", Client: client, Sample: func() Sample { return Sample{} }, Logger: lines.logger()})
	r.sample()
	r.send(t.Context())
	if len(lines.with("metrics are kept")) != 1 {
		t.Errorf("said %q", lines.lines())
	}
}

func TestARegionIsNeeded(t *testing.T) {
	noAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "an example")
	if client, err := NewCloudWatch(t.Context(), ""); client != nil || err == nil {
		t.Errorf("client %v, error %v, want an error", client, err)
	}
	t.Setenv("AWS_REGION", "eu-west-1")
	if client, err := NewCloudWatch(t.Context(), ""); client == nil || err != nil {
		t.Errorf("client %v, error %v, want a client", client, err)
	}
}

// The task role's credentials come from an address in the environment.
func TestContainersCredentials(t *testing.T) {
	w := newWire(t)
	r, _, _ := connected(t, w) // for its environment
	if err := os.Unsetenv("AWS_ACCESS_KEY_ID"); err != nil {
		t.Fatal(err)
	}
	asked := 0
	agent := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = fmt.Fprintf(response, `{"AccessKeyId":"AKIDTASK","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer agent.Close()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.URL)
	client, err := NewCloudWatch(t.Context(), "eu-north-1")
	if client == nil || err != nil {
		t.Fatalf("client %v, error %v", client, err)
	}
	if asked != 0 {
		t.Error("credentials were asked for before they were needed")
	}
	r.config.Client = client
	r.sample()
	r.send(t.Context())
	if signed := w.header.Get("Authorization"); !strings.Contains(signed, "AKIDTASK/") {
		t.Errorf("signed as %q", signed)
	}
}

// One figure that is refused must not keep the others back.
func TestARefusedFigureIsDroppedAlone(t *testing.T) {
	lines, picky := &log{}, &memory{}
	r := New(Config{Dir: t.TempDir(), Owner: "one", Client: refusing{picky, 17}, Logger: lines.logger()})
	for i := range 40 {
		r.SessionEnded(true, float64(i), 0, 0)
	}
	r.keep()
	for range 2 {
		r.send(t.Context())
	}
	sum, count := picky.sum(contract.MetricSessionDuration)
	if count != 39 || sum != 39*40/2-17 {
		t.Errorf("%v figures arrived that add up to %v", count, sum)
	}
	if said := lines.with("refuses figures"); len(said) != 1 || r.unsent() != 0 {
		t.Errorf("said %q, %d left", lines.lines(), r.unsent())
	}
}
