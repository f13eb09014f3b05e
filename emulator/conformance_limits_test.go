package emulator_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// short is how long the limits of time are here. What they end is waited for, so that a slow machine
// makes a test slower and not wrong.
const short = 50 * time.Millisecond

// A client that connects and says nothing, or stops half way, is hung up on.
func TestHandshakeTimeout(t *testing.T) {
	e := run(t, emulator.Options{Limits: emulator.Limits{Handshake: short}})
	for name, sent := range map[string]string{"nothing": "", "half a header": "AMQP", "no SASL": "AMQP\x03\x01\x00\x00", "half a frame": "AMQP\x03\x01\x00\x00\x00\x00\x00\x30\x02\x01"} {
		c := dialRaw(t, e)
		c.write([]byte(sent))
		c.deadline()
		if _, err := io.Copy(io.Discard, c.in); isTimeout(err) {
			t.Errorf("after %s the connection stayed open", name)
		}
	}
}

// A connection that never brings a token, never a link, or has none any more is closed, with the
// conditions that the service has for it.
func TestIdleConnections(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits emulator.Limits
		do     func(*raw)
		want   string
	}{
		{"no token", emulator.Limits{Token: short}, func(*raw) {}, "amqp:unauthorized-access"},
		{"no link", emulator.Limits{FirstLink: short}, func(*raw) {}, "amqp:connection:forced"},
		{"no link any more", emulator.Limits{ConnectionIdle: short}, func(c *raw) { c.putTokenOn(0) }, "amqp:connection:forced"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := openRaw(t, run(t, emulator.Options{AllowAnyToken: true, Limits: c.limits}))
			c.do(client)
			if got := client.expectClose(); got != c.want {
				t.Errorf("closed with the condition %q, want %q", got, c.want)
			}
		})
	}
}

// A client that promised to be heard from and is not is taken for dead.
func TestSilentClient(t *testing.T) {
	c := openRaw(t, run(t, emulator.Options{Limits: emulator.Limits{Silence: short}}))
	c.expectClose()
}

// A link that nothing goes over for long is detached, and the client attaches anew without a word.
func TestIdleLink(t *testing.T) {
	e := run(t, emulator.Options{Limits: emulator.Limits{LinkIdle: short}})
	r := newReceiver(t, e, &amqp.ReceiverOptions{Filters: fromStart})
	_, err := r.Receive(withTimeout(t), nil)
	wantCondition(t, err, "amqp:link:detach-forced", "Idle timeout: 00:00:00")

	p := newProducer(t, e, quickly)
	client := newPartition(t, newConsumer(t, e, "", quickly), "0", azeventhubs.PartitionClientOptions{StartPosition: earliest})
	for range 3 {
		publish(t, p, "0", "event")
		receive(t, client, 1)
		idle := newReceiver(t, e, nil) // gone idle, the other two are as well
		if m, err := idle.Receive(withTimeout(t), nil); err == nil {
			idle.AcceptMessage(withTimeout(t), m)
			idle.Receive(withTimeout(t), nil)
		}
	}
}

// One connection above the limit is refused in words; when one leaves there is room again.
func TestConnectionLimit(t *testing.T) {
	e := run(t, emulator.Options{Limits: emulator.Limits{Connections: 2}})
	first, _ := dialAMQP(t, e), dialAMQP(t, e)
	dial := func() (*amqp.Conn, error) {
		return amqp.Dial(withTimeout(t), "amqp://"+e.Address(), &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()})
	}
	if conn, err := dial(); err == nil {
		<-conn.Done()
		wantCondition(t, conn.Err(), amqp.ErrCondResourceLimitExceeded, "")
	}
	first.Close()
	for { // the emulator may take a moment to see that the first is gone
		conn, err := dial()
		if err == nil {
			if _, err = conn.NewSession(withTimeout(t), nil); err == nil {
				conn.Close()
				return
			}
		}
		if withTimeout(t).Err() != nil {
			t.Fatal(err)
		}
	}
}

// Sessions and links have limits too, which open and begin tell.
func TestSessionAndLinkLimits(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true, Limits: emulator.Limits{SessionsPerConnection: 3, LinksPerSession: 4}})
	c := dialRaw(t, e)
	c.sasl()
	c.header(0)
	c.send(0, codeOpen, "raw", nil, uint32(65536), uint16(65535))
	if got := c.expect(codeOpen).field(3); got != uint16(2) {
		t.Errorf("channel-max is %v, want 2", got)
	}
	if got := c.begin(0, 5000, 5000).field(4); got != uint32(3) {
		t.Errorf("handle-max is %v, want 3", got)
	}
	c.begin(2, 5000, 5000)
	c.send(0, codeAttach, "x", uint32(4), true, nil, nil, sourceFromStart, described{codeTarget, []any{"x"}})
	if got := c.expectClose(); got != "amqp:connection:framing-error" {
		t.Errorf("a handle too many closed the connection with %q", got)
	}
	c = openRaw(t, e)
	c.send(3, codeBegin, nil, uint32(0), uint32(1), uint32(1))
	if got := c.expectClose(); got != "amqp:connection:framing-error" {
		t.Errorf("a channel too many closed the connection with %q", got)
	}
}

// A client that asks for events and does not read them is hung up on, and costs the others nothing.
func TestClientThatDoesNotRead(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true, Limits: emulator.Limits{Write: short}})
	p := newProducer(t, e, atOnce)
	for range 20 {
		publish(t, p, "0", strings.Repeat("x", 1_000_000))
	}
	c := authorized(t, e)
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		tcp.SetReadBuffer(4096)
	}
	c.attachReceiver(0)
	c.send(0, codeFlow, uint32(2), uint32(5000), uint32(1), uint32(5000), uint32(0), uint32(0), uint32(1000))
	// Without reading, the only way to see the end is that a write fails in the end.
	for {
		c.deadline()
		if _, err := c.conn.Write([]byte{0, 0, 0, 8, 2, 0, 0, 0}); err != nil {
			if isTimeout(err) {
				t.Error("the connection is still there")
			}
			break
		}
	}
	partitionProperties(t, p, "0")
}

// A client that asks and asks, and never reads an answer, is not read from any more.
func TestClientThatOnlyAsks(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true, Limits: emulator.Limits{Write: short}})
	c := authorized(t, e)
	c.attachReceiver(0)
	ask := rawFrame(0, 0, encode(nil, described{codeFlow, []any{uint32(2), uint32(5000), uint32(1), uint32(5000), uint32(0), uint32(0), uint32(1), nil, false, true}}))
	many := []byte(strings.Repeat(string(ask), 1000))
	for {
		c.deadline()
		if _, err := c.conn.Write(many); err != nil {
			if isTimeout(err) {
				t.Error("the connection is still there")
			}
			return
		}
	}
}
