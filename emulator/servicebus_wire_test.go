package emulator

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestServiceBusAttach answers with the modes that were asked for, and tells senders how large a batch may be.
func TestServiceBusAttach(t *testing.T) {
	e := openQueue(t, Queue{MaxMessageSize: 2 << 20})
	p := authorized(t, e, plainOpen)
	mode := func(m *uint8) string {
		if m == nil {
			return "null"
		}
		return fmt.Sprint(*m)
	}
	for i, c := range []struct{ sender, receiver, wantSender, wantReceiver, settled string }{
		{"null", "1", "null", "1", "false"}, {"0", "1", "0", "1", "false"}, {"1", "0", "1", "0", "true"}, {"null", "null", "null", "0", "false"}, {"2", "0", "2", "0", "false"},
	} {
		a := attachReceiver(fmt.Sprint("r", i), 0, "q")
		for text, to := range map[*string]**uint8{&c.sender: &a.SenderMode, &c.receiver: &a.ReceiverMode} {
			if *text != "null" {
				*to = new((*text)[0] - '0')
			}
		}
		p.send(a)
		got := expect[*wire.Attach](p)
		if mode(got.SenderMode) != c.wantSender || mode(got.ReceiverMode) != c.wantReceiver || got.Source == nil || got.Target == nil || *got.InitialDeliveryCount != 0 || got.MaxMessageSize == 0 {
			t.Errorf("attach %+v is answered with %+v", c, got)
		}
		putBodies(t, e, "q", "a")
		p.credit(0, 0, 1)
		if f := expect[*wire.Transfer](p); fmt.Sprint(*f.Settled) != c.settled {
			t.Errorf("attach %+v: the delivery is settled: %v", c, *f.Settled)
		}
		p.send(&wire.Detach{Handle: 0, Closed: true})
		expect[*wire.Detach](p)
	}
	p.send(attachSender("s", 0, "q"))
	if a := expect[*wire.Attach](p); a.MaxMessageSize != 2<<20 || a.Properties.Get(propertyBatchSize) != uint64(1<<20) {
		t.Errorf("a sender's attach is answered with %+v", a)
	}
	if f := expect[*wire.Flow](p); *f.LinkCredit == 0 {
		t.Errorf("a sender gets the credit %d", *f.LinkCredit)
	}
}

// TestServiceBusSessionFilter gives the filter back as it came, with the session that was granted.
func TestServiceBusSessionFilter(t *testing.T) {
	e := openQueue(t, Queue{})
	putBodies(t, e, "s", "a1", "b1")
	for name, c := range map[string]struct {
		described bool
		id        any
		want      []string
	}{
		"described null": {true, nil, []string{"a", "b"}}, "plain null": {false, nil, []string{"a", "b"}},
		"described": {true, "x", []string{"x"}}, "plain": {false, "x", []string{"x"}}, "blank": {false, "", []string{""}}, "described blank": {true, "", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			p := authorized(t, e, plainOpen)
			for handle, want := range c.want {
				asked := ofSession(locking(fmt.Sprint("r", handle), uint32(handle), "s"), c.described, c.id)
				p.send(asked)
				a := expect[*wire.Attach](p)
				if a.Source == nil {
					t.Fatalf("refused: %v", expect[*wire.Detach](p).Error)
				}
				got, _ := a.Source.Filter(filterSession)
				if c.id == nil && got == c.want[1-handle] {
					want, c.want[1-handle] = c.want[1-handle], want // they are there in any order after the first time
				}
				if got != want {
					t.Errorf("the filter comes back as %v, want %q", got, want)
				}
				if granted := ofSession(locking("r", 0, "s"), c.described, want); !bytes.Equal(wire.AppendFrame(nil, 0, &wire.Attach{Source: a.Source}, nil), wire.AppendFrame(nil, 0, &wire.Attach{Source: granted.Source}, nil)) {
					t.Errorf("the source comes back as %+v", a.Source)
				}
				ticks, ok := a.Properties.Get(propertyLockedUntil).(int64)
				if until := time.UnixMilli((ticks - 621355968000000000) / 10000); !ok || time.Until(until) < 30*time.Second || time.Until(until) > 2*time.Minute {
					t.Errorf("the session is locked until %v", until)
				}
			}
		})
		eventuallyTrue(t, func() bool { i, _ := e.Queue("s"); return i.Sessions == 2 })
	}
	p := authorized(t, e, plainOpen)
	for name, a := range map[string]*wire.Attach{"number": ofSession(locking("n", 0, "s"), false, int64(1)), "list": ofSession(locking("l", 0, "s"), true, []any{"a"}), "long": ofSession(locking("o", 0, "s"), true, strings.Repeat("x", 129))} {
		p.send(a)
		if got := expect[*wire.Attach](p); got.Source != nil {
			t.Errorf("%s: attached", name)
		}
		if d := expect[*wire.Detach](p); d.Error == nil {
			t.Errorf("%s: detached without an error", name)
		}
		p.send(&wire.Detach{Handle: 0, Closed: true})
	}
}

