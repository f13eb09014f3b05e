package emulator_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

// status is the status of a reply.
func status(m *amqp.Message) int32 {
	n, _ := m.ApplicationProperties["status-code"].(int32)
	return n
}

// field is a value of the map that a reply has as its body.
func field(m *amqp.Message, key string) any {
	body, _ := m.Value.(map[string]any)
	return body[key]
}

// Peeking finds messages in every state, goes on where it stopped, and changes nothing.
func TestServiceBusPeek(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, counted(5)...)
	r := newBusReceiver(t, c, queueName, peekLock)
	ms := take(t, r, 3)
	complete(t, r, ms[0])
	if err := r.DeferMessage(withTimeout(t), ms[1], nil); err != nil {
		t.Fatal(err)
	}
	if _, err := newBusSender(t, c, queueName).ScheduleMessages(withTimeout(t), []*azservicebus.Message{text("5")}, time.Now().Add(time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	peek := func(n int, from *int64) string {
		t.Helper()
		ms, err := r.PeekMessages(withTimeout(t), n, &azservicebus.PeekMessagesOptions{FromSequenceNumber: from})
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, m := range ms {
			s = append(s, fmt.Sprintf("%s/%d/%d", m.Body, *m.SequenceNumber, m.State))
			if m.DeliveryCount != 1 || m.LockedUntil != nil || m.LockToken != [16]byte{} {
				t.Errorf("peeked %+v", m)
			}
		}
		return strings.Join(s, " ")
	}
	for _, c := range []struct {
		n    int
		from *int64
		want string
	}{
		{2, nil, "1/2/1 2/3/0"}, {1, nil, "3/4/0"}, {5, ptr(int64(1)), "1/2/1 2/3/0 3/4/0 4/5/0 5/6/2"}, {5, ptr(int64(6)), "5/6/2"},
		{5, ptr(int64(7)), ""}, {5, ptr(int64(-3)), "1/2/1 2/3/0 3/4/0 4/5/0 5/6/2"}, {5, nil, "4/5/0 5/6/2"}, {5, nil, ""},
	} {
		if got := peek(c.n, c.from); got != c.want {
			t.Errorf("peeked %q, want %q", got, c.want)
		}
	}
	wantInfo(t, e, queueName, 2, 1, 1, 1)
	takeNone(t, newBusReceiver(t, c, queueName, deadLetter))
	if ms, err := newBusReceiver(t, c, queueName, deadLetter).PeekMessages(withTimeout(t), 1, nil); err != nil || len(ms) != 0 {
		t.Errorf("peeked %q, %v among no dead letters", texts(ms), err)
	}
}

// Replies hold what clients look for, of the types that they insist on.
func TestServiceBusReplies(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}, {Name: "sessions", Sessions: true}}})
	put(t, e, queueName, counted(10)...)
	putSession(t, e, "sessions", "a", "1")
	conn := dialBus(t, e)
	r, err := newSession(t, conn).NewReceiver(withTimeout(t), queueName, &amqp.ReceiverOptions{SettlementMode: amqp.ReceiverSettleModeSecond.Ptr(), Credit: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.IssueCredit(5); err != nil {
		t.Fatal(err)
	}
	var tokens []amqp.UUID
	for range 5 {
		tokens = append(tokens, mustGet(t, r).DeliveryAnnotations["x-opt-lock-token"].(amqp.UUID))
	}
	deferred := request(t, conn, queueName, "update-disposition", map[string]any{"disposition-status": "defered", "lock-tokens": tokens[3:4]})
	scheduled, err := amqp.NewMessage([]byte("later")).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	at := map[any]any{"x-opt-scheduled-enqueue-time": time.Now().Add(time.Hour)}
	later, err := (&amqp.Message{Annotations: at, Data: [][]byte{[]byte("later")}}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		entity, operation string
		body              map[string]any
		status            int32
		key               string
		kind              any
		length            int
	}{
		{queueName, "renew-lock", map[string]any{"lock-tokens": tokens[:2]}, 200, "expirations", []time.Time{}, 2},
		{queueName, "renew-lock", map[string]any{"lock-tokens": []amqp.UUID{tokens[0], {1}}}, 410, "", nil, 0},
		{queueName, "renew-lock", map[string]any{"lock-tokens": []amqp.UUID{}}, 400, "", nil, 0},
		{queueName, "renew-lock", map[string]any{"lock-tokens": "token"}, 400, "", nil, 0},
		{queueName, "renew-lock", map[string]any{}, 400, "", nil, 0},
		{queueName, "peek-message", map[string]any{"from-sequence-number": int64(1), "message-count": int32(3)}, 200, "messages", []any{}, 3},
		{queueName, "peek-message", map[string]any{"from-sequence-number": int64(100), "message-count": int32(3)}, 204, "", nil, 0},
		{queueName, "peek-message", map[string]any{"from-sequence-number": "1", "message-count": int32(3)}, 400, "", nil, 0},
		{queueName, "receive-by-sequence-number", map[string]any{"sequence-numbers": []int64{4}, "session-id": "a"}, 404, "", nil, 0},
		{queueName, "receive-by-sequence-number", map[string]any{"sequence-numbers": []int64{4}, "receiver-settle-mode": uint32(0)}, 200, "messages", []any{}, 1},
		{queueName, "receive-by-sequence-number", map[string]any{"sequence-numbers": []int64{4}, "receiver-settle-mode": uint32(0)}, 404, "", nil, 0},
		{queueName, "update-disposition", map[string]any{"disposition-status": "eaten", "lock-tokens": tokens[:1]}, 400, "", nil, 0},
		{queueName, "update-disposition", map[string]any{"disposition-status": "completed", "lock-tokens": []amqp.UUID{tokens[0], tokens[0]}}, 410, "", nil, 0},
		{queueName, "update-disposition", map[string]any{"disposition-status": "abandoned", "lock-tokens": tokens[:1], "properties-to-modify": map[string]any{"p": []any{"list"}}}, 400, "", nil, 0},
		{queueName, "update-disposition", map[string]any{"disposition-status": "completed", "lock-tokens": tokens[:3]}, 200, "", nil, 0},
		{queueName, "update-disposition", map[string]any{"disposition-status": "completed", "lock-tokens": tokens[:3]}, 410, "", nil, 0},
		{queueName, "schedule-message", map[string]any{"messages": []any{map[string]any{"message": later}, map[string]any{"message": scheduled}}}, 200, "sequence-numbers", []int64{}, 2},
		{queueName, "schedule-message", map[string]any{"messages": []any{map[string]any{"message": later}, map[string]any{"message": []byte("junk")}}}, 400, "", nil, 0},
		{queueName, "cancel-scheduled-message", map[string]any{"sequence-numbers": []int64{11, 1}}, 404, "", nil, 0},
		{queueName, "cancel-scheduled-message", map[string]any{"sequence-numbers": []int64{11}}, 200, "", nil, 0},
		{queueName, "get-message-sessions", map[string]any{}, 204, "", nil, 0},
		{queueName, "renew-session-lock", map[string]any{"session-id": "a"}, 400, "", nil, 0},
		{"sessions", "get-message-sessions", map[string]any{"last-updated-time": time.UnixMilli(253402300800000), "skip": int32(0), "top": int32(10)}, 200, "sessions-ids", []string{}, 1},
		{"sessions", "get-message-sessions", map[string]any{"skip": int32(1), "top": int32(10)}, 204, "", nil, 0},
		{queueName, "batch-delete-messages", map[string]any{"message-count": int32(2), "enqueued-time-utc": time.Now().Add(time.Minute)}, 200, "message-count", int32(0), 2},
		{queueName, "batch-delete-messages", map[string]any{"message-count": int32(2), "enqueued-time-utc": time.Now().Add(-time.Minute)}, 204, "", nil, 0},
		{queueName, "batch-delete-messages", map[string]any{"message-count": int32(5000), "enqueued-time-utc": time.Now()}, 400, "", nil, 0},
		{queueName, "enumerate-rules", map[string]any{}, 400, "", nil, 0},
		{queueName, "fly", map[string]any{}, 501, "", nil, 0},
	} {
		reply := request(t, conn, c.entity, c.operation, c.body)
		value := field(reply, c.key)
		if status(reply) != c.status || reflect.TypeOf(value) != reflect.TypeOf(c.kind) {
			t.Errorf("%s %v: status %d with %T, want %d with %T: %v", c.operation, c.body, status(reply), value, c.status, c.kind, reply.ApplicationProperties)
			continue
		}
		if v := reflect.ValueOf(value); c.kind != nil && v.Kind() == reflect.Slice && v.Len() != c.length || v.Kind() == reflect.Int32 && int(v.Int()) != c.length {
			t.Errorf("%s %v: got %v, want %d", c.operation, c.body, value, c.length)
		}
		if failed := c.status >= 300; failed != (reply.ApplicationProperties["errorCondition"] != nil) || reply.ApplicationProperties["statusCode"] != c.status {
			t.Errorf("%s: the reply has the properties %v", c.operation, reply.ApplicationProperties)
		}
	}
	for _, omit := range []bool{false, true} {
		reply := request(t, conn, queueName, "peek-message", map[string]any{"message-count": int32(1), "omit-message-body": omit})
		var m amqp.Message
		if err := m.UnmarshalBinary(field(reply, "messages").([]any)[0].(map[string]any)["message"].([]byte)); err != nil || (len(m.Data) == 0) != omit || m.Properties.MessageID == nil {
			t.Errorf("peeked with the body omitted %v: %+v, %v", omit, m, err)
		}
	}
	if status(deferred) != 200 {
		t.Errorf("deferring: %v", deferred.ApplicationProperties)
	}
	// 10 came; 3 were completed, 1 was deferred and received, 1 is locked, 2 were deleted, and 1 was scheduled for now.
	wantInfo(t, e, queueName, 4, 1, 0, 0)
}

func mustGet(t testing.TB, r *amqp.Receiver) *amqp.Message {
	t.Helper()
	m, err := r.Receive(withTimeout(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Requests and deliveries of one connection don't wait for one another.
func TestServiceBusRequestsWhileReceiving(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	r := newBusReceiver(t, c, queueName, peekLock)
	got := make(chan []*azservicebus.ReceivedMessage)
	go func() { got <- take(t, r, 1) }()
	other := newBusReceiver(t, c, queueName, peekLock)
	for range 20 {
		if _, err := other.PeekMessages(withTimeout(t), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	put(t, e, queueName, "a")
	wantTexts(t, <-got, "a")
}

// A peek that finds much is cut, and goes on.
func TestServiceBusPeekOfMuch(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{MaxMessageSize: 4 << 20})
	body := strings.Repeat("x", 300<<10)
	put(t, e, queueName, body, body, body, body, body, body, body, strings.Repeat("y", 3<<20))
	r := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock)
	n := 0
	for rounds := 0; n < 8; rounds++ {
		ms, err := r.PeekMessages(withTimeout(t), 100, nil)
		if err != nil || len(ms) == 0 || rounds > 4 {
			t.Fatalf("after %d messages in %d rounds: %d, %v", n, rounds, len(ms), err)
		}
		n += len(ms)
	}
}
