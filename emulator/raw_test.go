package emulator_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"persistor/emulator"
)

// Descriptor codes of the performatives and SASL frames (AMQP 1.0 part 2, 2.7 and part 5, 5.3.3).
const (
	codeOpen        = 0x10
	codeBegin       = 0x11
	codeAttach      = 0x12
	codeFlow        = 0x13
	codeTransfer    = 0x14
	codeDisposition = 0x15
	codeDetach      = 0x16
	codeEnd         = 0x17
	codeClose       = 0x18
	codeMechanisms  = 0x40
	codeInit        = 0x41
	codeOutcome     = 0x44
	codeError       = 0x1d
	codeAccepted    = 0x24
	codeRejected    = 0x25
	codeSource      = 0x28
	codeTarget      = 0x29
)

// rawTimeout bounds every read and write of a raw client: no test waits longer for an answer.
const rawTimeout = 5 * time.Second

// raw is a client that writes frames byte by byte, for all that a well-behaved client never sends. Its
// codec is its own and shares nothing with the emulator's, so that a mistake there cannot hide itself.
type raw struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// frame is one frame as received. The fields are those of the performative, nil where absent at the end.
type frame struct {
	channel uint16
	code    uint64 // descriptor of the performative; 0 for an empty frame
	fields  []any
	payload []byte
}

// field returns the i-th field, or nil when the list is shorter.
func (f frame) field(i int) any {
	if i < len(f.fields) {
		return f.fields[i]
	}
	return nil
}

// condition is the condition of the error that stands in field i, or "".
func (f frame) condition(i int) string {
	d, _ := f.field(i).(described)
	if fields, ok := d.value.([]any); ok && d.code == codeError && len(fields) > 0 {
		s, _ := fields[0].(symbol)
		return string(s)
	}
	return ""
}

func dialRaw(t testing.TB, e *emulator.Emulator) *raw {
	t.Helper()
	conn, err := net.DialTimeout("tcp", e.Address(), rawTimeout)
	if err != nil {
		t.Fatalf("dial the emulator: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// openRaw is a raw client past SASL and open, with max-frame-size 65536, no idle timeout, and one
// session on channel 0 with windows of 5000.
func openRaw(t testing.TB, e *emulator.Emulator) *raw {
	t.Helper()
	c := dialRaw(t, e)
	c.sasl()
	c.header(0)
	c.send(0, codeOpen, "raw", nil, uint32(65536), uint16(65535))
	c.expect(codeOpen)
	c.begin(0, 5000, 5000)
	return c
}

// begin opens a session on a channel with the given windows, both in transfers.
func (c *raw) begin(channel uint16, incoming, outgoing uint32) frame {
	c.t.Helper()
	c.send(channel, codeBegin, nil, uint32(0), incoming, outgoing, uint32(255))
	return c.expect(codeBegin)
}

// sasl does the SASL exchange with ANONYMOUS.
func (c *raw) sasl() {
	c.t.Helper()
	c.header(3)
	c.expect(codeMechanisms)
	c.writeFrame(1, 0, encode(nil, described{codeInit, []any{symbol("ANONYMOUS")}}))
	if f := c.expect(codeOutcome); f.field(0) != uint8(0) {
		c.t.Fatalf("SASL outcome is %v, want 0", f.field(0))
	}
}

// header writes a protocol header and waits for its echo.
func (c *raw) header(protocol byte) {
	c.t.Helper()
	want := []byte{'A', 'M', 'Q', 'P', protocol, 1, 0, 0}
	c.write(want)
	got := make([]byte, 8)
	c.deadline()
	if _, err := io.ReadFull(c.in, got); err != nil || !bytes.Equal(got, want) {
		c.t.Fatalf("protocol header is %x, %v; want %x", got, err, want)
	}
}

// send writes a performative with the fields given, the rest absent.
func (c *raw) send(channel uint16, code uint64, fields ...any) {
	c.t.Helper()
	c.writeFrame(0, channel, encode(nil, described{code, fields}))
}

// transfer writes a transfer with a payload.
func (c *raw) transfer(channel uint16, payload []byte, fields ...any) {
	c.t.Helper()
	c.writeFrame(0, channel, append(encode(nil, described{codeTransfer, fields}), payload...))
}

func (c *raw) writeFrame(kind byte, channel uint16, body []byte) {
	c.t.Helper()
	c.write(rawFrame(kind, channel, body))
}

// rawFrame is a frame's bytes: size, data offset, type (0 AMQP, 1 SASL), channel, body.
func rawFrame(kind byte, channel uint16, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	b = append(b, 2, kind)
	b = binary.BigEndian.AppendUint16(b, channel)
	return append(b, body...)
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	c.deadline()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("write to the emulator: %v", err)
	}
}

func (c *raw) deadline() { c.conn.SetDeadline(time.Now().Add(rawTimeout)) }

// next reads the next frame, an empty one too. The error is io.EOF when the emulator has closed.
func (c *raw) next() (frame, error) {
	c.deadline()
	var head [8]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return frame{}, err
	}
	size, offset := binary.BigEndian.Uint32(head[:]), 4*int(head[4])
	if size < 8 || size > 1<<20 || offset < 8 || offset > int(size) {
		return frame{}, fmt.Errorf("read frame: header %x has a bad size or offset", head)
	}
	body := make([]byte, size-8)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return frame{}, err
	}
	f := frame{channel: binary.BigEndian.Uint16(head[6:])}
	body = body[offset-8:]
	if len(body) == 0 {
		return f, nil
	}
	v, rest, err := decode(body)
	if err != nil {
		return frame{}, fmt.Errorf("read frame %x: %w", body, err)
	}
	d, ok := v.(described)
	if !ok {
		return frame{}, fmt.Errorf("read frame %x: it holds no described value", body)
	}
	f.code, f.payload = d.code, rest
	f.fields, _ = d.value.([]any)
	return f, nil
}

