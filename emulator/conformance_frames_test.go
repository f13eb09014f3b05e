package emulator_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"persistor/emulator"
)

// attachSender attaches a sending link to partition 0 under handle 0, and returns the answer.
func (c *raw) attachSender() frame {
	c.t.Helper()
	c.send(0, codeAttach, "out", uint32(0), false, uint8(2), uint8(0),
		described{codeSource, []any{"here"}}, described{codeTarget, []any{hub + "/Partitions/0"}}, nil, nil, uint32(0))
	return c.expect(codeAttach)
}

// attachReceiver attaches a receiving link to partition 0 from its beginning under a handle, and
// returns the answer.
func (c *raw) attachReceiver(handle uint32) frame {
	c.t.Helper()
	c.send(0, codeAttach, "in", handle, true, uint8(1), uint8(0), sourceFromStart, described{codeTarget, []any{"here"}})
	return c.expect(codeAttach)
}

var sourceFromStart = described{codeSource, []any{partition0, nil, nil, nil, nil, nil, nil, selectFromStart}}

// selectFromStart is a filter set with one filter whose descriptor is the ulong that the Go client uses.
var selectFromStart = pairs{symbol("apache.org:selector-filter:string"), verbatim(append([]byte{
	0x00, 0x80, 0x00, 0x00, 0x46, 0x8c, 0x00, 0x00, 0x00, 0x04}, encode(nil, "amqp.annotation.x-opt-offset > '-1'")...))}

// message is an encoded message with one data section.
func message(body string) []byte {
	return encode(nil, described{0x75, []byte(body)})
}

// The answers have all their fields in the types and places that the pickiest client wants.
func TestAnswers(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	publish(t, newProducer(t, e, atOnce), "0", "event")
	c := dialRaw(t, e)
	c.header(3)
	mechanisms, _ := c.expect(codeMechanisms).field(0).([]any)
	for _, want := range []symbol{"MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"} {
		if !contains(mechanisms, want) {
			t.Errorf("mechanisms %v, want %s among them", mechanisms, want)
		}
	}
	c.writeFrame(1, 0, encode(nil, described{codeInit, []any{symbol("MSSBCBS"), nil, "host"}}))
	if f := c.expect(codeOutcome); f.field(0) != uint8(0) {
		t.Fatalf("outcome of MSSBCBS: %v", f.fields)
	}
	c.header(0)

	c.send(0, codeOpen, "raw", "host", uint32(20_000), uint16(9), uint32(60_000))
	open := c.expect(codeOpen)
	if id, _ := open.field(0).(string); id == "" || len(open.fields) != 10 {
		t.Errorf("open has the container-id %q and %d fields, want one and 10", id, len(open.fields))
	}
	if n, _ := open.field(2).(uint32); n < 512 {
		t.Errorf("open has max-frame-size %v", open.field(2))
	}

	c.send(7, codeBegin, nil, uint32(0), uint32(5000), uint32(5000), uint32(255))
	begin := c.expect(codeBegin)
	if begin.channel != 7 || begin.field(0) != uint16(7) || len(begin.fields) != 8 {
		t.Errorf("begin on channel 7 is answered on %d with remote-channel %v and %d fields, want 8", begin.channel, begin.field(0), len(begin.fields))
	}
	for i, name := range []string{1: "next-outgoing-id", 2: "incoming-window", 3: "outgoing-window", 4: "handle-max"} {
		if _, ok := begin.field(i).(uint32); name != "" && !ok {
			t.Errorf("begin has no %s", name)
		}
	}

	c.putTokenOn(7)
	c.send(7, codeAttach, "in", uint32(9), true, uint8(1), uint8(0), sourceFromStart, described{codeTarget, []any{"here"}})
	attach := c.expect(codeAttach)
	if len(attach.fields) != 14 || attach.field(0) != "in" || attach.field(2) != false || attach.field(3) != uint8(1) || attach.field(4) != uint8(0) {
		t.Errorf("attach is answered with %v, want the same name, the other role, the same modes, and 14 fields", attach.fields)
	}
	if attach.field(9) != uint32(0) {
		t.Errorf("initial-delivery-count is %v, want 0", attach.field(9))
	}
	handle, _ := attach.field(1).(uint32)
	source, _ := attach.field(5).(described)
	if fields, _ := source.value.([]any); source.code != codeSource || len(fields) < 8 || fields[0] != partition0 {
		t.Errorf("source came back as %v", source)
	} else if filters, _ := fields[7].(pairs); len(filters) != 2 || filters[0] != selectFromStart[0] || filters[1] != (described{0x0000468c00000004, "amqp.annotation.x-opt-offset > '-1'"}) {
		t.Errorf("filters came back as %v", fields[7])
	}
	if target, _ := attach.field(6).(described); target.code != codeTarget {
		t.Errorf("target came back as %v", attach.field(6))
	}

	c.send(7, codeFlow, begin.field(1), uint32(5000), uint32(0), uint32(5000), uint32(9), uint32(0), uint32(1))
	transfer := c.expect(codeTransfer)
	if transfer.field(0) != handle || len(transfer.fields) != 11 || transfer.field(4) != true || transfer.field(3) != uint32(0) {
		t.Errorf("transfer %v, want handle %d, format 0, settled, and 11 fields", transfer.fields, handle)
	}
	if tag, _ := transfer.field(2).([]byte); len(tag) == 0 {
		t.Error("transfer has no delivery-tag")
	}

	c.send(7, codeDetach, uint32(9), true)
	if f := c.expect(codeDetach); f.field(0) != handle || f.field(1) != true || f.condition(2) != "" {
		t.Errorf("detach is answered with %v", f.fields)
	}
	c.send(7, codeEnd)
	if f := c.expect(codeEnd); f.channel != 7 || f.condition(0) != "" {
		t.Errorf("end is answered on channel %d with %v", f.channel, f.fields)
	}
	c.send(0, codeClose)
	if f := c.expect(codeClose); f.condition(0) != "" {
		t.Errorf("close is answered with %v", f.fields)
	}
	if _, err := c.next(); err == nil {
		t.Error("a frame came after close")
	}
}

