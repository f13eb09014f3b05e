package emulator_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// A hub that keeps so many events forgets the oldest. Whoever asks for a forgotten one starts at the
// first that is there.
func TestRetentionByCount(t *testing.T) {
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 1, RetentionCount: 10}}})
	p := newProducer(t, e, atOnce)
	publish(t, p, "0", numbered(3)...)
	forgotten := receive(t, readFrom(t, e, "0"), 1)[0]
	slow := newReceiver(t, e, &amqp.ReceiverOptions{Credit: -1, Filters: fromStart})
	if err := slow.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	mustReceive(t, slow)
	for range 12 {
		publish(t, p, "0", numbered(8)...)
	}
	if got := partitionProperties(t, p, "0"); got.BeginningSequenceNumber != 89 || got.LastEnqueuedSequenceNumber != 98 {
		t.Errorf("the partition holds %d to %d, want 89 to 98", got.BeginningSequenceNumber, got.LastEnqueuedSequenceNumber)
	}
	for name, from := range map[string]azeventhubs.StartPosition{
		"earliest":              {Earliest: ptr(true)},
		"by a forgotten number": {SequenceNumber: ptr(int64(1))},
		"by a forgotten offset": {Offset: &forgotten.Offset},
		"by a forgotten time":   {EnqueuedTime: ptr(forgotten.EnqueuedTime.Add(-time.Hour))},
	} {
		if got := receiveFrom(t, e, "0", from, 10); got[0].SequenceNumber != 89 || got[9].SequenceNumber != 98 {
			t.Errorf("%s: received %v, want 89 to 98", name, sequenceNumbers(got))
		}
	}
	// And who was too slow misses what was forgotten meanwhile.
	if err := slow.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	if got := mustReceive(t, slow).Annotations["x-opt-sequence-number"]; got != int64(89) {
		t.Errorf("a slow reader received the sequence number %v, want 89", got)
	}
}

// Events older than the retention time are gone, by the emulator's clock.
func TestRetentionByAge(t *testing.T) {
	var now atomic.Int64
	begin := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	now.Store(begin.UnixNano())
	e := run(t, emulator.Options{
		AllowAnyToken: true, // the clients sign by their own clock
		Now:           func() time.Time { return time.Unix(0, now.Load()) },
		Hubs:          []emulator.Hub{{Name: hub, Partitions: 1, RetentionAge: time.Hour}},
	})
	p := newProducer(t, e, atOnce)
	for range 3 {
		publish(t, p, "0", "event")
		now.Add(int64(25 * time.Minute))
	}
	// It is 13:15 now, and the events are of 12:00, 12:25 and 12:50.
	got := partitionProperties(t, p, "0")
	if got.BeginningSequenceNumber != 1 || got.LastEnqueuedSequenceNumber != 2 || !got.LastEnqueuedOn.Equal(begin.Add(50*time.Minute)) {
		t.Errorf("the partition holds %+v, want 1 to 2", got)
	}
	if got := receive(t, readFrom(t, e, "0"), 2); got[0].SequenceNumber != 1 || !got[0].EnqueuedTime.Equal(begin.Add(25*time.Minute)) {
		t.Errorf("received %v, the first of %v", sequenceNumbers(got), got[0].EnqueuedTime)
	}
	now.Add(int64(2 * time.Hour))
	if got := partitionProperties(t, p, "0"); !got.IsEmpty || got.LastEnqueuedSequenceNumber != 2 {
		t.Errorf("after the last has gone: %+v, want empty with the last sequence number 2", got)
	}
	publish(t, p, "0", "another")
	if got := receive(t, readFrom(t, e, "0"), 1); got[0].SequenceNumber != 3 {
		t.Errorf("the next event has the sequence number %d, want 3", got[0].SequenceNumber)
	}
}

// A clock that is set back dates no event before the one that it follows: readers find their way by time.
func TestClockSetBack(t *testing.T) {
	var now atomic.Int64
	begin := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	now.Store(begin.UnixNano())
	e := run(t, emulator.Options{AllowAnyToken: true, Now: func() time.Time { return time.Unix(0, now.Load()) }})
	p := newProducer(t, e, atOnce)
	publish(t, p, "0", "first")
	now.Add(-int64(time.Hour))
	publish(t, p, "0", "second")
	if got := receive(t, readFrom(t, e, "0"), 2); !got[1].EnqueuedTime.Equal(begin) {
		t.Errorf("the second event is of %v, want %v as the first", got[1].EnqueuedTime, begin)
	}
}

// A synthetic hub makes its events when they are asked for: any number of them, each the same every
// time, wherever a reader starts.
func TestSyntheticHub(t *testing.T) {
	const events = 100_000_000
	first := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 2, Synthetic: &emulator.Synthetic{
		Events: events, BodySize: 100, First: first, Interval: 10 * time.Millisecond,
	}}}})
	p := newProducer(t, e, atOnce)
	properties := partitionProperties(t, p, "1")
	if properties.BeginningSequenceNumber != 0 || properties.LastEnqueuedSequenceNumber != events-1 || properties.IsEmpty {
		t.Errorf("the partition is %+v, want 0 to %d", properties, events-1)
	}
	read := func(from azeventhubs.StartPosition, n int) []*azeventhubs.ReceivedEventData {
		t.Helper()
		return receiveFrom(t, e, "1", from, n)
	}
	middle := read(azeventhubs.StartPosition{SequenceNumber: ptr(int64(events / 2)), Inclusive: true}, 2000)
	for i, event := range middle {
		n := int64(events/2 + i)
		if event.SequenceNumber != n || len(event.Body) != 100 || !event.EnqueuedTime.Equal(first.Add(time.Duration(n)*10*time.Millisecond)) {
			t.Fatalf("event %d has the sequence number %d, %d bytes, and is of %v", n, event.SequenceNumber, len(event.Body), event.EnqueuedTime)
		}
	}
	m := middle[1000]
	for name, from := range map[string]azeventhubs.StartPosition{
		"at offset":    {Offset: &m.Offset, Inclusive: true},
		"after offset": {Offset: &middle[999].Offset},
		"after number": {SequenceNumber: ptr(m.SequenceNumber - 1)},
		"at time":      {EnqueuedTime: m.EnqueuedTime, Inclusive: true},
		"between":      {EnqueuedTime: ptr(m.EnqueuedTime.Add(-time.Millisecond))},
	} {
		got := read(from, 1)[0]
		if got.SequenceNumber != m.SequenceNumber || !slices.Equal(got.Body, m.Body) || got.Offset != m.Offset {
			t.Errorf("%s: received %d, want %d with the same body and offset", name, got.SequenceNumber, m.SequenceNumber)
		}
	}
	if got := read(azeventhubs.StartPosition{SequenceNumber: ptr(int64(events - 5))}, 4); got[3].SequenceNumber != properties.LastEnqueuedSequenceNumber || got[3].Offset != properties.LastEnqueuedOffset {
		t.Errorf("the last events are %v", sequenceNumbers(got))
	}
	err := trySend(withTimeout(t), p, azeventhubs.EventDataBatchOptions{PartitionID: ptr("1")}, &azeventhubs.EventData{Body: []byte("x")})
	wantCondition(t, err, amqp.ErrCondNotAllowed, "")
}

// A synthetic hub is read like any other while connections drop.
func TestSyntheticHubWhileDropping(t *testing.T) {
	const n = 20_000
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 1, Synthetic: &emulator.Synthetic{
		Events: n, Body: func(dst []byte, _ string, sequence int64) []byte { return fmt.Append(dst, sequence) },
	}}}})
	readThrough(t, e, n, 1000, func() { e.DropConnections() })
}
