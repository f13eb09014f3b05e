package emulator_test

// The servicebus tests hold the emulator's queues, topics and sessions to what the Service Bus client for Go, and the
// other clients, expect of the service. Like the conformance tests they drive the real client over a real connection,
// go-amqp where the client can't be made to do something, and hand-made frames where go-amqp can't. This file has what
// they share.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

// queueName is the queue that most tests use.
const queueName = "orders"

// runQueue starts an emulator with one queue, of the name queueName.
func runQueue(t testing.TB, q emulator.Queue) *emulator.Emulator {
	t.Helper()
	q.Name = queueName
	return run(t, emulator.Options{Hubs: []emulator.Hub{}, Queues: []emulator.Queue{q}})
}

// sbAtOnce makes a client report an error instead of trying again, sbQuickly makes it try again without long waits.
var (
	sbAtOnce  = azservicebus.RetryOptions{MaxRetries: -1}
	sbQuickly = azservicebus.RetryOptions{MaxRetries: 20, RetryDelay: time.Millisecond, MaxRetryDelay: 20 * time.Millisecond}
)

func newBus(t testing.TB, e *emulator.Emulator, retry azservicebus.RetryOptions) *azservicebus.Client {
	t.Helper()
	c, err := azservicebus.NewClientFromConnectionString(e.ConnectionString(), &azservicebus.ClientOptions{RetryOptions: retry})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, c)
	return c
}

func newBusSender(t testing.TB, c *azservicebus.Client, entity string) *azservicebus.Sender {
	t.Helper()
	s, err := c.NewSender(entity, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	return s
}

// Options of receivers.
var (
	peekLock   = azservicebus.ReceiverOptions{}
	deleting   = azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete}
	deadLetter = azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}
)

func newBusReceiver(t testing.TB, c *azservicebus.Client, queue string, o azservicebus.ReceiverOptions) *azservicebus.Receiver {
	t.Helper()
	r, err := c.NewReceiverForQueue(queue, &o)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, r)
	return r
}

func acceptSession(t testing.TB, c *azservicebus.Client, queue, id string) *azservicebus.SessionReceiver {
	t.Helper()
	r, err := c.AcceptSessionForQueue(withTimeout(t), queue, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, r)
	return r
}

func acceptNext(t testing.TB, c *azservicebus.Client, queue string) *azservicebus.SessionReceiver {
	t.Helper()
	r, err := c.AcceptNextSessionForQueue(withTimeout(t), queue, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, r)
	return r
}

// dialBus is a go-amqp connection with a token for the whole namespace.
func dialBus(t testing.TB, e *emulator.Emulator) *amqp.Conn {
	t.Helper()
	conn := dialAMQP(t, e)
	if _, err := call(withTimeout(t), conn, "$cbs", putToken(e, "", token(e, e.Address(), time.Now().Add(time.Hour)))); err != nil {
		t.Fatal(err)
	}
	return conn
}