func contains(list []any, v any) bool {
	for _, item := range list {
		if item == v {
			return true
		}
	}
	return false
}

// An unsettled event is accepted, in a disposition that settles it, with the numbers that were given.
func TestDisposition(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := authorized(t, e)
	attach := c.attachSender()
	if n, ok := attach.field(10).(uint64); !ok || n == 0 {
		t.Errorf("max-message-size is %v, want one", attach.field(10))
	}
	if f := c.expect(codeFlow); f.field(4) != attach.field(1) || f.field(6) == nil || f.field(6) == uint32(0) || f.field(5) != uint32(0) {
		t.Errorf("flow after attach is %v, want credit for the link", f.fields)
	}
	c.transfer(0, message("event"), uint32(0), uint32(1), []byte("tag"), uint32(0), false)
	f := c.expect(codeDisposition)
	if f.field(0) != true || f.field(1) != uint32(1) || f.field(3) != true {
		t.Errorf("disposition %v, want role receiver, first 1, settled", f.fields)
	}
	if state, _ := f.field(4).(described); state.code != codeAccepted {
		t.Errorf("state is %v, want accepted", state)
	}
}

// An event may come in any number of frames, with the later ones bare; one that is broken off leaves no
// trace; a link that is detached in the middle neither.
func TestFragments(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := authorized(t, e)
	c.attachSender()
	whole := message("in many pieces")
	c.transfer(0, whole[:1], uint32(0), uint32(1), []byte("a"), uint32(0), false, true)
	for _, b := range whole[1 : len(whole)-1] {
		c.transfer(0, []byte{b}, uint32(0), nil, nil, nil, nil, true)
	}
	c.transfer(0, whole[len(whole)-1:], uint32(0))
	c.expect(codeDisposition)

	c.transfer(0, message("broken off")[:5], uint32(0), uint32(2), []byte("b"), uint32(0), false, true)
	c.transfer(0, nil, uint32(0), nil, nil, nil, nil, false, nil, nil, nil, true) // aborted
	c.transfer(0, message("after the abort"), uint32(0), uint32(3), []byte("c"), uint32(0), false)
	if f := c.expect(codeDisposition); f.field(1) != uint32(3) {
		t.Errorf("disposition of delivery %v, want 3", f.field(1))
	}

	c.transfer(0, message("never finished")[:5], uint32(0), uint32(4), []byte("d"), uint32(0), false, true)
	c.send(0, codeDetach, uint32(0), true)
	c.expect(codeDetach)
	c.attachSender()
	c.transfer(0, message("the last"), uint32(0), uint32(5), []byte("e"), uint32(0), false)
	c.expect(codeDisposition)

	got := bodies(receive(t, readFrom(t, e, "0"), 3))
	if want := []string{"in many pieces", "after the abort", "the last"}; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("the partition holds %q, want %q", got, want)
	}
}