func eventuallyTrue(t testing.TB, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come true")
		}
	}
}

// TestServiceBusWaitingAttach answers an attach that has to wait for a session once: when there is one, when the time is
// over, when the link goes, or never when all around it went.
func TestServiceBusWaitingAttach(t *testing.T) {
	e := openQueue(t, Queue{})
	waits := func(p *peer, timeout any) {
		t.Helper()
		a := ofSession(locking("r", 0, "s"), true, nil)
		if timeout != nil {
			a.Properties = wire.Map{{Key: wire.Symbol(propertyTimeout), Value: timeout}}
		}
		p.send(a)
		p.send(&wire.Flow{IncomingWindow: 5000, Echo: true}) // whose answer shows that the attach was seen
		expect[*wire.Flow](p)
	}
	refused := func(p *peer, condition string) {
		t.Helper()
		if a := expect[*wire.Attach](p); a.Source != nil {
			t.Error("attached")
		}
		if d := expect[*wire.Detach](p); condition != "" {
			expectError(t, d.Error, condition)
		} else if d.Error != nil {
			t.Errorf("detached with %v", d.Error)
		}
	}
	t.Run("timeout", func(t *testing.T) {
		for _, timeout := range []any{uint32(20), int32(20), uint64(20), int64(20), uint32(0)} {
			p := authorized(t, e, plainOpen)
			p.send(&wire.Attach{Name: "r", Role: wire.RoleReceiver, Source: ofSession(locking("r", 0, "s"), true, nil).Source, Target: wire.NewTarget("me"), Properties: wire.Map{{Key: wire.Symbol(propertyTimeout), Value: timeout}}})
			refused(p, conditionTimeout)
		}
	})
	t.Run("granted", func(t *testing.T) {
		p := authorized(t, e, plainOpen)
		waits(p, nil)
		p.send(&wire.Flow{IncomingWindow: 5000, OutgoingWindow: 5000, Handle: new(uint32(0)), LinkCredit: new(uint32(10)), Drain: true}) // sent ahead
		p.send(&wire.Flow{IncomingWindow: 5000, Echo: true})
		if f := expect[*wire.Flow](p); f.Handle != nil {
			t.Errorf("a drain was answered before the attach: %+v", f)
		}
		putBodies(t, e, "s", "a1")
		if a := expect[*wire.Attach](p); a.Source == nil || a.Properties == nil {
			t.Fatalf("attach: %+v", a)
		}
		_, message := expectPayload[*wire.Transfer](p)
		if string(bodyOf(t, message)) != "a1" {
			t.Errorf("got %s", bodyOf(t, message))
		}
		if f := expect[*wire.Flow](p); !f.Drain || *f.DeliveryCount != 10 {
			t.Errorf("the drain was answered with %+v", f)
		}
		p.settle(0, 0, false, &wire.Accepted{})
		expect[*wire.Disposition](p)
	})
	t.Run("nothing but an empty session", func(t *testing.T) {
		holder := authorized(t, e, plainOpen)
		holder.send(ofSession(locking("r", 0, "s"), true, "empty"))
		expect[*wire.Attach](holder)
		p := authorized(t, e, plainOpen)
		waits(p, uint32(50))
		holder.send(&wire.Detach{Handle: 0, Closed: true})
		expect[*wire.Detach](holder)
		refused(p, conditionTimeout)
	})
	t.Run("detached", func(t *testing.T) {
		p := authorized(t, e, plainOpen)
		waits(p, nil)
		p.send(&wire.Detach{Handle: 0, Closed: true})
		refused(p, "")
	})
	t.Run("kicked", func(t *testing.T) {
		p := authorized(t, e, plainOpen)
		waits(p, nil)
		e.DetachLinks(func(l Link) bool { return l.Address == "s" }, wire.ConditionDetachForced, "a test wants it")
		refused(p, wire.ConditionDetachForced)
	})
	t.Run("ended", func(t *testing.T) {
		p := authorized(t, e, plainOpen)
		waits(p, uint32(30))
		p.send(&wire.End{})
		expect[*wire.End](p)
		other := authorized(t, e, plainOpen)
		other.send(&wire.Attach{Name: "r", Role: wire.RoleReceiver, Source: ofSession(locking("r", 0, "s"), true, nil).Source, Target: wire.NewTarget("me"), Properties: wire.Map{{Key: wire.Symbol(propertyTimeout), Value: uint32(60)}}})
		refused(other, conditionTimeout) // by then the first one's time is over as well
		p.send(&wire.Begin{IncomingWindow: 5000, OutgoingWindow: 5000, HandleMax: 255})
		expect[*wire.Begin](p) // and nothing before
	})
	// None of those that went has the session.
	putBodies(t, e, "s", "b1")
	p := authorized(t, e, plainOpen)
	p.send(ofSession(locking("r", 0, "s"), true, nil))
	if a := expect[*wire.Attach](p); a.Source == nil {
		t.Error("the session is not free")
	}
}

