package metrics

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go/encoding/cbor"
)

// memory is a CloudWatch without a wire.
type memory struct {
	mu     sync.Mutex
	got    []types.MetricDatum
	calls  int
	answer func(context.Context) error // nil: it takes all
}

func (m *memory) PutMetricData(ctx context.Context, data *cloudwatch.PutMetricDataInput, _ ...func(*cloudwatch.Options)) (*cloudwatch.PutMetricDataOutput, error) {
	m.mu.Lock()
	m.calls++
	answer := m.answer
	m.mu.Unlock()
	if answer != nil {
		if err := answer(ctx); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, data.MetricData...)
	return &cloudwatch.PutMetricDataOutput{}, nil
}

// sum adds up a metric, and says how many values it had.
func (m *memory) sum(metric string) (sum, count float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.got {
		if *d.MetricName == metric {
			for i, value := range d.Values {
				sum, count = sum+value*d.Counts[i], count+d.Counts[i]
			}
		}
	}
	return sum, count
}

// wire is a CloudWatch on loopback.
type wire struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	status int
	code   string // of the error that it answers with
	header http.Header
	got    []cbor.Map // the bodies of requests that it took
}

func newWire(t *testing.T) *wire {
	w := &wire{t: t}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *wire) fail(status int, code string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status, w.code = status, code
}

func (w *wire) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	response.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	response.Header().Set("Content-Type", "application/cbor")
	if !strings.HasSuffix(request.URL.Path, "/operation/PutMetricData") {
		w.t.Errorf("asked for %s", request.URL.Path)
	}
	if w.code != "" {
		response.WriteHeader(w.status)
		_, _ = response.Write(cbor.Encode(cbor.Map{"__type": cbor.String("com.amazonaws.cloudwatch#" + w.code), "message": cbor.String("because")}))
		return
	}
	var body io.Reader = request.Body
	if request.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			w.t.Error(err)
			return
		}
		body = unzipped
	}
	text, err := io.ReadAll(body)
	if err != nil {
		w.t.Error(err)
	}
	value, err := cbor.Decode(text)
	if err != nil {
		w.t.Errorf("the request is no CBOR: %v", err)
		return
	}
	w.header = request.Header.Clone()
	w.got = append(w.got, value.(cbor.Map))
	_, _ = response.Write([]byte{0xa0})
}

// figure is a datum as it came over the wire.
type figure struct {
	Metric, Unit, Dimension string
	Time                    time.Time
	Values                  map[float64]float64 // and how often each came
}

// figures are those that came, by metric; the namespace has been checked.
func (w *wire) figures(namespace string) map[string][]figure {
	w.mu.Lock()
	defer w.mu.Unlock()
	byMetric := map[string][]figure{}
	for _, body := range w.got {
		if got := body["Namespace"]; got != cbor.String(namespace) {
			w.t.Errorf("namespace %v, want %s", got, namespace)
		}
		for _, each := range body["MetricData"].(cbor.List) {
			datum := each.(cbor.Map)
			f := figure{Metric: string(datum["MetricName"].(cbor.String)), Unit: string(datum["Unit"].(cbor.String)), Values: map[float64]float64{}}
			for _, d := range datum["Dimensions"].(cbor.List) {
				f.Dimension += fmt.Sprintf("%v=%v", d.(cbor.Map)["Name"], d.(cbor.Map)["Value"])
			}
			f.Time = time.UnixMilli(int64(1000 * number64(datum["Timestamp"].(*cbor.Tag).Value))).UTC()
			counts := datum["Counts"].(cbor.List)
			for i, value := range datum["Values"].(cbor.List) {
				f.Values[number64(value)] += number64(counts[i])
			}
			byMetric[f.Metric] = append(byMetric[f.Metric], f)
		}
	}
	return byMetric
}

func number64(v cbor.Value) float64 {
	switch v := v.(type) {
	case cbor.Float64:
		return float64(v)
	case cbor.Float32:
		return float64(v)
	case cbor.Uint:
		return float64(v)
	default:
		panic(fmt.Sprintf("%T is no number", v))
	}
}

// log gathers lines, for several writers.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.text.String(), func(r rune) bool { return r == '\n' })
}

// with are the lines that have a text in them.
func (l *log) with(text string) (found []string) {
	for _, line := range l.lines() {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// noAWS takes away what configuration of AWS the machine has, and fails the test if EC2's metadata is asked for.
func noAWS(t *testing.T) {
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value) // so that it comes back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	nowhere := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", nowhere)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
	metadata := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the metadata service was asked for %s", r.URL)
	}))
	t.Cleanup(metadata.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
}

// refusing is a CloudWatch that refuses requests with a certain value in them.
type refusing struct {
	*memory
	value float64
}

func (c refusing) PutMetricData(ctx context.Context, data *cloudwatch.PutMetricDataInput, options ...func(*cloudwatch.Options)) (*cloudwatch.PutMetricDataOutput, error) {
	for _, datum := range data.MetricData {
		if slices.Contains(datum.Values, c.value) {
			return nil, &types.InvalidParameterValueException{}
		}
	}
	return c.memory.PutMetricData(ctx, data, options...)
}
