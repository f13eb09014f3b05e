package emulator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

// Messages come in the order in which they were sent, and are gone when they are completed.
func TestServiceBusOrder(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	s := newBusSender(t, c, queueName)
	for _, body := range counted(5) {
		sendTo(t, s, text(body))
	}
	r := newBusReceiver(t, c, queueName, peekLock)
	ms := take(t, r, 5)
	wantTexts(t, ms, "0,1,2,3,4")
	for i, m := range ms {
		if *m.SequenceNumber != int64(i+1) || m.DeliveryCount != 1 || m.LockedUntil == nil || m.MessageID == "" || m.EnqueuedTime == nil {
			t.Errorf("message %d is %+v", i, m)
		}
	}
	wantInfo(t, e, queueName, 0, 5, 0, 0)
	complete(t, r, ms...)
	wantInfo(t, e, queueName, 0, 0, 0, 0)
}

// What is received in the mode that deletes is gone, and nothing of it is lost.
func TestServiceBusReceiveAndDelete(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, counted(3000)...)
	r := newBusReceiver(t, c, queueName, deleting)
	ms := take(t, r, 3000)
	wantTexts(t, ms, strings.Join(counted(3000), ","))
	wantInfo(t, e, queueName, 0, 0, 0, 0)
	if ms[0].LockedUntil != nil || ms[0].LockToken != [16]byte{} {
		t.Errorf("a message that is gone is locked until %v", ms[0].LockedUntil)
	}
	if err := r.CompleteMessage(withTimeout(t), ms[0], nil); err == nil {
		t.Error("a message that is gone can be completed")
	}
}

// A receiver that asks for more than there is gets what there is.
func TestServiceBusTooFew(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	put(t, e, queueName, "a", "b", "c")
	ms, err := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock).ReceiveMessages(withTimeout(t), 10, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, ms, "a,b,c")
}

// The credit that a cancelled receive leaves behind loses no message: the client gives it back or keeps it.
func TestServiceBusReceiveCancelled(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]azservicebus.ReceiverOptions{"locked": peekLock, "deleting": deleting} {
		t.Run(name, func(t *testing.T) {
			e := runQueue(t, emulator.Queue{})
			c := newBus(t, e, sbAtOnce)
			r := newBusReceiver(t, c, queueName, o)
			takeNone(t, r)
			sendTo(t, newBusSender(t, c, queueName), text("late"))
			ms := take(t, r, 1)
			wantTexts(t, ms, "late")
			if ms[0].DeliveryCount != 1 {
				t.Errorf("a message that was given back has the delivery count %d", ms[0].DeliveryCount)
			}
		})
	}
}

// A client that asks for more than it takes releases what it gets later. All messages come all the same, once, and with
// no delivery counted.
func TestServiceBusReleasedMessagesComeAgain(t *testing.T) {
	t.Parallel()
	const n = 2000
	e := runQueue(t, emulator.Queue{LockDuration: 5 * time.Minute})
	put(t, e, queueName, counted(n)...)
	r := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock)
	ctx := withTimeout(t)
	got := map[int64]bool{}
	for len(got) < n {
		brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		ms, err := r.ReceiveMessages(brief, 500, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Microsecond})
		cancel()
		if err != nil && ctx.Err() != nil {
			t.Fatalf("after %d messages: %v, the queue has %+v", len(got), err, queueInfo(t, e, queueName))
		}
		for _, m := range ms {
			if got[*m.SequenceNumber] || m.DeliveryCount != 1 {
				t.Fatalf("message %d comes again, or with the count %d", *m.SequenceNumber, m.DeliveryCount)
			}
			got[*m.SequenceNumber] = true
		}
		complete(t, r, ms...)
	}
	wantInfo(t, e, queueName, 0, 0, 0, 0)
}

// Receivers that wait are served in the order in which they began to.
func TestServiceBusReceiversTakeTurns(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	got := make(chan string)
	for i := range 3 {
		r := newBusReceiver(t, c, queueName, deleting)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			ms, err := r.ReceiveMessages(ctx, 1, nil)
			got <- fmt.Sprint(i, texts(ms), err)
		}()
		eventually(t, "the receiver waits", func() bool {
			links := e.Links()
			return slices.ContainsFunc(links, func(l emulator.Link) bool { return l.Receives && l.Address == queueName && l.Credit == 1 }) &&
				len(slices.DeleteFunc(links, func(l emulator.Link) bool { return l.Address != queueName || l.Credit != 1 })) == i+1
		})
	}
	for i := range 3 {
		body := string(rune('a' + i))
		put(t, e, queueName, body)
		if line, want := <-got, fmt.Sprint(i, body, nil); line != want {
			t.Errorf("got %s, want %s", line, want)
		}
	}
}

