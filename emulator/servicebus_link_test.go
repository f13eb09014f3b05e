package emulator

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

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
