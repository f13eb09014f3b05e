package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// hubWorker are settings that a worker can start with.
func hubWorker(more ...string) Lookup {
	all := map[string]string{
		"EVENT_HUB_CONN_STRING":               "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=k;SharedAccessKey=v;UseDevelopmentEmulator=true",
		"EVENT_HUB_NAME":                      "rides",
		"EVENT_HUB_CHECKPOINT_CONTAINER":      "checkpoints",
		"PERSISTOR_STORAGE_CONNECTION_STRING": "file:///tmp/stored",
		"PERSISTOR_CONTAINER_NAME":            "blobs",
	}
	for _, entry := range more {
		name, value, _ := strings.Cut(entry, "=")
		all[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := all[name]
		return value, ok
	}
}

func TestTelemetrySettings(t *testing.T) {
	base := Telemetry{Timeout: 10 * time.Second, Interval: time.Minute, Service: "persistor-worker", Sampler: Sampler{Parent: true, Share: 1}}
	with := func(change func(*Telemetry)) Telemetry {
		c := base
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		settings []string
		want     Telemetry
	}{
		"off":                         {nil, Telemetry{}},
		"off, whatever else is there": {[]string{"OTEL_SERVICE_NAME=x", "OTEL_TRACES_SAMPLER=always_on"}, Telemetry{}},
		"disabled":                    {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_SDK_DISABLED=true"}, Telemetry{}},
		"on": {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/"}, with(func(c *Telemetry) {
			c.Traces, c.Metrics = "http://c:4318/v1/traces", "http://c:4318/v1/metrics"
		})},
		"by signal": {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/base", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://t/own", "OTEL_METRICS_EXPORTER=none"}, with(func(c *Telemetry) {
			c.Traces = "https://t/own"
		})},
		"metrics alone": {[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4318/m", "OTEL_METRIC_EXPORT_INTERVAL=1500", "OTEL_EXPORTER_OTLP_TIMEOUT=300"}, with(func(c *Telemetry) {
			c.Metrics, c.Interval, c.Timeout = "http://c:4318/m", 1500*time.Millisecond, 300*time.Millisecond
		})},
		"everything else": {[]string{"METRICS=true", "OTEL_SERVICE_NAME=mine", "OTEL_RESOURCE_ATTRIBUTES=a=1, b=two%20words", "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.25", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip"}, with(func(c *Telemetry) {
			c.Scrape, c.Service, c.Attributes = ScrapeKey, "mine", []Attribute{{"a", "1"}, {"b", "two words"}}
			c.Sampler, c.Gzip = Sampler{Share: 0.25}, true
		})},
		"never": {[]string{"METRICS=open", "OTEL_TRACES_SAMPLER=parentbased_always_off"}, with(func(c *Telemetry) {
			c.Scrape, c.Sampler = ScrapeOpen, Sampler{Parent: true}
		})},
	} {
		got, err := ReadWorker(hubWorker(test.settings...))
		if err != nil || !reflect.DeepEqual(got.Telemetry, test.want) {
			t.Errorf("%s: %+v, error %v, want %+v", name, got.Telemetry, err, test.want)
		}
	}
}

// All that is wrong is told at once, with everything else that is, and without the secret in it.
func TestTelemetryMistakes(t *testing.T) {
	_, err := ReadWorker(hubWorker("BATCH_COUNT=0",
		"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://user:hunter2@host/", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://host/?key=hunter2",
		"OTEL_EXPORTER_OTLP_HEADERS=api key=hunter2", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TIMEOUT=10s", "OTEL_EXPORTER_OTLP_COMPRESSION=zstd",
		"OTEL_METRIC_EXPORT_INTERVAL=1", "OTEL_TRACES_EXPORTER=jaeger", "OTEL_METRICS_EXPORTER=prometheus", "OTEL_TRACES_SAMPLER=xray", "OTEL_TRACES_SAMPLER_ARG=2",
		"OTEL_RESOURCE_ATTRIBUTES=novalue", "OTEL_SDK_DISABLED=maybe", "METRICS=public"))
	wrong, ok := err.(*Error)
	if !ok || len(wrong.Problems) != 16 || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func TestTelemetryHeaders(t *testing.T) {
	c, err := ReadWorker(hubWorker("OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.example:4318", "OTEL_EXPORTER_OTLP_HEADERS=api-key=hunter%3D2, x-tenant = t"))
	if err != nil || !reflect.DeepEqual(c.Telemetry.Header(), map[string]string{"api-key": "hunter=2", "x-tenant": "t"}) {
		t.Errorf("%v, error %v", c.Telemetry.Header(), err)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "in clear") || strings.Contains(c.Warnings[0], "hunter") {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

// Under the Functions host nobody could ask for metrics.
func TestNoMetricsUnderTheHost(t *testing.T) {
	c, err := ReadWorker(hubWorker("METRICS=TRUE", "FUNCTIONS_CUSTOMHANDLER_PORT=1234"))
	if err != nil || c.Telemetry.On() || len(c.Warnings) != 1 {
		t.Errorf("%+v, warnings %q, error %v", c.Telemetry, c.Warnings, err)
	}
}
