// Package telemetry tells what the programs do: traces and metrics by OpenTelemetry, metrics for Prometheus to fetch, and
// log lines that say which run, unit and trace they belong to.
//
//	run, wave                an invoker's run, or a wave of one
//	└─ call worker           each POST of a unit; its span travels in the header traceparent
//	   └─ unit               the worker's answer to it
//	      ├─ receive         a batch, from its first message until it is full
//	      ├─ store           a request that puts a batch, or a part of it, into a blob
//	      └─ settle          a checkpoint, or the completion of a batch's messages
//	persist                  an invocation of the push program
//	└─ store, settle
//
// There is a span for each batch and none for a message, and no attribute whose values grow with the messages: partitions
// are told apart, sessions are not. docs/telemetry.md lists all of it.
//
// It alone knows the SDK. It is off unless settings say where to send to, or that metrics may be fetched; then there is no
// [Telemetry], and a nil one does nothing.
package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"persistor/internal/config"
)

// library names what is measured, in traces and metrics.
const library = "persistor"

// Telemetry sends what the program does. All methods are safe for concurrent use, and do nothing on nil.
type Telemetry struct {
	log     *slog.Logger
	tracer  trace.Tracer
	traces  *sdktrace.TracerProvider
	meters  *sdkmetric.MeterProvider
	scraped *sdkmetric.ManualReader // nil unless metrics may be fetched
	sends   bool
	client  *http.Client // by which it sends
	instruments

	mu      sync.Mutex
	failing map[string]bool // the signals whose last export failed
	rest    time.Time       // until when nothing is flushed, after one that failed
}

// New makes what settings ask for; nil if that is nothing. It sends in the background, and connects when there is something
// to send. Trouble with that goes to log, in one line until it is over.
func New(c config.Telemetry, log *slog.Logger) *Telemetry {
	if !c.On() {
		return nil
	}
	t := &Telemetry{log: log, tracer: noop.NewTracerProvider().Tracer(library), sends: c.Traces != "" || c.Metrics != "", client: newClient(), failing: map[string]bool{}}
	t.quieten()
	about := describe(c)
	if c.Traces != "" {
		if exporter, err := t.newSpanExporter(c); err == nil {
			t.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithSampler(samplerOf(c.Sampler)), sdktrace.WithBatcher(exporter))
			t.tracer = t.traces.Tracer(library)
		} else {
			t.note("traces", err)
		}
	}
	t.meters = sdkmetric.NewMeterProvider(append(t.readers(c), sdkmetric.WithResource(about), sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter))...)
	t.instruments = newInstruments(t.meters.Meter(library))
	return t
}

// quieten keeps the SDK from writing to stderr. What its logger is given is about the environment, with values that may be
// secrets, and config has read those that matter.
func (t *Telemetry) quieten() {
	otel.SetLogger(logr.Discard())
	var told sync.Once
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		told.Do(func() { t.log.Warn("telemetry has trouble, which is told once", "error", line(err)) })
	}))
}

// readers are those who take the metrics.
func (t *Telemetry) readers(c config.Telemetry) (all []sdkmetric.Option) {
	if c.Metrics != "" {
		if exporter, err := t.newMetricExporter(c); err == nil {
			all = append(all, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(c.Interval), sdkmetric.WithTimeout(c.Timeout))))
		} else {
			t.note("metrics", err)
		}
	}
	if c.Scrape != config.ScrapeOff {
		t.scraped = sdkmetric.NewManualReader()
		all = append(all, sdkmetric.WithReader(t.scraped))
	}
	return all
}

// note takes how an export of a signal went, and logs when trouble begins, and when it is over.
func (t *Telemetry) note(signal string, err error) {
	t.mu.Lock()
	before := len(t.failing)
	if err != nil {
		t.failing[signal] = true
	} else {
		delete(t.failing, signal)
	}
	after := len(t.failing)
	t.mu.Unlock()
	switch {
	case before == 0 && after > 0:
		t.log.Warn("telemetry can't be sent, and is dropped; nothing else depends on it, and it is tried on: check OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS, and that a collector takes OTLP over HTTP there", "signal", signal, "error", line(err))
	case before > 0 && after == 0:
		t.log.Info("telemetry is sent again")
	}
}

// describe is what all that is sent says of the program.
func describe(c config.Telemetry) *resource.Resource {
	all := []attribute.KeyValue{
		attribute.String("service.instance.id", rand.Text()),
		attribute.String("telemetry.sdk.name", "opentelemetry"), attribute.String("telemetry.sdk.language", "go"),
	}
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" {
		all = append(all, attribute.String("service.version", build.Main.Version))
	}
	for _, a := range c.Attributes {
		all = append(all, attribute.String(a.Name, a.Value))
	}
	return resource.NewSchemaless(append(all, attribute.String("service.name", c.Service))...) // of one name the last holds
}

func samplerOf(s config.Sampler) sdktrace.Sampler {
	root := sdktrace.TraceIDRatioBased(s.Share)
	if s.Parent {
		return sdktrace.ParentBased(root)
	}
	return root
}

// Tracer makes spans; those of a nil Telemetry are not recorded.
func (t *Telemetry) Tracer() trace.Tracer {
	if t == nil {
		return noop.NewTracerProvider().Tracer(library)
	}
	return t.tracer
}

// Metrics answers with all metrics as Prometheus reads them; nil unless the settings have it.
func (t *Telemetry) Metrics() http.Handler {
	if t == nil || t.scraped == nil {
		return nil
	}
	return prometheus{t.scraped}
}

const (
	// flushTime bounds a flush, and closeTime the last one.
	flushTime = 2 * time.Second
	closeTime = 2 * time.Second
	// restTime is how long nothing is flushed after a flush that failed, so that a collector that is down, or hangs,
	// costs flushTime twice a minute and no more.
	restTime = 30 * time.Second
)

// Reserve is the part of a unit's budget that is kept for its flush: a twentieth, 2 s at most.
func (t *Telemetry) Reserve(budget time.Duration) time.Duration {
	if t == nil || !t.sends {
		return 0
	}
	return min(budget/20, flushTime)
}

// Flush sends what was recorded so far, within the given time, and 2 s. It is called at the end of each unit of work, for the
// Functions host may freeze or end the process as soon as that is answered.
func (t *Telemetry) Flush(within time.Duration) {
	if t == nil || !t.sends || !t.ready() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(within, flushTime))
	defer cancel()
	var both sync.WaitGroup
	if t.traces != nil {
		both.Go(func() { _ = t.traces.ForceFlush(ctx) })
	}
	both.Go(func() { _ = t.meters.ForceFlush(ctx) })
	both.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil || len(t.failing) > 0 {
		t.rest = time.Now().Add(restTime)
	}
}

// ready reports whether there is a point in flushing.
func (t *Telemetry) ready() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().After(t.rest)
}

// Close sends what is left, within ctx and 2 s, and ends the sending.
func (t *Telemetry) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	defer t.client.CloseIdleConnections()
	var err error
	if t.traces != nil {
		err = t.traces.Shutdown(ctx)
	}
	return errors.Join(err, t.meters.Shutdown(ctx))
}
