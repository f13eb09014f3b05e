package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

// A client goes on through throttled sends, requests and links, and through refused tokens it does not.
func TestServiceBusThrottled(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{})
	c := newBus(t, e, sbQuickly)
	s := newBusSender(t, c, queueName)
	e.ThrottleAttaches(2)
	e.ThrottleSends(3)
	sendTo(t, s, text("a"))
	r := newBusReceiver(t, c, queueName, peekLock)
	e.ThrottleRequests(3)
	if ms, err := r.PeekMessages(withTimeout(t), 1, nil); err != nil || texts(ms) != "a" {
		t.Errorf("peeked %q, %v", texts(ms), err)
	}
	impatient := newBus(t, e, sbAtOnce)
	e.ThrottleSends(1)
	is := newBusSender(t, impatient, queueName)
	wantCondition(t, is.SendMessage(withTimeout(t), text("b"), nil), "com.microsoft:server-busy", "50009")
	e.ThrottleAttaches(1)
	_, err := newBusReceiver(t, impatient, queueName, peekLock).ReceiveMessages(withTimeout(t), 1, nil)
	wantCondition(t, err, "com.microsoft:server-busy", "")
	e.RefuseTokens(1)
	err = newBusSender(t, newBus(t, e, sbQuickly), queueName).SendMessage(withTimeout(t), text("c"), nil)
	wantBusCode(t, err, azservicebus.CodeUnauthorizedAccess, "InvalidSignature")
}

// A queue that is disabled detaches its links, refuses new ones, and goes on where it was when it is enabled.
func TestServiceBusDisabled(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName}, {Name: queueName + "/other"}}, Topics: []emulator.Topic{{Name: "topic", Subscriptions: []emulator.Subscription{{Name: "sub"}}}}})
	c := newBus(t, e, sbQuickly)
	s, r := newBusSender(t, c, queueName), newBusReceiver(t, c, queueName, peekLock)
	sendTo(t, s, text("a"), text("b"))
	ms := take(t, r, 1)
	other := newBusSender(t, c, queueName+"/other")
	sendTo(t, other, text("a"))
	received := make(chan error)
	go func() {
		for {
			if _, err := r.ReceiveMessages(withTimeout(t), 5, nil); err != nil {
				received <- err
				return
			}
		}
	}()
	eventually(t, "both are locked", func() bool { return queueInfo(t, e, queueName).Locked == 2 })
	if err := e.SetDisabled(queueName, true); err != nil {
		t.Fatal(err)
	}
	wantCondition(t, <-received, "com.microsoft:entity-disabled", "is currently disabled")
	wantCondition(t, s.SendMessage(withTimeout(t), text("c"), nil), "com.microsoft:entity-disabled", "")
	wantCondition(t, newBusSender(t, c, queueName).SendMessage(withTimeout(t), text("c"), nil), "com.microsoft:entity-disabled", "")
	_, err := newBusReceiver(t, c, deadLetters, peekLock).ReceiveMessages(withTimeout(t), 1, nil)
	wantCondition(t, err, "com.microsoft:entity-disabled", "")
	if reply := request(t, dialBus(t, e), queueName, "peek-message", map[string]any{}); status(reply) != 403 {
		t.Errorf("a request to a disabled queue has the status %d", status(reply))
	}
	sendTo(t, other, text("b"))
	if err := e.SetDisabled(queueName, false); err != nil {
		t.Fatal(err)
	}
	r = newBusReceiver(t, c, queueName, peekLock)
	complete(t, r, &azservicebus.ReceivedMessage{LockToken: ms[0].LockToken})
	sendTo(t, newBusSender(t, c, queueName), text("c"))
	wantTexts(t, take(t, r, 1), "c")

	if err := e.SetDisabled("topic", true); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"nothing": e.SetDisabled("nothing", true)} {
		if err == nil {
			t.Errorf("%s was disabled", name)
		}
	}
	_, err = newBusReceiver(t, c, "topic/Subscriptions/sub", peekLock).ReceiveMessages(withTimeout(t), 1, nil)
	wantCondition(t, err, "com.microsoft:entity-disabled", "")
}

