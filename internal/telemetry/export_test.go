package telemetry

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"persistor/internal/config"
)

// answers is a collector that gives one answer after the other, the last one again and again; 0 hangs up, -1 never answers. What
// it has to say of a failure has the key in it.
func answers(t *testing.T, requests *atomic.Int32, statuses ...int) string {
	t.Helper()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n := int(requests.Add(1))
		switch status := statuses[min(n, len(statuses))-1]; {
		case status == 0:
			panic(http.ErrAbortHandler)
		case status < 0:
			select {
			case <-release:
			case <-r.Context().Done():
			}
		default:
			w.Header().Set("Location", "/elsewhere")
			if status == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "30")
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte("you sent " + r.Header.Get("Api-Key")))
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	return server.URL
}

// exportSpan records a span and has it sent, and returns when that is over.
func exportSpan(ctx context.Context, told *Telemetry) {
	_, span := told.Tracer().Start(ctx, "s", trace.WithNewRoot())
	span.End()
	_ = told.traces.ForceFlush(ctx)
}

// An export is tried as long as there is a point in it, within its time, and a failure is told without the secret.
func TestExport(t *testing.T) {
	for name, test := range map[string]struct {
		statuses    []int
		timeout     time.Duration
		least, most int32  // requests
		err         string // "" for none
	}{
		"taken":            {[]int{200}, 5 * time.Second, 1, 1, ""},
		"taken in the end": {[]int{503, 200}, 5 * time.Second, 2, 2, ""},
		"hangs up":         {[]int{0}, 5 * time.Second, 1, 2, "EOF"},
		"refused":          {[]int{401}, 5 * time.Second, 1, 1, "401 Unauthorized"},
		"broken":           {[]int{500}, 5 * time.Second, 1, 1, "500 Internal Server Error"},
		"elsewhere":        {[]int{307}, 5 * time.Second, 1, 1, "307 Temporary Redirect"},
		"overloaded":       {[]int{503}, time.Second, 2, 3, "status 503"},
		"much later":       {[]int{429}, 5 * time.Second, 1, 1, "status 429"}, // later than there is time for
		"never answers":    {[]int{-1}, 300 * time.Millisecond, 1, 1, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l lines
			var requests atomic.Int32
			told := New(config.Telemetry{
				Traces: answers(t, &requests, test.statuses...), Timeout: test.timeout, Headers: "api-key=hunter2", Sampler: config.Sampler{Share: 1},
			}, l.logger())
			defer told.Close(context.Background())
			began := time.Now()
			exportSpan(t.Context(), told)
			if took := time.Since(began); took > test.timeout+time.Second || name == "much later" && took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			if got := l.String(); (got == "") != (test.err == "") || !strings.Contains(got, test.err) || strings.Count(got, "\n") > 1 || strings.Contains(got, "hunter2") {
				t.Errorf("logged %q, want %q", got, test.err)
			}
			if n := requests.Load(); n < test.least || n > test.most {
				t.Errorf("%d requests, want %d to %d", n, test.least, test.most)
			}
		})
	}
}

// Trouble is told when it begins, and when it is over.
func TestTroubleIsToldOnce(t *testing.T) {
	var l lines
	var requests atomic.Int32
	told := New(config.Telemetry{Traces: answers(t, &requests, 500, 500, 500, 200, 200, 500), Timeout: time.Second, Sampler: config.Sampler{Share: 1}}, l.logger())
	defer told.Close(context.Background())
	for range 6 {
		exportSpan(t.Context(), told)
	}
	var got []string
	for line := range strings.Lines(l.String()) {
		switch {
		case strings.Contains(line, "telemetry can't be sent"):
			got = append(got, "trouble")
		case strings.Contains(line, "telemetry is sent again"):
			got = append(got, "recovered")
		default:
			t.Error(line)
		}
	}
	if strings.Join(got, " ") != "trouble recovered trouble" || requests.Load() != 6 {
		t.Errorf("%q after %d requests", got, requests.Load())
	}
}

// What the exporters would read of the environment by themselves changes nothing: the settings are config's to read.
func TestEnvironmentIsConfigs(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"ENDPOINT": "https://elsewhere.invalid", "TRACES_ENDPOINT": "https://elsewhere.invalid/t", "METRICS_ENDPOINT": "https://elsewhere.invalid/m",
		"HEADERS": "a=b", "TRACES_HEADERS": "a=b", "METRICS_HEADERS": "a=b", "COMPRESSION": "gzip", "METRICS_COMPRESSION": "gzip", "PROTOCOL": "http/json",
		"CERTIFICATE": certificate, "INSECURE": "false", "TIMEOUT": "1", "TRACES_TIMEOUT": "1", "METRICS_TIMEOUT": "1",
		"METRICS_TEMPORALITY_PREFERENCE": "delta", "METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
	} {
		t.Setenv("OTEL_EXPORTER_OTLP_"+name, value)
	}
	var mu sync.Mutex
	bodies := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("A") != "" || r.Header.Get("Content-Encoding") != "" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s: %v", r.URL.Path, r.Header)
		}
		if bodies[r.URL.Path] == nil {
			bodies[r.URL.Path] = body
		}
	}))
	defer server.Close()
	var l lines
	told := New(config.Telemetry{Traces: server.URL + "/own/traces", Metrics: server.URL, Timeout: 5 * time.Second, Interval: time.Hour, Sampler: config.Sampler{Share: 1}}, l.logger())
	tellAll(told)
	if err := told.Close(t.Context()); err != nil || l.String() != "" {
		t.Errorf("error %v, logged %s", err, l.String())
	}
	var request collectormetrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(bodies["/"], &request); err != nil || len(bodies["/own/traces"]) == 0 || len(bodies) != 2 {
		t.Fatalf("error %v, sent to %d paths", err, len(bodies))
	}
	kinds := 0
	for _, m := range request.ResourceMetrics[0].ScopeMetrics[0].Metrics {
		if sum := m.GetSum(); sum != nil && sum.AggregationTemporality == metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
			kinds |= 1
		} else if h := m.GetHistogram(); h != nil && h.AggregationTemporality == metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
			kinds |= 2
		} else if m.GetGauge() == nil {
			t.Errorf("%v", m)
		}
	}
	if kinds != 3 {
		t.Error("no sum, or no histogram")
	}
}

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"invalid proxy address \"http://me:hunter2@proxy\":\nno":    `invalid proxy address "http://[redacted]@proxy": no`,
		`Post "http://c:4318/v1/traces?key=hunter2": EOF`:           `Post "http://c:4318/v1/traces?[redacted]": EOF`,
		"failed to send to http://c:4318/v1/traces: 401 (body: no)": "failed to send to http://c:4318/v1/traces: 401 (body: no)",
		strings.Repeat("é", 1000):                                   strings.Repeat("é", 150),
	} {
		if got := line(errors.New(text)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