// A message that grows beyond the link's limit ends the link, and nothing of it is kept.
func TestOversizeMessage(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true, Hubs: []emulator.Hub{{Name: hub, Partitions: 1, MaxMessageSize: 10_000}}})
	c := authorized(t, e)
	c.attachSender()
	c.transfer(0, message(strings.Repeat("x", 6000)), uint32(0), uint32(1), []byte("a"), uint32(0), false, true)
	c.transfer(0, bytes.Repeat([]byte("x"), 6000), uint32(0), nil, nil, nil, nil, true)
	f := c.expect(codeDetach)
	if got := f.condition(2); got != "amqp:link:message-size-exceeded" {
		t.Errorf("detach has the condition %q", got)
	}
	if p := partitionProperties(t, newProducer(t, e, atOnce), "0"); !p.IsEmpty {
		t.Error("the message is stored")
	}
}

// Events go out in frames no larger than the client said, however small that is.
func TestSmallFrames(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	want := []string{strings.Repeat("0123456789", 500), "small", strings.Repeat("x", 512), ""}
	publish(t, newProducer(t, e, atOnce), "0", want...)
	c := dialRaw(t, e)
	c.sasl()
	c.header(0)
	c.send(0, codeOpen, "raw", nil, uint32(512))
	c.expect(codeOpen)
	c.begin(0, 5000, 5000)
	c.putTokenOn(0)
	c.attachReceiver(0)
	c.send(0, codeFlow, uint32(1), uint32(5000), uint32(0), uint32(5000), uint32(0), uint32(0), uint32(10))
	for i, body := range want {
		var whole []byte
		for first := true; ; first = false {
			f := c.expect(codeTransfer)
			whole = append(whole, f.payload...)
			if n := len(rawFrame(0, 0, append(encode(nil, described{codeTransfer, f.fields}), f.payload...))); n > 512+64 { // our encoding is not the shortest
				t.Fatalf("a frame has about %d bytes, want at most 512", n)
			}
			if first && (f.field(1) == nil || f.field(2) == nil || f.field(3) == nil) {
				t.Fatalf("the first frame of event %d is %v, want id, tag and format", i, f.fields)
			}
			if f.field(5) != true {
				break
			}
		}
		if !bytes.HasSuffix(whole, message(body)[5:]) && !bytes.HasSuffix(whole, []byte(body)) {
			t.Errorf("event %d came as %d bytes, want a body of %d", i, len(whole), len(body))
		}
	}
}

// The emulator sends no more transfers than the session's window holds, and goes on when it opens.
func TestClientWindow(t *testing.T) {
	const window = 7
	e := run(t, emulator.Options{AllowAnyToken: true})
	publish(t, newProducer(t, e, atOnce), "0", numbered(50)...)
	c := dialRaw(t, e)
	c.sasl()
	c.header(0)
	c.send(0, codeOpen, "raw", nil, uint32(65536))
	c.expect(codeOpen)
	begin := c.begin(0, window, 5000)
	c.putTokenOn(0)
	c.attachReceiver(0)
	next, _ := begin.field(1).(uint32)
	next++ // the reply to put-token was a transfer
	received := 0
	for credit := uint32(50); received < 42; credit = 50 {
		c.send(0, codeFlow, next, uint32(window), uint32(1), uint32(5000), uint32(0), uint32(received), credit-uint32(received))
		for range window {
			c.expect(codeTransfer)
			received++
			next++
		}
		// Were there an event too many on its way, it would come before the answer to an echo.
		c.send(0, codeFlow, next, uint32(0), uint32(1), uint32(5000), nil, nil, nil, nil, nil, true)
		for {
			f, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if f.code == codeTransfer {
				t.Fatalf("a transfer came with the window full, after %d", received)
			}
			if f.code == codeFlow {
				break
			}
		}
	}
}