// TestServiceBusOutcomes answers each settlement with its own type, bare, and does what it says.
func TestServiceBusOutcomes(t *testing.T) {
	annotations := wire.Map{{Key: wire.Symbol("p"), Value: "v"}}
	for name, c := range map[string]struct {
		outcome wire.State
		want    string // the type of the answer
		counts  string
	}{
		"accepted":        {&wire.Accepted{}, "*wire.Accepted", "0 active, 0 locked, 0 deferred"},
		"released":        {&wire.Released{}, "*wire.Released", "1 active, 0 locked, 0 deferred"},
		"abandoned":       {&wire.Modified{Annotations: annotations}, "*wire.Modified", "1 active, 0 locked, 0 deferred"},
		"failed":          {&wire.Modified{Failed: true}, "*wire.Modified", "1 active, 0 locked, 0 deferred"},
		"deferred":        {&wire.Modified{Undeliverable: true, Annotations: annotations}, "*wire.Modified", "0 active, 0 locked, 1 deferred"},
		"dead-lettered":   {&wire.Rejected{Error: &wire.Error{Condition: conditionDeadLetter, Info: wire.Map{{Key: propertyReason, Value: "r"}, {Key: propertyDescription, Value: nil}}}}, "*wire.Rejected", "0 active, 0 locked, 0 deferred"},
		"rejected":        {&wire.Rejected{}, "*wire.Rejected", "0 active, 0 locked, 0 deferred"},
		"without outcome": {nil, "*wire.Released", "1 active, 0 locked, 0 deferred"},
	} {
		for _, settled := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " settled ", settled), func(t *testing.T) {
				e := openQueue(t, Queue{})
				putBodies(t, e, "q", "a")
				p := authorized(t, e, plainOpen)
				p.send(locking("r", 0, "q"))
				expect[*wire.Attach](p)
				p.credit(0, 0, 1)
				f := expect[*wire.Transfer](p)
				if len(f.DeliveryTag) != 16 || counts(t, e, "q") != "0 active, 1 locked, 0 deferred" {
					t.Fatalf("transfer %+v, %s", f, counts(t, e, "q"))
				}
				p.settle(0, 0, settled, c.outcome)
				if !settled {
					d := expect[*wire.Disposition](p)
					rejected, _ := d.State.(*wire.Rejected)
					modified, _ := d.State.(*wire.Modified)
					if fmt.Sprintf("%T", d.State) != c.want || !d.Settled || d.Role != wire.RoleSender || d.First != 0 || rejected != nil && rejected.Error != nil || modified != nil && modified.Annotations != nil {
						t.Errorf("the answer is %+v with %+v", d, d.State)
					}
				} else {
					p.send(&wire.Flow{IncomingWindow: 5000, Echo: true})
					expect[*wire.Flow](p) // and no answer before
				}
				if got := counts(t, e, "q"); got != c.counts {
					t.Errorf("then there are %s, want %s", got, c.counts)
				}
			})
		}
	}
}

