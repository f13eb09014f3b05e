package emulator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// openQueue starts an emulator with a queue called q and one with sessions called s, and takes any token.
func openQueue(t testing.TB, q Queue) *Emulator {
	t.Helper()
	q.Name = "q"
	e, err := Start(Options{AllowAnyToken: true, Queues: []Queue{q, {Name: "s", Sessions: true}}, Topics: []Topic{{Name: "t", Subscriptions: []Subscription{{Name: "a"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func putBodies(t testing.TB, e *Emulator, path string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		m := QueueMessage{Body: []byte(body)}
		if path == "s" {
			m.SessionID = new(body[:1])
		}
		if err := e.PutMessages(path, m); err != nil {
			t.Fatal(err)
		}
	}
}

// locking is an attach of a receiver that settles in two steps, as the client for Go asks for it.
func locking(name string, handle uint32, address string) *wire.Attach {
	a := attachReceiver(name, handle, address)
	a.ReceiverMode = new(uint8(wire.ReceiverSecond))
	return a
}

// ofSession gives an attach a session filter, as clients write it: described or plain, an id or null.
func ofSession(a *wire.Attach, described bool, id any) *wire.Attach {
	filter := id
	if described {
		filter = wire.Described{Descriptor: uint64(0x137000000C), Value: id}
	}
	a.Source = wire.NewSource(a.Source.Address, wire.Pair{Key: wire.Symbol(filterSession), Value: filter})
	return a
}

// credit gives a link credit, counted from the deliveries that there were on it.
func (p *peer) credit(handle, deliveries, credit uint32) {
	p.t.Helper()
	p.send(&wire.Flow{NextIncomingID: new(uint32(firstOutgoingID)), IncomingWindow: 5000, OutgoingWindow: 5000, Handle: &handle, DeliveryCount: &deliveries, LinkCredit: &credit})
}

func (p *peer) settle(first, last uint32, settled bool, s wire.State) {
	p.t.Helper()
	p.send(&wire.Disposition{Role: wire.RoleReceiver, First: first, Last: &last, Settled: settled, State: s})
}

func counts(t testing.TB, e *Emulator, path string) string {
	t.Helper()
	i, err := e.Queue(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d active, %d locked, %d deferred", i.Active, i.Locked, i.Deferred)
}

func eventuallyTrue(t testing.TB, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come true")
		}
	}
}

// TestServiceBusPromises gives a message that is promised to a waiting link to no other, whatever else comes first.
func TestServiceBusPromises(t *testing.T) {
	e := openQueue(t, Queue{})
	q := e.queues["q"]
	link := func(credit uint32) *receiver {
		c := &connection{e: e, wakeup: make(chan struct{}, 1)}
		return &receiver{queue: q, link: &link{s: &session{c: c}, credit: credit}}
	}
	get := func(r *receiver) string {
		m, _, ok := r.next(nil)
		if !ok {
			return "nothing"
		}
		return string(bodyOf(t, m))
	}
	first, second := link(2), link(5)
	for _, r := range []*receiver{first, second} {
		if got := get(r); got != "nothing" {
			t.Fatalf("got %s", got)
		}
	}
	putBodies(t, e, "q", "a", "b", "c")
	late := link(1)
	if got := fmt.Sprint(get(late), len(first.link.s.c.wakeup), len(second.link.s.c.wakeup)); got != "nothing1 1" {
		t.Errorf("a third one gets %s", got)
	}
	late.release()
	if got := get(second) + get(second) + get(first) + get(first) + get(first); got != "anothingbcnothing" {
		t.Errorf("they get %s", got)
	}
	// What is gone before it is taken is promised no more.
	putBodies(t, e, "q", "d", "e", "f", "f", "f")
	if _, err := e.Purge("q"); err != nil {
		t.Fatal(err)
	}
	if got := get(second); got != "nothing" {
		t.Errorf("got %s", got)
	}
	woken := func(r *receiver) bool {
		select {
		case <-r.link.s.c.wakeup:
			return true
		default:
			return false
		}
	}
	woken(first)
	woken(second)
	first.release()
	putBodies(t, e, "q", "g")
	if got := get(second); got != "g" || !woken(second) {
		t.Errorf("got %s, want g, and to be told of it", got)
	}
	// What was promised to one that goes is the next one's.
	third := link(1)
	if got := get(third) + get(second); got != "nothingnothing" {
		t.Errorf("got %s", got)
	}
	putBodies(t, e, "q", "h")
	if !woken(second) || woken(third) {
		t.Error("it is not the second one that is told")
	}
	second.release()
	if got := get(third); got != "h" || !woken(third) {
		t.Errorf("got %s, want h, and to be told of it", got)
	}
}

// TestServiceBusSmallFrames splits deliveries into the frames that the client takes.
func TestServiceBusSmallFrames(t *testing.T) {
	e := openQueue(t, Queue{MaxMessageSize: 4 << 20})
	body := strings.Repeat("0123456789", 60_000)
	putBodies(t, e, "q", body, "small")
	p := authorized(t, e, &wire.Open{ContainerID: "test", MaxFrameSize: 512, ChannelMax: 100})
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	p.credit(0, 0, 2)
	var whole []byte
	for id := uint32(0); id < 2; {
		f, payload := expectPayload[*wire.Transfer](p)
		if whole = append(whole, payload...); *f.DeliveryID != id || len(f.DeliveryTag) != 16 {
			t.Fatalf("transfer %+v", f)
		}
		if f.More {
			continue
		}
		if want := []string{body, "small"}[id]; string(bodyOf(t, whole)) != want {
			t.Errorf("the body of delivery %d has %d bytes, want %d", id, len(bodyOf(t, whole)), len(want))
		}
		whole = nil
		id++
	}
}

// TestServiceBusPartialSends stores nothing of a message that does not come whole.
func TestServiceBusPartialSends(t *testing.T) {
	e := openQueue(t, Queue{})
	p := authorized(t, e, plainOpen)
	p.sender("q")
	message := dataMessage("whole")
	p.send(&wire.Transfer{DeliveryID: new(uint32(0)), DeliveryTag: []byte{1}, MessageFormat: new(uint32(0)), More: true}, message[:3]...)
	p.send(&wire.Transfer{DeliveryID: new(uint32(0)), Aborted: true})
	p.send(&wire.Transfer{DeliveryID: new(uint32(1)), DeliveryTag: []byte{1}, MessageFormat: new(uint32(0)), More: true}, message[:3]...)
	p.send(&wire.Transfer{}, message[3:]...)
	if d := expect[*wire.Disposition](p); d.First != 1 {
		t.Errorf("the answer is %+v", d)
	}
	p.send(&wire.Transfer{DeliveryID: new(uint32(2)), DeliveryTag: []byte{1}, MessageFormat: new(uint32(0)), More: true}, message[:3]...)
	p.send(&wire.Detach{Handle: 0, Closed: true})
	expect[*wire.Detach](p)
	if got := counts(t, e, "q"); got != "1 active, 0 locked, 0 deferred" {
		t.Errorf("there are %s", got)
	}
}

// TestServiceBusBadMessages refuses what is no message, and what cannot be read by others.
func TestServiceBusBadMessages(t *testing.T) {
	e := openQueue(t, Queue{})
	properties := func(id, group any) []byte {
		fields := wire.PropertyFields{wire.PropertyMessageID: wire.AppendAny(nil, id), wire.PropertyGroupID: wire.AppendAny(nil, group)}
		return append(wire.AppendPropertyFields(nil, &fields), dataMessage("x")...)
	}
	p := authorized(t, e, plainOpen)
	p.sender("q")
	for i, c := range []struct {
		format    uint32
		message   []byte
		condition string
	}{
		{0, []byte("junk"), wire.ConditionDecodeError},
		{0, append(dataMessage("x"), wire.AppendPropertyFields(nil, &wire.PropertyFields{})...), wire.ConditionDecodeError},
		{0, properties("id", int64(5)), wire.ConditionInvalidField},
		{0, properties("id", strings.Repeat("x", 129)), conditionArgument},
		{0, properties(strings.Repeat("x", 129), "s"), conditionArgument},
		{7, dataMessage("x"), wire.ConditionNotImplemented},
		{batchFormat, wire.AppendNull(wire.AppendSection(nil, wire.SectionValue)), wire.ConditionInvalidField},
		{batchFormat, append(dataMessage(string(dataMessage("good"))), dataMessage("bad")...), wire.ConditionDecodeError},
		{0, nil, ""},
		{0, properties(nil, nil), ""},
		{batchFormat, append(dataMessage(string(dataMessage("good"))), dataMessage(string(properties(uint64(1), "s")))...), ""},
	} {
		p.send(&wire.Transfer{DeliveryID: new(uint32(i)), DeliveryTag: []byte{1}, MessageFormat: &c.format}, c.message...)
		d := expect[*wire.Disposition](p)
		if rejected, ok := d.State.(*wire.Rejected); ok != (c.condition != "") {
			t.Errorf("message %d: the outcome is %T", i, d.State)
		} else if ok {
			expectError(t, rejected.Error, c.condition)
		}
	}
	if got := counts(t, e, "q"); got != "4 active, 0 locked, 0 deferred" {
		t.Errorf("there are %s", got)
	}
}