// A flow that asks for an echo gets one, for the session and for a link, with the numbers as they stand.
func TestEcho(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := authorized(t, e)
	attach := c.attachReceiver(3)
	c.send(0, codeFlow, uint32(1), uint32(5000), uint32(1), uint32(5000), nil, nil, nil, nil, nil, true)
	f := c.expect(codeFlow)
	if f.field(0) != uint32(1) || f.field(1) == nil || f.field(2) == nil || f.field(3) == nil {
		t.Errorf("session echo %v, want next-incoming-id 1 and both windows", f.fields)
	}
	c.send(0, codeFlow, uint32(1), uint32(5000), uint32(1), uint32(5000), uint32(3), uint32(0), uint32(17), nil, false, true)
	for {
		f := c.expect(codeFlow)
		if f.field(4) == nil {
			continue
		}
		if f.field(4) != attach.field(1) || f.field(5) != uint32(0) || f.field(6) != uint32(17) {
			t.Errorf("link echo %v, want handle %v, delivery-count 0, credit 17", f.fields, attach.field(1))
		}
		return
	}
}

// A drain takes all that there is, however much that is, and gives back the rest of the credit.
func TestDrainOfMany(t *testing.T) {
	const n, credit = 1500, 1600
	e := run(t, emulator.Options{AllowAnyToken: true})
	publish(t, newProducer(t, e, atOnce), "0", numbered(n)...)
	c := authorized(t, e)
	c.attachReceiver(0)
	c.send(0, codeFlow, uint32(2), uint32(5000), uint32(1), uint32(5000), uint32(0), uint32(0), uint32(credit), nil, true)
	for range n {
		c.expect(codeTransfer)
	}
	if f := c.expect(codeFlow); f.field(5) != uint32(credit) || f.field(6) != uint32(0) || f.field(8) != true {
		t.Errorf("the drain is answered with %v, want delivery-count %d, credit 0, drain", f.fields, credit)
	}
	// And once more, with nothing there at all.
	c.send(0, codeFlow, uint32(2+n), uint32(5000), uint32(1), uint32(5000), uint32(0), uint32(credit), uint32(10), nil, true)
	if f := c.expect(codeFlow); f.field(5) != uint32(credit+10) || f.field(6) != uint32(0) || f.field(8) != true {
		t.Errorf("the second drain is answered with %v, want delivery-count %d, credit 0, drain", f.fields, credit+10)
	}
}

// Transfer ids and delivery ids go round after the last of 32 bits.
func TestSequenceWrapAround(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := dialRaw(t, e)
	c.sasl()
	c.header(0)
	c.send(0, codeOpen, "raw", nil, uint32(65536))
	c.expect(codeOpen)
	next := uint32(0xfffffffd)
	c.send(0, codeBegin, nil, next, uint32(5000), uint32(5000), uint32(255))
	c.expect(codeBegin)
	c.putTokenOn(0)
	c.attachSender()
	for range 5 {
		next++
		c.transfer(0, message("event"), uint32(0), next, binary.BigEndian.AppendUint32(nil, next), uint32(0), false)
		if f := c.expect(codeDisposition); f.field(1) != next {
			t.Fatalf("disposition of delivery %v, want %d", f.field(1), next)
		}
	}
	receive(t, readFrom(t, e, "0"), 5)
}

// Delivery ids count up by one over all links of a session.
func TestDeliveryIDs(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	publish(t, newProducer(t, e, atOnce), "0", numbered(20)...)
	c := authorized(t, e) // it has received delivery 0
	for handle, name := range []string{"one", "two", "three"} {
		c.send(0, codeAttach, name, uint32(handle), true, uint8(1), uint8(0), sourceFromStart, described{codeTarget, []any{"here"}})
		c.expect(codeAttach)
	}
	for handle := range uint32(3) {
		c.send(0, codeFlow, uint32(2), uint32(5000), uint32(1), uint32(5000), handle, uint32(0), uint32(20))
	}
	for want := uint32(1); want <= 60; want++ {
		if got := c.expect(codeTransfer).field(1); got != want {
			t.Fatalf("delivery-id is %v, want %d", got, want)
		}
	}
}

