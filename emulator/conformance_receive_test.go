package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
)

func TestStartPositions(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	publish(t, p, "0", "0", "1", "2")
	known := receive(t, readFrom(t, e, "0"), 3)
	for i, event := range known {
		if event.SequenceNumber != int64(i) {
			t.Fatalf("event %d has the sequence number %d", i, event.SequenceNumber)
		}
	}
	// Events of one batch may share their enqueued time; the next batch must have a later one, so that
	// a start by time has one right answer.
	for sent := 3; ; sent++ {
		publish(t, p, "0", strconv.Itoa(sent))
		last := receiveFrom(t, e, "0", azeventhubs.StartPosition{SequenceNumber: ptr(int64(sent)), Inclusive: true}, 1)[0]
		known = append(known, last)
		if last.EnqueuedTime.After(*known[2].EnqueuedTime) {
			break
		}
	}
	last := known[len(known)-1]

	for _, c := range []struct {
		name string
		from azeventhubs.StartPosition
		want int64 // sequence number of the first event received
	}{
		{"earliest", azeventhubs.StartPosition{Earliest: ptr(true)}, 0},
		{"earliest, inclusive", azeventhubs.StartPosition{Earliest: ptr(true), Inclusive: true}, 0},
		{"after offset", azeventhubs.StartPosition{Offset: &known[0].Offset}, 1},
		{"at offset", azeventhubs.StartPosition{Offset: &known[0].Offset, Inclusive: true}, 0},
		{"at offset in the middle", azeventhubs.StartPosition{Offset: &known[1].Offset, Inclusive: true}, 1},
		{"after sequence number", azeventhubs.StartPosition{SequenceNumber: ptr(int64(1))}, 2},
		{"at sequence number", azeventhubs.StartPosition{SequenceNumber: ptr(int64(1)), Inclusive: true}, 1},
		{"after sequence number -1", azeventhubs.StartPosition{SequenceNumber: ptr(int64(-1))}, 0},
		{"at the first's time", azeventhubs.StartPosition{EnqueuedTime: known[0].EnqueuedTime, Inclusive: true}, 0},
		{"before all", azeventhubs.StartPosition{EnqueuedTime: ptr(known[0].EnqueuedTime.Add(-time.Hour))}, 0},
		{"at the last's time", azeventhubs.StartPosition{EnqueuedTime: last.EnqueuedTime, Inclusive: true}, last.SequenceNumber},
		{"just before the last's time", azeventhubs.StartPosition{EnqueuedTime: ptr(last.EnqueuedTime.Add(-time.Millisecond))}, last.SequenceNumber},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := receiveFrom(t, e, "0", c.from, 1)[0]
			if got.SequenceNumber != c.want || string(got.Body) != strconv.FormatInt(c.want, 10) {
				t.Errorf("the first event is %d with body %q, want %d", got.SequenceNumber, got.Body, c.want)
			}
		})
	}
}

// A receiver that starts beyond the end gets the next event that comes, and nothing that was there.
func TestStartBeyondTheEnd(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	for name, from := range map[string]func(azeventhubs.PartitionProperties) azeventhubs.StartPosition{
		"latest": func(azeventhubs.PartitionProperties) azeventhubs.StartPosition {
			return azeventhubs.StartPosition{Latest: ptr(true)}
		},
		"latest, inclusive": func(azeventhubs.PartitionProperties) azeventhubs.StartPosition {
			return azeventhubs.StartPosition{Latest: ptr(true), Inclusive: true}
		},
		"no position": func(azeventhubs.PartitionProperties) azeventhubs.StartPosition {
			return azeventhubs.StartPosition{}
		},
		"after the last offset": func(p azeventhubs.PartitionProperties) azeventhubs.StartPosition {
			return azeventhubs.StartPosition{Offset: &p.LastEnqueuedOffset}
		},
		"after the last number": func(p azeventhubs.PartitionProperties) azeventhubs.StartPosition {
			return azeventhubs.StartPosition{SequenceNumber: &p.LastEnqueuedSequenceNumber}
		},
	} {
		t.Run(name, func(t *testing.T) {
			publish(t, p, "0", numbered(3)...)
			before := partitionProperties(t, p, "0")
			client := newPartition(t, newConsumer(t, e, "", atOnce), "0", azeventhubs.PartitionClientOptions{StartPosition: from(before)})
			received := make(chan []*azeventhubs.ReceivedEventData)
			go func() {
				events, err := client.ReceiveEvents(withTimeout(t), 2, nil)
				if err != nil {
					t.Error(err)
				}
				received <- events
			}()
			// The client attaches its link in its first receive, and there is no telling when that is
			// done. So send one event after another until it has two.
			for {
				select {
				case events := <-received:
					if len(events) != 2 || events[0].SequenceNumber <= before.LastEnqueuedSequenceNumber || events[1].SequenceNumber != events[0].SequenceNumber+1 {
						t.Errorf("%d was the last before the receiver; it got %v", before.LastEnqueuedSequenceNumber, sequenceNumbers(events))
					}
					return
				default:
					publish(t, p, "0", "later")
				}
			}
		})
	}
}

