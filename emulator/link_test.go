package emulator

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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
	n := &testNode{messages: []string{"a", "b", "c", "d", "e"}, settled: make(chan string, 10)}
	e.entities["queue"] = n
	p := authorized(t, e, plainOpen)
	p.send(attachReceiver("r", 0, "queue"))
	expect[*wire.Attach](p)
	p.send(&wire.Flow{IncomingWindow: 5000, Handle: new(uint32(0)), LinkCredit: new(uint32(5))})
	for id := range uint32(5) {
		if f := expect[*wire.Transfer](p); *f.DeliveryID != id || *f.Settled || len(f.DeliveryTag) != 16 {
			t.Errorf("transfer %+v, want delivery %d, unsettled, with a tag of 16 bytes", f, id)
		}
	}
	p.send(&wire.Disposition{Role: wire.RoleReceiver, First: 0, State: &wire.Rejected{Error: &wire.Error{Condition: "com.microsoft:dead-letter"}}})
	d := expect[*wire.Disposition](p)
	if rejected, ok := d.State.(*wire.Rejected); !ok || rejected.Error != nil || !d.Settled || d.Role != wire.RoleSender || d.First != 0 {
		t.Errorf("the answer to a rejection is %+v, want a bare rejection, settled", d)
	}
	p.send(&wire.Disposition{Role: wire.RoleReceiver, First: 2, Last: new(uint32(0x7ffffff0)), Settled: true, State: &wire.Accepted{}})
	p.send(&wire.Disposition{Role: wire.RoleReceiver, First: 2, State: &wire.Accepted{}}) // settled already
	if rejected, ok := expect[*wire.Disposition](p).State.(*wire.Rejected); !ok {
		t.Error("a delivery that is settled is settled again")
	} else {
		expectError(t, rejected.Error, wire.ConditionNotFound)
	}
	p.send(&wire.Detach{Handle: 0, Closed: true})
	expect[*wire.Detach](p)
	var got []string // all but the delivery 1, which nobody spoke of
	for s := range n.settled {
		got = append(got, s)
	}
	slices.Sort(got)
	if want := "1 *wire.Accepted,2 *wire.Accepted,3 *wire.Accepted,5 *wire.Rejected"; strings.Join(got, ",") != want {
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
	// Aborted messages use credit, but they are given new one as others are.
	for range 2 * intakeCredit {
		p.send(transfer(1, true, false), message...)
		p.send(transfer(1, false, true))
	}
	for taken := uint32(0); taken < 2*intakeCredit; {
		if f := expect[*wire.Flow](p); f.Handle != nil {
			if taken = *f.DeliveryCount; *f.LinkCredit != intakeCredit {
				t.Errorf("flow after %d messages: a credit of %d, want %d", taken, *f.LinkCredit, intakeCredit)
			}
		}
	}
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

// TestFragmentsWithinWindow reads messages larger than the client's frames while it opens its window bit by bit.
func TestFragmentsWithinWindow(t *testing.T) {
	e := openHub(t, Hub{Name: "h", Synthetic: &Synthetic{Events: 3, BodySize: 2000}})
	p := authorized(t, e, &wire.Open{ContainerID: "test", MaxFrameSize: 512, ChannelMax: 1})
	p.receiver("h", 0)
	window := func(next, frames uint32, credit *uint32) {
		f := &wire.Flow{NextIncomingID: &next, IncomingWindow: frames, Echo: true}
		if credit != nil {
			f.Handle, f.DeliveryCount, f.LinkCredit = new(uint32(0)), new(uint32(0)), credit
		}
		p.send(f)
		expect[*wire.Flow](p)
	}
	window(1, 4, new(uint32(3)))
	var message []byte
	messages := 0
	for frames := uint32(1); messages < 3; frames++ {
		f, payload := expectPayload[*wire.Transfer](p)
		if *f.DeliveryID != uint32(messages) {
			t.Fatalf("frame %d is of delivery %d, want %d", frames, *f.DeliveryID, messages)
		}
		message = append(message, payload...)
		if !f.More {
			if body := bodyOf(t, message); len(body) != 2000 || !strings.Contains(string(body), fmt.Sprintf(`"sequence":%d,`, messages)) {
				t.Errorf("body %d: %d bytes, %.50q", messages, len(body), body)
			}
			messages++
			message = nil
		}
		if frames%4 == 0 {
			window(frames+1, 0, nil) // closed, so that the answer comes next
			window(frames+1, 4, nil)
		}
	}
}

// TestStolenReader gets not one event more, whether or not its connection has come to detach it.
func TestStolenReader(t *testing.T) {
	e := openHub(t, Hub{Name: "h", Synthetic: &Synthetic{Events: 3}})
	l := &link{s: &session{c: &connection{e: e, wakeup: make(chan struct{}, 1)}}}
	r := &reader{partition: e.hubs["h"].partitions[0], link: l}
	if _, _, ok := r.next(nil); !ok {
		t.Fatal("there is no event")
	}
	l.kick(&wire.Error{Condition: wire.ConditionStolen})
	if _, _, ok := r.next(nil); ok {
		t.Error("a stolen reader got an event")
	}
}

// TestReplyLink looks for the link of a reply by address or name, then in the request's session, then anywhere.
func TestReplyLink(t *testing.T) {
	c := &connection{}
	here, there := &session{c: c}, &session{c: c}
	add := func(s *session, node, name, target string) *link {
		l := &link{s: s, name: name, replyTo: target, feed: &replies{node: node}}
		c.outgoing = append(c.outgoing, l)
		return l
	}
	add(here, cbsNode, "other", "other")
	far := add(there, managementNode, "far", "far-target")
	near := add(here, managementNode, "near", "near-target")
	for _, test := range []struct {
		from    *session
		replyTo string
		want    *link
	}{
		{here, "", near}, {there, "", far}, {here, "far", far}, {here, "far-target", far}, {there, "near-target", near}, {here, "other", near},
	} {
		if got := test.from.replyLink(managementNode, test.replyTo); got != test.want {
			t.Errorf("a reply to %q goes to %v", test.replyTo, got)
		}
	}
	if got := here.replyLink("none", ""); got != nil {
		t.Errorf("a reply of a node without links goes to %v", got)
	}
}

// TestClaims end at the bounds of names, and with the token.
func TestClaims(t *testing.T) {
	now := time.Unix(1000, 0)
	e := &Emulator{options: Options{Now: func() time.Time { return now }}, listener: addressOnly{}}
	c := &connection{e: e, claims: map[string]claim{
		"orders": {listen: true, expires: time.Unix(2000, 0)},
		"both":   {listen: true, send: true, expires: time.Unix(1000, 0)},
	}}
	for _, test := range []struct {
		need claimNeed
		ok   bool
	}{
		{claimNeed{"orders", rightListen}, true},
		{claimNeed{"orders/partitions/0", rightListen}, true},
		{claimNeed{"orders", anyRight}, true},
		{claimNeed{"orders", rightSend}, false},
		{claimNeed{"orders2", rightListen}, false},
		{claimNeed{"order", rightListen}, false},
		{claimNeed{"both", rightListen}, false}, // expired this instant
	} {
		if refusal := c.authorize(test.need); (refusal == nil) != test.ok {
			t.Errorf("%+v: got %v, want allowed %v", test.need, refusal, test.ok)
		}
	}
}

// addressOnly is a listener that is asked for its address alone.
type addressOnly struct{ net.Listener }

func (addressOnly) Addr() net.Addr { return &net.TCPAddr{} }

// TestAnswersAreBounded has a client ask without reading the answers, on a connection whose writes never time out: it
// is not read from any more, rather than its answers piled up.
func TestAnswersAreBounded(t *testing.T) {
	e, err := Start(Options{KeyName: "k", Key: "v", Limits: Limits{Write: -1}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p := authorized(t, e, plainOpen)
	echo := bytes.Repeat(wire.AppendFrame(nil, 0, &wire.Flow{IncomingWindow: 5000, Echo: true}, nil), 10_000)
	_ = p.c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for sent := 0; sent < 64<<20; sent += len(echo) {
		if _, err := p.c.Write(echo); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("write: %v, want that it blocks", err)
			}
			return
		}
	}
	t.Error("64 MiB of questions were taken in")
}
