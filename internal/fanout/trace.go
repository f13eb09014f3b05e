package fanout

import (
	"context"
	"crypto/rand"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// A run's calls carry a W3C trace context (https://www.w3.org/TR/trace-context/), whether or not somebody records it: that of
// the context that the run was called with, or a new one.

// traced returns ctx with a trace. A new one isn't marked as sampled: nobody is known to record it.
func traced(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	var id trace.TraceID
	rand.Read(id[:]) // never fails, see crypto/rand
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: newSpanID()}))
}

func newSpanID() (id trace.SpanID) {
	rand.Read(id[:])
	return id
}

// span begins the span of an attempt, and writes its trace context into the request. The span has an id of its own also where
// nobody records it, so that the attempts can be told apart.
func (c *call) span(ctx context.Context, r *http.Request) trace.Span {
	parent := trace.SpanContextFromContext(ctx)
	ctx, span := c.dispatcher.tracer.Start(ctx, "call worker", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("url.full", c.row.Worker),
		attribute.String("server.address", r.URL.Hostname()), attribute.Int("http.request.resend_count", c.row.Attempts-1),
		attribute.String("persistor.run", c.unit.Run), attribute.Int("persistor.unit", c.unit.Unit)))
	if own := span.SpanContext(); own.SpanID() == parent.SpanID() {
		ctx = trace.ContextWithSpanContext(ctx, parent.WithSpanID(newSpanID()))
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(r.Header))
	return span
}

// endSpan says what came of an attempt.
func endSpan(span trace.Span, resp *http.Response, err error) {
	if resp != nil {
		span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