// A client that sends more than a session's window holds is told of more room as it goes.
func TestServerWindow(t *testing.T) {
	const n = 12_000
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := authorized(t, e)
	begun := c.begin(1, 5000, 5000)
	window, _ := begun.field(2).(uint32)
	c.send(1, codeAttach, "out", uint32(0), false, uint8(1), uint8(0), described{codeSource, []any{"here"}}, described{codeTarget, []any{hub + "/Partitions/0"}}, nil, nil, uint32(0))
	c.expect(codeAttach)
	credit := uint32(0)
	for sent := uint32(0); sent < n; {
		if window == 0 || credit == 0 {
			f := c.expect(codeFlow)
			next, _ := f.field(0).(uint32)
			incoming, _ := f.field(1).(uint32)
			window = next + incoming - sent
			if count, ok := f.field(5).(uint32); ok {
				given, _ := f.field(6).(uint32)
				credit = count + given - sent
			}
			continue
		}
		var frames []byte
		for ; window > 0 && credit > 0 && sent < n; sent++ {
			body := append(encode(nil, described{codeTransfer, []any{uint32(0), sent, binary.BigEndian.AppendUint32(nil, sent), uint32(0), true}}), message("x")...)
			frames = append(frames, rawFrame(0, 1, body)...)
			window--
			credit--
		}
		c.write(frames)
	}
	if got := receive(t, readFrom(t, e, "0"), n); got[n-1].SequenceNumber != n-1 {
		t.Errorf("the last event has the sequence number %d", got[n-1].SequenceNumber)
	}
}

// A client may write everything at once, before it has read anything; some do.
func TestPipelinedHandshake(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := dialRaw(t, e)
	c.write(handshake())
	c.readHeader(3)
	c.expect(codeMechanisms)
	c.expect(codeOutcome)
	c.readHeader(0)
	c.expect(codeOpen)
	c.expect(codeBegin)
}

// handshake is what a client writes up to its first session. The name and the password stand for a token,
// so that links may follow; the emulator must take any.
func handshake() []byte {
	b := []byte("AMQP\x03\x01\x00\x00")
	b = append(b, rawFrame(1, 0, encode(nil, described{codeInit, []any{symbol("PLAIN"), []byte("\x00any\x00key")}}))...)
	b = append(b, "AMQP\x00\x01\x00\x00"...)
	b = append(b, rawFrame(0, 0, encode(nil, described{codeOpen, []any{"raw", nil, uint32(65536)}}))...)
	return append(b, rawFrame(0, 0, encode(nil, described{codeBegin, []any{nil, uint32(0), uint32(5000), uint32(5000), uint32(255)}}))...)
}

func (c *raw) readHeader(protocol byte) {
	c.t.Helper()
	var got [8]byte
	c.deadline()
	for i := range got {
		b, err := c.in.ReadByte()
		if err != nil {
			c.t.Fatal(err)
		}
		got[i] = b
	}
	if want := [8]byte{'A', 'M', 'Q', 'P', protocol, 1, 0, 0}; got != want {
		c.t.Fatalf("protocol header is %x, want %x", got, want)
	}
}

