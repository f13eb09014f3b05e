package emulator

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// peer is a client that does what it is told, frame by frame, so that tests can do what no decent client would.
type peer struct {
	t     testing.TB
	c     net.Conn
	r     *bufio.Reader
	frame []byte
}

// received is a frame from the emulator.
type received struct {
	channel uint16
	p       wire.Performative
	payload []byte
}

// dial connects without a word.
func dial(t testing.TB, e *Emulator) *peer {
	t.Helper()
	c, err := net.Dial("tcp", e.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &peer{t: t, c: c, r: bufio.NewReader(c)}
}

var plainOpen = &wire.Open{ContainerID: "test", MaxFrameSize: 65536, ChannelMax: 100}

// openHub starts an emulator with one hub and the key k with the value v.
func openHub(t testing.TB, h Hub) *Emulator {
	t.Helper()
	e, err := Start(Options{Hubs: []Hub{h}, KeyName: "k", Key: "v"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// authorized connects with the name and password of PLAIN, which stand for a token, and opens a session on channel 0.
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

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.c.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// send sends a frame on channel 0.
func (p *peer) send(performative wire.Performative, payload ...byte) {
	p.t.Helper()
	p.write(wire.AppendFrame(nil, 0, performative, payload))
}

func (p *peer) header(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.r, got); err != nil || string(got) != want {
		p.t.Fatalf("protocol header: got %q, %v, want %q", got, err, want)
	}
}

// next reads a frame that is not empty.
func (p *peer) next() (received, error) {
	for {
		f, err := wire.ReadFrame(p.r, math.MaxUint32, &p.frame)
		if err != nil {
			return received{}, err
		}
		if len(f.Body) == 0 {
			continue
		}
		performative, payload, err := wire.Parse(f.Body)
		return received{f.Channel, performative, append([]byte(nil), payload...)}, err
	}
}

// expect reads a frame, which must have the performative P.
func expect[P wire.Performative](p *peer) P {
	p.t.Helper()
	performative, _ := expectPayload[P](p)
	return performative
}

func expectPayload[P wire.Performative](p *peer) (P, []byte) {
	p.t.Helper()
	f, err := p.next()
	var want P
	if err != nil {
		p.t.Fatalf("%s is expected: %v", wire.Name(want), err)
	}
	got, ok := f.p.(P)
	if !ok {
		p.t.Fatalf("%s is expected, got %s %+v", wire.Name(want), wire.Name(f.p), f.p)
	}
	return got, f.payload
}

// expectEnd wants the connection to end without another frame.
func (p *peer) expectEnd() {
	p.t.Helper()
	if f, err := p.next(); err == nil {
		p.t.Errorf("after the end came %s", wire.Name(f.p))
	} else if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		p.t.Errorf("the connection does not end: %v", err)
	}
}

func expectError(t testing.TB, e *wire.Error, condition string) {
	t.Helper()
	if e == nil || e.Condition != condition {
		t.Errorf("got the error %v, want %s", e, condition)
	}
}

// receiver attaches a link of handle 0 to receive a partition from its beginning.
func (p *peer) receiver(hub string, credit uint32) *wire.Attach {
	p.t.Helper()
	p.send(attachReceiver("r", 0, hub+"/ConsumerGroups/$Default/Partitions/0"))
	a := expect[*wire.Attach](p)
	if a.Source == nil || a.Target == nil || a.InitialDeliveryCount == nil || *a.InitialDeliveryCount != 0 {
		p.t.Fatalf("attach: got %+v", a)
	}
	if credit > 0 {
		p.send(&wire.Flow{IncomingWindow: 5000, OutgoingWindow: 5000, Handle: new(uint32(0)), DeliveryCount: new(uint32(0)), LinkCredit: &credit})
	}
	return a
}

func attachReceiver(name string, handle uint32, address string) *wire.Attach {
	return &wire.Attach{Name: name, Handle: handle, Role: wire.RoleReceiver, Source: wire.NewSource(address), Target: wire.NewTarget("me")}
}

func attachSender(name string, handle uint32, address string) *wire.Attach {
	return &wire.Attach{Name: name, Handle: handle, Role: wire.RoleSender, Source: wire.NewSource("me"), Target: wire.NewTarget(address), InitialDeliveryCount: new(uint32(0))}
}

// sender attaches a link of handle 0 to send.
func (p *peer) sender(address string) {
	p.t.Helper()
	p.send(attachSender("s", 0, address))
	if a := expect[*wire.Attach](p); a.MaxMessageSize == 0 || a.Target == nil || a.Source == nil {
		p.t.Fatalf("attach: got %+v", a)
	}
	if f := expect[*wire.Flow](p); f.LinkCredit == nil || *f.LinkCredit == 0 {
		p.t.Fatalf("flow: got %+v", f)
	}
}

// bodyOf is the body of a message of one data section.
func bodyOf(t testing.TB, message []byte) []byte {
	t.Helper()
	for section, err := range wire.Sections(message) {
		if err != nil {
			t.Fatal(err)
		}
		if section.Code == wire.SectionData {
			return wire.NewReader(section.Value).Binary()
		}
	}
	t.Fatal("the message has no data")
	return nil
}

func dataMessage(body string) []byte {
	return wire.AppendBinary(wire.AppendSection(nil, wire.SectionData), []byte(body))
}

// testNode is an entity whose links are what a test makes of them: with unsettled deliveries, as a queue has.
type testNode struct {
	messages []string
	settled  chan string
}

func (n *testNode) node(string) node { return n }

func (n *testNode) attach(l *link, a *wire.Attach) (granted, *wire.Error) {
	l.unsettled = true
	l.feed = n
	return granted{}, nil
}

func (n *testNode) next(dst []byte) (message []byte, tag [16]byte, ok bool) {
	if len(n.messages) == 0 {
		return dst, tag, false
	}
	binary.BigEndian.PutUint64(tag[:], uint64(len(n.messages)))
	dst = append(dst, dataMessage(n.messages[0])...)
	n.messages = n.messages[1:]
	return dst, tag, true
}

func (n *testNode) settle(tag [16]byte, s wire.State) wire.State {
	n.settled <- fmt.Sprintf("%d %T", binary.BigEndian.Uint64(tag[:]), s)
	if _, rejected := s.(*wire.Rejected); rejected {
		return &wire.Rejected{}
	}
	return s
}

func (n *testNode) release() { close(n.settled) }