// expect reads frames until one with the code comes, and passes over empty frames and flows only: any
// other frame fails the test.
func (c *raw) expect(code uint64) frame {
	c.t.Helper()
	for {
		f, err := c.next()
		if err != nil {
			c.t.Fatalf("wait for frame 0x%x: %v", code, err)
		}
		if f.code == code {
			return f
		}
		if f.code != 0 && f.code != codeFlow {
			c.t.Fatalf("wait for frame 0x%x: got 0x%x with %v", code, f.code, f.fields)
		}
	}
}

// expectClose reads until the emulator closes the connection, and returns the condition of the close
// frame, "" when there was none before the end of the stream. It answers the close frame.
func (c *raw) expectClose() (condition string) {
	c.t.Helper()
	closed := false
	for {
		f, err := c.next()
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || isReset(err) {
			return condition
		}
		if err != nil {
			c.t.Fatalf("wait for the emulator to close: %v", err)
		}
		if closed {
			c.t.Fatalf("frame 0x%x came after the close frame", f.code)
		}
		if f.code == codeClose {
			closed, condition = true, f.condition(0)
			c.deadline()
			c.conn.Write(rawFrame(0, 0, encode(nil, described{codeClose, []any{}})))
		}
	}
}

// isReset reports a connection reset: what a peer sees when it wrote after the other side had closed.
func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// authorized is openRaw with a token put, for an emulator that takes any. It has used transfer-id 0 and
// delivery-id 0 of the session, and received one transfer.
func authorized(t testing.TB, e *emulator.Emulator) *raw {
	t.Helper()
	c := openRaw(t, e)
	c.putTokenOn(0)
	return c
}

// rawToken is well formed; the tests that use it have the emulator take any token.
const rawToken = "SharedAccessSignature sr=127.0.0.1&sig=AAAA&se=4102444800&skn=any"