// TestServiceBusOutcomesOfMany answers a range in as few frames as there are different outcomes in a row.
func TestServiceBusOutcomesOfMany(t *testing.T) {
	e := openQueue(t, Queue{})
	for i := range 10 {
		putBodies(t, e, "q", fmt.Sprint(i))
	}
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	p.credit(0, 0, 10)
	var tags [][]byte
	for range 10 {
		tags = append(tags, bytes.Clone(expect[*wire.Transfer](p).DeliveryTag))
	}
	p.settle(1, 1, false, &wire.Released{})
	expect[*wire.Disposition](p)
	q := e.queues["q"]
	q.mu.Lock()
	q.abandon(q.withLock(guid([16]byte(tags[4]))), q.now())
	q.mu.Unlock()
	p.settle(0, 7, false, &wire.Accepted{})
	var got []string
	for _, range_ := range []string{"0-0", "2-3", "4-4", "5-7"} {
		d := expect[*wire.Disposition](p)
		line := fmt.Sprintf("%d-%d", d.First, *d.Last)
		if rejected, ok := d.State.(*wire.Rejected); ok {
			expectError(t, rejected.Error, conditionLockLost)
			line += " lost"
		}
		got = append(got, line)
		if !strings.HasPrefix(line, range_) {
			t.Errorf("got the answer %s, want %s", line, range_)
		}
	}
	if want := "0-0 2-3 4-4 lost 5-7"; strings.Join(got, " ") != want {
		t.Errorf("the answers are %v, want %s", got, want)
	}
	p.settle(20, 30, false, &wire.Accepted{})
	if rejected, ok := expect[*wire.Disposition](p).State.(*wire.Rejected); !ok {
		t.Error("deliveries that never were are settled")
	} else {
		expectError(t, rejected.Error, wire.ConditionNotFound)
	}
	if got := counts(t, e, "q"); got != "2 active, 2 locked, 0 deferred" {
		t.Errorf("then there are %s", got)
	}
}

// TestServiceBusBadProperties refuses properties that cannot be, and leaves the message as it is.
func TestServiceBusBadProperties(t *testing.T) {
	e := openQueue(t, Queue{})
	putBodies(t, e, "q", "a", "b")
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	p.credit(0, 0, 2)
	expect[*wire.Transfer](p)
	expect[*wire.Transfer](p)
	for i, s := range []wire.State{
		&wire.Modified{Annotations: wire.Map{{Key: wire.Symbol("p"), Value: []string{"an array"}}}},
		&wire.Rejected{Error: &wire.Error{Info: wire.Map{{Key: int64(1), Value: "x"}}}},
	} {
		p.settle(uint32(i), uint32(i), false, s)
		if rejected, ok := expect[*wire.Disposition](p).State.(*wire.Rejected); !ok || rejected.Error == nil {
			t.Error("a property that cannot be was set")
		} else {
			expectError(t, rejected.Error, wire.ConditionInvalidField)
		}
	}
	if got := counts(t, e, "q"); got != "0 active, 2 locked, 0 deferred" {
		t.Errorf("then there are %s", got)
	}
}