// Two receivers share the messages: each goes to one of them.
func TestServiceBusReceiversShare(t *testing.T) {
	t.Parallel()
	const n = 1000
	e := runQueue(t, emulator.Queue{})
	put(t, e, queueName, counted(n)...)
	got := make(chan string, n)
	for range 3 {
		r := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock)
		go func() {
			for {
				ms, err := r.ReceiveMessages(t.Context(), 50, nil)
				if err != nil {
					return
				}
				for _, m := range ms {
					if err := r.CompleteMessage(t.Context(), m, nil); err == nil {
						got <- string(m.Body)
					}
				}
			}
		}()
	}
	seen := map[string]bool{}
	ctx := withTimeout(t)
	for range n {
		select {
		case body := <-got:
			if seen[body] {
				t.Fatalf("message %s came twice", body)
			}
			seen[body] = true
		case <-ctx.Done():
			t.Fatalf("%d of %d messages came; the queue has %+v", len(seen), n, queueInfo(t, e, queueName))
		}
	}
}

// All that a message can have arrives, and arrives again when the message is sent on.
func TestServiceBusEveryField(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, deleting)
	scheduled := time.Now().Add(-time.Second).Truncate(time.Millisecond).UTC()
	sent := &azservicebus.Message{
		Body: []byte("body"), ApplicationProperties: map[string]any{"hello": "world"},
		ContentType: ptr("application/text"), CorrelationID: ptr("correlation"), MessageID: ptr("message"), PartitionKey: ptr("session"),
		ReplyTo: ptr("reply"), ReplyToSessionID: ptr("reply session"), ScheduledEnqueueTime: &scheduled, SessionID: ptr("session"),
		Subject: ptr("subject"), TimeToLive: ptr(time.Minute), To: ptr("to"),
	}
	sendTo(t, s, sent)
	first := take(t, r, 1)[0]
	if diff := cmp.Diff(sent, first.Message()); diff != "" {
		t.Errorf("received (-sent +got):\n%s", diff)
	}
	if want := first.EnqueuedTime.Add(time.Minute); !first.ExpiresAt.Equal(want) || !first.RawAMQPMessage.Properties.AbsoluteExpiryTime.Equal(want) {
		t.Errorf("it expires at %v and %v, want %v", first.ExpiresAt, first.RawAMQPMessage.Properties.AbsoluteExpiryTime, want)
	}
	sendTo(t, s, first.Message())
	if diff := cmp.Diff(sent, take(t, r, 1)[0].Message()); diff != "" {
		t.Errorf("received again (-sent +got):\n%s", diff)
	}
}

// Application properties of every type that may be there keep it.
func TestServiceBusPropertyTypes(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	properties := map[string]any{
		"bool": true, "byte": uint8(128), "int8": int8(-101), "uint16": uint16(60000), "int16": int16(-30000), "uint32": uint32(1 << 31), "int32": int32(-400),
		"uint64": uint64(1 << 63), "int64": int64(-1 << 62), "float32": float32(1.5), "float64": 400.1, "string": "hello", "empty": "", "nil": nil,
		"rune": 'ä', "uuid": amqp.UUID{1, 2, 3}, "binary": []byte{0, 255}, "time": time.Date(2000, 1, 1, 1, 2, 3, 0, time.UTC), "symbol": "s",
	}
	sendTo(t, newBusSender(t, c, queueName), &azservicebus.Message{Body: []byte("typed"), ApplicationProperties: properties})
	got := take(t, newBusReceiver(t, c, queueName, deleting), 1)[0]
	if diff := cmp.Diff(properties, got.ApplicationProperties); diff != "" {
		t.Errorf("properties (-sent +got):\n%s", diff)
	}
}

