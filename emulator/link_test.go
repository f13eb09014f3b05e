package emulator

import (
	"slices"
	"strings"
	"testing"

	"persistor/emulator/internal/wire"
)

// TestPlainPassword refuses a wrong one.
func TestPlainPassword(t *testing.T) {
	e := openHub(t, Hub{Name: "h"})
	p := dial(t, e)
	p.write([]byte(wire.HeaderSASL))
	p.header(wire.HeaderSASL)
	expect[*wire.Mechanisms](p)
	p.write(wire.AppendSASLFrame(nil, &wire.Init{Mechanism: "PLAIN", Response: []byte("\x00k\x00wrong")}))
	if outcome := expect[*wire.Outcome](p); outcome.Code != 1 {
		t.Errorf("the outcome of a wrong password is %d, want 1", outcome.Code)
	}
	p.expectEnd()
}

// TestBadSession ends the session, not the connection.
func TestBadSession(t *testing.T) {
	e := openHub(t, Hub{Name: "h"})
	for name, c := range map[string]struct {
		p         wire.Performative
		condition string
	}{
		"flow":     {&wire.Flow{Handle: new(uint32(3))}, wire.ConditionUnattachedHandle},
		"transfer": {&wire.Transfer{Handle: 3}, wire.ConditionUnattachedHandle},
		"detach":   {&wire.Detach{Handle: 3}, wire.ConditionUnattachedHandle},
		"attach":   {attachReceiver("again", 0, "h"), wire.ConditionHandleInUse},
	} {
		t.Run(name, func(t *testing.T) {
			p := authorized(t, e, plainOpen)
			p.receiver("h", 0)
			p.send(c.p)
			expectError(t, expect[*wire.End](p).Error, c.condition)
			p.send(&wire.Flow{Handle: new(uint32(0))}) // sent before the end was seen
			p.send(&wire.End{})
			p.send(&wire.Begin{IncomingWindow: 1})
			expect[*wire.Begin](p)
		})
	}
}

// TestUnsettled settles deliveries in both ways, one by one and by range.
func TestUnsettled(t *testing.T) {
	e := openHub(t, Hub{Name: "h"})
	n := &testNode{messages: []string{"a", "b", "c", "d"}, settled: make(chan string, 10)}
	e.entities["queue"] = n
	p := authorized(t, e, plainOpen)
	p.send(attachReceiver("r", 0, "queue"))
	expect[*wire.Attach](p)
	p.send(&wire.Flow{IncomingWindow: 5000, Handle: new(uint32(0)), LinkCredit: new(uint32(4))})
	for id := range uint32(4) {
		if f := expect[*wire.Transfer](p); *f.DeliveryID != id || *f.Settled || len(f.DeliveryTag) != 16 {
			t.Errorf("transfer %+v, want delivery %d, unsettled, with a tag of 16 bytes", f, id)
		}
	}
	p.send(&wire.Disposition{Role: wire.RoleReceiver, First: 0, State: &wire.Rejected{Error: &wire.Error{Condition: "com.microsoft:dead-letter"}}})
	d := expect[*wire.Disposition](p)
	if rejected, ok := d.State.(*wire.Rejected); !ok || rejected.Error != nil || !d.Settled || d.Role != wire.RoleSender || d.First != 0 {
		t.Errorf("the answer to a rejection is %+v, want a bare rejection, settled", d)
	}
	p.send(&wire.Disposition{Role: wire.RoleReceiver, First: 1, Last: new(uint32(0xfffffff0)), Settled: true, State: &wire.Accepted{}})
	p.send(&wire.Disposition{Role: wire.RoleReceiver, First: 1, State: &wire.Accepted{}}) // settled already: no answer
	p.send(&wire.Detach{Handle: 0, Closed: true})
	expect[*wire.Detach](p)
	var got []string
	for s := range n.settled {
		got = append(got, s)
	}
	slices.Sort(got)
	if want := "1 *wire.Accepted,2 *wire.Accepted,3 *wire.Accepted,4 *wire.Rejected"; strings.Join(got, ",") != want {
		t.Errorf("settled: got %v, want %s", got, want)
	}
}

// TestSend sends in one frame and in several, aborted, presettled and too large.
func TestSend(t *testing.T) {
	e := openHub(t, Hub{Name: "h", MaxMessageSize: 1024})
	p := authorized(t, e, plainOpen)
	p.sender("h/Partitions/0")
	message := dataMessage("first message")
	transfer := func(id uint32, more, aborted bool) *wire.Transfer {
		return &wire.Transfer{Handle: 0, DeliveryID: &id, DeliveryTag: []byte{1}, MessageFormat: new(uint32(0)), More: more, Aborted: aborted}
	}
	p.send(transfer(0, true, false), message[:4]...)
	p.send(&wire.Transfer{Handle: 0, More: true}, message[4:6]...)
	p.send(&wire.Transfer{Handle: 0}, message[6:]...)
	if d := expect[*wire.Disposition](p); d.First != 0 || !d.Settled || d.Role != wire.RoleReceiver {
		t.Errorf("disposition %+v, want delivery 0, settled", d)
	} else if _, ok := d.State.(*wire.Accepted); !ok {
		t.Errorf("state %T, want accepted", d.State)
	}
	p.send(transfer(1, true, false), message...)
	p.send(transfer(1, false, true))
	settled := transfer(2, false, false)
	settled.Settled = new(true)
	p.send(settled, dataMessage("second")...)
	p.send(transfer(3, false, false), 1, 2, 3)
	if d := expect[*wire.Disposition](p); d.First != 3 {
		t.Errorf("disposition %+v, want delivery 3", d)
	} else if rejected, ok := d.State.(*wire.Rejected); !ok || rejected.Error.Condition != wire.ConditionDecodeError {
		t.Errorf("what is no message is %+v, want rejected with %s", d.State, wire.ConditionDecodeError)
	}
	events, err := e.Events("h", "0", 0)
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for event := range events {
		bodies = append(bodies, string(event.Body))
	}
	if got := strings.Join(bodies, ","); got != "first message,second" {
		t.Errorf("stored: %s", got)
	}
	p.send(transfer(4, true, false), make([]byte, 1000)...)
	p.send(transfer(4, true, false), make([]byte, 1000)...)
	expectError(t, expect[*wire.Detach](p).Error, wire.ConditionMessageSizeExceeded)
	p.send(transfer(4, false, false), 1) // sent before the detach was seen
	p.send(&wire.Detach{Handle: 0, Closed: true})
	p.sender("h") // and on it goes
}