// TestServiceBusChangedProperties has each property once, with its last value.
func TestServiceBusChangedProperties(t *testing.T) {
	e := openQueue(t, Queue{})
	message := wire.AppendAny(wire.AppendSection(nil, wire.SectionApplicationProperties), wire.Map{{Key: "kept", Value: int64(1)}, {Key: "changed", Value: "before"}})
	if err := e.PutMessages("q", QueueMessage{Message: append(message, dataMessage("x")...)}); err != nil {
		t.Fatal(err)
	}
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	p.credit(0, 0, 2)
	expect[*wire.Transfer](p)
	p.settle(0, 0, false, &wire.Modified{Annotations: wire.Map{{Key: wire.Symbol("changed"), Value: true}, {Key: "new", Value: wire.UUID{1}}}})
	expect[*wire.Disposition](p)
	_, encoded := expectPayload[*wire.Transfer](p)
	want := wire.Map{{Key: "kept", Value: int64(1)}, {Key: "changed", Value: true}, {Key: "new", Value: wire.UUID{1}}}
	for section := range wire.Sections(encoded) {
		if section.Code == wire.SectionApplicationProperties {
			if diff := cmp.Diff(want, wire.NewReader(section.Value).Any()); diff != "" {
				t.Errorf("properties (-want +got):\n%s", diff)
			}
		}
	}
}

// TestServiceBusDrain gives the credit back that nothing is there for, and delivers nothing after that.
func TestServiceBusDrain(t *testing.T) {
	e := openQueue(t, Queue{})
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	drain := func(deliveries, credit uint32) {
		t.Helper()
		p.send(&wire.Flow{IncomingWindow: 5000, OutgoingWindow: 5000, Handle: new(uint32(0)), DeliveryCount: &deliveries, LinkCredit: &credit, Drain: true})
	}
	drain(0, 10)
	if f := expect[*wire.Flow](p); !f.Drain || *f.LinkCredit != 0 || *f.DeliveryCount != 10 {
		t.Errorf("the drain of nothing is answered with %+v", f)
	}
	putBodies(t, e, "q", "a", "b", "c")
	if got := counts(t, e, "q"); got != "3 active, 0 locked, 0 deferred" {
		t.Errorf("without credit there are %s", got)
	}
	drain(10, 2)
	expect[*wire.Transfer](p)
	expect[*wire.Transfer](p)
	if f := expect[*wire.Flow](p); !f.Drain || *f.LinkCredit != 0 || *f.DeliveryCount != 12 {
		t.Errorf("the drain of some is answered with %+v", f)
	}
	drain(12, 2)
	expect[*wire.Transfer](p)
	if f := expect[*wire.Flow](p); *f.LinkCredit != 0 || *f.DeliveryCount != 14 {
		t.Errorf("the drain of the rest is answered with %+v", f)
	}
}

