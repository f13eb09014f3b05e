package otlp

import (
	"context"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Spans exports spans; it is a [trace.SpanExporter]. It tells of failures by its options alone, and the SDK of none, which
// would write a line for each.
type Spans struct{ client *client }

// NewSpans makes an exporter. It connects when there is something to send.
func NewSpans(o Options) *Spans { return &Spans{newClient(o)} }

// ExportSpans implements [trace.SpanExporter].
func (s *Spans) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	if len(spans) > 0 {
		_ = s.client.send(ctx, encodeSpans(spans))
	}
	return nil
}

// Shutdown implements [trace.SpanExporter].
func (s *Spans) Shutdown(context.Context) error {
	s.client.http.CloseIdleConnections()
	return nil
}

// Metrics exports metrics, cumulative; it is a [metric.Exporter], and tells of failures as [Spans] does.
type Metrics struct{ client *client }

// NewMetrics makes an exporter. It connects when there is something to send.
func NewMetrics(o Options) *Metrics { return &Metrics{newClient(o)} }

// Temporality implements [metric.Exporter].
func (m *Metrics) Temporality(metric.InstrumentKind) metricdata.Temporality {
	return metricdata.CumulativeTemporality
}

// Aggregation implements [metric.Exporter].
func (m *Metrics) Aggregation(kind metric.InstrumentKind) metric.Aggregation {
	return metric.DefaultAggregationSelector(kind)
}

// Export implements [metric.Exporter].
func (m *Metrics) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	if len(all.ScopeMetrics) > 0 {
		_ = m.client.send(ctx, encodeMetrics(all))
	}
	return nil
}

// ForceFlush implements [metric.Exporter]: nothing is held back.
func (m *Metrics) ForceFlush(context.Context) error { return nil }

// Shutdown implements [metric.Exporter].
func (m *Metrics) Shutdown(context.Context) error {
	m.client.http.CloseIdleConnections()
	return nil
}
