package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

func TestServiceBusMessageID(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	sendTo(t, newBusSender(t, c, queueName), &azservicebus.Message{MessageID: ptr("given")}, text("one"), text("two"))
	ms := take(t, newBusReceiver(t, c, queueName, deleting), 3)
	if ms[0].MessageID != "given" || ms[1].MessageID == "" || ms[1].MessageID == ms[2].MessageID {
		t.Errorf("the message ids are %q, %q and %q", ms[0].MessageID, ms[1].MessageID, ms[2].MessageID)
	}
}

// The messages of a batch arrive one by one, each with what is its own.
func TestServiceBusBatch(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	s := newBusSender(t, c, queueName)
	batch, err := s.NewMessageBatch(withTimeout(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		m := &azservicebus.Message{Body: []byte(fmt.Sprint(i)), PartitionKey: ptr(fmt.Sprint("key", i)), SessionID: ptr(fmt.Sprint("key", i)), MessageID: ptr(fmt.Sprint("id", i))}
		if i == 2 {
			m.PartitionKey, m.SessionID = nil, nil
		}
		if err := batch.AddMessage(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.AddAMQPAnnotatedMessage(&azservicebus.AMQPAnnotatedMessage{Body: azservicebus.AMQPAnnotatedMessageBody{Value: "value"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.SendMessageBatch(withTimeout(t), batch, nil); err != nil {
		t.Fatal(err)
	}
	ms := take(t, newBusReceiver(t, c, queueName, deleting), 4)
	wantTexts(t, ms, "0,1,2,")
	for i, m := range ms[:2] {
		if key := fmt.Sprint("key", i); *m.PartitionKey != key || *m.SessionID != key || m.MessageID != fmt.Sprint("id", i) {
			t.Errorf("message %d has the key %v, the session %v and the id %s", i, m.PartitionKey, m.SessionID, m.MessageID)
		}
	}
	if m := ms[2]; m.PartitionKey != nil || m.SessionID != nil {
		t.Errorf("a message without has the key %v and the session %v of the batch", m.PartitionKey, m.SessionID)
	}
	if ms[3].RawAMQPMessage.Body.Value != "value" {
		t.Errorf("the value is %v", ms[3].RawAMQPMessage.Body.Value)
	}
}

// A batch of which one message cannot be taken is refused whole.
func TestServiceBusBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	s := newBusSender(t, newBus(t, e, sbAtOnce), queueName)
	batch, err := s.NewMessageBatch(withTimeout(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*azservicebus.Message{text("good", "a"), text("bad")} {
		if err := batch.AddMessage(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantCondition(t, s.SendMessageBatch(withTimeout(t), batch, nil), amqp.ErrCondNotAllowed, "SessionId")
	wantInfo(t, e, queueName, 0, 0, 0, 0)
	if err := s.SendMessage(withTimeout(t), text("long", strings.Repeat("é", 129)), nil); err == nil {
		t.Error("a session id of 129 characters was taken")
	}
	sendTo(t, s, text("just fits", strings.Repeat("é", 128)))
}

// What is too large is refused: by the client, which is told how large a message and a batch may be, and by the emulator.
func TestServiceBusTooLarge(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: "small", MaxMessageSize: 256 << 10}, {Name: "large", MaxMessageSize: 8 << 20}}})
	c := newBus(t, e, sbAtOnce)
	small, large := newBusSender(t, c, "small"), newBusSender(t, c, "large")
	if err := small.SendMessage(withTimeout(t), &azservicebus.Message{Body: make([]byte, 1<<20)}, nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("a message that is too large: %v", err)
	}
	sendTo(t, large, &azservicebus.Message{Body: make([]byte, 7<<20)})
	for name, most := range map[string]int{"small": 256 << 10, "large": 1 << 20} {
		s := map[string]*azservicebus.Sender{"small": small, "large": large}[name]
		batch, err := s.NewMessageBatch(withTimeout(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := batch.AddMessage(&azservicebus.Message{Body: make([]byte, most)}, nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
			t.Errorf("%s: a batch that is too large: %v", name, err)
		}
		if err := batch.AddMessage(&azservicebus.Message{Body: make([]byte, most-2000)}, nil); err != nil {
			t.Errorf("%s: a batch that fits: %v", name, err)
		}
		if err := s.SendMessageBatch(withTimeout(t), batch, nil); err != nil {
			t.Errorf("%s: a batch that fits: %v", name, err)
		}
	}
	// A client that does not look.
	batch, err := large.NewMessageBatch(withTimeout(t), &azservicebus.MessageBatchOptions{MaxBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.AddMessage(&azservicebus.Message{Body: make([]byte, 2<<20)}, nil); err != nil {
		t.Fatal(err)
	}
	wantCondition(t, large.SendMessageBatch(withTimeout(t), batch, nil), amqp.ErrCondMessageSizeExceeded, "batch")
}

// A queue that is full says so, and takes messages again when some are gone.
func TestServiceBusFull(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{MaxSize: 10_000})
	c := newBus(t, e, sbQuickly)
	s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, deleting)
	m := &azservicebus.Message{Body: make([]byte, 3000)}
	sendTo(t, s, m, m, m)
	wantCondition(t, s.SendMessage(withTimeout(t), m, nil), amqp.ErrCondResourceLimitExceeded, "is full")
	if err := e.PutMessages(queueName, emulator.QueueMessage{Body: m.Body}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("put into a full queue: %v", err)
	}
	take(t, r, 1)
	sendTo(t, s, m)
	take(t, r, 3)
	if info := queueInfo(t, e, queueName); info.Bytes != 0 {
		t.Errorf("an empty queue has %d bytes", info.Bytes)
	}
}

// Who sends where nobody may is refused for good.
func TestServiceBusNoSender(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{
		Hubs: []emulator.Hub{}, Topics: []emulator.Topic{{Name: "topic", Subscriptions: []emulator.Subscription{{Name: "sub"}}}},
		Queues: []emulator.Queue{{Name: queueName}, {Name: "made", Synthetic: &emulator.SyntheticQueue{Messages: 1}}},
	})
	c := newBus(t, e, sbQuickly)
	for name, want := range map[string]amqp.ErrCond{
		"nothing": amqp.ErrCondNotFound, queueName + "/$DeadLetterQueue": amqp.ErrCondNotAllowed, "topic/Subscriptions/sub": amqp.ErrCondNotAllowed, "made": amqp.ErrCondNotAllowed,
		queueName + "/$Transfer/$DeadLetterQueue": amqp.ErrCondNotAllowed,
	} {
		s := newBusSender(t, c, name)
		wantCondition(t, s.SendMessage(withTimeout(t), text("no"), nil), want, "")
	}
	conn := dialBus(t, e)
	for _, name := range []string{queueName + "/$DeadLetterQueue", "topic/Subscriptions/sub", "made"} {
		encoded, err := amqp.NewMessage([]byte("no")).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		reply := request(t, conn, name, "schedule-message", map[string]any{"messages": []any{map[string]any{"message": encoded}}})
		if status := reply.ApplicationProperties["status-code"]; status != int32(400) {
			t.Errorf("a message for %s is scheduled with status %v", name, status)
		}
	}
}

// Scheduled messages are there but not to be had until their time, can be cancelled, and come with a new number.
func TestServiceBusSchedule(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}}, Now: clock.now})
	c := newBus(t, e, sbAtOnce)
	s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, peekLock)
	due := clock.now().Add(time.Hour)
	numbers, err := s.ScheduleMessages(withTimeout(t), []*azservicebus.Message{text("cancelled"), text("scheduled")}, due, nil)
	if err != nil || len(numbers) != 2 {
		t.Fatalf("scheduled: %v, %v", numbers, err)
	}
	raw := azservicebus.AMQPAnnotatedMessage{Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("raw")}}}
	if _, err := s.ScheduleAMQPAnnotatedMessages(withTimeout(t), []*azservicebus.AMQPAnnotatedMessage{&raw}, due.Add(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	later := due.Add(2 * time.Second)
	sendTo(t, s, &azservicebus.Message{Body: []byte("by field"), ScheduledEnqueueTime: &later}, text("now"))
	ms, err := r.PeekMessages(withTimeout(t), 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, ms, "cancelled,scheduled,raw,by field,now")
	for i, m := range ms {
		want := azservicebus.MessageStateScheduled
		if i == 4 {
			want = azservicebus.MessageStateActive
		}
		if m.State != want || i < 2 && (*m.SequenceNumber != numbers[i] || !m.ScheduledEnqueueTime.Equal(due)) {
			t.Errorf("peeked %s with the number %d, the state %d and the time %v", m.Body, *m.SequenceNumber, m.State, m.ScheduledEnqueueTime)
		}
	}
	if err := s.CancelScheduledMessages(withTimeout(t), numbers[:1], nil); err != nil {
		t.Fatal(err)
	}
	wantBusCode(t, s.CancelScheduledMessages(withTimeout(t), numbers[:1], nil), azservicebus.CodeNotFound, "")
	wantInfo(t, e, queueName, 1, 0, 0, 3)
	complete(t, r, take(t, r, 1)...)
	got := make(chan []*azservicebus.ReceivedMessage)
	go func() { got <- take(t, r, 3) }()
	for range 3 { // while someone waits
		clock.add(20*time.Minute + time.Second)
	}
	ms = <-got
	wantTexts(t, ms, "scheduled,raw,by field")
	if *ms[0].SequenceNumber <= numbers[1] || ms[0].EnqueuedTime.Before(due) {
		t.Errorf("after its time the message has the number %d and the enqueued time %v", *ms[0].SequenceNumber, ms[0].EnqueuedTime)
	}
}

// A message whose id came before within the window is taken and dropped.
func TestServiceBusDuplicates(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{
		Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName, DuplicateDetection: time.Minute}}, Now: clock.now,
		Topics: []emulator.Topic{{Name: "topic", DuplicateDetection: time.Minute, Subscriptions: []emulator.Subscription{{Name: "sub"}}}},
	})
	c := newBus(t, e, sbAtOnce)
	for _, name := range []string{queueName, "topic"} {
		s := newBusSender(t, c, name)
		m := func(body, id string) *azservicebus.Message {
			return &azservicebus.Message{Body: []byte(body), MessageID: &id}
		}
		sendTo(t, s, m("first", "1"), m("again", "1"), m("second", "2"), text("without"), text("without"))
		clock.add(59 * time.Second)
		sendTo(t, s, m("again", "2"))
		clock.add(time.Second)
		sendTo(t, s, m("after the window", "1"))
	}
	sub, err := c.NewReceiverForSubscription("topic", "sub", &deleting)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, sub)
	for _, r := range []busReceiver{newBusReceiver(t, c, queueName, deleting), sub} {
		wantTexts(t, take(t, r, 5), "first,second,without,without,after the window")
		takeNone(t, r)
	}
	if info := queueInfo(t, e, queueName); info.Sent != 7 || info.Duplicates != 2 {
		t.Errorf("the queue says %+v", info)
	}
}

