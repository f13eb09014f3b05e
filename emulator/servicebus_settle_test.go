package emulator_test

import (
	"context"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
)

const (
	deadLetters = queueName + "/$DeadLetterQueue"
	lockInvalid = "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue"
)

// An abandoned message comes again at once, before all that is behind it, with one delivery more and the properties
// that were changed.
func TestServiceBusAbandon(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	r := newBusReceiver(t, c, queueName, peekLock)
	sendTo(t, newBusSender(t, c, queueName), &azservicebus.Message{Body: []byte("a"), ApplicationProperties: map[string]any{"kept": "k", "changed": "before"}}, text("b"))
	for count := uint32(1); count < 4; count++ {
		m := take(t, r, 1)[0]
		if string(m.Body) != "a" || m.DeliveryCount != count || *m.SequenceNumber != 1 {
			t.Fatalf("got %s, number %d, with the count %d, want a, 1, %d", m.Body, *m.SequenceNumber, m.DeliveryCount, count)
		}
		err := r.AbandonMessage(withTimeout(t), m, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"changed": int64(count), "new": nil}})
		if err != nil {
			t.Fatal(err)
		}
	}
	ms := take(t, r, 2)
	wantTexts(t, ms, "a,b")
	if diff := cmp.Diff(map[string]any{"kept": "k", "changed": int64(3), "new": nil}, ms[0].ApplicationProperties); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}

