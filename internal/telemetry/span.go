package telemetry

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"persistor/internal/fanout"
	"persistor/internal/work"
)

// Run begins a run's span, which lasts until the report is given to end. That counts the run, and sends what
// was recorded within the time given.
func (t *Telemetry) Run(ctx context.Context) (_ context.Context, end func(fanout.Report, time.Duration)) {
	if t == nil {
		return ctx, func(fanout.Report, time.Duration) {}
	}
	ctx, span := t.tracer.Start(ctx, "run", trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(r fanout.Report, within time.Duration) {
		status := statusKey.String(r.Status)
		span.SetAttributes(runKey.String(r.Run), status, messagesKey.Int64(r.Messages), bytesKey.Int64(r.Bytes))
		finish(span, r.Why())
		t.runs.Add(ctx, 1, metric.WithAttributes(status))
		if r.Status != fanout.NotBegun {
			t.run.Record(ctx, r.ElapsedSeconds, metric.WithAttributes(status))
		}
		t.Flush(within)
	}
}

// UnitEnded counts a unit of a run, or of a wave.
func (t *Telemetry) UnitEnded(ctx context.Context, row fanout.UnitRow) {
	if t != nil {
		t.units.Add(ctx, 1, metric.WithAttributes(statusKey.String(row.Status), endedKey.String(string(row.Ended))))
	}
}

// Unit begins the span of a unit that a worker carries out, which lasts until the report is given to end. That counts what
// is known of its loops only now, and sends what was recorded within the time given.
func (t *Telemetry) Unit(ctx context.Context, unit work.Unit, kind Source) (_ context.Context, end func(work.Report, time.Duration)) {
	ctx = About(ctx, unit.Run, unit.Unit)
	if t == nil {
		return ctx, func(work.Report, time.Duration) {}
	}
	ctx, span := t.tracer.Start(ctx, "unit", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		runKey.String(unit.Run), unitKey.Int(unit.Unit), sourceKey.String(string(kind)), attribute.StringSlice("persistor.partitions", unit.Partitions)))
	return ctx, func(r work.Report, within time.Duration) {
		why := ""
		for _, s := range r.Sources {
			t.ended(ctx, kind, s)
			if why == "" && !s.Ended.OK() {
				why = s.Name() + ": " + s.Error
			}
		}
		span.SetAttributes(messagesKey.Int64(r.Messages), bytesKey.Int64(r.Bytes), statusKey.String(r.Status))
		finish(span, why)
		t.Flush(within)
	}
}

// ended counts a loop that has ended.
func (t *Telemetry) ended(ctx context.Context, kind Source, s work.Source) {
	source := sourceKey.String(string(kind))
	t.loops.Add(ctx, 1, metric.WithAttributes(source, endedKey.String(string(s.Ended))))
	if s.RedeliveryExpected > 0 {
		t.redeliveries.Add(ctx, s.RedeliveryExpected, metric.WithAttributes(source))
	}
	if s.Partition != "" && s.Cell == nil && s.Backlog >= 0 {
		t.lag.Record(ctx, s.Backlog, metric.WithAttributes(partitionKey.String(s.Partition)))
	}
}

// Invocation begins the span of what a trigger has the push program store; end says how that ended, and sends what was
// recorded within the time given.
func (t *Telemetry) Invocation(ctx context.Context, id string) (_ context.Context, end func(error, time.Duration)) {
	ctx = About(ctx, id, -1)
	if t == nil {
		return ctx, func(error, time.Duration) {}
	}
	ctx, span := t.tracer.Start(ctx, "persist", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attribute.String("faas.invocation_id", id)))
	return ctx, func(err error, within time.Duration) {
		why := ""
		if err != nil {
			why = err.Error()
		}
		finish(span, why)
		t.Flush(within)
	}
}

// Wave begins the span of a wave of a run; end says by its status what became of it, which is failed after an error, counts it,
// and sends what was recorded within the time given.
func (t *Telemetry) Wave(ctx context.Context, run string) (_ context.Context, end func(status string, err error, within time.Duration)) {
	ctx = About(ctx, run, -1)
	if t == nil {
		return ctx, func(string, error, time.Duration) {}
	}
	ctx, span := t.tracer.Start(ctx, "wave", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(runKey.String(run)))
	return ctx, func(status string, err error, within time.Duration) {
		why := ""
		switch {
		case err != nil:
			status, why = fanout.Failed, err.Error()
		case status == fanout.Failed:
			why = "the run's document says why"
		}
		span.SetAttributes(statusKey.String(status))
		t.waves.Add(ctx, 1, metric.WithAttributes(statusKey.String(status)))
		finish(span, why)
		t.Flush(within)
	}
}

// Retried counts a request to storage that is tried again after an answer of this status, 0 where none came.
func (t *Telemetry) Retried(ctx context.Context, status int) {
	reason := "no_answer"
	if status != 0 {
		reason = strconv.Itoa(status)
	}
	t.retries.Add(ctx, 1, metric.WithAttributes(errorKey.String(reason)))
}

// finish ends a span; why says why it failed, "" when it did not.
func finish(span trace.Span, why string) {
	if why != "" {
		span.SetStatus(codes.Error, why)
	}
	span.End()
}