// A session receiver whose queue is disabled, or that waits for a session, is told as well.
func TestServiceBusDisabledSessions(t *testing.T) {
	t.Parallel()
	e := runQueue(t, emulator.Queue{Sessions: true})
	waited := make(chan error)
	c := newBus(t, e, sbAtOnce)
	go func() {
		_, err := c.AcceptNextSessionForQueue(withTimeout(t), queueName, nil)
		waited <- err
	}()
	eventually(t, "it waits", func() bool {
		return slices.ContainsFunc(e.Links(), func(l emulator.Link) bool { return l.Address == queueName })
	})
	if err := e.SetDisabled(queueName, true); err != nil {
		t.Fatal(err)
	}
	wantCondition(t, <-waited, "com.microsoft:entity-disabled", "")
}

// Whatever receivers do to messages and their connections, each message is completed, and once. One that a client still
// holds when its lock has ended is not.
func TestServiceBusStress(t *testing.T) {
	t.Parallel()
	const n = 3000
	e := runQueue(t, emulator.Queue{MaxDeliveryCount: 1000, LockDuration: time.Minute})
	put(t, e, queueName, counted(n)...)
	var mu sync.Mutex
	completed := map[string]bool{}
	ctx := withTimeout(t)
	session := func(random *rand.Rand) error {
		conn := dialBus(t, e)
		defer conn.Close()
		r, err := newSession(t, conn).NewReceiver(ctx, queueName, &amqp.ReceiverOptions{SettlementMode: amqp.ReceiverSettleModeSecond.Ptr(), Credit: -1})
		if err == nil {
			err = r.IssueCredit(uint32(1 + random.IntN(200)))
		}
		if err != nil {
			return err
		}
		for range random.IntN(300) {
			brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			m, err := r.Receive(brief, nil)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			} else if err != nil {
				return err
			}
			body := string(m.GetData())
			switch random.IntN(8) {
			case 0:
				err = r.ReleaseMessage(ctx, m)
			case 1:
				err = r.ModifyMessage(ctx, m, nil)
			case 2: // it stays locked
			default:
				if err = r.AcceptMessage(ctx, m); err == nil {
					mu.Lock()
					again := completed[body]
					completed[body] = true
					mu.Unlock()
					if again {
						return fmt.Errorf("message %s was completed twice", body)
					}
				}
			}
			if err != nil && !errors.As(err, new(*amqp.Error)) { // its lock was made to end
				return err
			}
		}
		if random.IntN(2) == 0 {
			return r.Close(ctx)
		}
		return nil
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				if info := queueInfo(t, e, queueName); info.Active+info.Locked == 0 {
					return
				}
				if err := session(random); err != nil {
					t.Error(err)
					return
				}
				if _, err := e.ExpireLocks(queueName); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if info := queueInfo(t, e, queueName); len(completed) != n || info.Completed != n || info.Active != 0 || info.Locked != 0 || info.Bytes != 0 {
		t.Errorf("%d messages were completed of %d; the queue says %+v", len(completed), n, info)
	}
}