// A message that fails too often is dead-lettered, and tells why.
func TestServiceBusMaxDeliveryCount(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{MaxDeliveryCount: 3})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, "good", "poison")
	r := newBusReceiver(t, c, queueName, peekLock)
	complete(t, r, take(t, r, 1)...)
	var enqueued time.Time
	for range 3 {
		m := take(t, r, 1)[0]
		enqueued = *m.EnqueuedTime
		if err := r.AbandonMessage(withTimeout(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantInfo(t, e, queueName, 0, 0, 0, 0)
	m := take(t, newBusReceiver(t, c, queueName, deadLetter), 1)[0]
	if string(m.Body) != "poison" || *m.DeadLetterReason != "MaxDeliveryCountExceeded" || *m.DeadLetterSource != queueName ||
		m.DeadLetterErrorDescription == nil || *m.SequenceNumber != 2 || *m.EnqueuedSequenceNumber != 2 || !m.EnqueuedTime.Equal(enqueued) {
		t.Errorf("the dead letter is %+v", m)
	}
}

// A message that a receiver dead-letters tells why, and its count stands still from then on. It leaves the dead-letter
// queue only when it is completed.
func TestServiceBusDeadLetter(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{MaxDeliveryCount: 3, TTL: time.Hour})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, "bad")
	r := newBusReceiver(t, c, queueName, peekLock)
	if err := r.AbandonMessage(withTimeout(t), take(t, r, 1)[0], nil); err != nil {
		t.Fatal(err)
	}
	m := take(t, r, 1)[0]
	err := r.DeadLetterMessage(withTimeout(t), m, &azservicebus.DeadLetterOptions{
		Reason: ptr("the reason"), ErrorDescription: ptr("the description"), PropertiesToModify: map[string]any{"more": int64(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := newBusReceiver(t, c, queueName, deadLetter)
	for range 5 {
		m := take(t, d, 1)[0]
		want := map[string]any{"DeadLetterReason": "the reason", "DeadLetterErrorDescription": "the description", "more": int64(1)}
		if diff := cmp.Diff(want, m.ApplicationProperties); diff != "" || m.DeliveryCount != 2 || *m.DeadLetterSource != queueName {
			t.Fatalf("the dead letter has the count %d, the source %v and the properties (-want +got):\n%s", m.DeliveryCount, m.DeadLetterSource, diff)
		}
		if err := d.AbandonMessage(withTimeout(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	m = take(t, d, 1)[0]
	if err := d.DeadLetterMessage(withTimeout(t), m, nil); err == nil {
		t.Error("a dead letter was dead-lettered again")
	}
	complete(t, d, &azservicebus.ReceivedMessage{LockToken: m.LockToken}) // the client takes m for settled
	wantInfo(t, e, deadLetters, 0, 0, 0, 0)
	if n, err := e.Queue(queueName); err != nil || n.DeadLettered != 1 {
		t.Errorf("the queue says %+v, %v", n, err)
	}
}

// Dead letters come in the order of their numbers, whenever they died, and one whose number is taken gets another.
func TestServiceBusDeadLetterOrder(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, counted(5)...)
	r := newBusReceiver(t, c, queueName, peekLock)
	ms := take(t, r, 5)
	put(t, e, deadLetters, "put here")
	for _, i := range []int{4, 2, 0, 3} {
		if err := r.DeadLetterMessage(withTimeout(t), ms[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	d := take(t, newBusReceiver(t, c, queueName, deadLetter), 5)
	wantTexts(t, d, "put here,2,3,4,0")
	for i, want := range []int64{1, 3, 4, 5, 6} {
		if *d[i].SequenceNumber != want {
			t.Errorf("dead letter %s has the number %d, want %d", d[i].Body, *d[i].SequenceNumber, want)
		}
	}
}

// A deferred message is received by its number alone, keeps being deferred when it is abandoned or deferred again, and
// can be dead-lettered and completed.
func TestServiceBusDefer(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, "a", "b")
	r := newBusReceiver(t, c, queueName, peekLock)
	number := []int64{1}
	deferred := func() *azservicebus.ReceivedMessage {
		t.Helper()
		wantInfo(t, e, queueName, 0, 0, 1, 0)
		ms, err := r.ReceiveDeferredMessages(withTimeout(t), number, nil)
		if err != nil || len(ms) != 1 || ms[0].State != azservicebus.MessageStateDeferred || ms[0].LockedUntil == nil {
			t.Fatalf("deferred: got %+v, %v", ms, err)
		}
		return ms[0]
	}
	ms := take(t, r, 2)
	complete(t, r, ms[1])
	if err := r.DeferMessage(withTimeout(t), ms[0], &azservicebus.DeferMessageOptions{PropertiesToModify: map[string]any{"why": "later"}}); err != nil {
		t.Fatal(err)
	}
	m := deferred()
	if m.DeliveryCount != 1 || m.ApplicationProperties["why"] != "later" {
		t.Errorf("after deferring: %+v", m)
	}
	if _, err := r.ReceiveDeferredMessages(withTimeout(t), number, nil); err == nil {
		t.Error("a deferred message that is locked was received again")
	}
	if err := r.AbandonMessage(withTimeout(t), m, nil); err != nil {
		t.Fatal(err)
	}
	if m = deferred(); m.DeliveryCount != 2 {
		t.Errorf("after abandoning: the count is %d", m.DeliveryCount)
	}
	if err := r.DeferMessage(withTimeout(t), m, nil); err != nil {
		t.Fatal(err)
	}
	m = deferred()
	if n, err := e.ExpireLocks(queueName); n != 1 || err != nil {
		t.Fatalf("expired %d locks, %v", n, err)
	}
	wantBusCode(t, r.CompleteMessage(withTimeout(t), m, nil), azservicebus.CodeLockLost, lockInvalid)
	if m = deferred(); m.DeliveryCount != 3 {
		t.Errorf("after the lock's end: the count is %d", m.DeliveryCount)
	}
	if err := r.DeadLetterMessage(withTimeout(t), m, nil); err != nil {
		t.Fatal(err)
	}
	wantInfo(t, e, queueName, 0, 0, 0, 0)
	complete(t, r, take(t, newBusReceiver(t, c, queueName, deadLetter), 1)[0]) // the client settles where it came from
	if _, err := r.ReceiveDeferredMessages(withTimeout(t), number, nil); err == nil {
		t.Error("a deferred message that is gone was received")
	}
}

// Deferred messages are received and gone at once by a receiver that deletes.
func TestServiceBusDeferAndDelete(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, "a", "b")
	r := newBusReceiver(t, c, queueName, peekLock)
	for _, m := range take(t, r, 2) {
		if err := r.DeferMessage(withTimeout(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	d := newBusReceiver(t, c, queueName, deleting)
	if _, err := d.ReceiveDeferredMessages(withTimeout(t), []int64{1, 3}, nil); err == nil {
		t.Error("a deferred message was received together with one that is not there")
	}
	ms, err := d.ReceiveDeferredMessages(withTimeout(t), []int64{2, 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, ms, "b,a")
	wantInfo(t, e, queueName, 0, 0, 0, 0)
}

// A lock that ends gives the message to the next receiver with one delivery more, and its first receiver can't settle
// it any more. That is so whether someone waits or not.
func TestServiceBusLockExpires(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{LockDuration: 30 * time.Millisecond})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, "a")
	first, second := newBusReceiver(t, c, queueName, peekLock), newBusReceiver(t, c, queueName, deleting)
	lost := take(t, first, 1)[0]
	m := take(t, second, 1)[0]
	if m.DeliveryCount != 2 || m.EnqueuedTime.Before(lost.LockedUntil.Add(-time.Minute)) {
		t.Errorf("it comes with the count %d", m.DeliveryCount)
	}
	for name, err := range map[string]error{
		"complete":    first.CompleteMessage(withTimeout(t), lost, nil),
		"renew":       first.RenewMessageLock(withTimeout(t), lost, nil),
		"by token":    first.CompleteMessage(withTimeout(t), &azservicebus.ReceivedMessage{LockToken: lost.LockToken}, nil),
		"any message": first.CompleteMessage(withTimeout(t), &azservicebus.ReceivedMessage{LockToken: [16]byte{1}}, nil),
	} {
		t.Run(name, func(t *testing.T) { wantBusCode(t, err, azservicebus.CodeLockLost, lockInvalid) })
	}
}

// A lock is not another lock of the same message.
func TestServiceBusStaleLock(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, "a")
	first, second := newBusReceiver(t, c, queueName, peekLock), newBusReceiver(t, c, queueName, peekLock)
	stale := take(t, first, 1)[0]
	if _, err := e.ExpireLocks(queueName); err != nil {
		t.Fatal(err)
	}
	m := take(t, second, 1)[0]
	wantBusCode(t, first.CompleteMessage(withTimeout(t), stale, nil), azservicebus.CodeLockLost, lockInvalid)
	wantBusCode(t, first.RenewMessageLock(withTimeout(t), stale, nil), azservicebus.CodeLockLost, lockInvalid)
	wantInfo(t, e, queueName, 0, 1, 0, 0)
	complete(t, second, m)
}

// A lock that is renewed lasts, and tells until when.
func TestServiceBusRenewLock(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}}, Now: clock.now})
	put(t, e, queueName, "a", "b")
	r := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock)
	ms := take(t, r, 2)
	for range 3 {
		clock.add(40 * time.Second)
		if err := r.RenewMessageLock(withTimeout(t), ms[0], nil); err != nil {
			t.Fatal(err)
		}
		if want := clock.now().Add(time.Minute); !ms[0].LockedUntil.Equal(want) {
			t.Fatalf("it is renewed until %v, want %v", ms[0].LockedUntil, want)
		}
	}
	wantBusCode(t, r.RenewMessageLock(withTimeout(t), ms[1], nil), azservicebus.CodeLockLost, lockInvalid)
	complete(t, r, ms[0])
	if m := take(t, r, 1)[0]; string(m.Body) != "b" || m.DeliveryCount != 2 {
		t.Errorf("%s comes with the count %d", m.Body, m.DeliveryCount)
	}
}

// Locks go by the emulator's clock.
func TestServiceBusLockByTheClock(t *testing.T) {
	t.Parallel()
	clock := newClock()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}}, Now: clock.now})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, "a")
	r := newBusReceiver(t, c, queueName, peekLock)
	m := take(t, r, 1)[0]
	if want := clock.now().Add(time.Minute); !m.LockedUntil.Equal(want) {
		t.Errorf("it is locked until %v, want %v", m.LockedUntil, want)
	}
	clock.add(59 * time.Second)
	wantInfo(t, e, queueName, 0, 1, 0, 0)
	clock.add(time.Second)
	if m = take(t, r, 1)[0]; m.DeliveryCount != 2 {
		t.Errorf("after a minute it comes with the count %d", m.DeliveryCount)
	}
}

