package telemetry

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

// maxState is the length of a tracestate, in bytes, that everyone has to carry on; a longer one may be dropped
// (https://www.w3.org/TR/trace-context/#tracestate-limits).
const maxState = 512

// Handler is next with the trace context of each call (https://www.w3.org/TR/trace-context/) in the call's context, whether or
// not anything is recorded here.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(withScope(Extract(r.Context(), r.Header))))
	})
}

// Extract returns ctx with the trace context that headers carry, if they do.
func Extract(ctx context.Context, h http.Header) context.Context {
	carrier := propagation.MapCarrier{"traceparent": h.Get("Traceparent")}
	if state := strings.Join(h.Values("Tracestate"), ","); len(state) <= maxState {
		carrier["tracestate"] = state
	}
	return propagation.TraceContext{}.Extract(ctx, carrier)
}