// A message has the shorter life of what its sender and its queue say, and is gone after that, or dead-lettered.
func TestServiceBusTimeToLive(t *testing.T) {
	t.Parallel()
	for _, deadLetters := range []bool{false, true} {
		t.Run(fmt.Sprint("dead letters ", deadLetters), func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			e := run(t, emulator.Options{AllowAnyToken: true, Hubs: []emulator.Hub{}, Now: clock.now, Queues: []emulator.Queue{{Name: queueName, TTL: time.Hour, DeadLetterOnExpiration: deadLetters, LockDuration: 5 * time.Minute}}})
			c := newBus(t, e, sbAtOnce)
			s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, peekLock)
			life := func(body string, ttl time.Duration) *azservicebus.Message {
				return &azservicebus.Message{Body: []byte(body), TimeToLive: &ttl}
			}
			sendTo(t, s, life("locked", time.Minute), life("deferred", time.Minute))
			ms := take(t, r, 2)
			if err := r.DeferMessage(withTimeout(t), ms[1], nil); err != nil {
				t.Fatal(err)
			}
			sendTo(t, s, life("short", time.Minute), life("long", 2*time.Hour), text("without"), life("renewed", 3*time.Minute))
			clock.add(2 * time.Minute)
			// What is locked is gone only after its lock; what is deferred stays.
			wantInfo(t, e, queueName, 3, 1, 1, 0)
			if err := r.AbandonMessage(withTimeout(t), ms[0], nil); err != nil {
				t.Fatal(err)
			}
			wantInfo(t, e, queueName, 3, 0, 1, 0)
			ms = take(t, r, 2)
			wantTexts(t, ms, "long,without")
			for _, m := range ms {
				if *m.TimeToLive != time.Hour || !m.ExpiresAt.Equal(m.EnqueuedTime.Add(time.Hour)) {
					t.Errorf("%s lives for %v, until %v", m.Body, m.TimeToLive, m.ExpiresAt)
				}
			}
			clock.add(10 * time.Minute)
			wantInfo(t, e, queueName, 2, 0, 1, 0)
			clock.add(time.Hour)
			wantInfo(t, e, queueName, 0, 0, 1, 0)
			info := queueInfo(t, e, queueName)
			if info.Expired != 5 || deadLetters && info.DeadLettered != 5 || !deadLetters && info.DeadLettered != 0 {
				t.Errorf("the queue says %+v", info)
			}
			if !deadLetters {
				return
			}
			clock.add(1000 * time.Hour) // which ends no dead letter
			for _, m := range take(t, newBusReceiver(t, c, queueName, deadLetter), 5) {
				if *m.DeadLetterReason != "TTLExpiredException" || *m.DeadLetterSource != queueName {
					t.Errorf("the dead letter is %+v", m)
				}
			}
		})
	}
}

