package app

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectormetrics "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"persistor/internal/fanout"
)

// collector takes OTLP over HTTP, and reads it by the official definitions.
type collector struct {
	url string

	mu       sync.Mutex
	spans    []collected
	metrics  map[string]*metricspb.Metric // the newest of each service and name, as "service name"
	requests int
	headers  http.Header
	refuse   func(http.ResponseWriter, *http.Request) bool // answers by itself; nil for never
}

// collected is a span, and what service it is of.
type collected struct {
	service string
	*tracepb.Span
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{metrics: map[string]*metricspb.Metric{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests++
	c.headers = r.Header.Clone()
	refuse := c.refuse
	c.mu.Unlock()
	if refuse != nil && refuse(w, r) {
		return
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(body)
	}
	raw, err := io.ReadAll(body)
	if err == nil {
		err = c.take(r.URL.Path, raw)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
	}
}

func (c *collector) take(path string, raw []byte) error {
	strict := proto.UnmarshalOptions{DiscardUnknown: false}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch path {
	case "/v1/traces":
		var request collectortrace.ExportTraceServiceRequest
		if err := strict.Unmarshal(raw, &request); err != nil {
			return err
		}
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					c.spans = append(c.spans, collected{attribute(resource.Resource.Attributes, "service.name"), span})
				}
			}
		}
	case "/v1/metrics":
		var request collectormetrics.ExportMetricsServiceRequest
		if err := strict.Unmarshal(raw, &request); err != nil {
			return err
		}
		for _, resource := range request.ResourceMetrics {
			for _, scope := range resource.ScopeMetrics {
				for _, m := range scope.Metrics {
					c.metrics[attribute(resource.Resource.Attributes, "service.name")+" "+m.Name] = m
				}
			}
		}
	}
	return nil
}

// attribute is an attribute's value as text; "" if there is none.
func attribute(all []*commonpb.KeyValue, key string) string {
	for _, a := range all {
		if a.Key == key {
			if s, ok := a.Value.Value.(*commonpb.AnyValue_StringValue); ok {
				return s.StringValue
			}
			return strings.Trim(a.Value.String(), " ")
		}
	}
	return ""
}

// named are the spans of a name.
func (c *collector) named(name string) (all []collected) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name {
			all = append(all, s)
		}
	}
	return all
}

// sum adds up a counter's points that have an attribute's value; "" for all of them.
func (c *collector) sum(service, name, key, value string) (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.metrics[service+" "+name].GetSum().GetDataPoints() {
		if key == "" || attribute(p.Attributes, key) == value {
			n += p.GetAsInt()
		}
	}
	return n
}

// told are the settings that have telemetry sent to the collector.
func (c *collector) told() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_TRACES_SAMPLER=always_on", "LOG_LEVEL=info"}
}

// A whole run of real processes is one trace, each span with its parent, and what is counted is what was stored.
func TestRunIsOneTrace(t *testing.T) {
	t.Parallel()
	c, s := newCollector(t), newSite(t, 2, 2500)
	s.settings = s.settings.with(c.told()...).with("BATCH_COUNT=1000", "GET_METADATA=TRUE")
	worker := start(t, "worker", s.settings)
	invoker := start(t, "invoker", s.settings.with("FUNC_TO_INVOKE="+worker.url+"/api/pull?code=hidden-0123456789", "DELAY_BETWEEN_FUNCS=0"))
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	var report fanout.Report
	status, text := call(t, invoker.url+"/api/invoke?N=2", "", &report, "traceparent", "00-"+trace+"-"+caller+"-01")
	if status != http.StatusOK || report.Messages != 5000 || report.Trace != trace {
		t.Fatalf("%d %s", status, text)
	}
	s.audit(t, hubName)
	// All of it was sent before the answer.
	run, calls, units := c.named("run"), c.named("call worker"), c.named("unit")
	if len(run) != 1 || hex.EncodeToString(run[0].ParentSpanId) != caller || run[0].service != "persistor-invoker" || attribute(run[0].Attributes, "persistor.run") != report.Run {
		t.Fatalf("run: %v", run)
	}
	if len(units) != 2 || len(calls) < 2 { // a busy worker is called again
		t.Fatalf("%d calls, %d units", len(calls), len(units))
	}
	for _, one := range calls {
		if !slices.Equal(one.ParentSpanId, run[0].SpanId) || one.Kind != tracepb.Span_SPAN_KIND_CLIENT || strings.Contains(one.String(), "hidden") {
			t.Errorf("call: %v", one)
		}
	}
	for _, unit := range units {
		if !slices.ContainsFunc(calls, func(one collected) bool { return slices.Equal(one.SpanId, unit.ParentSpanId) }) || unit.service != "persistor-worker" || unit.Kind != tracepb.Span_SPAN_KIND_SERVER {
			t.Errorf("unit: %v", unit)
		}
	}
	for name, want := range map[string]int{"receive": 6, "store": 6} {
		steps := c.named(name)
		if len(steps) < want {
			t.Errorf("%d spans %s", len(steps), name)
		}
		messages := 0
		for _, step := range steps {
			if !slices.ContainsFunc(units, func(unit collected) bool { return slices.Equal(unit.SpanId, step.ParentSpanId) }) ||
				hex.EncodeToString(step.TraceId) != trace || attribute(step.Attributes, "persistor.run") != report.Run || attribute(step.Attributes, "persistor.partition") == "" {
				t.Errorf("%s: %v", name, step)
			}
			for _, a := range step.Attributes {
				if a.Key == "persistor.messages" {
					messages += int(a.Value.GetIntValue())
				}
			}
			if step.EndTimeUnixNano < step.StartTimeUnixNano || time.Since(time.Unix(0, int64(step.StartTimeUnixNano))) > time.Minute {
				t.Errorf("%s from %d to %d", name, step.StartTimeUnixNano, step.EndTimeUnixNano)
			}
		}
		if messages != 5000 {
			t.Errorf("%s: %d messages", name, messages)
		}
	}
	if n := len(c.named("settle")); n < 2 {
		t.Errorf("%d spans settle", n)
	}
	if n := c.sum("persistor-worker", "persistor.messages", "persistor.outcome", "stored"); n != 5000 {
		t.Errorf("counted %d messages", n)
	}
	if n := c.sum("persistor-worker", "persistor.bytes", "", ""); n != report.Bytes {
		t.Errorf("counted %d bytes of %d", n, report.Bytes)
	}
	if n := c.sum("persistor-invoker", "persistor.runs", "persistor.status", "ok"); n != 1 {
		t.Errorf("counted %d runs", n)
	}
	for _, line := range []string{worker.logged(`"answered a call"`), worker.logged("drained a source")} {
		if !strings.Contains(line, `"run":"`+report.Run+`"`) || !strings.Contains(line, `"unit":`) || strings.Count(line, `"run"`) != 1 || !strings.Contains(line, `"trace_id":"`+trace) {
			t.Errorf("line without run, unit or trace: %s", line)
		}
	}
}
