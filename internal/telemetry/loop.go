package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"persistor/internal/pull"
)

// Source is a kind of what is stored.
type Source string

const (
	Partition Source = "partition" // of an Event Hub
	Queue     Source = "queue"     // or subscription, or dead-letter queue, of Service Bus
	Session   Source = "session"   // of Service Bus
	Grid      Source = "event"     // of Event Grid
)

// Loop is a pull loop that is watched.
type Loop struct {
	Source    Source
	Partition string // "" for none
	// Target is the last sequence number to be stored, below 0 where that isn't known.
	Target int64
	// Part says that it reads a part of the partition, which has neither a lag nor a checkpoint of its own.
	Part bool
}

// whole reports whether the loop has a partition to itself.
func (l Loop) whole() bool { return l.Partition != "" && !l.Part }

// loop turns the steps of a pull loop into spans and metrics.
type loop struct {
	*Telemetry
	Loop
	ctx  context.Context // with the span that the steps are part of
	what []attribute.KeyValue

	stored, already, failed metric.MeasurementOption
	source, partition       metric.MeasurementOption
}

func (t *Telemetry) newLoop(ctx context.Context, l Loop) *loop {
	source := sourceKey.String(string(l.Source))
	of := func(outcome string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(source, outcomeKey.String(outcome)))
	}
	w := &loop{
		Telemetry: t, Loop: l, ctx: ctx, what: []attribute.KeyValue{source}, stored: of(stored), already: of(already), failed: of(failed),
		source: metric.WithAttributeSet(attribute.NewSet(source)), partition: metric.WithAttributeSet(attribute.NewSet(partitionKey.String(l.Partition))),
	}
	if l.Partition != "" {
		w.what = append(w.what, partitionKey.String(l.Partition))
	}
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		for _, a := range s.attrs() { // the run, and the unit
			w.what = append(w.what, attribute.String("persistor."+a.Key, a.Value.String()))
		}
	}
	return w
}

// Watch has a pull loop that begins now observed, until the function that it returns is called. The spans of its steps become
// children of that of ctx.
func (t *Telemetry) Watch(ctx context.Context, watched *pull.Loop, l Loop) (end func()) {
	if t == nil {
		return func() {}
	}
	w := t.newLoop(ctx, l)
	watched.Observe = w.step
	if !l.whole() {
		return func() {}
	}
	t.marks.set(w)
	return func() { t.marks.forget(w) }
}

// Observe is [Telemetry.Watch] for what settles nothing itself, as what is pushed: its steps go to the function returned; nil
// where nothing is to be told.
func (t *Telemetry) Observe(ctx context.Context, l Loop) func(pull.Step) {
	if t == nil {
		return nil
	}
	w := t.newLoop(ctx, l)
	return func(s pull.Step) {
		if s.Kind != pull.Settled {
			w.step(s)
		}
	}
}

func (w *loop) step(s pull.Step) {
	switch s.Kind {
	case pull.Received:
		w.span("receive", s)
	case pull.Stored:
		outcome := w.outcome(s)
		w.store.Record(w.ctx, s.Took.Seconds(), outcome)
		w.span("store", s)
	case pull.Settled:
		w.settle.Record(w.ctx, s.Took.Seconds(), w.outcome(s))
		w.span("settle", s)
		if s.Err == nil && w.whole() {
			w.marks.set(w)
		}
	case pull.Kept:
		w.count(s)
	}
}

// outcome is what became of a request.
func (w *loop) outcome(s pull.Step) metric.MeasurementOption {
	switch {
	case s.Err != nil:
		return w.failed
	case s.Already > 0:
		return w.already
	}
	return w.stored
}

// count takes in a batch with which everything was done that could be.
func (w *loop) count(s pull.Step) {
	if s.Messages > 0 {
		w.messages.Add(w.ctx, s.Messages, w.stored)
		w.bytes.Add(w.ctx, s.Bytes, w.source)
	}
	if s.Already > 0 {
		w.messages.Add(w.ctx, s.Already, w.already)
	}
	switch {
	case s.Err != nil:
		w.batches.Add(w.ctx, 1, w.failed)
	case s.Messages > 0:
		w.batches.Add(w.ctx, 1, w.stored)
	default:
		w.batches.Add(w.ctx, 1, w.already)
	}
	if s.Err == nil && w.whole() && w.Target >= 0 {
		w.lag.Record(w.ctx, max(0, w.Target-s.Last), w.partition)
	}
}

// span records a step that is over.
func (w *loop) span(name string, s pull.Step) {
	_, span := w.tracer.Start(w.ctx, name, trace.WithTimestamp(s.Began))
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(w.what...)
	span.SetAttributes(messagesKey.Int64(s.Messages))
	if s.Bytes > 0 {
		span.SetAttributes(bytesKey.Int64(s.Bytes))
	}
	if s.Kind == pull.Stored && s.Already > 0 {
		span.SetAttributes(outcomeKey.String(already))
	}
	if s.Err != nil {
		span.SetStatus(codes.Error, s.Err.Error())
	}
	span.End(trace.WithTimestamp(s.Began.Add(s.Took)))
}
