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

// quick has the SDK try again at once.
var quick = azeventhubs.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: 10 * time.Millisecond, MaxRetries: 20}

// quickConsumer is a consumer that tries again at once.
func quickConsumer(t testing.TB, connectionString, hub string) *azeventhubs.ConsumerClient {
	t.Helper()
	c, err := azeventhubs.NewConsumerClientFromConnectionString(connectionString, hub, azeventhubs.DefaultConsumerGroup, &azeventhubs.ConsumerClientOptions{RetryOptions: quick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func quickProducer(t testing.TB, connectionString, hub string) *azeventhubs.ProducerClient {
	t.Helper()
	p, err := azeventhubs.NewProducerClientFromConnectionString(connectionString, hub, &azeventhubs.ProducerClientOptions{RetryOptions: quick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// TestNothingLostOnFaults has a client read 20,000 events while its connection, its link, or the emulator's half of the
// connection goes away after each thousand. The events come in order, each once.
func TestNothingLostOnFaults(t *testing.T) {
	const events, batch = 20_000, 1000
	all := func(emulator.Link) bool { return true }
	for name, fault := range map[string]func(*emulator.Emulator) int{
		"drop":      (*emulator.Emulator).DropConnections,
		"halfclose": (*emulator.Emulator).HalfClose,
		"detach": func(e *emulator.Emulator) int {
			return e.DetachLinks(all, "amqp:link:detach-forced", "the link is detached by the test")
		},
		"internal": func(e *emulator.Emulator) int {
			return e.DetachLinks(all, "amqp:internal-error", "the service had an error")
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, emulator.Options{Hubs: []emulator.Hub{{Name: "backlog", Synthetic: &emulator.Synthetic{Events: events, BodySize: 200}}}})
			r := reader(t, quickConsumer(t, e.ConnectionString(), "backlog"), "0", azeventhubs.PartitionClientOptions{})
			ctx := within(t)
			for next := int64(0); next < events; {
				got, err := r.ReceiveEvents(ctx, batch, nil)
				if err != nil {
					t.Fatalf("receive behind %d: %v", next-1, err)
				}
				for _, event := range got {
					if event.SequenceNumber != next {
						t.Fatalf("sequence number %d came where %d was due", event.SequenceNumber, next)
					}
					next++
				}
				if fault(e) == 0 {
					t.Fatal("there was nothing to break")
				}
			}
		})
	}
}

func TestThrottle(t *testing.T) {
	e := start(t, emulator.Options{Hubs: []emulator.Hub{{Name: "orders"}}})
	p := quickProducer(t, e.ConnectionString(), "orders")
	e.ThrottleAttaches(1)
	e.ThrottleSends(2)
	e.ThrottleRequests(2)
	send(t, p, "0", "a")
	info, err := p.GetPartitionProperties(within(t), "0", nil)
	if err != nil || info.LastEnqueuedSequenceNumber != 0 {
		t.Errorf("after throttled sends the last sequence number is %d, %v; want 0", info.LastEnqueuedSequenceNumber, err)
	}

	// A client that does not try again sees the condition.
	never, err := azeventhubs.NewProducerClientFromConnectionString(e.ConnectionString(), "orders", &azeventhubs.ProducerClientOptions{RetryOptions: azeventhubs.RetryOptions{MaxRetries: -1}})
	if err != nil {
		t.Fatal(err)
	}
	defer never.Close(context.Background())
	send(t, never, "0", "b")
	e.ThrottleSends(1)
	batch, err := never.NewEventDataBatch(within(t), &azeventhubs.EventDataBatchOptions{PartitionID: new("0")})
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.AddEventData(&azeventhubs.EventData{Body: []byte("c")}, nil); err != nil {
		t.Fatal(err)
	}
	if err := never.SendEventDataBatch(within(t), batch, nil); err == nil || !strings.Contains(err.Error(), "com.microsoft:server-busy") {
		t.Errorf("a throttled send: got %v, want com.microsoft:server-busy", err)
	}
}

func TestRefuseTokens(t *testing.T) {
	e := start(t, emulator.Options{Hubs: []emulator.Hub{{Name: "orders"}}})
	e.RefuseTokens(1)
	c := quickConsumer(t, e.ConnectionString(), "orders")
	_, err := c.GetEventHubProperties(within(t), nil)
	if err == nil || !strings.Contains(err.Error(), "status code 401 and description: InvalidSignature") {
		t.Errorf("properties with a refused token: got %v, want status code 401", err)
	}
	if _, err := c.GetEventHubProperties(within(t), nil); err != nil {
		t.Errorf("properties after that: %v", err)
	}
}

// TestDelay asks for properties over a slow line, and reads at a rate that one event a round trip could not reach.
func TestDelay(t *testing.T) {
	const delay = 20 * time.Millisecond
	e := start(t, emulator.Options{Hubs: []emulator.Hub{{Name: "backlog", Synthetic: &emulator.Synthetic{Events: 5000}}}})
	c := consumer(t, e, "backlog")
	if _, err := c.GetEventHubProperties(within(t), nil); err != nil {
		t.Fatal(err)
	}
	e.Delay(delay)
	begin := time.Now()
	if _, err := c.GetEventHubProperties(within(t), nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("properties took %v, less than the delay of %v", took, delay)
	}
	got, err := reader(t, c, "0", azeventhubs.PartitionClientOptions{Prefetch: 5000}).ReceiveEvents(within(t), 5000, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, event := range got {
		if event.SequenceNumber != int64(i) {
			t.Fatalf("event %d has the sequence number %d", i, event.SequenceNumber)
		}
	}
	e.Delay(0)
}

// TestClose leaves nothing behind: neither the port, nor a client that waits.
func TestClose(t *testing.T) {
	e, err := emulator.Start(emulator.Options{Hubs: []emulator.Hub{{Name: "orders"}}})
	if err != nil {
		t.Fatal(err)
	}
	p := producer(t, e, "orders")
	send(t, p, "0", "a")
	e.Delay(time.Millisecond)
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
