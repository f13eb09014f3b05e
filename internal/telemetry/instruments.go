package telemetry

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Attributes of spans and metrics. Those of metrics have few values: of partitions there are 2,048 at most.
const (
	runKey       = attribute.Key("persistor.run")
	unitKey      = attribute.Key("persistor.unit")
	sourceKey    = attribute.Key("persistor.source") // a kind of source: see Source
	partitionKey = attribute.Key("persistor.partition")
	messagesKey  = attribute.Key("persistor.messages")
	bytesKey     = attribute.Key("persistor.bytes")
	outcomeKey   = attribute.Key("persistor.outcome")
	endedKey     = attribute.Key("persistor.ended")
	statusKey    = attribute.Key("persistor.status")
	errorKey     = attribute.Key("error.type")
)

// Outcomes of a batch, and of a request that stores one.
const (
	stored  = "stored"
	already = "already" // it was stored before
	failed  = "failed"
)

// instruments are what is counted and measured. Their names are listed in docs/telemetry.md.
type instruments struct {
	messages, bytes, batches     metric.Int64Counter
	loops, redeliveries, retries metric.Int64Counter
	runs, units, waves           metric.Int64Counter
	store, settle, run           metric.Float64Histogram
	lag                          metric.Int64Gauge
	marks                        *marks
}

// newInstruments makes them. That fails only for names that are not valid, and a test asks for each.
func newInstruments(m metric.Meter) (i instruments) {
	counter := func(name, unit, description string) metric.Int64Counter {
		c, _ := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		return c
	}
	seconds := func(name, description string, bounds ...float64) metric.Float64Histogram {
		h, _ := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		return h
	}
	i.messages = counter("persistor.messages", "{message}", "Messages received and stored, or found stored already.")
	i.bytes = counter("persistor.bytes", "By", "Bytes stored, as encoded in blobs.")
	i.batches = counter("persistor.batches", "{batch}", "Batches stored, found stored already, or failed.")
	i.loops = counter("persistor.loops", "{loop}", "Pull loops that have ended, by how.")
	i.redeliveries = counter("persistor.redeliveries", "{message}", "Messages of Service Bus that are expected to come again: their lock was lost, or their completion not confirmed.")
	i.retries = counter("persistor.storage.retries", "{retry}", "Requests to Blob Storage that failed and were tried again.")
	i.runs = counter("persistor.runs", "{run}", "Runs, by their status.")
	i.units = counter("persistor.units", "{unit}", "Units of runs, by their status.")
	i.waves = counter("persistor.waves", "{wave}", "Waves of backfills, by their status.")
	request := []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
	i.store = seconds("persistor.store.duration", "Time of storing a batch, or a part of one, with all retries.", request...)
	i.settle = seconds("persistor.settle.duration", "Time of writing a checkpoint, or of completing a batch's messages.", request...)
	i.run = seconds("persistor.run.duration", "Time from a run's start to its report.", 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
	i.lag, _ = m.Int64Gauge("persistor.lag", metric.WithUnit("{message}"), metric.WithDescription("Sequence numbers of a partition that are still to be stored, as last seen."))
	i.marks = &marks{at: map[*loop]time.Time{}}
	_, _ = m.Float64ObservableGauge("persistor.checkpoint.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the checkpoint of a partition that is being drained was written, or its drain began."), metric.WithFloat64Callback(i.marks.observe))
	return i
}

// marks are the loops that run now, and when each has last written a checkpoint, or began.
type marks struct {
	mu sync.Mutex
	at map[*loop]time.Time
}

func (m *marks) set(l *loop) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at[l] = time.Now()
}

func (m *marks) forget(l *loop) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.at, l)
}

// observe tells the age of the oldest checkpoint of each partition.
func (m *marks) observe(_ context.Context, o metric.Float64Observer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldest := map[string]time.Time{}
	for l, at := range m.at {
		if known, ok := oldest[l.Partition]; !ok || at.Before(known) {
			oldest[l.Partition] = at
		}
	}
	for partition, at := range oldest {
		o.Observe(time.Since(at).Seconds(), metric.WithAttributes(partitionKey.String(partition)))
	}
	return nil
}
