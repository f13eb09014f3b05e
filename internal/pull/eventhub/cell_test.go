package eventhub

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
	"persistor/internal/pull"
	"persistor/internal/work"
)

var began = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// connected is a hub with so many events in partition 0, two of which are enqueued each second.
func connected(t *testing.T, events int) (*emulator.Emulator, *Hub) {
	t.Helper()
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: "hub", Partitions: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	for i := range events {
		err := e.Put("hub", "0", emulator.Event{Body: fmt.Append(nil, i), Enqueued: began.Add(time.Duration(i/2) * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err := Connect(Options{ConnectionString: e.ConnectionString(), EventHub: "hub", Checkpoints: DirCheckpoints(t.TempDir()), PrefetchBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(t.Context()) })
	return e, h
}

func TestSequenceAt(t *testing.T) {
	e, h := connected(t, 10)
	at := func(partition string, after time.Duration) int64 {
		t.Helper()
		first, err := h.SequenceAt(t.Context(), partition, began.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	for after, want := range map[time.Duration]int64{
		-time.Hour: 0, 0: 0, time.Millisecond: 2, time.Nanosecond: 2, time.Second: 2, 3*time.Second - time.Nanosecond: 6,
		4 * time.Second: 8, 4*time.Second + time.Nanosecond: 10, time.Hour: 10,
	} {
		if got := at("0", after); got != want {
			t.Errorf("%v after the first: %d, want %d", after, got, want)
		}
	}
	if got := at("1", 0); got != 0 {
		t.Errorf("a partition without events: %d", got)
	}
	if err := e.Trim("hub", "0", 5); err != nil {
		t.Fatal(err)
	}
	if got := at("0", 0); got != 5 {
		t.Errorf("of what is still there: %d, want 5", got)
	}
	if err := e.Trim("hub", "0", 10); err != nil {
		t.Fatal(err)
	}
	if got := at("0", 0); got != 10 {
		t.Errorf("of nothing: %d, want 10", got)
	}
	if _, err := h.SequenceAt(t.Context(), "7", began); err == nil || !strings.Contains(err.Error(), "no such partition") {
		t.Errorf("an unknown partition: %v", err)
	}
}

// A reader with an owner level has the partition for itself: that is said, and not waited for.
func TestSequenceAtBesideAnOwner(t *testing.T) {
	_, h := connected(t, 10)
	level := int64(3)
	owner, _, _, err := h.Open(t.Context(), "0", OpenOptions{OwnerLevel: &level})
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	if _, err := owner.Receive(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SequenceAt(t.Context(), "0", began); err == nil || !strings.Contains(err.Error(), "owner level") {
		t.Errorf("%v", err)
	}
}

func TestSetCheckpointMovesForwardOnly(t *testing.T) {
	_, h := connected(t, 10)
	for _, step := range []struct{ mark, want int64 }{{4, 4}, {2, 4}, {4, 4}, {7, 7}, {0, 7}} {
		if err := h.SetCheckpoint(t.Context(), "0", pull.Mark{SequenceNumber: step.mark, Offset: fmt.Sprint(step.mark * 10)}); err != nil {
			t.Fatal(err)
		}
		partitions, err := h.Partitions(t.Context())
		if err != nil || partitions[0].Checkpoint == nil || *partitions[0].Checkpoint != step.want {
			t.Errorf("after %d: %v, error %v; want %d", step.mark, partitions[0].Checkpoint, err, step.want)
		}
	}
	if err := h.SetCheckpoint(t.Context(), "0", pull.Mark{SequenceNumber: 9}); err == nil {
		t.Error("a mark without an offset was taken")
	}
}

// What is peeked at comes again, and little else is sent for it; what is sought is what comes next.
func TestPeekAndSeek(t *testing.T) {
	e, h := connected(t, 2000)
	s, start, err := h.OpenCell(t.Context(), work.Cell{Partition: "0", Range: work.Range{From: 100, To: 1899}}, OpenOptions{})
	if err != nil || start.After != 99 || start.Target != 1899 || !start.Anchored || !start.Bounded || !start.Emptied.IsZero() {
		t.Fatalf("%+v, error %v", start, err)
	}
	defer s.Close(context.Background())
	first := func(peek bool) int64 {
		t.Helper()
		receive := func(ctx context.Context) (n int64, err error) {
			if peek {
				m, err := s.Peek(ctx)
				return m[0].SequenceNumber, err
			}
			m, err := s.Receive(ctx, 1)
			return m[0].SequenceNumber, err
		}
		n, err := receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := first(true); n != 100 {
		t.Errorf("peeked at %d", n)
	}
	if sent, _, _ := e.Sent("hub", "0"); sent > 2 {
		t.Errorf("%d events were sent to peek at one", sent)
	}
	for _, step := range []struct {
		do   string
		want int64
	}{{"peek", 100}, {"receive", 100}, {"receive", 101}, {"peek", 102}, {"receive", 102}, {"seek", 1500}, {"receive", 1501}, {"seek", 49}, {"peek", 50}, {"receive", 50}, {"seek", -1}, {"receive", 0}} {
		switch step.do {
		case "seek":
			s.Seek(t.Context(), step.want)
		default:
			if n := first(step.do == "peek"); n != step.want {
				t.Errorf("%s: %d, want %d", step.do, n, step.want)
			}
		}
	}
}

// A peek waits as long as its context lasts, and says then that nothing came.
func TestPeekWhereNothingComes(t *testing.T) {
	e, h := connected(t, 10)
	s, _, err := h.OpenCell(t.Context(), work.Cell{Partition: "0", Range: work.Range{From: 5, To: 9}}, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	if err := e.Trim("hub", "0", 10); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if messages, err := s.Peek(ctx); err != nil || len(messages) > 0 {
		t.Errorf("%v, error %v", messages, err)
	}
	_, start, err := h.OpenCell(t.Context(), work.Cell{Partition: "0", Range: work.Range{From: 5, To: 9}}, OpenOptions{})
	if err != nil || !start.Emptied.Equal(began.Add(4*time.Second)) {
		t.Errorf("%+v, error %v", start, err)
	}
}

// Sources that follow each other use one connection; one that has no more use is closed.
func TestConnectionsAreUsedAgain(t *testing.T) {
	_, h := connected(t, 100)
	var connections Connections
	read := func(from int64) {
		t.Helper()
		s, _, err := h.OpenCell(t.Context(), work.Cell{Partition: "0", Range: work.Range{From: from, To: from + 9}}, OpenOptions{Connections: &connections})
		if err != nil {
			t.Fatal(err)
		}
		messages, err := s.Receive(t.Context(), 10)
		if err != nil || len(messages) != 10 || messages[0].SequenceNumber != from {
			t.Fatalf("%d messages, error %v", len(messages), err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	read(0)
	client := connections.idle[0]
	for from := int64(10); from < 100; from += 10 {
		read(from)
	}
	if len(connections.idle) != 1 || connections.idle[0] != client {
		t.Errorf("%d connections were made", len(connections.idle))
	}
	if err := connections.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	read(0) // with one of its own
	if len(connections.idle) != 0 {
		t.Error("a connection is kept that nobody will close")
	}
}