// TestServiceBusTurns serves links in the order in which they began to wait, and gives what one was promised but cannot
// take to the next.
func TestServiceBusTurns(t *testing.T) {
	e := openQueue(t, Queue{})
	p := authorized(t, e, plainOpen)
	for handle := range uint32(3) {
		p.send(locking(fmt.Sprint("r", handle), handle, "q"))
		expect[*wire.Attach](p)
	}
	q := e.queues["q"]
	hungry := func(n int) {
		t.Helper()
		eventuallyTrue(t, func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.hungry.Len() == n })
	}
	next := func(want uint32) {
		t.Helper()
		if f := expect[*wire.Transfer](p); f.Handle != want {
			t.Errorf("the message went to %d, want %d", f.Handle, want)
		}
	}
	for i, handle := range []uint32{1, 0, 2} {
		p.credit(handle, 0, 2)
		hungry(i + 1)
	}
	for _, want := range []uint32{1, 1, 0} {
		putBodies(t, e, "q", "a")
		next(want)
	}
	p.credit(0, 1, 0) // it has had enough
	hungry(1)
	putBodies(t, e, "q", "b")
	next(2)
	p.credit(1, 2, 1)
	hungry(2)
	p.send(&wire.Detach{Handle: 2, Closed: true})
	expect[*wire.Detach](p)
	putBodies(t, e, "q", "c")
	next(1)
	hungry(0)
	// One whose session has no window is passed over.
	p.credit(0, 1, 5)
	hungry(1)
	p.send(&wire.Flow{NextIncomingID: new(uint32(firstOutgoingID + 5)), IncomingWindow: 0, OutgoingWindow: 5000})
	hungry(0)
	putBodies(t, e, "q", "d", "e")
	other := authorized(t, e, plainOpen)
	other.send(locking("r", 0, "q"))
	expect[*wire.Attach](other)
	other.credit(0, 0, 1)
	expect[*wire.Transfer](other)
	p.send(&wire.Flow{NextIncomingID: new(uint32(firstOutgoingID + 5)), IncomingWindow: 1, OutgoingWindow: 5000})
	next(0)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.promised != 0 {
		t.Errorf("%d messages are promised", q.promised)
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

// TestServiceBusStolenLink gives a session to the link of the same name that is attached again.
func TestServiceBusStolenLink(t *testing.T) {
	e := openQueue(t, Queue{})
	putBodies(t, e, "s", "a1")
	p := authorized(t, e, plainOpen)
	p.send(ofSession(locking("r", 0, "s"), true, "a"))
	expect[*wire.Attach](p)
	p.send(ofSession(locking("r", 1, "s"), true, "a"))
	expectError(t, expect[*wire.Detach](p).Error, wire.ConditionStolen)
	if a := expect[*wire.Attach](p); a.Source == nil {
		t.Error("the session is not free")
	}
	p.credit(1, 0, 1)
	expect[*wire.Transfer](p)
}

// TestServiceBusCoordinator refuses transactions.
func TestServiceBusCoordinator(t *testing.T) {
	e := openQueue(t, Queue{})
	p := authorized(t, e, plainOpen)
	// An attach whose target is the coordinator: descriptor 0x30 and a list without fields.
	body := wire.AppendList(wire.AppendDescriptor(nil, 0x12), 7, func(b []byte) []byte {
		b = wire.AppendBool(wire.AppendUint(wire.AppendString(b, "txn"), 0), wire.RoleSender)
		b = wire.AppendNull(wire.AppendNull(wire.AppendNull(b)))
		return wire.AppendList(wire.AppendDescriptor(b, 0x30), 0, func(b []byte) []byte { return b })
	})
	p.write(append([]byte{0, 0, 0, byte(8 + len(body)), 2, 0, 0, 0}, body...))
	if a := expect[*wire.Attach](p); a.Target != nil {
		t.Error("attached")
	}
	expectError(t, expect[*wire.Detach](p).Error, wire.ConditionNotImplemented)
}

// TestServiceBusSynthetic makes up as many messages as there are said to be, keeps none that was settled, and puts back
// those that were not.
func TestServiceBusSynthetic(t *testing.T) {
	const n = 20_000
	first := time.Date(2024, 5, 6, 0, 0, 0, 0, time.UTC)
	e := openQueue(t, Queue{Synthetic: &SyntheticQueue{Messages: n, BodySize: 100, First: first, Interval: time.Second}})
	p := authorized(t, e, plainOpen)
	p.send(locking("r", 0, "q"))
	expect[*wire.Attach](p)
	seen := map[string]int{}
	deliveries := uint32(0)
	released := 0
	for len(seen) < n || released > 0 {
		p.send(&wire.Flow{NextIncomingID: new(firstOutgoingID + deliveries), IncomingWindow: 5000, OutgoingWindow: 5000, Handle: new(uint32(0)), DeliveryCount: &deliveries, LinkCredit: new(uint32(min(1000, n-len(seen)+released)))})
		start := deliveries
		for range min(1000, n-len(seen)+released) {
			_, message := expectPayload[*wire.Transfer](p)
			body := string(bodyOf(t, message))
			if len(body) != 100 {
				t.Fatalf("the body %q has %d bytes", body, len(body))
			}
			seen[body]++
			if seen[body] == 2 {
				released--
			}
			deliveries++
		}
		if start == 3000 {
			p.settle(start, start+9, false, &wire.Released{})
			expect[*wire.Disposition](p)
			released = 10
			start += 10
		}
		p.settle(start, deliveries-1, false, &wire.Accepted{})
		expect[*wire.Disposition](p)
	}
	q := e.queues["q"]
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.store.chunks) > 1 || q.info.Completed != n || q.info.Active != 0 || q.info.Locked != 0 || q.info.Bytes != 0 {
		t.Errorf("%d chunks are left, and the queue says %+v", len(q.store.chunks), q.info)
	}
}