// request makes a request to an entity's $management, of a link if one is named, and returns the reply.
func request(t testing.TB, conn *amqp.Conn, entity, operation string, body any, link ...string) *amqp.Message {
	t.Helper()
	m := &amqp.Message{ApplicationProperties: map[string]any{"operation": "com.microsoft:" + operation}, Value: body}
	if len(link) > 0 {
		m.ApplicationProperties["associated-link-name"] = link[0]
	}
	reply, err := call(withTimeout(t), conn, entity+"/$management", m)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func sendTo(t testing.TB, s *azservicebus.Sender, ms ...*azservicebus.Message) {
	t.Helper()
	for _, m := range ms {
		if err := s.SendMessage(withTimeout(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// text is a message with a body, and a session id if one is given.
func text(body string, session ...string) *azservicebus.Message {
	m := &azservicebus.Message{Body: []byte(body)}
	if len(session) > 0 {
		m.SessionID = &session[0]
	}
	return m
}

// put puts messages with bodies into a queue without a client.
func put(t testing.TB, e *emulator.Emulator, path string, bodies ...string) {
	t.Helper()
	var ms []emulator.QueueMessage
	for _, body := range bodies {
		ms = append(ms, emulator.QueueMessage{Body: []byte(body)})
	}
	if err := e.PutMessages(path, ms...); err != nil {
		t.Fatal(err)
	}
}

// putSession puts messages with bodies into a session.
func putSession(t testing.TB, e *emulator.Emulator, path, session string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := e.PutMessages(path, emulator.QueueMessage{Body: []byte(body), SessionID: &session}); err != nil {
			t.Fatal(err)
		}
	}
}

// busReceiver is a receiver, of sessions or not.
type busReceiver interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	DeferMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeferMessageOptions) error
	DeadLetterMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeadLetterOptions) error
	ReceiveDeferredMessages(context.Context, []int64, *azservicebus.ReceiveDeferredMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	PeekMessages(context.Context, int, *azservicebus.PeekMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// take receives exactly n messages.
func take(t testing.TB, r busReceiver, n int) []*azservicebus.ReceivedMessage {
	t.Helper()
	ctx := withTimeout(t)
	var all []*azservicebus.ReceivedMessage
	for len(all) < n {
		some, err := r.ReceiveMessages(ctx, n-len(all), nil)
		if err != nil {
			t.Fatalf("receive %d messages, have %d: %v", n, len(all), err)
		}
		all = append(all, some...)
	}
	return all
}

// takeNone fails if a message comes within a moment. Where one must not come because another has to, prefer that.
func takeNone(t testing.TB, r busReceiver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if ms, err := r.ReceiveMessages(ctx, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("received %q, %v; want nothing", texts(ms), err)
	}
}

func complete(t testing.TB, r busReceiver, ms ...*azservicebus.ReceivedMessage) {
	t.Helper()
	for _, m := range ms {
		if err := r.CompleteMessage(withTimeout(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func texts(ms []*azservicebus.ReceivedMessage) string {
	var s []string
	for _, m := range ms {
		s = append(s, string(m.Body))
	}
	return strings.Join(s, ",")
}

func wantTexts(t testing.TB, ms []*azservicebus.ReceivedMessage, want string) {
	t.Helper()
	if got := texts(ms); got != want {
		t.Fatalf("received %q, want %q", got, want)
	}
}

// wantInfo checks the counts of a queue: active, locked, deferred and scheduled messages.
func wantInfo(t testing.TB, e *emulator.Emulator, path string, active, locked, deferred, scheduled int64) {
	t.Helper()
	info := queueInfo(t, e, path)
	if info.Active != active || info.Locked != locked || info.Deferred != deferred || info.Scheduled != scheduled {
		t.Fatalf("%s has %d active, %d locked, %d deferred and %d scheduled messages; want %d, %d, %d and %d", path,
			info.Active, info.Locked, info.Deferred, info.Scheduled, active, locked, deferred, scheduled)
	}
}

func queueInfo(t testing.TB, e *emulator.Emulator, path string) emulator.QueueInfo {
	t.Helper()
	info, err := e.Queue(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// testClock is a clock that stands still until it is set.
type testClock struct{ at atomic.Int64 }

// newClock is a clock that shows now, to the millisecond: clients go by their own clock when they sign tokens.
func newClock() *testClock {
	c := &testClock{}
	c.at.Store(time.Now().UnixMilli())
	return c
}

func (c *testClock) now() time.Time      { return time.UnixMilli(c.at.Load()).UTC() }
func (c *testClock) add(d time.Duration) { c.at.Add(d.Milliseconds()) }

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it does not hold that %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// wantBusCode checks that an error is the client's own with a code, and that its text holds another.
func wantBusCode(t testing.TB, err error, code azservicebus.Code, text string) {
	t.Helper()
	var e *azservicebus.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), text) {
		t.Fatalf("error is %v, want code %q and the text %q", err, code, text)
	}
}

// counted returns n bodies: 0, 1 and so on.
func counted(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(i)
	}
	return s
}