// A message of parts that only AMQP knows comes out as it went in, with what the service adds and nothing else.
func TestServiceBusAnnotatedMessages(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, peekLock)
	for name, body := range map[string]azservicebus.AMQPAnnotatedMessageBody{
		"data":     {Data: [][]byte{[]byte("one"), {}, []byte("three")}},
		"value":    {Value: "text"},
		"sequence": {Sequence: [][]any{{"a", int64(1)}, {true}}},
	} {
		t.Run(name, func(t *testing.T) {
			sent := &azservicebus.AMQPAnnotatedMessage{
				Header:              &azservicebus.AMQPAnnotatedMessageHeader{Durable: true, Priority: 100},
				DeliveryAnnotations: map[any]any{"x-opt-delivery": "d"},
				MessageAnnotations: map[any]any{
					"x-opt-message": "m", "x-opt-sequence-number": int64(-7), "x-opt-locked-until": "never", "x-opt-message-state": "odd", "x-opt-partition-key": nil,
				},
				Properties:            &azservicebus.AMQPAnnotatedMessageProperties{MessageID: uint64(7), CorrelationID: amqp.UUID{1}, UserID: []byte("me")},
				ApplicationProperties: map[string]any{"hello": "world"},
				Body:                  body,
				Footer:                map[any]any{"x-opt-footer": "f"},
			}
			if err := s.SendAMQPAnnotatedMessage(withTimeout(t), sent, nil); err != nil {
				t.Fatal(err)
			}
			m := take(t, r, 1)[0]
			complete(t, r, m)
			got := m.RawAMQPMessage
			for _, own := range []string{"x-opt-sequence-number", "x-opt-enqueued-time", "x-opt-locked-until"} {
				if got.MessageAnnotations[own] == nil {
					t.Errorf("the annotation %s is missing", own)
				}
				delete(got.MessageAnnotations, own)
			}
			if got.DeliveryAnnotations["x-opt-lock-token"] != amqp.UUID(m.LockToken) || *m.SequenceNumber < 1 || m.State != azservicebus.MessageStateActive {
				t.Errorf("the lock token is %v in the annotations, %v in the tag", got.DeliveryAnnotations["x-opt-lock-token"], m.LockToken)
			}
			delete(got.DeliveryAnnotations, "x-opt-lock-token")
			for _, forged := range []string{"x-opt-sequence-number", "x-opt-locked-until", "x-opt-message-state"} {
				delete(sent.MessageAnnotations, forged)
			}
			got.DeliveryTag = nil
			if diff := cmp.Diff(sent, got, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".inner" }, cmp.Ignore())); diff != "" {
				t.Errorf("received (-sent +got):\n%s", diff)
			}
		})
	}
}

// Messages larger than a frame, and than the client's window, go through in both directions.
func TestServiceBusLargeMessages(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{MaxMessageSize: 20 << 20})
	c := newBus(t, e, sbAtOnce)
	s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, peekLock)
	for _, size := range []int{0, 1, 65535, 65536, 1 << 20, 16 << 20} {
		body := bytes.Repeat([]byte{byte(size), 'x', 0}, size/3+1)[:size]
		sendTo(t, s, &azservicebus.Message{Body: body})
		m := take(t, r, 1)[0]
		if !bytes.Equal(m.Body, body) {
			t.Errorf("of a body of %d bytes came %d", size, len(m.Body))
		}
		complete(t, r, m)
	}
}

// A receiver of what is not there, or may not be received from, is refused for good.
func TestServiceBusNoReceiver(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}, {Name: "sessions", Sessions: true}}, Topics: []emulator.Topic{{Name: "topic"}}})
	c := newBus(t, e, sbQuickly)
	for name, want := range map[string]struct{ condition, text string }{
		"nothing":                     {"amqp:not-found", "could not be found"},
		"orders/nothing":              {"amqp:not-found", "could not be found"},
		"topic/Subscriptions/nothing": {"amqp:not-found", "could not be found"},
		"topic":                       {"amqp:not-allowed", "subscriptions"},
		"sessions":                    {"amqp:not-allowed", "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."},
	} {
		r := newBusReceiver(t, c, name, peekLock)
		_, err := r.ReceiveMessages(withTimeout(t), 1, nil)
		wantCondition(t, err, amqp.ErrCond(want.condition), want.text)
		_, err = r.PeekMessages(withTimeout(t), 1, nil)
		wantCondition(t, err, amqp.ErrCond(want.condition), want.text)
		if name != "sessions" && !errors.As(err, new(*amqp.Error)) {
			t.Error(err)
		}
	}
	_, err := c.AcceptSessionForQueue(withTimeout(t), queueName, "a", nil)
	wantCondition(t, err, amqp.ErrCondNotAllowed, "does not require sessions")
	for _, sub := range []azservicebus.SubQueue{azservicebus.SubQueueDeadLetter, azservicebus.SubQueueTransfer} {
		takeNone(t, newBusReceiver(t, c, "sessions", azservicebus.ReceiverOptions{SubQueue: sub}))
	}
}

// Addresses may be written in any case, with slashes around them, and names may have slashes in them.
func TestServiceBusAddresses(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: "eu"}}, Queues: []emulator.Queue{{Name: "eu/orders/new"}, {Name: "eu/orders"}}})
	c := newBus(t, e, sbAtOnce)
	for _, name := range []string{"eu/orders/new", "EU/Orders/NEW", "/eu/orders/new"} {
		put(t, e, "eu/orders/new", "found")
		wantTexts(t, take(t, newBusReceiver(t, c, name, deleting), 1), "found")
	}
	conn := dialBus(t, e)
	for _, address := range []string{"amqps://host/eu/orders/new", "sb://host:5671/eu/orders/new/"} {
		put(t, e, "eu/orders/new", "found")
		r, err := newSession(t, conn).NewReceiver(withTimeout(t), address, nil)
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		mustReceive(t, r)
		if err := r.Close(withTimeout(t)); err != nil {
			t.Fatal(err)
		}
	}
	wantInfo(t, e, "eu/orders", 0, 0, 0, 0)
}
