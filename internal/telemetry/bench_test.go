//go:build unix

package telemetry

import (
	"bytes"
	"context"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/record"
	"persistor/internal/work"
)

// BenchmarkDrain is what it costs to be told of a drain, beside the drain itself: off, and with traces and metrics on their way
// to a collector. An operation is a message of 1 KiB; a batch is 2,000 of them. On a machine that others use, too, compare the
// CPU time.
func BenchmarkDrain(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	on := config.Telemetry{Traces: collector.URL, Metrics: collector.URL, Timeout: time.Second, Interval: time.Second, Sampler: config.Sampler{Share: 1}}
	for _, c := range []struct {
		name   string
		config config.Telemetry
	}{{"off", config.Telemetry{}}, {"on", on}} {
		b.Run(c.name, func(b *testing.B) {
			told := New(c.config, slog.New(slog.DiscardHandler))
			ctx, end := told.Unit(context.Background(), work.Unit{Run: "r"}, Partition)
			p := pull.Partition{
				Loop: pull.Loop{
					Sink: discard{}, Format: record.Format{}, Folder: "f", RunID: "r", Chunk: 1000,
					Limits: pull.Limits{Count: 2000, Bytes: 4 << 20, Age: time.Hour},
				},
				Source: newEndless(), Partition: "0", Start: pull.Start{After: -1, Anchored: true, Target: int64(b.N) - 1},
			}
			done := told.Watch(ctx, &p.Loop, Loop{Source: Partition, Partition: "0", Target: p.Start.Target})
			b.ReportAllocs()
			b.ResetTimer()
			began := cpuTime(b)
			row := p.Run(ctx)
			done()
			end(work.Report{Sources: []work.Source{row}}, time.Second)
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
			_ = told.Close(context.Background())
			if row.Messages != int64(b.N) {
				b.Fatalf("%+v", row)
			}
		})
	}
}

// cpuTime is what the process has taken so far.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// endless is a partition whose messages never end.
type endless struct {
	next     int64
	messages []message.Message
}

func newEndless() *endless {
	e := &endless{messages: make([]message.Message, 1000)}
	body := bytes.Repeat([]byte("0123456789abcdef"), 64)
	for i := range e.messages {
		e.messages[i] = message.Message{Body: message.Body{Data: [][]byte{body}}, EnqueuedTime: time.Unix(1_790_000_000, 0), Offset: "1", Partition: "0"}
	}
	return e
}

func (e *endless) Receive(_ context.Context, count int) ([]message.Message, error) {
	some := e.messages[:min(count, len(e.messages))]
	for i := range some {
		some[i].SequenceNumber = e.next
		e.next++
	}
	return some, nil
}

func (e *endless) Checkpoint(context.Context, pull.Mark) error { return nil }

// discard takes blobs and keeps none.
type discard struct{}

func (discard) Create(context.Context, string, []byte, map[string]string) (map[string]string, error) {
	return nil, nil
}

func (discard) Append(context.Context, string, int64, []byte, map[string]string) (map[string]string, error) {
	return nil, nil
}

func (discard) List(context.Context, string) iter.Seq2[pull.Blob, error] {
	return func(func(pull.Blob, error) bool) {}
}

func (discard) SetMetadata(context.Context, string, map[string]string) error { return nil }