// What tests put into a queue and see of it, past the wire.
func TestServiceBusInspect(t *testing.T) {
	t.Parallel()
	e := run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{{Name: queueName, MaxDeliveryCount: 1}, {Name: "sessions", Sessions: true}}})
	c := newBus(t, e, sbAtOnce)
	at := time.Date(2024, 2, 3, 4, 5, 6, 7e6, time.UTC)
	whole, err := (&amqp.Message{Properties: &amqp.MessageProperties{MessageID: "whole"}, Value: "v"}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.PutMessages(queueName, emulator.QueueMessage{Body: []byte("a"), MessageID: "id", SessionID: ptr("s"), Enqueued: at}, emulator.QueueMessage{Message: whole, Enqueued: at.Add(time.Hour)}, emulator.QueueMessage{Body: []byte("dead")}); err != nil {
		t.Fatal(err)
	}
	if err := e.PutMessages(queueName, emulator.QueueMessage{Enqueued: at}); err == nil || !strings.Contains(err.Error(), "2024") {
		t.Errorf("a message before the last was put: %v", err)
	}
	if err := e.PutMessages(queueName, emulator.QueueMessage{Message: []byte("junk")}); err == nil {
		t.Error("junk was put")
	}
	if err := e.PutMessages("sessions", emulator.QueueMessage{Body: []byte("a")}); err == nil || !strings.Contains(err.Error(), "SessionId") {
		t.Errorf("a message without a session id was put: %v", err)
	}
	r := newBusReceiver(t, c, queueName, peekLock)
	ms := take(t, r, 3)
	if !ms[0].EnqueuedTime.Equal(at) || ms[0].MessageID != "id" || *ms[0].SessionID != "s" || ms[1].RawAMQPMessage.Body.Value != "v" {
		t.Errorf("received %+v", ms[0])
	}
	if err := r.DeferMessage(withTimeout(t), ms[1], nil); err != nil {
		t.Fatal(err)
	}
	if err := r.DeadLetterMessage(withTimeout(t), ms[2], &azservicebus.DeadLetterOptions{Reason: ptr("r"), ErrorDescription: ptr("d")}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, path := range []string{queueName, "Orders/$deadletterqueue"} {
		all, err := e.Messages(path)
		if err != nil {
			t.Fatal(err)
		}
		for m := range all {
			var decoded amqp.Message
			if err := decoded.UnmarshalBinary(m.Message); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(m.SequenceNumber, " ", string(m.Body), " ", m.MessageID != "", " ", m.State, " ", m.DeliveryCount, " ", m.DeadLetterReason, m.DeadLetterDescription, m.DeadLetterSource))
		}
	}
	if want := []string{"1 a true locked 0 ", "2  true deferred 0 ", "3 dead true active 0 rdorders"}; !slices.Equal(got, want) {
		t.Errorf("the messages are %q, want %q", got, want)
	}
	for _, purged := range []struct {
		path string
		n    int64
	}{{queueName, 2}, {deadLetters, 1}, {queueName, 0}} {
		if n, err := e.Purge(purged.path); n != purged.n || err != nil {
			t.Errorf("purged %d of %s, %v, want %d", n, purged.path, err, purged.n)
		}
	}
	if info := queueInfo(t, e, queueName); info.Bytes != 0 || info.LastSequenceNumber != 3 || info.Sent != 3 || info.Active+info.Locked+info.Deferred != 0 {
		t.Errorf("the queue says %+v", info)
	}
	wantBusCode(t, r.CompleteMessage(withTimeout(t), ms[0], nil), azservicebus.CodeLockLost, "")
	_, noQueue := e.Queue("nothing")
	_, noMessages := e.Messages("nothing")
	_, noPurge := e.Purge("nothing")
	_, noLocks := e.ExpireLocks("nothing")
	_, noSession := e.ExpireSessionLock("nothing", "a")
	for _, err := range []error{noQueue, noMessages, noPurge, noLocks, noSession, e.PutMessages("nothing"), e.SetDisabled("nothing", true)} {
		if err == nil || !strings.Contains(err.Error(), `"nothing"`) {
			t.Errorf("of what is not there: %v", err)
		}
	}
}