// TestServiceBusSyntheticSessions spreads messages over sessions, and shows those that nobody has taken.
func TestServiceBusSyntheticSessions(t *testing.T) {
	first := time.Date(2024, 5, 6, 0, 0, 0, 0, time.UTC)
	e, err := Start(Options{AllowAnyToken: true, Queues: []Queue{{Name: "s", Sessions: true, Synthetic: &SyntheticQueue{Messages: 10, Sessions: 3, BodySize: 30, First: first, Interval: time.Minute}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	shown := func() string {
		t.Helper()
		messages, err := e.Messages("s")
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for m := range messages {
			if want := first.Add(time.Duration(m.SequenceNumber-1) * time.Minute); !m.Enqueued.Equal(want) || !strings.HasPrefix(string(m.Body), fmt.Sprintf(`{"sequence":%d,`, m.SequenceNumber)) {
				t.Errorf("message %d has the time %v and the body %s", m.SequenceNumber, m.Enqueued, m.Body)
			}
			s = append(s, fmt.Sprintf("%d%s%v", m.SequenceNumber, strings.TrimPrefix(*m.SessionID, "session"), m.State)[:5])
		}
		return strings.Join(s, " ")
	}
	if got, want := shown(), "1-0ac 2-1ac 3-2ac 4-0ac 5-1ac 6-2ac 7-0ac 8-1ac 9-2ac 10-0a"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
	p := authorized(t, e, plainOpen)
	for handle := range uint32(2) {
		p.send(ofSession(locking(fmt.Sprint("r", handle), handle, "s"), true, nil))
		expect[*wire.Attach](p)
		p.credit(handle, 0, 2)
		expect[*wire.Transfer](p)
		expect[*wire.Transfer](p)
	}
	p.settle(0, 0, false, &wire.Accepted{})
	expect[*wire.Disposition](p)
	p.settle(3, 3, false, &wire.Rejected{})
	expect[*wire.Disposition](p)
	if got, want := shown(), "2-1lo 3-2ac 4-0lo 6-2ac 7-0ac 8-1ac 9-2ac 10-0a"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
	dead, err := e.Messages("s/$DeadLetterQueue")
	if err != nil {
		t.Fatal(err)
	}
	for m := range dead {
		if string(m.Body) != `{"sequence":5,"filler":"abcde"}`[:29]+`"}`[:1] && len(m.Body) != 30 {
			t.Errorf("the dead letter has the body %s", m.Body)
		}
	}
	if n, err := e.Purge("s"); n != 8 || err != nil || shown() != "" {
		t.Errorf("purged %d, %v, and left %s", n, err, shown())
	}
	if got := counts(t, e, "s"); got != "0 active, 0 locked, 0 deferred" {
		t.Errorf("after the purge there are %s", got)
	}
}
