package eventhub

import (
	"testing"

	"persistor/emulator"
	"persistor/internal/message"
)

// open opens a source over a hub of one partition, with the given bytes for events received ahead.
func open(t *testing.T, events emulator.Synthetic, prefetchBytes int) *Source {
	t.Helper()
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: "hub", Partitions: 1, Synthetic: &events}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	h, err := Connect(Options{ConnectionString: e.ConnectionString(), EventHub: "hub", Checkpoints: DirCheckpoints(t.TempDir()), PrefetchBytes: prefetchBytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(t.Context()) })
	s, _, _, err := h.Open(t.Context(), "0", OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	return s
}

// What one call returns, and what the client has received ahead of it, is bounded by bytes, however many
// events are asked for: 1,000 events of 1 MiB would be 1 GiB. The offsets of a synthetic hub say 1 KiB an
// event whatever there is in it, as those of a hub do whose events have only now become large.
func TestLargeEventsFitIntoTheMemoryForThem(t *testing.T) {
	const limit = 16 << 20
	s := open(t, emulator.Synthetic{Events: 200, BodySize: 1 << 20}, limit)
	most := 0
	for next := int64(0); next < 200; {
		messages, err := s.Receive(t.Context(), min(1000, 200-int(next)))
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, bytesOf(messages))
		for _, m := range messages {
			if m.SequenceNumber != next {
				t.Fatalf("event %d, expected %d", m.SequenceNumber, next)
			}
			next++
		}
	}
	if most > 2*limit {
		t.Errorf("one call returned %d MiB, with %d MiB for events received ahead", most>>20, limit>>20)
	}
	if s.prefetch.inUse > 2*limit>>20 {
		t.Errorf("%d events of 1 MiB are received ahead, with %d MiB for them", s.prefetch.inUse, limit>>20)
	}
}

// Small events are received many at a time, after the first calls have shown that they are small.
func TestSmallEventsAreReceivedManyAtATime(t *testing.T) {
	s := open(t, emulator.Synthetic{Events: 20_000}, 16<<20)
	calls := 0
	for next := 0; next < 20_000; calls++ {
		messages, err := s.Receive(t.Context(), min(1000, 20_000-next))
		if err != nil {
			t.Fatal(err)
		}
		next += len(messages)
	}
	if calls > 30 || s.prefetch.inUse < 2000 {
		t.Errorf("%d calls for 20,000 events, %d received ahead", calls, s.prefetch.inUse)
	}
}

func bytesOf(messages []message.Message) (n int) {
	for _, m := range messages {
		for _, section := range m.Body.Data {
			n += len(section)
		}
	}
	return n
}