// putTokenOn puts a token over links of its own on a session, and detaches them.
func (c *raw) putTokenOn(channel uint16) {
	c.t.Helper()
	c.attachToCBS(channel, described{codeTarget, []any{"replies"}})
	c.askCBS(channel, "replies", "id")
	c.expect(codeTransfer)
	for _, handle := range []uint32{0, 1} {
		c.send(channel, codeDetach, handle, true)
		c.expect(codeDetach)
	}
}

// attachToCBS attaches a link to receive replies on, handle 0, and one to send requests on, handle 1.
func (c *raw) attachToCBS(channel uint16, target described) {
	c.t.Helper()
	c.attachCBSReceiver(channel, target)
	c.attachCBSSender(channel)
}

func (c *raw) attachCBSReceiver(channel uint16, target described) {
	c.t.Helper()
	c.send(channel, codeAttach, "cbs-in", uint32(0), true, uint8(1), uint8(0), described{codeSource, []any{"$cbs"}}, target)
	c.expect(codeAttach)
	c.send(channel, codeFlow, nil, uint32(5000), uint32(0), uint32(5000), uint32(0), uint32(0), uint32(10))
}

func (c *raw) attachCBSSender(channel uint16) {
	c.t.Helper()
	c.send(channel, codeAttach, fmt.Sprint("cbs-out ", channel), uint32(1), false, uint8(1), uint8(0), described{codeSource, []any{"here"}}, described{codeTarget, []any{"$cbs"}}, nil, nil, uint32(0))
	c.expect(codeAttach)
}

// askCBS puts a token for the hub, with a message-id and a reply-to or nil.
func (c *raw) askCBS(channel uint16, replyTo, id any) {
	c.t.Helper()
	payload := encode(nil, described{0x73, []any{id, nil, nil, nil, replyTo}})
	payload = encode(payload, described{0x74, pairs{"operation", "put-token", "type", "servicebus.windows.net:sastoken", "name", "amqp://127.0.0.1/" + hub}})
	payload = encode(payload, described{0x77, rawToken})
	c.transfer(channel, payload, uint32(1), uint32(0), []byte{1}, uint32(0), true)
}

// A codec of AMQP values in as few lines as the tests need (AMQP 1.0 part 1, 1.6).

type symbol string

// described is a value with a numeric descriptor; a symbolic one is in name.
type described struct {
	code  uint64
	value any
}

// pairs is a map in the order of its entries: key, value, key, value.
type pairs []any

func encode(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0x40)
	case bool:
		if v {
			return append(b, 0x41)
		}
		return append(b, 0x42)
	case uint8:
		return append(b, 0x50, v)
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, 0x60), v)
	case uint32:
		return binary.BigEndian.AppendUint32(append(b, 0x70), v)
	case uint64:
		return binary.BigEndian.AppendUint64(append(b, 0x80), v)
	case int32:
		return binary.BigEndian.AppendUint32(append(b, 0x71), uint32(v))
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 0x81), uint64(v))
	case []byte:
		return append(binary.BigEndian.AppendUint32(append(b, 0xb0), uint32(len(v))), v...)
	case string:
		return append(binary.BigEndian.AppendUint32(append(b, 0xb1), uint32(len(v))), v...)
	case symbol:
		return append(binary.BigEndian.AppendUint32(append(b, 0xb3), uint32(len(v))), v...)
	case []any:
		return encodeCompound(b, 0xd0, v)
	case pairs:
		return encodeCompound(b, 0xd1, v)
	case described:
		return encode(append(b, 0x00, 0x53, byte(v.code)), v.value)
	case verbatim:
		return append(b, v...)
	}
	panic(fmt.Sprintf("encode: no case for %T", v))
}

// verbatim is a value that is encoded already.
type verbatim []byte

func encodeCompound(b []byte, code byte, items []any) []byte {
	var body []byte
	for _, item := range items {
		body = encode(body, item)
	}
	b = binary.BigEndian.AppendUint32(append(b, code), uint32(4+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(items)))
	return append(b, body...)
}