// The client settles a message whose receiver or connection is gone by request, for its lock outlives them.
func TestServiceBusSettleWithoutTheLink(t *testing.T) {
	t.Parallel()
	outcomes := map[string]struct {
		settle                            func(busReceiver, context.Context, *azservicebus.ReceivedMessage) error
		active, deferred, dead, completed int64
	}{
		"complete": {func(r busReceiver, ctx context.Context, m *azservicebus.ReceivedMessage) error {
			return r.CompleteMessage(ctx, m, nil)
		}, 0, 0, 0, 1},
		"abandon": {func(r busReceiver, ctx context.Context, m *azservicebus.ReceivedMessage) error {
			return r.AbandonMessage(ctx, m, nil)
		}, 1, 0, 0, 0},
		"defer": {func(r busReceiver, ctx context.Context, m *azservicebus.ReceivedMessage) error {
			return r.DeferMessage(ctx, m, nil)
		}, 0, 1, 0, 0},
		"dead-letter": {func(r busReceiver, ctx context.Context, m *azservicebus.ReceivedMessage) error {
			return r.DeadLetterMessage(ctx, m, &azservicebus.DeadLetterOptions{Reason: ptr("r"), ErrorDescription: ptr("d")})
		}, 0, 0, 1, 0},
	}
	for name, outcome := range outcomes {
		for _, gone := range []string{"nothing", "receiver", "connection", "all but the token"} {
			t.Run(name+" without "+gone, func(t *testing.T) {
				t.Parallel()
				e := runQueue(t, emulator.Queue{})
				put(t, e, queueName, "a")
				c := newBus(t, e, sbAtOnce)
				r := newBusReceiver(t, c, queueName, peekLock)
				m := take(t, r, 1)[0]
				other := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock)
				var err error
				switch gone {
				case "receiver":
					err = r.Close(withTimeout(t))
				case "connection":
					err = c.Close(withTimeout(t))
				case "all but the token":
					m = &azservicebus.ReceivedMessage{LockToken: m.LockToken}
				}
				if err != nil {
					t.Fatal(err)
				}
				wantInfo(t, e, queueName, 0, 1, 0, 0)
				if err := outcome.settle(other, withTimeout(t), m); err != nil {
					t.Fatal(err)
				}
				wantInfo(t, e, queueName, outcome.active, 0, outcome.deferred, 0)
				wantInfo(t, e, deadLetters, outcome.dead, 0, 0, 0)
				if info := queueInfo(t, e, queueName); info.Completed != outcome.completed {
					t.Errorf("completed %d, want %d", info.Completed, outcome.completed)
				}
			})
		}
	}
}

