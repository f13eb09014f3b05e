package emulator

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// openHub starts an emulator with one hub and the key k with the value v.
func openHub(t testing.TB, h Hub, limits Limits) *Emulator {
	t.Helper()
	e := startOpen(t, Options{Hubs: []Hub{h}, Limits: limits, KeyName: "k", Key: "v"})
	return e
}

// authorized is connect with the name and password of PLAIN.
func authorized(t testing.TB, e *Emulator, open *wire.Open) *peer {
	t.Helper()
	p := dial(t, e)
	p.write([]byte(wire.HeaderSASL))
	p.header(wire.HeaderSASL)
	expect[*wire.Mechanisms](p)
	p.write(wire.AppendSASLFrame(nil, &wire.Init{Mechanism: "PLAIN", Response: []byte("\x00k\x00v")}))
	expect[*wire.Outcome](p)
	// The AMQP header comes only when it is asked for.
	p.write([]byte(wire.HeaderAMQP))
	p.header(wire.HeaderAMQP)
	p.send(open)
	expect[*wire.Open](p)
	p.send(&wire.Begin{IncomingWindow: 5000, OutgoingWindow: 5000, HandleMax: 255})
	expect[*wire.Begin](p)
	return p
}

// TestPlainPassword refuses a wrong one.
func TestPlainPassword(t *testing.T) {
	e := openHub(t, Hub{Name: "h"}, Limits{})
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

// TestPipelinedHandshake has everything from the SASL header to the begin come in one write.
func TestPipelinedHandshake(t *testing.T) {
	connect(t, openHub(t, Hub{Name: "h"}, Limits{}), plainOpen)
}

// TestBadFrames sends what is no AMQP after a good handshake: the emulator closes with the condition, and goes on for others.
func TestBadFrames(t *testing.T) {
	e := openHub(t, Hub{Name: "h"}, Limits{})
	frame := func(p wire.Performative) []byte { return wire.AppendFrame(nil, 0, p, nil) }
	for name, c := range map[string]struct {
		bytes     []byte
		condition string
	}{
		"too large":          {[]byte{0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0}, wire.ConditionFramingError},
		"too small":          {[]byte{0, 0, 0, 7, 2, 0, 0, 0}, wire.ConditionFramingError},
		"offset of one":      {[]byte{0, 0, 0, 8, 1, 0, 0, 0}, wire.ConditionFramingError},
		"offset behind":      {[]byte{0, 0, 0, 8, 3, 0, 0, 0}, wire.ConditionFramingError},
		"type of none":       {[]byte{0, 0, 0, 8, 2, 9, 0, 0}, wire.ConditionFramingError},
		"SASL":               {wire.AppendSASLFrame(nil, &wire.Init{}), wire.ConditionFramingError},
		"garbage":            {[]byte{0, 0, 0, 12, 2, 0, 0, 0, 1, 2, 3, 4}, wire.ConditionDecodeError},
		"unknown descriptor": {[]byte{0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x99, 0x45}, wire.ConditionDecodeError},
		"missing field":      {[]byte{0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x14, 0x45}, wire.ConditionDecodeError},
		"second open":        {frame(plainOpen), wire.ConditionNotAllowed},
		"second begin":       {frame(&wire.Begin{}), wire.ConditionNotAllowed},
		"no such session":    {wire.AppendFrame(nil, 7, &wire.Flow{}, nil), wire.ConditionNotAllowed},
		"channel too high":   {wire.AppendFrame(nil, 5000, &wire.Begin{}, nil), wire.ConditionFramingError},
		"handle too high":    {frame(attachReceiver("x", 256, "h")), wire.ConditionFramingError},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, e, plainOpen)
			p.write(c.bytes)
			expectError(t, expect[*wire.Close](p).Error, c.condition)
			p.send(&wire.Close{})
			p.expectEnd()
		})
	}
	connect(t, e, plainOpen)
}

