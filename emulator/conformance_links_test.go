package emulator_test

import (
	"errors"
	"fmt"
	"testing"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// mustReceive takes one event off a link and settles it, as the Event Hubs client does.
func mustReceive(t testing.TB, r *amqp.Receiver) *amqp.Message {
	t.Helper()
	m, err := r.Receive(withTimeout(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A link delivers what credit was given for and not one event more.
func TestCreditIsNeverOverrun(t *testing.T) {
	e := run(t, emulator.Options{})
	publish(t, newProducer(t, e, atOnce), "0", numbered(100)...)
	r := newReceiver(t, e, &amqp.ReceiverOptions{Credit: -1, Filters: fromStart})
	next := 0
	for _, credit := range []int{1, 2, 30} {
		if err := r.IssueCredit(uint32(credit)); err != nil {
			t.Fatal(err)
		}
		for range credit {
			if got := string(mustReceive(t, r).GetData()); got != fmt.Sprintf("event %d", next) {
				t.Fatalf("received %q, want event %d", got, next)
			}
			next++
		}
		// A drained link has answered after all that it sent before, so nothing more can be on its way.
		if err := r.DrainCredit(withTimeout(t), nil); err != nil {
			t.Fatal(err)
		}
		if m := r.Prefetched(); m != nil {
			t.Fatalf("%q came without credit", m.GetData())
		}
	}
}

// A drain is answered when there is nothing to deliver, after what there is was delivered when there is
// less than the credit, and the link goes on afterwards.
func TestDrain(t *testing.T) {
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	r := newReceiver(t, e, &amqp.ReceiverOptions{Credit: -1, Filters: fromStart})
	for round := range 3 {
		if err := r.IssueCredit(10); err != nil {
			t.Fatal(err)
		}
		if err := r.DrainCredit(withTimeout(t), nil); err != nil {
			t.Fatalf("drain an empty link, round %d: %v", round, err)
		}
		if r.Prefetched() != nil {
			t.Fatal("a drained link of an empty partition delivered")
		}
		publish(t, p, "0", "one", "two")
		if err := r.IssueCredit(10); err != nil {
			t.Fatal(err)
		}
		first := mustReceive(t, r)
		if err := r.DrainCredit(withTimeout(t), nil); err != nil {
			t.Fatal(err)
		}
		second := r.Prefetched()
		if string(first.GetData()) != "one" || second == nil || string(second.GetData()) != "two" {
			t.Fatalf("round %d: received %q and %v", round, first.GetData(), second)
		}
		publish(t, p, "0", "no credit")
		if err := r.IssueCredit(1); err != nil {
			t.Fatal(err)
		}
		if got := string(mustReceive(t, r).GetData()); got != "no credit" {
			t.Fatalf("after the drain received %q", got)
		}
	}
}

// Drains while events come in: each is answered, and each event comes once.
func TestDrainWhileSending(t *testing.T) {
	const n = 2000
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	r := newReceiver(t, e, &amqp.ReceiverOptions{Credit: -1, Filters: fromStart})
	go func() {
		for range n / 10 {
			err := trySend(t.Context(), p, azeventhubs.EventDataBatchOptions{PartitionID: ptr("0")}, tenEvents()...)
			if err != nil {
				if t.Context().Err() == nil {
					t.Error(err)
				}
				return
			}
		}
	}()
	for next := int64(0); next < n; {
		if err := r.IssueCredit(7); err != nil {
			t.Fatal(err)
		}
		m := mustReceive(t, r) // go-amqp would drop credit that it has not told of yet
		if err := r.DrainCredit(withTimeout(t), nil); err != nil {
			t.Fatal(err)
		}
		for ; m != nil; m = r.Prefetched() {
			if got := m.Annotations["x-opt-sequence-number"]; got != next {
				t.Fatalf("received the sequence number %v, want %d", got, next)
			}
			next++
		}
	}
}

func tenEvents() []*azeventhubs.EventData {
	events := make([]*azeventhubs.EventData, 10)
	for i := range events {
		events[i] = &azeventhubs.EventData{Body: []byte("event")}
	}
	return events
}

// The last of the events that make up a session's window is not the end: the client opens the window
// again and the rest comes.
func TestSessionWindow(t *testing.T) {
	const n = 12_000 // go-amqp's window has 5,000 transfers
	e := run(t, emulator.Options{})
	p := newProducer(t, e, atOnce)
	for range n / 1000 {
		publish(t, p, "0", numbered(1000)...)
	}
	r := newReceiver(t, e, &amqp.ReceiverOptions{Credit: -1, Filters: fromStart})
	if err := r.IssueCredit(n); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if got := mustReceive(t, r).Annotations["x-opt-sequence-number"]; got != int64(i) {
			t.Fatalf("event %d has the sequence number %v", i, got)
		}
	}
}

// Attaching a link of the same name again on one connection takes over from the one that is there.
func TestLinkStealing(t *testing.T) {
	e := run(t, emulator.Options{})
	publish(t, newProducer(t, e, atOnce), "0", "one")
	conn := dialAMQP(t, e)
	authorize(t, e, conn)
	attach := func() *amqp.Receiver {
		r, err := newSession(t, conn).NewReceiver(withTimeout(t), partition0, &amqp.ReceiverOptions{Name: "same", Filters: fromStart})
		if err != nil {
			t.Fatal(err)
		}
		mustReceive(t, r)
		return r
	}
	first := attach()
	second := attach()
	_, err := first.Receive(withTimeout(t), nil)
	wantCondition(t, err, "amqp:link:stolen", "")
	publish(t, newProducer(t, e, atOnce), "0", "two")
	mustReceive(t, second)
}

// Closing one link, or its session, leaves the others of its connection alone.
func TestClosingOneOfMany(t *testing.T) {
	e := run(t, emulator.Options{})
	conn := dialAMQP(t, e)
	authorize(t, e, conn)
	session := newSession(t, conn)
	var receivers []*amqp.Receiver
	for range 3 {
		r, err := session.NewReceiver(withTimeout(t), partition0, &amqp.ReceiverOptions{Filters: fromStart, Credit: 10})
		if err != nil {
			t.Fatal(err)
		}
		receivers = append(receivers, r)
	}
	elsewhere := newSession(t, conn)
	sender, err := elsewhere.NewSender(withTimeout(t), hub+"/Partitions/0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := receivers[1].Close(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(withTimeout(t), amqp.NewMessage([]byte("a")), nil); err != nil {
		t.Fatal(err)
	}
	mustReceive(t, receivers[0])
	mustReceive(t, receivers[2])
	if err := session.Close(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := sender.Send(withTimeout(t), amqp.NewMessage([]byte("b")), nil); err != nil {
		t.Error(err)
	}
}

// The runtime metric tells with each event how far the partition has got, to those who ask for it.
func TestRuntimeMetric(t *testing.T) {
	e := run(t, emulator.Options{})
	publish(t, newProducer(t, e, atOnce), "0", numbered(3)...)
	last := receive(t, readFrom(t, e, "0"), 3)[2]
	asked := newReceiver(t, e, &amqp.ReceiverOptions{Filters: fromStart, DesiredCapabilities: []string{"com.microsoft:enable-receiver-runtime-metric"}})
	for range 3 {
		d := mustReceive(t, asked).DeliveryAnnotations
		if d["last_enqueued_sequence_number"] != int64(2) || d["last_enqueued_offset"] != last.Offset {
			t.Errorf("delivery annotations %v, want sequence number 2 and offset %q", d, last.Offset)
		}
		for _, key := range []string{"last_enqueued_time_utc", "runtime_info_retrieval_time_utc"} {
			if _, ok := d[key].(interface{ IsZero() bool }); !ok {
				t.Errorf("%s is a %T, want a time", key, d[key])
			}
		}
	}
	plain := newReceiver(t, e, &amqp.ReceiverOptions{Filters: fromStart})
	if d := mustReceive(t, plain).DeliveryAnnotations; len(d) != 0 {
		t.Errorf("a receiver that did not ask got the delivery annotations %v", d)
	}
}

// The filter comes back as it was sent, and one that makes no sense is refused with a reason.
func TestSelectorOnTheWire(t *testing.T) {
	e := run(t, emulator.Options{})
	publish(t, newProducer(t, e, atOnce), "0", "event")
	for _, text := range []string{
		"amqp.annotation.x-opt-offset > '-1'", "amqp.annotation.x-opt-offset >= '-1'", "amqp.annotation.x-opt-offset > -1",
		"amqp.annotation.x-opt-sequence-number >= '0'", "amqp.annotation.x-opt-enqueued-time > '0'", "amqp.annotation.x-opt-enqueuedtimeutc > '0'",
	} {
		r := newReceiver(t, e, &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewSelectorFilter(text)}})
		if got := r.LinkSourceFilterValue("apache.org:selector-filter:string"); got != text {
			t.Errorf("the filter came back as %v, want %q", got, text)
		}
		mustReceive(t, r)
		if err := r.Close(withTimeout(t)); err != nil { // five may read at a time
			t.Fatal(err)
		}
	}
	conn := dialAMQP(t, e)
	authorize(t, e, conn)
	for _, text := range []string{"", "nonsense", "amqp.annotation.x-opt-sequence-number > 'x'", "amqp.annotation.x-opt-offset > 'no offset'", "amqp.annotation.x-opt-offset > '1:2:3'"} {
		_, err := newSession(t, conn).NewReceiver(withTimeout(t), partition0, &amqp.ReceiverOptions{Filters: []amqp.LinkFilter{amqp.NewSelectorFilter(text)}})
		var refused *amqp.Error
		if !errors.As(err, &refused) || refused.Description == "" {
			t.Errorf("selector %q: %v, want a refusal with a reason", text, err)
		}
	}
}

// Without a filter a receiver gets everything.
func TestNoSelector(t *testing.T) {
	e := run(t, emulator.Options{})
	publish(t, newProducer(t, e, atOnce), "0", "event")
	mustReceive(t, newReceiver(t, e, nil))
}

// Every settle mode that a client may ask for is granted as asked: some fail on any other answer.
func TestSettleModes(t *testing.T) {
	e := run(t, emulator.Options{})
	publish(t, newProducer(t, e, atOnce), "0", "event")
	for _, mode := range []amqp.ReceiverSettleMode{amqp.ReceiverSettleModeFirst, amqp.ReceiverSettleModeSecond} {
		r := newReceiver(t, e, &amqp.ReceiverOptions{Filters: fromStart, SettlementMode: &mode})
		m := mustReceive(t, r)
		if err := r.AcceptMessage(withTimeout(t), m); err != nil {
			t.Errorf("accept with mode %v: %v", mode, err)
		}
	}
	for _, mode := range []amqp.SenderSettleMode{amqp.SenderSettleModeUnsettled, amqp.SenderSettleModeSettled, amqp.SenderSettleModeMixed} {
		newReceiver(t, e, &amqp.ReceiverOptions{Filters: fromStart, RequestedSenderSettleMode: &mode})
	}
}

// Every SASL mechanism that a client of the service uses is good: the token comes later.
func TestSASLMechanisms(t *testing.T) {
	e := run(t, emulator.Options{KeyName: "root", Key: "c2VjcmV0"})
	for name, mechanism := range map[string]amqp.SASLType{
		"ANONYMOUS": amqp.SASLTypeAnonymous(),
		"PLAIN":     amqp.SASLTypePlain("root", "c2VjcmV0"),
		"EXTERNAL":  amqp.SASLTypeExternal(""),
	} {
		conn, err := amqp.Dial(withTimeout(t), "amqp://"+e.Address(), &amqp.ConnOptions{SASLType: mechanism})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
	if _, err := amqp.Dial(withTimeout(t), "amqp://"+e.Address(), &amqp.ConnOptions{SASLType: amqp.SASLTypePlain("root", "wrong")}); err == nil {
		t.Error("a wrong password was good")
	}
}
