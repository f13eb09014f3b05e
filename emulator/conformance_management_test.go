package emulator_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

// Producer and consumer see the same properties of the hub and of each partition.
func TestProperties(t *testing.T) {
	before := time.Now().Add(-time.Second)
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 12}}})
	p, c := newProducer(t, e, atOnce), newConsumer(t, e, "", atOnce)
	fromProducer, err := p.GetEventHubProperties(withTimeout(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	fromConsumer, err := c.GetEventHubProperties(withTimeout(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromProducer, fromConsumer); diff != "" {
		t.Errorf("producer and consumer see different properties: %s", diff)
	}
	if created := fromProducer.CreatedOn; created.Before(before) || created.After(time.Now()) {
		t.Errorf("the hub was created at %v", created)
	}
	fromProducer.CreatedOn = time.Time{}
	want := azeventhubs.EventHubProperties{Name: hub}
	for i := range 12 {
		want.PartitionIDs = append(want.PartitionIDs, strconv.Itoa(i))
	}
	if diff := cmp.Diff(want, fromProducer); diff != "" {
		t.Error(diff)
	}
	for _, id := range want.PartitionIDs {
		fromConsumer, err := c.GetPartitionProperties(withTimeout(t), id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(partitionProperties(t, p, id), fromConsumer); diff != "" {
			t.Errorf("producer and consumer see different properties of partition %s: %s", id, diff)
		}
	}
}

// The properties of a partition follow what is sent to it, and to it alone.
func TestPartitionProperties(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	empty := azeventhubs.PartitionProperties{
		EventHubName: hub, PartitionID: "2", IsEmpty: true,
		BeginningSequenceNumber: -1, LastEnqueuedSequenceNumber: -1, LastEnqueuedOffset: "-1",
	}
	got := partitionProperties(t, p, "2")
	if !got.LastEnqueuedOn.Equal(time.Time{}) {
		t.Errorf("the last event of an empty partition was enqueued at %v", got.LastEnqueuedOn)
	}
	got.LastEnqueuedOn = time.Time{}
	if diff := cmp.Diff(empty, got); diff != "" {
		t.Errorf("empty partition: %s", diff)
	}
	publish(t, p, "1", "elsewhere")
	publish(t, p, "2", numbered(3)...)
	last := receive(t, readFrom(t, e, "2"), 3)[2]
	want := azeventhubs.PartitionProperties{
		EventHubName: hub, PartitionID: "2",
		BeginningSequenceNumber: 0, LastEnqueuedSequenceNumber: 2, LastEnqueuedOffset: last.Offset, LastEnqueuedOn: *last.EnqueuedTime,
	}
	if diff := cmp.Diff(want, partitionProperties(t, p, "2")); diff != "" {
		t.Errorf("after three events: %s", diff)
	}
}

// What does not exist is not found, whatever it is that is asked, and the client does not try again.
func TestNotFound(t *testing.T) {
	e := run(t, emulator.Options{})
	client := func(hub, group string) *azeventhubs.ConsumerClient {
		c, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionString(), hub, group, nil)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, c)
		return c
	}
	open := func(hub, group, partition string) error {
		_, err := newPartition(t, client(hub, group), partition, azeventhubs.PartitionClientOptions{}).ReceiveEvents(withTimeout(t), 1, nil)
		return err
	}
	wantCondition(t, open("absent", "$Default", "0"), amqp.ErrCondNotFound, "The messaging entity '")
	wantCondition(t, open(hub, "absent", "0"), amqp.ErrCondNotFound, "could not be found")
	wantCondition(t, open(hub, "$Default", "4"), "com.microsoft:argument-out-of-range", "between 0 and 3")
	wantCondition(t, open(hub, "$Default", "-1"), "com.microsoft:argument-out-of-range", "between 0 and 3")
	wantCondition(t, open(hub, "$Default", "first"), amqp.ErrCondNotFound, "could not be found")

	p, err := azeventhubs.NewProducerClientFromConnectionString(e.ConnectionString(), "absent", nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, p)
	_, err = p.NewEventDataBatch(withTimeout(t), nil)
	wantCondition(t, err, amqp.ErrCondNotFound, "could not be found")
	_, err = newProducer(t, e, atOnce).NewEventDataBatch(withTimeout(t), &azeventhubs.EventDataBatchOptions{PartitionID: ptr("4")})
	wantCondition(t, err, "com.microsoft:argument-out-of-range", "between 0 and 3")

	_, err = client("absent", "$Default").GetEventHubProperties(withTimeout(t), nil)
	if err == nil || !strings.Contains(err.Error(), "status code 404") {
		t.Errorf("properties of an absent hub: %v, want status 404", err)
	}
	_, err = newProducer(t, e, atOnce).GetPartitionProperties(withTimeout(t), "4", nil)
	if err == nil || !strings.Contains(err.Error(), "status code 4") {
		t.Errorf("properties of an absent partition: %v, want status 4xx", err)
	}
}

// Names are told apart without case, and a leading slash or a whole URI in an address makes no difference.
func TestAddresses(t *testing.T) {
	e := run(t, emulator.Options{})
	conn := dialAMQP(t, e)
	authorize(t, e, conn)
	for _, address := range []string{
		partition0, "/" + partition0, strings.ToUpper(partition0), "amqps://" + e.Address() + "/" + partition0,
		"sb://localhost/" + partition0, "amqp://localhost:5672/" + partition0, hub + "/consumergroups/$default/partitions/0",
	} {
		r, err := newSession(t, conn).NewReceiver(withTimeout(t), address, nil)
		if err != nil {
			t.Errorf("attach a receiver to %s: %v", address, err)
			continue
		}
		if r.Address() != address {
			t.Errorf("the source's address came back as %q, want %q", r.Address(), address)
		}
		r.Close(withTimeout(t))
	}
	for _, address := range []string{hub, "/" + hub, strings.ToUpper(hub), "sb://" + e.Address() + "/" + hub + "/Partitions/0", hub + "/partitions/3"} {
		if _, err := newSession(t, conn).NewSender(withTimeout(t), address, nil); err != nil {
			t.Errorf("attach a sender to %s: %v", address, err)
		}
	}
	for _, address := range []string{"", "/", hub + "/", hub + "/Partitions", hub + "/Partitions/", hub + "/Partitions/0/x", hub + "/ConsumerGroups/$Default", "\x00", strings.Repeat("a/", 10_000)} {
		if _, err := newSession(t, conn).NewReceiver(withTimeout(t), address, nil); err == nil {
			t.Errorf("attached a receiver to %.40q", address)
		}
	}
}

// Replies carry the status in both spellings and the request's id with its very type, and questions
// that make no sense get a status, not silence.
func TestManagementReplies(t *testing.T) {
	e := run(t, emulator.Options{})
	conn := dialAMQP(t, e)
	authorize(t, e, conn)
	for _, id := range []any{"text", uint64(1), amqp.UUID{1, 2, 3}, []byte{1}} {
		reply, err := call(withTimeout(t), conn, "$management", &amqp.Message{
			Properties:            &amqp.MessageProperties{MessageID: id},
			ApplicationProperties: map[string]any{"operation": "READ", "type": "com.microsoft:eventhub", "name": hub},
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(id, reply.Properties.CorrelationID); diff != "" {
			t.Errorf("correlation id of request %v: %s", id, diff)
		}
		if p := reply.ApplicationProperties; p["status-code"] != int32(200) || p["statusCode"] != int32(200) {
			t.Errorf("status-code %v, statusCode %v, want 200 as an int", p["status-code"], p["statusCode"])
		}
	}
	reply, err := call(withTimeout(t), conn, "$cbs", putToken(e, "absent", token(e, e.Address(), time.Now().Add(time.Hour))))
	if err != nil {
		t.Fatal(reply, err)
	}
	for name, c := range map[string]struct {
		properties map[string]any
		want       int32 // 0 is any 4xx or 501
	}{
		"no properties":      {nil, 0},
		"unknown operation":  {map[string]any{"operation": "DELETE", "type": "com.microsoft:eventhub", "name": hub}, 0},
		"unknown type":       {map[string]any{"operation": "READ", "type": "com.microsoft:queue", "name": hub}, 0},
		"name of wrong type": {map[string]any{"operation": "READ", "type": "com.microsoft:eventhub", "name": int32(1)}, 0},
		"no partition":       {map[string]any{"operation": "READ", "type": "com.microsoft:partition", "name": hub}, 0},
		"unknown hub":        {map[string]any{"operation": "READ", "type": "com.microsoft:eventhub", "name": "absent"}, 404},
	} {
		reply, err := call(withTimeout(t), conn, "$management", &amqp.Message{ApplicationProperties: c.properties, Value: "x"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		code, _ := reply.ApplicationProperties["status-code"].(int32)
		if c.want != 0 && code != c.want || code < 400 || code > 501 || code == 500 {
			t.Errorf("%s: status %v, want %d or an error that says so", name, code, c.want)
		}
	}
}

// Requests of many clients at once, on one connection, each get their own reply.
func TestManagementInterleaved(t *testing.T) {
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 16}}})
	c := newConsumer(t, e, "", atOnce)
	for i := range 64 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			id := strconv.Itoa(i % 16)
			p, err := c.GetPartitionProperties(withTimeout(t), id, nil)
			if err != nil || p.PartitionID != id {
				t.Errorf("asked for partition %s: %q, %v", id, p.PartitionID, err)
			}
		})
	}
}
