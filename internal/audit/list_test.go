package audit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"persistor/internal/audit"
	"persistor/internal/record"
	"persistor/internal/store"
)

// simulated is a store that makes up what it lists, in order and without a hole: an Event Hub's blobs, those of two
// receivers of a queue, and those of an entity's sessions.
type simulated struct {
	hub, queue, session int               // blobs of each folder; multiples of 1,000
	change              func(*store.Blob) // before a blob is listed; nil: none
}

const (
	simulatedDays = 10
	perBlob       = 64 // messages
)

func (s simulated) List(ctx context.Context, prefix string) iter.Seq2[store.Blob, error] {
	return func(yield func(store.Blob, error) bool) {
		for _, kind := range []struct {
			blobs int
			make  func(day time.Time, d, i, n int) store.Blob
		}{{s.hub, newHubBlobs()}, {s.queue, madeQueueBlob}, {s.session, madeSessionBlob}} {
			for d := range simulatedDays {
				for i := range kind.blobs / simulatedDays {
					b := kind.make(day.AddDate(0, 0, d), d, i, kind.blobs/simulatedDays)
					if s.change != nil {
						s.change(&b)
					}
					if err := ctx.Err(); err != nil {
						yield(store.Blob{}, err)
						return
					}
					if strings.HasPrefix(b.Name, prefix) && !yield(b, nil) {
						return
					}
				}
			}
		}
	}
}

func (simulated) Open(context.Context, string) (io.ReadCloser, error) {
	return nil, errors.New("contents are not to be read")
}

// newHubBlobs makes the blob number i of n on day d, of 4 partitions. What blobs have in common it makes once, so that
// its own work is little: metadata are good until the next blob.
func newHubBlobs() func(on time.Time, d, i, n int) store.Blob {
	span := record.Span{First: 0, Last: perBlob - 1, After: -1, Count: perBlob, Bytes: perBlob * 700, Run: "20260301T000000Z-3f9a1c", Offset: "0", Hub: "ns.servicebus.windows.net/rides"}
	metadata := span.Metadata()
	var before string
	prefix := ""
	return func(on time.Time, d, i, n int) store.Blob {
		of := n / 4 // of one partition on a day
		first := int64(d*of+i%of) * perBlob
		if i%of == 0 {
			prefix = record.EventHubDay("rides", strconv.Itoa(i/of), on)
			metadata["enqueued_last"] = strconv.FormatInt(on.UnixMilli(), 10)
			before = strconv.FormatInt(first-1, 10)
		}
		metadata["after"], before = before, strconv.FormatInt(first+perBlob-1, 10)
		metadata["first"], metadata["last"] = strconv.FormatInt(first, 10), before
		digits := metadata["first"]
		return store.Blob{Name: prefix + "00000000000000000000"[len(digits):] + digits + ".txt", Size: span.Bytes, Metadata: metadata}
	}
}

// madeQueueBlob is one of two receivers', who have every other message.
func madeQueueBlob(on time.Time, d, i, n int) store.Blob {
	first := int64(d*n+i)/2*2*perBlob + int64(i%2)
	h := record.Holding{Entity: "orders", Bytes: perBlob * 700, Run: "20260301T000000Z-3f9a1c", After: -1, Earliest: on, Latest: on}
	for m := range int64(perBlob) {
		h.Held.Add(first + 2*m)
	}
	name := fmt.Sprintf("%s%020d-%020d-0123456789abcdef.txt", record.QueueDay("orders", on), first, h.Held.Last())
	return store.Blob{Name: name, Size: h.Bytes, Metadata: h.Metadata()}
}

// madeSessionBlob has one message of a session, and each session has one blob a day.
func madeSessionBlob(on time.Time, d, i, n int) store.Blob {
	id := fmt.Sprintf("car-%08d", i)
	h := record.Holding{
		Entity: "tours", Session: &id, Held: record.NewSequences(int64(d*n + i)), Bytes: 700, Run: "20260301T000000Z-3f9a1c",
		After: max(int64((d-1)*n+i), -1), Earliest: on, Latest: on,
	}
	return store.Blob{Name: record.SessionName("tours", id, on, h.Held.First()), Size: h.Bytes, Metadata: h.Metadata()}
}

// A million blobs, which Blob Storage lists in 200 pages, take a few megabytes, whatever they take to list. Without
// PERSISTOR_SOAK it is a fifth of them.
func TestMillionBlobs(t *testing.T) {
	many := simulated{hub: 160_000, queue: 20_000, session: 20_000}
	switch {
	case os.Getenv("PERSISTOR_SOAK") != "":
		many = simulated{hub: 800_000, queue: 100_000, session: 100_000}
	case testing.Short():
		many = simulated{hub: 16_000, queue: 2_000, session: 2_000}
	}
	blobs := int64(many.hub + many.queue + many.session)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most := uint64(0)
	scope := audit.Scope{Listed: func(n int64) {
		if n%(blobs/10) == 0 {
			runtime.GC() // what is garbage is not held
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}}
	started := time.Now()
	s, err := audit.Container(t.Context(), many, scope, audit.Expectation{})
	if err != nil || !s.Complete || s.Blobs != blobs || s.Messages != int64(many.hub+many.queue)*perBlob+int64(many.session) || len(s.Folders) != 3 {
		t.Fatalf("%v: %+v", err, s)
	}
	held := int64(most) - int64(before.HeapAlloc)
	if held > 8<<20 {
		t.Errorf("held %d KiB, expected at most 8 MiB", held>>10)
	}
	t.Logf("%d blobs in %v, %d KiB held", blobs, time.Since(started), held>>10)
}

// BenchmarkList compares with a loop that lists, and does nothing.
func BenchmarkList(b *testing.B) {
	few := simulated{hub: 8_000, queue: 1_000, session: 1_000}
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			for _, err := range few.List(b.Context(), "") {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "blobs/s")
	})
	b.Run("audit", func(b *testing.B) {
		for b.Loop() {
			if s, err := audit.Container(b.Context(), few, audit.Scope{}, audit.Expectation{}); err != nil || !s.Complete {
				b.Fatalf("%v: %+v", err, s)
			}
		}
		b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "blobs/s")
	})
}
