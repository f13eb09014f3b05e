package publish_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"

	"persistor/emulator"
	"persistor/internal/config"
	"persistor/internal/message"
	"persistor/internal/publish"
)

const queue = "orders"

// startQueue runs an emulator with the queue, and with a topic that has a subscription called all, and
// returns a producer for the queue.
func startQueue(t testing.TB, q emulator.Queue) (*emulator.Emulator, publish.Producer) {
	t.Helper()
	q.Name = queue
	e, err := emulator.Start(emulator.Options{
		Queues: []emulator.Queue{q},
		Topics: []emulator.Topic{{Name: "prices", Subscriptions: []emulator.Subscription{{Name: "all"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e, toQueue(t, e, config.Queue{Name: queue})
}

func toQueue(t testing.TB, e *emulator.Emulator, q config.Queue) publish.Producer {
	t.Helper()
	q.Connection.ConnectionString = config.Secret(e.ConnectionString())
	p, err := publish.ToQueue(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

// inQueue returns all that a queue or subscription holds, in order.
func inQueue(t testing.TB, e *emulator.Emulator, path string) []emulator.QueueMessage {
	t.Helper()
	messages, err := e.Messages(path)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(messages)
}

// Whatever a message may have comes through to a real client, from a queue and from a topic's subscription.
func TestMessagesComeThroughAQueueAndATopic(t *testing.T) {
	e, producer := startQueue(t, emulator.Queue{})
	client, err := azservicebus.NewClientFromConnectionString(e.ConnectionString(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.Background())
	fromQueue, err := client.NewReceiverForQueue(queue, nil)
	if err != nil {
		t.Fatal(err)
	}
	fromTopic, err := client.NewReceiverForSubscription("prices", "all", nil)
	if err != nil {
		t.Fatal(err)
	}

	properties := map[string]any{
		"null": nil, "boolean": true, "byte": int8(-1), "short": int16(-2), "int": int32(-3), "long": int64(-4),
		"ubyte": uint8(1), "ushort": uint16(2), "uint": uint32(3), "ulong": uint64(4), "float": float32(0.5), "double": 0.1,
		"string": "Привет 🌍", "binary": []byte{0, 0xff}, "uuid": message.UUID{1, 15: 2},
		"timestamp": time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC),
	}
	received := map[string]any{}
	for name, value := range properties {
		received[name] = value
	}
	received["uuid"] = amqp.UUID{1, 15: 2}
	all := []publish.Message{
		{Body: []byte("{}"), ID: "a", Properties: properties, ContentType: new("application/json"), Subject: new("label"), CorrelationID: "c", Session: new("car-7")},
		{Body: []byte{0xff, 0}, ID: uint64(7), CorrelationID: message.UUID{3}, Key: new("site")},
		{ID: message.UUID{5}, CorrelationID: []byte{9}, Session: new("")},
		{Body: []byte("same"), Session: new("s"), Key: new("s")},
	}
	for name, r := range map[string]struct {
		to   publish.Producer
		from *azservicebus.Receiver
	}{
		"queue": {producer, fromQueue},
		"topic": {toQueue(t, e, config.Queue{Topic: "prices"}), fromTopic},
	} {
		result, err := publish.Send(within(t), r.to, slices.Values(all), publish.Options{InFlight: 1})
		if err != nil || result.Messages != 4 {
			t.Fatalf("%s: %+v, %v", name, result, err)
		}
		got := map[string]*azservicebus.ReceivedMessage{} // by body: batches overtake each other
		for len(got) < len(all) {
			messages, err := r.from.ReceiveMessages(within(t), len(all), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				got[string(m.Body)] = m
			}
		}
		for _, sent := range all {
			m := got[string(sent.Body)]
			if m == nil {
				t.Errorf("%s: %q did not come", name, sent.Body)
				continue
			}
			p := m.RawAMQPMessage.Properties
			if id := p.MessageID; sent.ID == nil && id == nil || sent.ID != nil && id != inClient(sent.ID) {
				t.Errorf("%s: message id %v, sent %v", name, id, sent.ID)
			}
			if diff := cmp.Diff(inClient(sent.CorrelationID), p.CorrelationID); diff != "" {
				t.Errorf("%s: correlation id %s", name, diff)
			}
			for what, text := range map[string][2]*string{
				"session": {sent.Session, m.SessionID}, "key": {sent.Key, m.PartitionKey},
				"subject": {sent.Subject, m.Subject}, "content type": {sent.ContentType, m.ContentType},
			} {
				if diff := cmp.Diff(text[0], text[1]); diff != "" {
					t.Errorf("%s: %s of %q: %s", name, what, sent.Body, diff)
				}
			}
			if sent.Properties != nil {
				if diff := cmp.Diff(received, m.ApplicationProperties); diff != "" {
					t.Errorf("%s: properties %s", name, diff)
				}
			}
		}
	}
}

// inClient is a value in the types of the client.
func inClient(v any) any {
	if id, ok := v.(message.UUID); ok {
		return amqp.UUID(id)
	}
	return v
}

// A session's messages arrive in order, though batches of many sessions are under way at once, and though
// the queue is too busy for one of them.
func TestOrderOfSessions(t *testing.T) {
	for _, test := range []struct {
		name        string
		n, sessions int
	}{
		{"large batches", 20_000, 37},
		{"more sessions than lanes", 12_000, 2_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, _ := startQueue(t, emulator.Queue{Sessions: true})
			client, err := azservicebus.NewClientFromConnectionString(e.ConnectionString(),
				&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{RetryDelay: 300 * time.Millisecond}})
			if err != nil {
				t.Fatal(err)
			}
			sender, err := client.NewSender(queue, nil)
			if err != nil {
				t.Fatal(err)
			}
			producer := publish.QueueProducer(client, sender)
			defer producer.Close(context.Background())

			e.ThrottleSends(1)
			result, err := publish.Send(within(t), producer, numbered(test.n, func(i int, m *publish.Message) {
				m.Session = new(fmt.Sprint("session ", i%test.sessions))
			}), publish.Options{InFlight: 16})
			if err != nil || result.Messages != int64(test.n) {
				t.Fatalf("%d messages, %v", result.Messages, err)
			}
			last := map[string]int{}
			all := inQueue(t, e, queue)
			for _, m := range all {
				i, err := strconv.Atoi(string(m.Body[:8]))
				if err != nil || *m.SessionID != fmt.Sprint("session ", i%test.sessions) {
					t.Fatalf("message %d is in %s: %v", i, *m.SessionID, err)
				}
				if before, seen := last[*m.SessionID]; seen && i != before+test.sessions {
					t.Fatalf("%s: message %d follows %d", *m.SessionID, i, before)
				}
				last[*m.SessionID] = i
			}
			if len(all) != test.n {
				t.Errorf("the queue holds %d messages, want %d", len(all), test.n)
			}
		})
	}
}

// Batches are as full as the service takes them: by bytes, or by their number where they are small.
func TestBatchesAreFull(t *testing.T) {
	for _, test := range []struct {
		body, n, batches int
	}{{300_000, 10, 4}, {1, 10_000, 3}} {
		e, producer := startQueue(t, emulator.Queue{})
		body := make([]byte, test.body)
		result, err := publish.Send(within(t), producer, func(yield func(publish.Message) bool) {
			for i := 0; i < test.n && yield(publish.Message{Body: body, ID: uint64(i)}); i++ {
			}
		}, publish.Options{})
		if err != nil || int(result.Messages) != test.n || int(result.Batches) != test.batches {
			t.Errorf("%d bodies of %d bytes: %+v, %v", test.n, test.body, result, err)
		}
		if info, err := e.Queue(queue); err != nil || int(info.Active) != test.n {
			t.Errorf("the queue holds %d messages, %v", info.Active, err)
		}
	}
}

func TestMessageTooLarge(t *testing.T) {
	e, producer := startQueue(t, emulator.Queue{MaxMessageSize: 256 << 10})
	lines := "small\n" + strings.Repeat("x", 256<<10) + "\nnever\n"
	result, err := publish.Lines(within(t), producer, strings.NewReader(lines), publish.LineOptions{Session: new("s")})
	var large *publish.TooLargeError
	if !errors.As(err, &large) || *large != (publish.TooLargeError{Message: 1, Bytes: 256 << 10}) || !strings.HasPrefix(err.Error(), "publish line 2: ") {
		t.Errorf("error = %v", err)
	}
	if held := inQueue(t, e, queue); result.Messages != 1 || len(held) != 1 || *held[0].SessionID != "s" {
		t.Errorf("%d messages were accepted, the queue holds %+v; want the first", result.Messages, held)
	}
}

// What Service Bus has no place for, or refuses, is told as what it is.
func TestQueueRefuses(t *testing.T) {
	e, producer := startQueue(t, emulator.Queue{Sessions: true})
	for _, test := range []struct {
		to      publish.Producer
		message publish.Message
		want    string
	}{
		{producer, publish.Message{Session: new("a"), Partition: "1"}, `add message 0: it is for partition "1"`},
		{producer, publish.Message{Session: new("a"), Key: new("b")}, `its session "a" and its key "b" differ`},
		{producer, publish.Message{}, "send 1 messages: amqp:not-allowed: The SessionId was not set on a message"},
		{toQueue(t, e, config.Queue{Name: "nowhere"}), publish.Message{}, "add message 0: open a batch: amqp:not-found"},
	} {
		result, err := publish.Send(within(t), test.to, slices.Values([]publish.Message{test.message}), publish.Options{})
		if err == nil || !strings.Contains(err.Error(), test.want) || result.Messages != 0 {
			t.Errorf("error = %v, want %q", err, test.want)
		}
	}
}
