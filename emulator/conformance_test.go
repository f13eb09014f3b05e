package emulator_test

// The conformance tests hold the emulator to what the service's own clients expect of it: the cases
// are those that the Event Hubs client for Go is tested with against the service, and the behaviours of
// the service that its other clients and its documentation describe. They drive the real client over a
// real connection, go-amqp where the client can't be made to do something, and hand-made frames where
// go-amqp can't. This file has what they share.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// hub is the Event Hub that every test uses: 4 partitions, unless the test says otherwise.
const hub = "telemetry"

// patience bounds whatever waits for the emulator. No test relies on its length.
const patience = 20 * time.Second

// run starts an emulator for one test. Without hubs in the options it has the one named hub.
func run(t testing.TB, o emulator.Options) *emulator.Emulator {
	t.Helper()
	if o.Hubs == nil {
		o.Hubs = []emulator.Hub{{Name: hub, Partitions: 4}}
	}
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func withTimeout(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// closer is every client, link and connection of the clients.
type closer interface{ Close(context.Context) error }

// closeLater closes a client when the test ends. The emulator may be in the middle of a fault by then,
// so that an error is no failure.
func closeLater(t testing.TB, c closer) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = c.Close(ctx)
	})
}

// atOnce makes a client report an error instead of trying again.
var atOnce = azeventhubs.RetryOptions{MaxRetries: -1}

// quickly makes a client try again without the waits that are meant for a service far away.
var quickly = azeventhubs.RetryOptions{MaxRetries: 20, RetryDelay: time.Millisecond, MaxRetryDelay: 20 * time.Millisecond}

func newProducer(t testing.TB, e *emulator.Emulator, retry azeventhubs.RetryOptions) *azeventhubs.ProducerClient {
	t.Helper()
	p, err := azeventhubs.NewProducerClientFromConnectionString(e.ConnectionString(), hub, &azeventhubs.ProducerClientOptions{RetryOptions: retry})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, p)
	return p
}

func newConsumer(t testing.TB, e *emulator.Emulator, instance string, retry azeventhubs.RetryOptions) *azeventhubs.ConsumerClient {
	t.Helper()
	c, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionString(), hub, azeventhubs.DefaultConsumerGroup,
		&azeventhubs.ConsumerClientOptions{InstanceID: instance, RetryOptions: retry})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, c)
	return c
}

func newPartition(t testing.TB, c *azeventhubs.ConsumerClient, id string, o azeventhubs.PartitionClientOptions) *azeventhubs.PartitionClient {
	t.Helper()
	p, err := c.NewPartitionClient(id, &o)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, p)
	return p
}

// readFrom is a new client of one partition from its beginning.
func readFrom(t testing.TB, e *emulator.Emulator, partition string) *azeventhubs.PartitionClient {
	t.Helper()
	return newPartition(t, newConsumer(t, e, "", atOnce), partition, azeventhubs.PartitionClientOptions{StartPosition: earliest})
}

var earliest = azeventhubs.StartPosition{Earliest: ptr(true)}

func ptr[T any](v T) *T { return &v }

// publish sends one batch with the bodies given to one partition.
func publish(t testing.TB, p *azeventhubs.ProducerClient, partition string, bodies ...string) {
	t.Helper()
	var events []*azeventhubs.EventData
	for _, body := range bodies {
		events = append(events, &azeventhubs.EventData{Body: []byte(body)})
	}
	sendBatch(t, p, azeventhubs.EventDataBatchOptions{PartitionID: &partition}, events...)
}

func sendBatch(t testing.TB, p *azeventhubs.ProducerClient, o azeventhubs.EventDataBatchOptions, events ...*azeventhubs.EventData) {
	t.Helper()
	if err := trySend(withTimeout(t), p, o, events...); err != nil {
		t.Fatal(err)
	}
}

func trySend(ctx context.Context, p *azeventhubs.ProducerClient, o azeventhubs.EventDataBatchOptions, events ...*azeventhubs.EventData) error {
	batch, err := p.NewEventDataBatch(ctx, &o)
	if err != nil {
		return fmt.Errorf("make batch: %w", err)
	}
	for _, event := range events {
		if err := batch.AddEventData(event, nil); err != nil {
			return fmt.Errorf("add event: %w", err)
		}
	}
	if err := p.SendEventDataBatch(ctx, batch, nil); err != nil {
		return fmt.Errorf("send batch: %w", err)
	}
	return nil
}

// receive returns exactly n events.
func receive(t testing.TB, p *azeventhubs.PartitionClient, n int) []*azeventhubs.ReceivedEventData {
	t.Helper()
	ctx := withTimeout(t)
	var events []*azeventhubs.ReceivedEventData
	for len(events) < n {
		some, err := p.ReceiveEvents(ctx, n-len(events), nil)
		if err != nil {
			t.Fatalf("receive %d events, have %d: %v", n, len(events), err)
		}
		events = append(events, some...)
	}
	return events
}

// receiveFrom returns exactly n events from a position on, and closes the link that it took: no more
// than five may read a partition.
func receiveFrom(t testing.TB, e *emulator.Emulator, partition string, from azeventhubs.StartPosition, n int) []*azeventhubs.ReceivedEventData {
	t.Helper()
	client := newPartition(t, newConsumer(t, e, "", atOnce), partition, azeventhubs.PartitionClientOptions{StartPosition: from})
	events := receive(t, client, n)
	if err := client.Close(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	return events
}

func bodies(events []*azeventhubs.ReceivedEventData) []string {
	var s []string
	for _, event := range events {
		s = append(s, string(event.Body))
	}
	return s
}

// numbered returns n bodies that tell where they belong.
func numbered(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("event %d", i)
	}
	return s
}

// wantCode checks that an error is the client's own with a code, and that its text holds another.
func wantCode(t testing.TB, err error, code azeventhubs.ErrorCode, text string) {
	t.Helper()
	var e *azeventhubs.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), text) {
		t.Fatalf("error is %v, want code %q and the text %q", err, code, text)
	}
}

// wantCondition checks that an error comes from an AMQP condition, and that its text holds another.
func wantCondition(t testing.TB, err error, condition amqp.ErrCond, text string) {
	t.Helper()
	var e *amqp.Error
	if !errors.As(err, &e) || e.Condition != condition || !strings.Contains(e.Description, text) {
		t.Fatalf("error is %v, want condition %q and the text %q", err, condition, text)
	}
}
