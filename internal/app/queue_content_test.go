package app

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"persistor/emulator"
	"persistor/internal/message"
	"persistor/internal/work"
)

// send has the real client send messages, each as it is.
func (s *queueSite) send(t testing.TB, to string, messages ...*azservicebus.AMQPAnnotatedMessage) {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(s.bus.ConnectionString(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	sender, err := client.NewSender(to, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		if err := sender.SendAMQPAnnotatedMessage(t.Context(), m, nil); err != nil {
			t.Fatalf("send message %d: %v", i+1, err)
		}
	}
}

// Bodies of every kind that AMQP has, and such as look like poison, come back as they were sent.
func TestBodiesOfEveryKind(t *testing.T) {
	t.Parallel()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	bodies := []azservicebus.AMQPAnnotatedMessageBody{
		{Data: [][]byte{every}},
		{Data: [][]byte{{}}},
		{Data: [][]byte{[]byte("a"), {}, {0xff, 0xfe}}},
		{Data: [][]byte{[]byte("\xc3\x28 not UTF-8 \xed\xa0\x80")}},
		{Data: [][]byte{[]byte("{\"DATA\":\"x\"}\n\n{\"DATA\":")}},
		{Data: [][]byte{[]byte("\u2028\u2029\ufeff\x00\x7f\"\\")}},
		{Value: "text\x00"},
		{Value: int64(-1 << 63)},
		{Value: uint64(1<<64 - 1)},
		{Value: []byte{0, 255}},
		{Value: true},
		{Value: 3.5},
		{Value: map[string]any{"a": int32(1), "b": []any{"x", nil, uint8(3)}}},
		{Value: nil},
		{Sequence: [][]any{{"x", int64(1)}, {}, {[]byte{1}}}},
	}
	// What was sent, as the record has it. A message without a body is one with a null value.
	want := []message.Body{}
	for _, b := range bodies {
		switch {
		case b.Data != nil:
			want = append(want, message.Body{Kind: message.Data, Data: b.Data})
		case b.Sequence != nil:
			want = append(want, message.Body{Kind: message.Sequence, Sequence: b.Sequence})
		default:
			want = append(want, message.Body{Kind: message.Value, Value: b.Value})
		}
	}
	for _, sessions := range []bool{false, true} {
		s := newQueueSite(t, emulator.Queue{Sessions: sessions})
		all := make([]*azservicebus.AMQPAnnotatedMessage, len(bodies))
		ids := []string{"", "a/b", "..", "~", "ü 界", strings.Repeat("界", 128)}
		for i := range bodies {
			all[i] = &azservicebus.AMQPAnnotatedMessage{
				Body: bodies[i], Properties: &azservicebus.AMQPAnnotatedMessageProperties{},
				ApplicationProperties: map[string]any{"n": int32(i), "bytes": []byte{0xff}, "nothing": nil, "": "empty"},
			}
			if sessions {
				all[i].Properties.GroupID = &ids[i%len(ids)]
			}
		}
		s.send(t, "orders", all...)
		drainQueue(t, s.drainer(t), 2, work.Drained)
		s.empty(t)
		_, messages := s.blobs(t)
		if len(messages) != len(bodies) {
			t.Fatalf("%d messages are stored", len(messages))
		}
		for _, m := range messages {
			i := int(m.SequenceNumber) - 1
			if !reflect.DeepEqual(m.Body, want[i]) {
				t.Errorf("message %d: body %#v, expected %#v", i, m.Body, want[i])
			}
			if !reflect.DeepEqual(m.Properties, all[i].ApplicationProperties) {
				t.Errorf("message %d: properties %#v", i, m.Properties)
			}
			if sessions && (m.SessionID == nil || *m.SessionID != ids[i%len(ids)]) {
				t.Errorf("message %d: session %v", i, m.SessionID)
			}
			if m.DeliveryCount != 1 {
				t.Errorf("message %d: delivery count %d", i, m.DeliveryCount)
			}
		}
	}
}

// A message that the client can't take fails its loop, or its session, with a word on why. It doesn't end the
// worker, nor keep others from being stored.
func TestMessageThatTheClientCantTake(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		s := newQueueSite(t, emulator.Queue{Sessions: sessions, LockDuration: 2 * time.Second})
		var all []*azservicebus.AMQPAnnotatedMessage
		for i := range 30 {
			id := fmt.Sprint("s", i%3)
			m := &azservicebus.AMQPAnnotatedMessage{
				Body:       azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{fmt.Appendf(nil, "message %d", i+1)}},
				Properties: &azservicebus.AMQPAnnotatedMessageProperties{GroupID: &id},
			}
			if i == 13 {
				m.ApplicationProperties = map[string]any{"DeadLetterReason": int32(1)}
			}
			all = append(all, m)
		}
		s.send(t, "orders", all...)
		report := s.drainer(t).Drain(t.Context(), work.Unit{Run: "run", Tasks: 1, Sessions: map[bool][]string{true: {"s0", "s1", "s2"}}[sessions]})
		row := report.Sources[0]
		if row.Ended != work.Failed || !strings.Contains(row.Error, "DeadLetterReason") {
			t.Errorf("sessions %t: %+v", sessions, row)
		}
		if want := map[bool]int64{false: 10, true: 20}[sessions]; row.Messages < want {
			t.Errorf("sessions %t: %d messages were stored", sessions, row.Messages)
		}
		t.Log(row.Error)
		drainQueue(t, s.drainer(t), 1, work.Failed)
		if _, messages := s.blobs(t); !sessions && len(messages) != 29 {
			t.Errorf("%d messages are stored", len(messages))
		}
	}
}