// What breaks the protocol ends the connection, the session or the link with a condition that says so,
// and never the emulator.
func TestBrokenFrames(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	for _, c := range []struct {
		name string
		do   func(*raw)
		code uint64 // the frame that answers
		want string // its condition; any of them when there are several
	}{
		{"a frame smaller than its header", func(c *raw) { c.write([]byte{0, 0, 0, 7, 2, 0, 0, 0}) }, codeClose, "amqp:connection:framing-error"},
		{"a frame larger than agreed", func(c *raw) { c.write([]byte{0, 16, 0, 0, 2, 0, 0, 0}) }, codeClose, "amqp:connection:framing-error"},
		{"a frame of 4 GiB", func(c *raw) { c.write([]byte{255, 255, 255, 255, 2, 0, 0, 0}) }, codeClose, "amqp:connection:framing-error"},
		{"a data offset before the header's end", func(c *raw) { c.write([]byte{0, 0, 0, 8, 1, 0, 0, 0}) }, codeClose, "amqp:connection:framing-error"},
		{"a data offset beyond the frame", func(c *raw) { c.write([]byte{0, 0, 0, 8, 3, 0, 0, 0}) }, codeClose, "amqp:connection:framing-error"},
		{"a frame type that does not exist", func(c *raw) { c.write([]byte{0, 0, 0, 8, 2, 9, 0, 0}) }, codeClose, "amqp:connection:framing-error"},
		{"a body that is no value", func(c *raw) { c.writeFrame(0, 0, []byte{0xff}) }, codeClose, "amqp:decode-error"},
		{"a body that is no performative", func(c *raw) { c.writeFrame(0, 0, encode(nil, "text")) }, codeClose, "amqp:decode-error"},
		{"a performative that does not exist", func(c *raw) { c.send(0, 0x99) }, codeClose, "amqp:decode-error amqp:not-implemented"},
		{"a performative cut short", func(c *raw) { c.writeFrame(0, 0, []byte{0x00, 0x53, 0x12, 0xc0, 0x40, 0x03}) }, codeClose, "amqp:decode-error"},
		{"a list of a billion", func(c *raw) {
			c.writeFrame(0, 0, []byte{0x00, 0x53, 0x12, 0xd0, 0, 0, 0, 4, 0x3b, 0x9a, 0xca, 0})
		}, codeClose, "amqp:decode-error"},
		{"values nested without end", func(c *raw) {
			c.writeFrame(0, 0, bytes.Repeat([]byte{0x00, 0x53, 0x12}, 10_000))
		}, codeClose, "amqp:decode-error"},
		{"open twice", func(c *raw) { c.send(0, codeOpen, "again") }, codeClose, "amqp:illegal-state amqp:not-allowed"},
		{"begin twice on a channel", func(c *raw) { c.send(0, codeBegin, nil, uint32(0), uint32(1), uint32(1)) }, codeClose, "amqp:illegal-state amqp:not-allowed amqp:connection:framing-error"},
		{"attach on a channel without session", func(c *raw) { c.send(5, codeAttach, "x", uint32(0), true) }, codeClose, "amqp:illegal-state amqp:not-allowed amqp:connection:framing-error"},
		{"end on a channel without session", func(c *raw) { c.send(5, codeEnd) }, codeClose, "amqp:illegal-state amqp:not-allowed amqp:connection:framing-error"},
		{"a SASL frame after SASL", func(c *raw) { c.writeFrame(1, 0, encode(nil, described{codeInit, []any{symbol("PLAIN")}})) }, codeClose, "amqp:illegal-state amqp:not-allowed amqp:connection:framing-error amqp:decode-error"},

		{"transfer without a link", func(c *raw) { c.transfer(0, message("x"), uint32(9), uint32(1), []byte("t")) }, codeEnd, "amqp:session:unattached-handle"},
		{"flow without a link", func(c *raw) {
			c.send(0, codeFlow, nil, uint32(1), uint32(0), uint32(1), uint32(9), uint32(0), uint32(1))
		}, codeEnd, "amqp:session:unattached-handle"},
		{"detach without a link", func(c *raw) { c.send(0, codeDetach, uint32(9), true) }, codeEnd, "amqp:session:unattached-handle"},
		{"a handle beyond the agreed", func(c *raw) {
			c.send(0, codeAttach, "x", uint32(1<<30), true, nil, nil, sourceFromStart, described{codeTarget, []any{"x"}})
		}, codeClose, "amqp:connection:framing-error"},
		{"a handle in use", func(c *raw) {
			c.attachReceiver(0)
			c.send(0, codeAttach, "another", uint32(0), true, nil, nil, sourceFromStart, described{codeTarget, []any{"x"}})
		}, codeEnd, "amqp:session:handle-in-use"},
		{"transfer on a receiving link", func(c *raw) {
			c.attachReceiver(0)
			c.transfer(0, message("x"), uint32(0), uint32(1), []byte("t"))
		}, codeDetach, "amqp:not-allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := authorized(t, e)
			c.do(client)
			f := client.expect(c.code)
			errorField := 0
			if c.code == codeDetach {
				errorField = 2
			}
			if got := f.condition(errorField); got == "" || !strings.Contains(" "+c.want+" ", " "+got+" ") {
				t.Errorf("the condition is %q, want %s", got, c.want)
			}
		})
	}
	authorized(t, e) // and the emulator is as well as before
}

