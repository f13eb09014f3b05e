package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// readThrough receives n events of partition 0 from its beginning while disturb is called after every
// few hundred, and fails unless each event came once and in order.
func readThrough(t *testing.T, e *emulator.Emulator, n int, prefetch int32, disturb func()) {
	t.Helper()
	ctx := withTimeout(t)
	client := newPartition(t, newConsumer(t, e, "", quickly), "0", azeventhubs.PartitionClientOptions{StartPosition: earliest, Prefetch: prefetch})
	next, calm := 0, 0
	for next < n {
		events, err := client.ReceiveEvents(ctx, min(100, n-next), nil)
		if err != nil {
			t.Fatalf("receive after %d events: %v", next, err)
		}
		for _, event := range events {
			if event.SequenceNumber != int64(next) || string(event.Body) != strconv.Itoa(next) {
				t.Fatalf("received event %d with body %q, want %d", event.SequenceNumber, event.Body, next)
			}
			next++
		}
		if calm++; calm%5 == 0 {
			disturb()
		}
	}
}

// linksTo matches the links that go to an address.
func linksTo(address string) func(emulator.Link) bool {
	return func(l emulator.Link) bool { return l.Address == address }
}

func fill(t *testing.T, e *emulator.Emulator, n int) {
	t.Helper()
	p := newProducer(t, e, atOnce)
	for sent := 0; sent < n; {
		var some []string
		for ; sent < n && len(some) < 500; sent++ {
			some = append(some, strconv.Itoa(sent))
		}
		publish(t, p, "0", some...)
	}
}

// Connections that drop while events are received cost no event and repeat none.
func TestDropWhileReceiving(t *testing.T) {
	for _, prefetch := range []int32{-1, 0, 5000} {
		t.Run(fmt.Sprint("prefetch ", prefetch), func(t *testing.T) {
			t.Parallel()
			e := run(t, emulator.Options{})
			fill(t, e, 5000)
			readThrough(t, e, 5000, prefetch, func() { e.DropConnections() })
		})
	}
}

// Links that are detached while events are received cost no event and repeat none, whatever the condition.
func TestDetachWhileReceiving(t *testing.T) {
	for _, condition := range []string{"amqp:link:detach-forced", "amqp:internal-error", "com.microsoft:server-busy"} {
		t.Run(condition, func(t *testing.T) {
			t.Parallel()
			e := run(t, emulator.Options{})
			fill(t, e, 3000)
			readThrough(t, e, 3000, 0, func() { e.DetachLinks(linksTo(partition0), condition, "a test says so") })
		})
	}
}

// A sender that loses its connection again and again may repeat a batch whose answer it never saw, as
// the service's senders do, but it loses nothing and keeps the order.
func TestDropWhileSending(t *testing.T) {
	const n = 300
	e := run(t, emulator.Options{})
	p := newProducer(t, e, quickly)
	for i := range n {
		if i%10 == 5 {
			e.DropConnections()
		}
		sendBatch(t, p, azeventhubs.EventDataBatchOptions{PartitionID: ptr("0")}, &azeventhubs.EventData{Body: []byte(strconv.Itoa(i))})
	}
	held := partitionProperties(t, newProducer(t, e, atOnce), "0").LastEnqueuedSequenceNumber + 1
	last := -1
	for _, body := range bodies(receive(t, readFrom(t, e, "0"), int(held))) {
		i, err := strconv.Atoi(body)
		if err != nil || i != last && i != last+1 {
			t.Fatalf("event %q follows %d", body, last)
		}
		last = i
	}
	if last != n-1 {
		t.Errorf("the last event is %d, want %d", last, n-1)
	}
}

// A sender whose link is detached attaches again at the next batch.
func TestDetachWhileSending(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, quickly)
	for i := range 10 {
		publish(t, p, "0", strconv.Itoa(i))
		e.DetachLinks(linksTo(hub+"/Partitions/0"), "amqp:link:detach-forced", "a test says so")
	}
	if got := len(receive(t, readFrom(t, e, "0"), 10)); got != 10 {
		t.Errorf("received %d events", got)
	}
}

// A detach carries the condition and the description that the test gave.
func TestDetachCondition(t *testing.T) {
	e := run(t, emulator.Options{})
	r := newReceiver(t, e, &amqp.ReceiverOptions{Filters: fromStart})
	if n := e.DetachLinks(linksTo(partition0), "com.microsoft:entity-disabled", "the hub is disabled"); n != 1 {
		t.Errorf("detached %d links, want 1", n)
	}
	_, err := r.Receive(withTimeout(t), nil)
	wantCondition(t, err, "com.microsoft:entity-disabled", "the hub is disabled")
}

// Throttled requests get server-busy, and a client that waits a little gets through.
func TestThrottledClients(t *testing.T) {
	e := run(t, emulator.Options{})
	impatient, patient := newProducer(t, e, atOnce), newProducer(t, e, quickly)
	publish(t, impatient, "0", "so that the link is there")
	e.ThrottleSends(1)
	err := trySend(withTimeout(t), impatient, azeventhubs.EventDataBatchOptions{PartitionID: ptr("0")}, &azeventhubs.EventData{})
	wantCondition(t, err, "com.microsoft:server-busy", "50009")
	e.ThrottleSends(3)
	publish(t, patient, "0", "in the end")
	e.ThrottleRequests(2)
	if _, err := patient.GetPartitionProperties(withTimeout(t), "0", nil); err != nil {
		t.Errorf("properties after being throttled: %v", err)
	}
	if got := bodies(receive(t, readFrom(t, e, "0"), 2)); got[1] != "in the end" {
		t.Errorf("the partition holds %q", got)
	}
}

// Delay holds back all that the emulator writes, and nothing gets lost in it.
func TestDelayedAnswers(t *testing.T) {
	e := run(t, emulator.Options{})
	fill(t, e, 100)
	client := readFrom(t, e, "0")
	receive(t, client, 100)
	const delay = 50 * time.Millisecond
	e.Delay(delay)
	begun := time.Now()
	partitionProperties(t, newProducer(t, e, atOnce), "0")
	if took := time.Since(begun); took < 2*delay {
		t.Errorf("a connection and a request took %v with every answer %v late", took, delay)
	}
	e.Delay(0)
	publish(t, newProducer(t, e, atOnce), "0", "100")
	receive(t, client, 1)
}

// A connection that the emulator has half closed is one that the client gives up and makes anew.
func TestHalfClose(t *testing.T) {
	e := run(t, emulator.Options{})
	fill(t, e, 3000)
	readThrough(t, e, 3000, 0, func() { e.HalfClose() })
}

// A client gets through while everything goes wrong in turns.
func TestEverythingAtOnce(t *testing.T) {
	e := run(t, emulator.Options{})
	fill(t, e, 5000)
	fault := 0
	readThrough(t, e, 5000, 300, func() {
		switch fault++; fault % 4 {
		case 0:
			e.DropConnections()
		case 1:
			e.DetachLinks(linksTo(partition0), "amqp:link:detach-forced", "a test says so")
		case 2:
			e.HalfClose()
		case 3:
			e.ThrottleAttaches(2)
			e.DropConnections()
		}
	})
}

// Closing the emulator ends what clients wait for, at once.
func TestCloseEndsReceivers(t *testing.T) {
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, newProducer(t, e, atOnce), "0", "event")
	client := readFrom(t, e, "0")
	receive(t, client, 1)
	failed := make(chan error, 1)
	go func() {
		_, err := client.ReceiveEvents(withTimeout(t), 1, nil)
		failed <- err
	}()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("receive from a closed emulator: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}