func TestSubscriptionsAreDrained(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{})
	e, err := emulator.Start(emulator.Options{Topics: []emulator.Topic{{Name: "events", Subscriptions: []emulator.Subscription{
		{Name: "all"}, {Name: "sessions", Sessions: true}, {Name: "red", Rules: []emulator.Rule{{Name: "red", Filter: emulator.SQLFilter{Expression: "colour = 'red'"}}}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s.bus = e
	var all []*azservicebus.AMQPAnnotatedMessage
	for i := range 60 {
		id := fmt.Sprint("s", i%6)
		all = append(all, &azservicebus.AMQPAnnotatedMessage{
			Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{fmt.Appendf(nil, "message %d", i+1)}}, Properties: &azservicebus.AMQPAnnotatedMessageProperties{GroupID: &id},
			ApplicationProperties: map[string]any{"colour": []string{"red", "green", "blue"}[i%3]},
		})
	}
	s.send(t, "events", all...)
	for _, test := range []struct {
		name     string
		sessions string
		count    int
	}{{"all", "FALSE", 60}, {"sessions", "TRUE", 60}, {"red", "FALSE", 20}} {
		s.path, s.folder = "events/Subscriptions/"+test.name, "events/"+test.name
		s.settings = s.settings.with("SERVICE_BUS_CONNECTION_STRING="+e.ConnectionString(), "SERVICE_BUS_TYPE=TOPIC", "SERVICE_BUS_QUEUE_NAME=",
			"SERVICE_BUS_TOPIC_NAME=events", "SERVICE_BUS_SUB_NAME="+test.name, "SERVICE_BUS_SESSIONS="+test.sessions)
		drainQueue(t, s.drainer(t), 2, work.Drained)
		s.empty(t)
		if _, messages := s.blobs(t); len(messages) != test.count {
			t.Errorf("%s: %d messages are stored, expected %d", test.name, len(messages), test.count)
		}
	}
}

// A dead-lettered message keeps why it is one, and where it was before.
func TestDeadLettersKeepWhy(t *testing.T) {
	t.Parallel()
	s := newSource(t, 0, true)
	s.path = "orders"
	s.put(t, 1, 30, 0)
	client, err := azservicebus.NewClientFromConnectionString(s.bus.ConnectionString(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	receiver, err := client.NewReceiverForQueue("orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	for done := 0; done < 30; {
		received, err := receiver.ReceiveMessages(t.Context(), 30-done, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range received {
			reason, why := "bad order", "line 3: no such article"
			if err := receiver.DeadLetterMessage(t.Context(), m, &azservicebus.DeadLetterOptions{Reason: &reason, ErrorDescription: &why}); err != nil {
				t.Fatal(err)
			}
			done++
		}
	}
	s.path = "orders/$DeadLetterQueue"
	drainQueue(t, s.drainer(t), 2, work.Drained)
	s.empty(t)
	held, messages := s.blobs(t)
	if len(messages) != 30 || len(held) == 0 || held[0].Entity != "orders/$DeadLetterQueue" {
		t.Fatalf("%d messages, %+v", len(messages), held)
	}
	for _, m := range messages {
		if m.DeadLetterReason == nil || *m.DeadLetterReason != "bad order" || m.DeadLetterDescription == nil || *m.DeadLetterDescription != "line 3: no such article" ||
			m.DeadLetterSource == nil || *m.DeadLetterSource != "orders" || m.Properties["DeadLetterReason"] != "bad order" {
			t.Fatalf("%+v", m)
		}
	}
}

// Large messages go through, a few at a time. Who has such messages sets the idle timeout to more than one of them
// takes, for the client tells nothing of a message on its way.
func TestLargeMessages(t *testing.T) {
	s := newQueueSite(t, emulator.Queue{MaxMessageSize: 110 << 20}, "MEMORY_LIMIT=64MiB", "SERVICE_BUS_IDLE_TIMEOUT=12")
	random := rand.New(rand.NewPCG(1, 2))
	large := make([]byte, 100<<20)
	if testing.Short() {
		large = large[:4<<20]
	}
	for i := 0; i < len(large); i += 8 {
		large[i] = byte(random.Uint32())
	}
	messages := []emulator.QueueMessage{{Body: large}}
	for range 6 {
		messages = append(messages, emulator.QueueMessage{Body: large[:len(large)/12]}, emulator.QueueMessage{Body: []byte("small")})
	}
	if err := s.bus.PutMessages("orders", messages...); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	drainQueue(t, s.drainer(t), 1, work.Idle)
	s.empty(t)
	_, stored := s.blobs(t)
	if len(stored) != len(messages) {
		t.Fatalf("%d messages are stored", len(stored))
	}
	for _, m := range stored {
		if !bytes.Equal(m.Body.Data[0], messages[m.SequenceNumber-1].Body) {
			t.Errorf("message %d is altered", m.SequenceNumber)
		}
	}
}

// Many sessions of one message each: what a session costs is a handful of round trips, not a time of waiting.
func TestManySmallSessions(t *testing.T) {
	t.Parallel()
	sessions := 600
	switch {
	case isSoak():
		sessions = 10_000
	case testing.Short():
		sessions = 100
	}
	s := newQueueSite(t, emulator.Queue{Sessions: true})
	s.put(t, 1, sessions, sessions)
	began := time.Now()
	report := drainQueue(t, s.drainer(t), 8, work.Drained)
	took := time.Since(began) - 3*time.Second
	drained := int64(0)
	for _, row := range report.Sources {
		drained += row.Sessions
	}
	if drained != int64(sessions) || report.Messages != int64(sessions) {
		t.Errorf("%d sessions, %d messages", drained, report.Messages)
	}
	s.once(t, sessions)
	s.empty(t)
	t.Logf("%d sessions in %v, %v each", sessions, took, took/time.Duration(sessions))
}

// A session that grows while it is drained, over a long line, is stored in order: no blob holds a number
// between those of another.
func TestSessionStaysInOrderWhileItGrows(t *testing.T) {
	t.Parallel()
	s := newQueueSite(t, emulator.Queue{Sessions: true})
	s.put(t, 1, 200, 1)
	s.bus.Delay(15 * time.Millisecond)
	put := 200
	growing, done := time.NewTicker(2*time.Millisecond), make(chan struct{})
	go func() {
		defer close(done)
		for range growing.C {
			s.put(t, put+1, 3, 1)
			if put += 3; put >= 2000 {
				return
			}
		}
	}()
	report := drainQueue(t, s.drainer(t), 1, work.Drained)
	<-done
	growing.Stop()
	drainQueue(t, s.drainer(t), 1, work.Drained)
	s.once(t, put)
	held, _ := s.blobs(t)
	last := int64(0)
	for _, h := range held {
		if h.Held.First() <= last {
			t.Errorf("a blob from %d to %d follows one that ends at %d", h.Held.First(), h.Held.Last(), last)
		}
		last = max(last, h.Held.Last())
	}
	t.Logf("%d blobs, %d sessions: %+v", len(held), report.Sources[0].Sessions, report.Sources[0])
}

// One session of many messages is drained by one receiver, in order.
func TestOneLargeSession(t *testing.T) {
	t.Parallel()
	messages := int64(20_000)
	if isSoak() {
		messages = 1_000_000
	}
	s := newQueueSite(t, emulator.Queue{Sessions: true, Synthetic: &emulator.SyntheticQueue{Messages: messages, BodySize: 100, Sessions: 1}})
	report := drainQueue(t, s.drainer(t), 2, work.Drained)
	if report.Messages != messages {
		t.Errorf("%+v", report)
	}
	held, _ := s.blobs(t)
	last := int64(0)
	for _, h := range held {
		if h.Held.First() != last+1 || h.Held.Len() != h.Held.Last()-h.Held.First()+1 || h.After != last && (last > 0 || h.After != -1) {
			t.Fatalf("after %d: %+v", last, h)
		}
		last = h.Held.Last()
	}
	if last != messages {
		t.Errorf("stored up to %d", last)
	}
}