// A clock that is set back dates no message before the one that it follows.
func TestServiceBusClockSetBack(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}}, Now: clock.now})
	c := newBus(t, e, sbAtOnce)
	s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, peekLock)
	sendTo(t, s, text("a"))
	early := take(t, r, 1)[0]
	clock.add(-10 * time.Second)
	sendTo(t, s, text("b"))
	late := take(t, r, 1)[0]
	if late.EnqueuedTime.Before(*early.EnqueuedTime) || !late.LockedUntil.Before(*early.LockedUntil) {
		t.Errorf("enqueued at %v and %v, locked until %v and %v", early.EnqueuedTime, late.EnqueuedTime, early.LockedUntil, late.LockedUntil)
	}
	clock.add(time.Minute) // which is the end of the second lock alone
	wantInfo(t, e, queueName, 1, 1, 0, 0)
	complete(t, r, early)
}

// A receiver that waits sees an expired message neither before nor after.
func TestServiceBusExpiryWhileWaiting(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{TTL: 20 * time.Millisecond, DeadLetterOnExpiration: true})
	c := newBus(t, e, sbAtOnce)
	d := newBusReceiver(t, c, queueName, deadLetter)
	got := make(chan []*azservicebus.ReceivedMessage)
	go func() { got <- take(t, d, 1) }()
	put(t, e, queueName, "a")
	wantTexts(t, <-got, "a")
}

