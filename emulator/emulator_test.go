package emulator_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"persistor/emulator"
)

// start runs an emulator for the test.
func start(t testing.TB, o emulator.Options) *emulator.Emulator {
	t.Helper()
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// within is the time that a test may take.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func producer(t testing.TB, e *emulator.Emulator, hub string) *azeventhubs.ProducerClient {
	t.Helper()
	p, err := azeventhubs.NewProducerClientFromConnectionString(e.ConnectionString(), hub, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func consumer(t testing.TB, e *emulator.Emulator, hub string) *azeventhubs.ConsumerClient {
	t.Helper()
	c, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionString(), hub, azeventhubs.DefaultConsumerGroup, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// reader receives a partition from its beginning.
func reader(t testing.TB, c *azeventhubs.ConsumerClient, partition string, o azeventhubs.PartitionClientOptions) *azeventhubs.PartitionClient {
	t.Helper()
	if o.StartPosition == (azeventhubs.StartPosition{}) {
		earliest := true
		o.StartPosition.Earliest = &earliest
	}
	r, err := c.NewPartitionClient(partition, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}

// send sends events with the bodies to a partition, in one batch.
func send(t testing.TB, p *azeventhubs.ProducerClient, partition string, bodies ...string) {
	t.Helper()
	ctx := within(t)
	batch, err := p.NewEventDataBatch(ctx, &azeventhubs.EventDataBatchOptions{PartitionID: &partition})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		if err := batch.AddEventData(&azeventhubs.EventData{Body: []byte(body)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.SendEventDataBatch(ctx, batch, nil); err != nil {
		t.Fatal(err)
	}
}

// TestSendAndReceive goes the whole way once: properties, a batch, and the events in order with what the service adds.
func TestSendAndReceive(t *testing.T) {
	e := start(t, emulator.Options{Hubs: []emulator.Hub{{Name: "orders", Partitions: 4}}})
	p := producer(t, e, "orders")
	ctx := within(t)
	hub, err := p.GetEventHubProperties(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(hub.Name, hub.PartitionIDs); got != "orders[0 1 2 3]" {
		t.Errorf("hub properties: got %s", got)
	}
	send(t, p, "1", "a", "b", "c")
	c := consumer(t, e, "orders")
	info, err := c.GetPartitionProperties(ctx, "1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.BeginningSequenceNumber != 0 || info.LastEnqueuedSequenceNumber != 2 || info.IsEmpty || time.Since(info.LastEnqueuedOn) > time.Minute {
		t.Errorf("partition properties: got %+v", info)
	}
	events, err := reader(t, c, "1", azeventhubs.PartitionClientOptions{}).ReceiveEvents(ctx, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, event := range events {
		if string(event.Body) != string("abc"[i]) || event.SequenceNumber != int64(i) || event.EnqueuedTime == nil {
			t.Errorf("event %d: got %q, sequence number %d, enqueued %v", i, event.Body, event.SequenceNumber, event.EnqueuedTime)
		}
	}
}

// TestClose leaves nothing behind, neither the port nor a client that waits, whatever is still on a slow line.
func TestClose(t *testing.T) {
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: "orders"}}})
	if err != nil {
		t.Fatal(err)
	}
	p := producer(t, e, "orders")
	send(t, p, "0", "a")
	e.Delay(time.Hour)
	batch, err := p.NewEventDataBatch(within(t), &azeventhubs.EventDataBatchOptions{PartitionID: new("0")})
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.AddEventData(&azeventhubs.EventData{Body: []byte("b")}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.SendEventDataBatch(ctx, batch, nil); err == nil {
		t.Error("a send was answered an hour too early")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	if c, err := net.Dial("tcp", e.Address()); err == nil {
		c.Close()
		t.Error("a closed emulator is connected to")
	}
}

func TestStartErrors(t *testing.T) {
	for want, o := range map[string]emulator.Options{
		`hub "": the name must not`:                    {Hubs: []emulator.Hub{{}}},
		`hub "a": 1025 partitions are not between`:     {Hubs: []emulator.Hub{{Name: "a", Partitions: 1025}}},
		`hub "a": -1 partitions are not between`:       {Hubs: []emulator.Hub{{Name: "a", Partitions: -1}}},
		`hub "A": the name is there twice`:             {Hubs: []emulator.Hub{{Name: "a"}, {Name: "A"}}},
		`hub "a": a synthetic hub has at least one`:    {Hubs: []emulator.Hub{{Name: "a", Synthetic: &emulator.Synthetic{}}}},
		`hub "a": a synthetic hub has no retention`:    {Hubs: []emulator.Hub{{Name: "a", RetentionCount: 1, Synthetic: &emulator.Synthetic{Events: 1}}}},
		`do not fit into 292 years`:                    {Hubs: []emulator.Hub{{Name: "a", Synthetic: &emulator.Synthetic{Events: 1 << 40, Interval: time.Hour}}}},
		`listen on "0.0.0.0:0": it is no loopback`:     {Address: "0.0.0.0:0"},
		`the key name "k" is there twice`:              {KeyName: "k", Keys: []emulator.Key{{Name: "k", Value: "v"}}},
		`hub "a": a largest message of 1 bytes is not`: {Hubs: []emulator.Hub{{Name: "a", MaxMessageSize: 1}}},
	} {
		e, err := emulator.Start(o)
		if err == nil {
			e.Close()
		}
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