func TestServiceBusStartErrors(t *testing.T) {
	t.Parallel()
	queue := func(q emulator.Queue) emulator.Options { return emulator.Options{Queues: []emulator.Queue{q}} }
	topic := func(s ...emulator.Subscription) emulator.Options {
		return emulator.Options{Topics: []emulator.Topic{{Name: "t", Subscriptions: s}}}
	}
	synthetic := func(s emulator.SyntheticQueue) emulator.Options {
		return queue(emulator.Queue{Name: "q", Synthetic: &s})
	}
	for want, o := range map[string]emulator.Options{
		"the name must not be empty":                queue(emulator.Queue{}),
		`queue "a b"`:                               queue(emulator.Queue{Name: "a b"}),
		`queue "a//b"`:                              queue(emulator.Queue{Name: "a//b"}),
		`queue "a/subscriptions/b"`:                 queue(emulator.Queue{Name: "a/subscriptions/b"}),
		`queue "$management"`:                       queue(emulator.Queue{Name: "$management"}),
		"10 ms and 5 minutes":                       queue(emulator.Queue{Name: "q", LockDuration: time.Hour}),
		"between 1 and 2,000":                       queue(emulator.Queue{Name: "q", MaxDeliveryCount: -1}),
		"negative":                                  queue(emulator.Queue{Name: "q", TTL: -1}),
		"128 MiB":                                   queue(emulator.Queue{Name: "q", MaxMessageSize: 1 << 30}),
		"at least one message":                      synthetic(emulator.SyntheticQueue{}),
		"1 byte to 1 MiB":                           synthetic(emulator.SyntheticQueue{Messages: 1, BodySize: 1 << 30}),
		"200 years":                                 synthetic(emulator.SyntheticQueue{Messages: 1 << 60}),
		"set Sessions of the queue":                 synthetic(emulator.SyntheticQueue{Messages: 1, Sessions: 1}),
		"1 session to one for each":                 queue(emulator.Queue{Name: "q", Sessions: true, Synthetic: &emulator.SyntheticQueue{Messages: 1, Sessions: 2}}),
		"have no end":                               queue(emulator.Queue{Name: "q", TTL: 1, Synthetic: &emulator.SyntheticQueue{Messages: 1}}),
		`subscription "a/b"`:                        topic(emulator.Subscription{Name: "a/b"}),
		`subscription "s": a lock`:                  topic(emulator.Subscription{Name: "s", LockDuration: 1}),
		`subscription "S": the name is there twice`: topic(emulator.Subscription{Name: "s"}, emulator.Subscription{Name: "S"}),
		`subscription "s": rule "r"`:                topic(emulator.Subscription{Name: "s", Rules: []emulator.Rule{{Name: "r", Action: "FLY"}}}),
		`queue "Q": the name is there twice`:        {Queues: []emulator.Queue{{Name: "q"}, {Name: "Q"}}},
		`queue "h": the name is there twice`:        {Queues: []emulator.Queue{{Name: "h"}}, Hubs: []emulator.Hub{{Name: "H"}}},
		`topic "q": the name is there twice`:        {Queues: []emulator.Queue{{Name: "q"}}, Topics: []emulator.Topic{{Name: "q"}}},
		`topic "$t"`:                                {Topics: []emulator.Topic{{Name: "$t"}}},
	} {
		e, err := emulator.Start(o)
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Closing the emulator ends those who receive, and those who wait.
func TestServiceBusClose(t *testing.T) {
	t.Parallel()
	e, err := emulator.Start(emulator.Options{Queues: []emulator.Queue{{Name: queueName}, {Name: "sessions", Sessions: true}}})
	if err != nil {
		t.Fatal(err)
	}
	c := newBus(t, e, sbAtOnce)
	r := newBusReceiver(t, c, queueName, peekLock)
	errs := make(chan error, 2)
	go func() {
		ms, err := r.ReceiveMessages(withTimeout(t), 1, nil)
		if err == nil && len(ms) == 0 {
			err = errors.New("the client swallows what it does not take for fatal")
		}
		errs <- err
	}()
	go func() {
		_, err := c.AcceptNextSessionForQueue(withTimeout(t), "sessions", nil)
		errs <- err
	}()
	eventually(t, "they wait", func() bool {
		links := e.Links()
		return slices.ContainsFunc(links, func(l emulator.Link) bool { return l.Address == queueName && l.Credit > 0 }) &&
			slices.ContainsFunc(links, func(l emulator.Link) bool { return l.Address == "sessions" })
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-errs; err == nil {
			t.Error("nothing ended a client")
		}
	}
}