// TestBadSession ends the session, not the connection.
func TestBadSession(t *testing.T) {
	e := openHub(t, Hub{Name: "h"}, Limits{})
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

// TestRefusedAttach refuses with an attach that lacks the emulator's terminus, and a detach with the reason.
func TestRefusedAttach(t *testing.T) {
	e := openHub(t, Hub{Name: "h", Partitions: 2, Synthetic: &Synthetic{Events: 1}}, Limits{})
	for _, c := range []struct{ address, receive, send string }{
		{"h", wire.ConditionNotFound, wire.ConditionNotAllowed},
		{"amqps://host:5671/H/Partitions/1", wire.ConditionNotFound, wire.ConditionNotAllowed},
		{"h/Publishers/x", wire.ConditionNotFound, wire.ConditionNotImplemented},
		{"/nothing", wire.ConditionNotFound, wire.ConditionNotFound},
		{"h/ConsumerGroups/none/Partitions/0", wire.ConditionNotFound, wire.ConditionNotFound},
		{"h/ConsumerGroups/$default/Partitions/2", "com.microsoft:argument-out-of-range", wire.ConditionNotFound},
		{"h/ConsumerGroups/$default/Partitions/00", wire.ConditionNotFound, wire.ConditionNotFound},
		{"h/Partitions/2", wire.ConditionNotFound, "com.microsoft:argument-out-of-range"},
		{"", wire.ConditionInvalidField, wire.ConditionInvalidField},
	} {
		p := authorized(t, e, plainOpen)
		p.send(attachReceiver("r", 0, c.address))
		a := expect[*wire.Attach](p)
		if a.Source != nil || a.Target == nil {
			t.Errorf("%s: the attach of a refused receiver has source %v, target %v", c.address, a.Source, a.Target)
		}
		expectError(t, expect[*wire.Detach](p).Error, c.receive)
		p.send(attachSender("s", 1, c.address))
		a = expect[*wire.Attach](p)
		if a.Source == nil || a.Target != nil {
			t.Errorf("%s: the attach of a refused sender has source %v, target %v", c.address, a.Source, a.Target)
		}
		expectError(t, expect[*wire.Detach](p).Error, c.send)
	}
	p := connect(t, e, plainOpen)
	p.send(attachReceiver("r", 0, "h/ConsumerGroups/$Default/Partitions/0"))
	expect[*wire.Attach](p)
	d := expect[*wire.Detach](p)
	expectError(t, d.Error, wire.ConditionUnauthorizedAccess)
	if !strings.Contains(d.Error.Description, "'Listen' claim(s) are required") {
		t.Errorf("without a token: got %q", d.Error.Description)
	}
}

// TestFrames reads messages larger than the client's frames, within its window.
func TestFrames(t *testing.T) {
	e := openHub(t, Hub{Name: "h", Synthetic: &Synthetic{Events: 3, BodySize: 2000}}, Limits{})
	p := authorized(t, e, &wire.Open{ContainerID: "test", MaxFrameSize: 512, ChannelMax: 1})
	p.receiver("h", 0)
	// Three events are 15 frames: let 4 of them come, then the rest.
	p.send(&wire.Flow{NextIncomingID: new(uint32(1)), IncomingWindow: 4, Handle: new(uint32(0)), LinkCredit: new(uint32(3)), DeliveryCount: new(uint32(0)), Echo: true})
	var messages [][]byte
	var message []byte
	frames := 0
	for len(messages) < 3 {
		f, err := p.next()
		if err != nil {
			t.Fatalf("after %d frames: %v", frames, err)
		}
		if flow, ok := f.p.(*wire.Flow); ok {
			if frames > 4 {
				t.Errorf("%d frames came in a window of 4", frames)
			}
			_ = flow
			continue
		}
		transfer := f.p.(*wire.Transfer)
		if *transfer.DeliveryID != uint32(len(messages)) || !*transfer.Settled {
			t.Fatalf("transfer %+v, want delivery %d, settled", transfer, len(messages))
		}
		message = append(message, f.payload...)
		if !transfer.More {
			messages = append(messages, message)
			message = nil
		}
		if frames++; frames == 4 {
			// An echo now comes before any further transfer, as the window is closed.
			p.send(&wire.Flow{NextIncomingID: new(uint32(5)), IncomingWindow: 0, Echo: true})
			expect[*wire.Flow](p)
			p.send(&wire.Flow{NextIncomingID: new(uint32(5)), IncomingWindow: 100})
		}
	}
	for i, m := range messages {
		if got := bodyOf(t, m); len(got) != 2000 || !bytes.Contains(got, []byte(`"sequence":`+string('0'+byte(i)))) {
			t.Errorf("body %d: %d bytes, %.40q", i, len(got), got)
		}
	}
}

// TestDrain gives the credit back that nothing is there for.
func TestDrain(t *testing.T) {
	e := openHub(t, Hub{Name: "h", Synthetic: &Synthetic{Events: 3}}, Limits{})
	p := authorized(t, e, plainOpen)
	p.receiver("h", 0)
	drain := func(count, credit uint32) {
		p.send(&wire.Flow{NextIncomingID: new(uint32(1)), IncomingWindow: 5000, Handle: new(uint32(0)), DeliveryCount: &count, LinkCredit: &credit, Drain: true, Echo: true})
	}
	drain(0, 5)
	for range 3 {
		expect[*wire.Transfer](p)
	}
	f := expect[*wire.Flow](p)
	if !f.Drain || *f.LinkCredit != 0 || *f.DeliveryCount != 5 {
		t.Errorf("drained: got drain %v, credit %d, count %d; want true, 0, 5", f.Drain, *f.LinkCredit, *f.DeliveryCount)
	}
	drain(5, 2) // with nothing at all
	if f = expect[*wire.Flow](p); !f.Drain || *f.LinkCredit != 0 || *f.DeliveryCount != 7 {
		t.Errorf("drained: got drain %v, credit %d, count %d; want true, 0, 7", f.Drain, *f.LinkCredit, *f.DeliveryCount)
	}
}

// TestCredit is never overrun, and not lost when a flow is repeated.
func TestCredit(t *testing.T) {
	e := openHub(t, Hub{Name: "h", Synthetic: &Synthetic{Events: 100}}, Limits{})
	p := authorized(t, e, plainOpen)
	p.receiver("h", 2)
	expect[*wire.Transfer](p)
	expect[*wire.Transfer](p)
	// The same flow again gives nothing, since its count is behind; one that went out before it does neither.
	again := &wire.Flow{NextIncomingID: new(uint32(1)), IncomingWindow: 5000, Handle: new(uint32(0)), DeliveryCount: new(uint32(0)), LinkCredit: new(uint32(2)), Echo: true}
	p.send(again)
	if f := expect[*wire.Flow](p); *f.LinkCredit != 0 || *f.DeliveryCount != 2 {
		t.Errorf("after a repeated flow: credit %d, count %d, want 0, 2", *f.LinkCredit, *f.DeliveryCount)
	}
	again.LinkCredit = new(uint32(1))
	p.send(again)
	if f := expect[*wire.Flow](p); *f.LinkCredit != 0 {
		t.Errorf("credit below what was used is %d, want 0", *f.LinkCredit)
	}
}

// TestUnsettled settles deliveries in both ways, one by one and by range.
func TestUnsettled(t *testing.T) {
	e := openHub(t, Hub{Name: "h"}, Limits{})
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
	e := openHub(t, Hub{Name: "h", MaxMessageSize: 1024}, Limits{})
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

// TestSteal attaches a link again under its name, as a client does that believes it gone.
func TestSteal(t *testing.T) {
	e := openHub(t, Hub{Name: "h", Synthetic: &Synthetic{Events: 1}}, Limits{})
	p := authorized(t, e, plainOpen)
	p.receiver("h", 0)
	p.send(attachReceiver("r", 1, "h/ConsumerGroups/$Default/Partitions/0"))
	if d := expect[*wire.Detach](p); d.Handle != 0 || !d.Closed || d.Error.Condition != wire.ConditionStolen {
		t.Errorf("detach %+v, want handle 0, stolen", d)
	}
	if a := expect[*wire.Attach](p); a.Handle != 1 || a.Source == nil {
		t.Errorf("attach %+v, want handle 1", a)
	}
}

// TestLimits has idle links, connections and clients go, and tells them why.
func TestLimits(t *testing.T) {
	const short = 30 * time.Millisecond
	hub := Hub{Name: "h", Synthetic: &Synthetic{Events: 1}}
	t.Run("link idle", func(t *testing.T) {
		p := authorized(t, openHub(t, hub, Limits{LinkIdle: short}), plainOpen)
		p.receiver("h", 0)
		d := expect[*wire.Detach](p)
		expectError(t, d.Error, wire.ConditionDetachForced)
		if !d.Closed || !strings.Contains(d.Error.Description, "Idle timeout: 00:00:00") {
			t.Errorf("detach %+v", d)
		}
	})
	t.Run("no token", func(t *testing.T) {
		p := connect(t, openHub(t, hub, Limits{Token: short}), plainOpen)
		expectError(t, expect[*wire.Close](p).Error, wire.ConditionUnauthorizedAccess)
	})
	t.Run("no link", func(t *testing.T) {
		p := authorized(t, openHub(t, hub, Limits{FirstLink: short}), plainOpen)
		expectError(t, expect[*wire.Close](p).Error, wire.ConditionConnectionForced)
	})
	t.Run("no link any more", func(t *testing.T) {
		p := authorized(t, openHub(t, hub, Limits{ConnectionIdle: short}), plainOpen)
		p.receiver("h", 0)
		p.send(&wire.Detach{Handle: 0, Closed: true})
		expect[*wire.Detach](p)
		c := expect[*wire.Close](p)
		expectError(t, c.Error, wire.ConditionConnectionForced)
		if !strings.Contains(c.Error.Description, "30 milliseconds") {
			t.Errorf("close: %q", c.Error.Description)
		}
	})
	t.Run("silence", func(t *testing.T) {
		p := authorized(t, openHub(t, hub, Limits{Silence: short}), plainOpen)
		expectError(t, expect[*wire.Close](p).Error, wire.ConditionConnectionForced)
	})
	t.Run("handshake", func(t *testing.T) {
		p := dial(t, openHub(t, hub, Limits{Handshake: short}))
		if _, err := p.r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("a client that says nothing: got %v, want the end", err)
		}
	})
	t.Run("connections", func(t *testing.T) {
		e := openHub(t, hub, Limits{Connections: 1})
		first := authorized(t, e, plainOpen)
		p := dial(t, e)
		p.write(wire.AppendFrame(append(wire.AppendSASLFrame([]byte(wire.HeaderSASL), &wire.Init{Mechanism: "ANONYMOUS"}), wire.HeaderAMQP...), 0, plainOpen, nil))
		p.header(wire.HeaderSASL)
		expect[*wire.Mechanisms](p)
		expect[*wire.Outcome](p)
		p.header(wire.HeaderAMQP)
		expect[*wire.Open](p)
		expectError(t, expect[*wire.Close](p).Error, wire.ConditionResourceLimitExceeded)
		first.receiver("h", 1)
		expect[*wire.Transfer](first)
	})
}

// TestEmptyFrames come well before a client would take the connection for dead.
func TestEmptyFrames(t *testing.T) {
	e := openHub(t, Hub{Name: "h"}, Limits{})
	p := authorized(t, e, &wire.Open{ContainerID: "test", MaxFrameSize: 512, ChannelMax: 1, IdleTimeout: new(uint32(60))})
	for range 3 {
		_ = p.c.SetReadDeadline(time.Now().Add(time.Second))
		f, err := wire.ReadFrame(p.r, 512, &p.frame)
		if err != nil || len(f.Body) != 0 {
			t.Fatalf("got a frame of %d bytes, %v; want an empty one", len(f.Body), err)
		}
	}
}

// TestSlowReader asks without reading: the emulator stops listening to it, and holds little.
func TestSlowReader(t *testing.T) {
	e := openHub(t, Hub{Name: "h"}, Limits{Write: 100 * time.Millisecond})
	p := authorized(t, e, plainOpen)
	echo := bytes.Repeat(wire.AppendFrame(nil, 0, &wire.Flow{IncomingWindow: 5000, Echo: true}, nil), 1000)
	for {
		_ = p.c.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := p.c.Write(echo); err != nil {
			if errors.Is(err, io.ErrShortWrite) || strings.Contains(err.Error(), "timeout") {
				t.Errorf("the emulator keeps a client that does not read: %v", err)
			}
			return
		}
	}
}
