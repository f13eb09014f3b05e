package telemetry

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"persistor/internal/config"
)

// The exporters read the environment, too: variables that [config.ReadWorker] and its like have checked, and some that they do
// not know. Options have the last word, so each is given, also where it says no more than the default.

const (
	// firstPause is about how long lies before an export's first retry, and lastPause between later ones, at most. All of it
	// is within the timeout of one export.
	firstPause = 500 * time.Millisecond
	lastPause  = 5 * time.Second
)

// newSpanExporter makes the exporter of spans. It connects when there is something to send.
func (t *Telemetry) newSpanExporter(c config.Telemetry) (sdktrace.SpanExporter, error) {
	compression := otlptracehttp.NoCompression
	if c.Gzip {
		compression = otlptracehttp.GzipCompression
	}
	exporter, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(c.Traces), otlptracehttp.WithHeaders(c.Header()),
		otlptracehttp.WithCompression(compression), otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf),
		otlptracehttp.WithHTTPClient(t.client), otlptracehttp.WithTLSClientConfig(nil), otlptracehttp.WithTimeout(c.Timeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: firstPause, MaxInterval: lastPause, MaxElapsedTime: c.Timeout}))
	return spanExporter{exporter, c.Timeout, func(err error) { t.note("traces", err) }}, err
}

// newMetricExporter makes the exporter of metrics, which are cumulative. It connects when there is something to send.
func (t *Telemetry) newMetricExporter(c config.Telemetry) (sdkmetric.Exporter, error) {
	compression := otlpmetrichttp.NoCompression
	if c.Gzip {
		compression = otlpmetrichttp.GzipCompression
	}
	exporter, err := otlpmetrichttp.New(context.Background(),
		otlpmetrichttp.WithEndpointURL(c.Metrics), otlpmetrichttp.WithHeaders(c.Header()), otlpmetrichttp.WithCompression(compression),
		otlpmetrichttp.WithTemporalitySelector(sdkmetric.CumulativeTemporalitySelector), otlpmetrichttp.WithAggregationSelector(sdkmetric.DefaultAggregationSelector),
		otlpmetrichttp.WithHTTPClient(t.client), otlpmetrichttp.WithTLSClientConfig(nil), otlpmetrichttp.WithTimeout(c.Timeout),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: firstPause, MaxInterval: lastPause, MaxElapsedTime: c.Timeout}))
	return metricExporter{exporter, c.Timeout, func(err error) { t.note("metrics", err) }}, err
}

// spanExporter bounds the time of one export, its retries included, and tells note alone how it went: the SDK would write a
// line for each failure.
type spanExporter struct {
	sdktrace.SpanExporter
	timeout time.Duration
	note    func(error)
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	e.note(e.SpanExporter.ExportSpans(ctx, spans))
	return nil
}

// Shutdown implements [sdktrace.SpanExporter].
func (e spanExporter) Shutdown(ctx context.Context) error {
	_ = e.SpanExporter.Shutdown(ctx) // says at most that ctx is over
	return nil
}

// metricExporter does the same for metrics.
type metricExporter struct {
	sdkmetric.Exporter
	timeout time.Duration
	note    func(error)
}

// Export implements [sdkmetric.Exporter].
func (e metricExporter) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	if len(all.ScopeMetrics) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	e.note(e.Exporter.Export(ctx, all))
	return nil
}

// Shutdown implements [sdkmetric.Exporter].
func (e metricExporter) Shutdown(ctx context.Context) error {
	_ = e.Exporter.Shutdown(ctx)
	return nil
}

// newClient makes what both exporters send by.
func newClient() *http.Client {
	return &http.Client{
		Transport: terse{http.DefaultTransport.(*http.Transport).Clone()},
		// A redirect would take the headers to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// terse leaves of a failure's answer the status, for the exporters put all of it into their errors, and a collector may repeat
// there what it was sent, headers included.
type terse struct{ *http.Transport }

// maxFailure bounds what is read of such an answer, in bytes, so that the connection can be used again.
const maxFailure = 64 << 10

// RoundTrip implements [http.RoundTripper].
func (t terse) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.Transport.RoundTrip(r)
	if err != nil || answer.StatusCode/100 == 2 {
		return answer, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxFailure))
	_ = answer.Body.Close()
	answer.Status = strings.TrimSpace(strconv.Itoa(answer.StatusCode) + " " + http.StatusText(answer.StatusCode))
	answer.Body = io.NopCloser(strings.NewReader("status " + answer.Status)) // some of their errors have the body alone
	return answer, nil
}

// hidden is what may be a secret in a URL: a password, as in that of a proxy, and a query.
var hidden = regexp.MustCompile(`//[^\s"]*@|\?[^\s"]*`)

// line is an error's text in one line of bounded length.
func line(err error) string {
	text := hidden.ReplaceAllStringFunc(strings.Join(strings.Fields(err.Error()), " "), func(secret string) string {
		if secret[0] == '?' {
			return "?[redacted]"
		}
		return "//[redacted]@"
	})
	return strings.ToValidUTF8(text[:min(len(text), 300)], "")
}