// Links that make no sense are refused with an attach and a detach, and the session stays.
func TestRefusedLinks(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	c := authorized(t, e)
	target := described{codeTarget, []any{"here"}}
	for i, link := range []struct {
		name   string
		fields []any // from role on
		want   string
	}{
		{"an absent hub", []any{true, nil, nil, described{codeSource, []any{"absent/ConsumerGroups/$Default/Partitions/0"}}, target}, "amqp:not-found amqp:unauthorized-access"},
		{"no source", []any{true, nil, nil, nil, target}, "amqp:invalid-field amqp:not-found amqp:not-allowed"},
		{"no target", []any{false, nil, nil, described{codeSource, []any{"here"}}, nil, nil, nil, uint32(0)}, "amqp:invalid-field amqp:not-found amqp:not-allowed"},
		{"a transaction coordinator", []any{false, nil, nil, described{codeSource, []any{"here"}}, described{0x30, []any{}}, nil, nil, uint32(0)}, "amqp:not-implemented"},
		{"a dynamic source", []any{true, nil, nil, described{codeSource, []any{nil, nil, nil, nil, true}}, target}, "amqp:not-implemented amqp:invalid-field amqp:not-found amqp:not-allowed"},
		{"a receiver on a hub", []any{true, nil, nil, described{codeSource, []any{hub}}, target}, "amqp:not-found amqp:not-allowed amqp:invalid-field"},
	} {
		c.send(0, codeAttach, append([]any{link.name, uint32(i)}, link.fields...)...)
		attach := c.expect(codeAttach)
		if role := link.fields[0]; role == true && attach.field(5) != nil || role == false && attach.field(6) != nil {
			t.Errorf("%s: the attach has source %v and target %v, want its own null", link.name, attach.field(5), attach.field(6))
		}
		detach := c.expect(codeDetach)
		if got := detach.condition(2); detach.field(1) != true || got == "" || !strings.Contains(" "+link.want+" ", " "+got+" ") {
			t.Errorf("%s: detached with closed %v and condition %q, want %s", link.name, detach.field(1), got, link.want)
		}
		c.send(0, codeDetach, uint32(i), true)
	}
	c.attachReceiver(0)
}

// A wrong protocol header is answered with the right one, and the end.
func TestWrongHeader(t *testing.T) {
	e := run(t, emulator.Options{})
	for _, header := range []string{"HTTP/1.1", "AMQP\x00\x00\x09\x01", "AMQP\x02\x01\x00\x00", "GET / HTTP/1.1\r\n\r\n"} {
		c := dialRaw(t, e)
		c.write([]byte(header))
		c.readHeader(3)
		if _, err := c.next(); err == nil {
			t.Errorf("after the header %q a frame came", header)
		}
	}
}

// Empty frames keep a connection with an idle timeout alive from the emulator's side.
func TestKeepAlive(t *testing.T) {
	e := run(t, emulator.Options{})
	c := dialRaw(t, e)
	c.sasl()
	c.header(0)
	const idle = 100 * time.Millisecond
	c.send(0, codeOpen, "raw", nil, uint32(65536), uint16(10), uint32(idle/time.Millisecond))
	c.expect(codeOpen)
	last := time.Now()
	for range 4 {
		f, err := c.next()
		if err != nil || f.code != 0 {
			t.Fatalf("an idle connection got frame 0x%x, %v; want an empty one", f.code, err)
		}
		if now := time.Now(); now.Sub(last) > 5*idle { // with room for a slow machine
			t.Fatalf("%v went by without a frame, and the idle timeout is %v", now.Sub(last), idle)
		} else {
			last = now
		}
	}
}
