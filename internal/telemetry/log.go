package telemetry

import (
	"context"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// LogHandler is h with what the context of a line says: run and unit ([About]), unless the line has them itself, and
// trace_id and span_id.
func LogHandler(h slog.Handler) slog.Handler { return logHandler{Handler: h} }

type logHandler struct {
	slog.Handler
	run bool // is among the attributes of all lines already
}

// Handle implements [slog.Handler].
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	told := h.run
	r.Attrs(func(a slog.Attr) bool {
		told = told || a.Key == "run"
		return !told
	})
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok && !told {
		r.AddAttrs(s.attrs()...)
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	run := h.run
	for _, a := range attrs {
		run = run || a.Key == "run"
	}
	return logHandler{h.Handler.WithAttrs(attrs), run}
}

// WithGroup implements [slog.Handler].
func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name), h.run}
}

// scope is what a call turns out to be about. It is known only within the call, while some lines are written outside, when it
// is over; so it is made outside, and filled in within.
type scope struct {
	mu   sync.Mutex
	run  string
	unit int // below 0 for none
}

type scopeKey struct{}

func withScope(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, &scope{unit: -1})
}

// About says which run, and which unit of it unless that is below 0, the call of ctx is about. From then on its log lines
// have them.
func About(ctx context.Context, run string, unit int) context.Context {
	s, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok {
		ctx = withScope(ctx)
		s = ctx.Value(scopeKey{}).(*scope)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run, s.unit = run, unit
	return ctx
}

func (s *scope) attrs() (all []slog.Attr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != "" {
		all = append(all, slog.String("run", s.run))
	}
	if s.unit >= 0 {
		all = append(all, slog.Int("unit", s.unit))
	}
	return all
}