func partitionProperties(t testing.TB, p *azeventhubs.ProducerClient, id string) azeventhubs.PartitionProperties {
	t.Helper()
	properties, err := p.GetPartitionProperties(withTimeout(t), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return properties
}

func sequenceNumbers(events []*azeventhubs.ReceivedEventData) []int64 {
	var s []int64
	for _, event := range events {
		s = append(s, event.SequenceNumber)
	}
	return s
}

// Credit is given in three ways: by hand for each call, by default, and with a prefetch of any size.
func TestPrefetch(t *testing.T) {
	e := run(t, emulator.Options{})
	want := numbered(4)
	publish(t, newProducer(t, e, atOnce), "0", want...)
	for _, prefetch := range []int32{-1, 0, 1, 5, 5000} {
		t.Run(fmt.Sprint(prefetch), func(t *testing.T) {
			client := newPartition(t, newConsumer(t, e, "", atOnce), "0", azeventhubs.PartitionClientOptions{StartPosition: earliest, Prefetch: prefetch})
			var got []string
			for _, n := range []int{2, 1, 1} {
				got = append(got, bodies(receive(t, client, n))...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("received %q, want %q", got, want)
			}
		})
	}
}

// A receiver with nothing to read waits as long as its context does, and loses nothing of what comes later.
func TestReceiveTimesOutAndGoesOn(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	for partition, prefetch := range map[string]int32{"0": -1, "1": 0} {
		publish(t, p, partition, "first")
		client := newPartition(t, newConsumer(t, e, "", atOnce), partition, azeventhubs.PartitionClientOptions{StartPosition: earliest, Prefetch: prefetch})
		receive(t, client, 1)
		ctx, cancel := context.WithTimeout(withTimeout(t), 50*time.Millisecond)
		if _, err := client.ReceiveEvents(ctx, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("receive from an empty partition: %v, want the context's deadline", err)
		}
		cancel()
		publish(t, p, partition, "second", "third")
		if got := bodies(receive(t, client, 2)); !slices.Equal(got, []string{"second", "third"}) {
			t.Errorf("prefetch %d: after a timeout received %q, want the events sent since", prefetch, got)
		}
	}
}

// Each of many partitions has its own sequence, and readers of all of them at once get every event in
// order.
func TestPartitionsAreIndependent(t *testing.T) {
	const partitions, events = 8, 500
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: partitions}}})
	p := newProducer(t, e, atOnce)
	c := newConsumer(t, e, "", atOnce)
	for id := range partitions {
		t.Run(strconv.Itoa(id), func(t *testing.T) {
			t.Parallel()
			id := strconv.Itoa(id)
			want := make([]string, events)
			for i := range want {
				want[i] = fmt.Sprintf("event %d of partition %s", i, id)
			}
			publish(t, p, id, want...)
			got := receive(t, newPartition(t, c, id, azeventhubs.PartitionClientOptions{StartPosition: earliest}), events)
			if !slices.Equal(bodies(got), want) {
				t.Errorf("partition %s gave other events than were sent to it", id)
			}
			for i, event := range got {
				if event.SequenceNumber != int64(i) {
					t.Fatalf("event %d of partition %s has the sequence number %d", i, id, event.SequenceNumber)
				}
			}
		})
	}
}

// Consumer groups read the same events, each for itself.
func TestConsumerGroups(t *testing.T) {
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 1, ConsumerGroups: []string{"audit"}}}})
	publish(t, newProducer(t, e, atOnce), "0", numbered(3)...)
	for _, group := range []string{azeventhubs.DefaultConsumerGroup, "audit"} {
		c, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionString(), hub, group, nil)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, c)
		// An owner level in one group is none of the other's business.
		client := newPartition(t, c, "0", azeventhubs.PartitionClientOptions{StartPosition: earliest, OwnerLevel: ptr(int64(7))})
		if got := bodies(receive(t, client, 3)); !slices.Equal(got, numbered(3)) {
			t.Errorf("group %s received %q", group, got)
		}
	}
}

// What goes out to receivers is counted, also what they never take.
func TestSentEventsAreCounted(t *testing.T) {
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 2}}})
	publish(t, newProducer(t, e, atOnce), "0", "a", "b", "c")
	for round := range int64(2) {
		receive(t, readFrom(t, e, "0"), 3)
		events, bytes, err := e.Sent(hub, "0")
		if err != nil || events != 3*(round+1) || bytes < 10*events || bytes > 200*events {
			t.Errorf("%d events of %d bytes, error %v; want %d", events, bytes, err, 3*(round+1))
		}
	}
	if events, _, err := e.Sent(hub, "1"); err != nil || events != 0 {
		t.Errorf("%d events of the other partition, error %v", events, err)
	}
	if _, _, err := e.Sent(hub, "2"); err == nil {
		t.Error("no error for a partition that there is not")
	}
}
