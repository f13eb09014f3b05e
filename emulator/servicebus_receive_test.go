package emulator_test

import (
	"strings"
	"testing"

	"persistor/emulator"
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
	ms := take(t, newBusReceiver(t, c, queueName, deleting), 3000)
	wantTexts(t, ms, strings.Join(counted(3000), ","))
	wantInfo(t, e, queueName, 0, 0, 0, 0)
	if ms[0].LockedUntil != nil {
		t.Errorf("a message that is gone is locked until %v", ms[0].LockedUntil)
	}
}

// A session is accepted by name and in turn, and its messages are received and completed.
func TestServiceBusSessionBasics(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	c := newBus(t, e, sbAtOnce)
	s := newBusSender(t, c, queueName)
	sendTo(t, s, text("1", "a"), text("2", "b"), text("3", "a"))
	a := acceptSession(t, c, queueName, "a")
	ms := take(t, a, 2)
	wantTexts(t, ms, "1,3")
	complete(t, a, ms...)
	b := acceptNext(t, c, queueName)
	if b.SessionID() != "b" {
		t.Errorf("the next session is %q, want b", b.SessionID())
	}
	wantTexts(t, take(t, b, 1), "2")
}