// A sender goes on over links and connections that are lost.
func TestServiceBusSenderRecovers(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbQuickly)
	s := newBusSender(t, c, queueName)
	for i := range 6 {
		sendTo(t, s, text(fmt.Sprint(i)))
		if i%2 == 0 {
			e.DetachLinks(linksTo(queueName), "amqp:link:detach-forced", "a test wants it")
		} else {
			e.DropConnections()
		}
	}
	got := map[string]bool{}
	for _, m := range take(t, newBusReceiver(t, c, queueName, deleting), int(queueInfo(t, e, queueName).Active)) {
		got[string(m.Body)] = true
	}
	if len(got) != 6 {
		t.Errorf("of 6 messages came %d: %v", len(got), got)
	}
}

// A client that lacks a right is told which.
func TestServiceBusRights(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}}, Keys: []emulator.Key{{Name: "sends", Value: "a2V5", Send: true}, {Name: "listens", Value: "a2V5", Listen: true}}})
	for name, claim := range map[string]string{"sends": "Listen", "listens": "Send"} {
		c, err := azservicebus.NewClientFromConnectionString(withKey(e, name, "a2V5"), &azservicebus.ClientOptions{RetryOptions: sbAtOnce})
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, c)
		_, received := newBusReceiver(t, c, queueName, peekLock).ReceiveMessages(withTimeout(t), 1, nil)
		sent := newBusSender(t, c, queueName).SendMessage(withTimeout(t), text("a"), nil)
		failed, worked := received, sent
		if name == "listens" {
			failed = sent
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, worked = newBusReceiver(t, c, queueName, deleting).ReceiveMessages(ctx, 1, nil)
		}
		wantBusCode(t, failed, azservicebus.CodeUnauthorizedAccess, "Unauthorized access. '"+claim+"' claim(s) are required to perform this operation")
		if worked != nil && !errors.Is(worked, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, worked)
		}
	}
	// The rights count for requests, too.
	conn := dialAMQP(t, e)
	if _, err := call(withTimeout(t), conn, "$cbs", putToken(e, "", signed(e.Address(), "sends", "a2V5", time.Now().Add(time.Hour)))); err != nil {
		t.Fatal(err)
	}
	reply := request(t, conn, queueName, "peek-message", map[string]any{"from-sequence-number": int64(1), "message-count": int32(1)})
	if status := reply.ApplicationProperties["status-code"]; status != int32(401) {
		t.Errorf("a client that may only send peeks with status %v", status)
	}
}
