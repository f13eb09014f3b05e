package otlp

import (
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

// encodeSpans writes trace_service.proto: ExportTraceServiceRequest. All spans are of one resource: the process.
func encodeSpans(spans []trace.ReadOnlySpan) (request message) {
	var scopes []instrumentation.Scope
	byScope := map[instrumentation.Scope][]trace.ReadOnlySpan{}
	for _, s := range spans {
		scope := s.InstrumentationScope()
		if byScope[scope] == nil {
			scopes = append(scopes, scope)
		}
		byScope[scope] = append(byScope[scope], s)
	}
	var resource message // trace.proto: ResourceSpans
	resource.message(1, encodeResource(spans[0].Resource()))
	for _, scope := range scopes {
		var m message // trace.proto: ScopeSpans
		m.message(1, encodeScope(scope))
		for _, s := range byScope[scope] {
			m.message(2, encodeSpan(s))
		}
		resource.message(2, m)
	}
	request.message(1, resource)
	return request
}

// encodeSpan writes trace.proto: Span.
func encodeSpan(s trace.ReadOnlySpan) (m message) {
	context, parent := s.SpanContext(), s.Parent()
	traceID, spanID := context.TraceID(), context.SpanID()
	m.bytes(1, traceID[:])
	m.bytes(2, spanID[:])
	m.text(3, context.TraceState().String())
	if parent.HasSpanID() {
		id := parent.SpanID()
		m.bytes(4, id[:])
	}
	m.text(5, s.Name())
	m.varint(6, uint64(s.SpanKind())) // the SDK numbers them as OTLP does
	m.time(7, s.StartTime())
	m.time(8, s.EndTime())
	m.attributes(9, s.Attributes())
	m.varint(10, uint64(s.DroppedAttributes()))
	for _, e := range s.Events() {
		var event message
		event.time(1, e.Time)
		event.text(2, e.Name)
		event.attributes(3, e.Attributes)
		m.message(11, event)
	}
	m.varint(12, uint64(s.DroppedEvents()))
	m.message(15, encodeStatus(s.Status()))
	m.fixed32(16, encodeFlags(context, parent))
	return m
}

// encodeStatus writes trace.proto: Status, whose codes the SDK numbers otherwise.
func encodeStatus(s trace.Status) (m message) {
	m.text(2, s.Description)
	switch s.Code {
	case codes.Ok:
		m.varint(3, 1)
	case codes.Error:
		m.varint(3, 2)
	}
	return m
}

// encodeFlags are the trace flags, and whether the parent is known to be of another process.
func encodeFlags(context, parent api.SpanContext) uint32 {
	const hasIsRemote, isRemote = 1 << 8, 1 << 9
	flags := uint32(context.TraceFlags()) | hasIsRemote
	if parent.IsRemote() {
		flags |= isRemote
	}
	return flags
}