// A connection that breaks leaves the locks as they are.
func TestServiceBusDropKeepsLocks(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	put(t, e, queueName, "a", "b")
	ms := take(t, newBusReceiver(t, newBus(t, e, sbQuickly), queueName, peekLock), 2)
	e.DropConnections()
	wantInfo(t, e, queueName, 0, 2, 0, 0)
	r := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock)
	for _, m := range ms {
		// Of the message itself the client would try for most of a minute to settle it on the link that is gone.
		complete(t, r, &azservicebus.ReceivedMessage{LockToken: m.LockToken})
	}
	if info := queueInfo(t, e, queueName); info.Completed != 2 || info.Abandoned != 0 {
		t.Errorf("the queue says %+v", info)
	}
}

// A settlement whose answer is lost has taken effect: the client that settles again is told that the lock is lost.
func TestServiceBusLostSettlementReplies(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*emulator.Emulator){
		"no answer":                func(e *emulator.Emulator) { e.LoseSettlementReplies(1) },
		"no answer and no link":    func(e *emulator.Emulator) { e.DetachOnSettlements(1) },
		"no answer to the request": func(e *emulator.Emulator) { e.LoseSettlementReplies(2) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := runQueue(t, emulator.Queue{})
			put(t, e, queueName, "a", "b", "c")
			r := newBusReceiver(t, newBus(t, e, sbQuickly), queueName, peekLock)
			ms := take(t, r, 3)
			lose(e)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			err := r.CompleteMessage(ctx, ms[0], nil)
			if name == "no answer and no link" {
				wantBusCode(t, err, azservicebus.CodeLockLost, "")
			} else if err == nil || ctx.Err() == nil {
				t.Errorf("without an answer: %v", err)
			}
			wantInfo(t, e, queueName, 0, 2, 0, 0)
			if name == "no answer to the request" {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if err := r.CompleteMessage(ctx, &azservicebus.ReceivedMessage{LockToken: ms[1].LockToken}, nil); err == nil {
					t.Error("without an answer: no error")
				}
				wantInfo(t, e, queueName, 0, 1, 0, 0)
			}
			again := &azservicebus.ReceivedMessage{LockToken: ms[0].LockToken}
			wantBusCode(t, r.CompleteMessage(withTimeout(t), again, nil), azservicebus.CodeLockLost, lockInvalid)
			complete(t, r, ms[2])
		})
	}
}

// Locks that are made to end count a delivery.
func TestServiceBusExpireLocks(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{MaxDeliveryCount: 2})
	c := newBus(t, e, sbAtOnce)
	put(t, e, queueName, counted(10)...)
	r := newBusReceiver(t, c, queueName, peekLock)
	for round := range 2 {
		ms := take(t, r, 10)
		if n, err := e.ExpireLocks(queueName); n != 10 || err != nil {
			t.Fatalf("expired %d, %v", n, err)
		}
		for i, m := range ms {
			if m.DeliveryCount != uint32(round+1) || *m.SequenceNumber != int64(i+1) {
				t.Errorf("round %d: message %d has the count %d", round, *m.SequenceNumber, m.DeliveryCount)
			}
		}
		wantBusCode(t, r.CompleteMessage(withTimeout(t), ms[0], nil), azservicebus.CodeLockLost, "")
	}
	wantInfo(t, e, queueName, 0, 0, 0, 0)
	wantInfo(t, e, deadLetters, 10, 0, 0, 0)
}

// Thousands of messages are completed side by side.
func TestServiceBusPipelinedCompletion(t *testing.T) {
	t.Parallel()
	const n = 5000
	e := runQueue(t, emulator.Queue{})
	put(t, e, queueName, counted(n)...)
	r := newBusReceiver(t, newBus(t, e, sbAtOnce), queueName, peekLock)
	ms := take(t, r, n)
	errs := make(chan error, n)
	for _, m := range ms {
		go func() { errs <- r.CompleteMessage(t.Context(), m, nil) }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if info := queueInfo(t, e, queueName); info.Completed != n || info.Locked != 0 {
		t.Errorf("the queue says %+v", info)
	}
}
