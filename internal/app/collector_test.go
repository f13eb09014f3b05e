package app

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
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