// decode takes one value off b. Lists and arrays become []any, maps pairs, other types those of Go;
// timestamps stay int64.
func decode(b []byte) (v any, rest []byte, err error) {
	defer func() { // the only way that a slice below can fail is that b is too short
		if recover() != nil {
			err = io.ErrUnexpectedEOF
		}
	}()
	code := b[0]
	if code == 0x00 {
		descriptor, rest, err := decode(b[1:])
		if err != nil {
			return nil, nil, err
		}
		value, rest, err := decode(rest)
		n, _ := descriptor.(uint64)
		return described{n, value}, rest, err
	}
	return decodePlain(code, b[1:])
}

func decodePlain(code byte, b []byte) (v any, rest []byte, err error) {
	switch code {
	case 0x40:
		return nil, b, nil
	case 0x41:
		return true, b, nil
	case 0x42:
		return false, b, nil
	case 0x43:
		return uint32(0), b, nil
	case 0x44:
		return uint64(0), b, nil
	case 0x45:
		return []any{}, b, nil
	case 0x50:
		return b[0], b[1:], nil
	case 0x51:
		return int8(b[0]), b[1:], nil
	case 0x52:
		return uint32(b[0]), b[1:], nil
	case 0x53:
		return uint64(b[0]), b[1:], nil
	case 0x54:
		return int32(int8(b[0])), b[1:], nil
	case 0x55:
		return int64(int8(b[0])), b[1:], nil
	case 0x56:
		return b[0] == 1, b[1:], nil
	case 0x60:
		return binary.BigEndian.Uint16(b), b[2:], nil
	case 0x61:
		return int16(binary.BigEndian.Uint16(b)), b[2:], nil
	case 0x70:
		return binary.BigEndian.Uint32(b), b[4:], nil
	case 0x71:
		return int32(binary.BigEndian.Uint32(b)), b[4:], nil
	case 0x72:
		return math.Float32frombits(binary.BigEndian.Uint32(b)), b[4:], nil
	case 0x80:
		return binary.BigEndian.Uint64(b), b[8:], nil
	case 0x81, 0x83:
		return int64(binary.BigEndian.Uint64(b)), b[8:], nil
	case 0x82:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), b[8:], nil
	case 0x98:
		return [16]byte(b[:16]), b[16:], nil
	case 0xa0, 0xa1, 0xa3, 0xc0, 0xc1, 0xe0:
		return decodeSized(code, b[1:1+b[0]], b[1+int(b[0]):], 1)
	case 0xb0, 0xb1, 0xb3, 0xd0, 0xd1, 0xf0:
		n := binary.BigEndian.Uint32(b)
		return decodeSized(code, b[4:4+n], b[4+n:], 4)
	}
	return nil, nil, fmt.Errorf("decode: type 0x%02x is none of AMQP's", code)
}

// decodeSized decodes a variable-width or compound value from its bytes, whose size has been read.
func decodeSized(code byte, body, rest []byte, width int) (any, []byte, error) {
	switch code {
	case 0xa0, 0xb0:
		return slices.Clone(body), rest, nil
	case 0xa1, 0xb1:
		return string(body), rest, nil
	case 0xa3, 0xb3:
		return symbol(body), rest, nil
	}
	n := int(body[0])
	if width == 4 {
		n = int(binary.BigEndian.Uint32(body))
	}
	body = body[width:]
	items := make([]any, n)
	array := code == 0xe0 || code == 0xf0
	var element byte
	if array {
		element, body = body[0], body[1:]
	}
	for i := range items {
		var err error
		if array {
			items[i], body, err = decodePlain(element, body)
		} else {
			items[i], body, err = decode(body)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if len(body) != 0 {
		return nil, nil, fmt.Errorf("decode: %d bytes are left in a compound value", len(body))
	}
	if code == 0xc1 || code == 0xd1 {
		return pairs(items), rest, nil
	}
	return items, rest, nil
}
