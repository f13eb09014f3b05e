package emulator

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"persistor/emulator/internal/wire"
)

// BenchmarkServiceBusQueue measures what a queue's messages of a KiB cost, received by a client that looks at nothing
// and settles many at a time, and one that settles each by itself and waits for the answers later. The client runs in
// the same process.
func BenchmarkServiceBusQueue(b *testing.B) {
	for name, settle := range map[string]uint32{"deleting": 0, "locked, settled by 500": 500, "locked, settled one by one": 1} {
		b.Run(name, func(b *testing.B) { benchmarkQueue(b, settle) })
	}
}

func benchmarkQueue(b *testing.B, settle uint32) {
	e, err := Start(Options{AllowAnyToken: true, Queues: []Queue{{Name: "q", Synthetic: &SyntheticQueue{Messages: int64(b.N)}}}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	p := authorized(b, e, plainOpen)
	p.r = bufio.NewReaderSize(p.c, 256<<10)
	_ = p.c.SetDeadline(time.Now().Add(5 * time.Minute))
	attach := attachReceiver("r", 0, "q")
	attach.ReceiverMode = new(uint8(wire.ReceiverSecond))
	if settle == 0 {
		attach.ReceiverMode, attach.SenderMode = new(uint8(wire.ReceiverFirst)), new(uint8(wire.SenderSettled))
	}
	p.send(attach)
	expect[*wire.Attach](p)
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	const window = 5000
	var out []byte
	var received uint32
	grant := func() {
		out = wire.AppendFrame(out, 0, &wire.Flow{NextIncomingID: new(1 + received), IncomingWindow: 2 * window, OutgoingWindow: window,
			Handle: new(uint32(0)), DeliveryCount: &received, LinkCredit: new(uint32(2 * window))}, nil)
	}
	grant()
	p.write(out)
	out = out[:0]
	settled := uint32(0)
	for received < uint32(b.N) || settle > 0 && settled < uint32(b.N) {
		kind, last := skipFrame(b, p.r)
		switch kind {
		case 0x14:
			received++
			if settle > 0 && (received%settle == 0 || received == uint32(b.N)) {
				out = wire.AppendFrame(out, 0, &wire.Disposition{Role: wire.RoleReceiver, First: received - 1 - (received-1)%settle, Last: new(received - 1), State: &wire.Accepted{}}, nil)
			}
			if received%window == 0 {
				grant()
			}
		case 0x15:
			settled = last + 1
		}
		if len(out) > 0 && (p.r.Buffered() == 0 || len(out) > 4096) {
			p.write(out)
			out = out[:0]
		}
	}
	b.StopTimer()
	if info, err := e.Queue("q"); err != nil || info.Completed != int64(b.N) || info.Locked != 0 {
		b.Fatalf("of %d messages, the queue says %+v, %v", b.N, info, err)
	}
}

// skipFrame reads a frame and tells what it is; of a disposition, which its last delivery is.
func skipFrame(b *testing.B, r *bufio.Reader) (kind byte, last uint32) {
	head, err := r.Peek(11)
	if err != nil {
		b.Fatal(err)
	}
	size := int(binary.BigEndian.Uint32(head))
	if kind = head[10]; kind == 0x15 {
		frame := make([]byte, size)
		if _, err := io.ReadFull(r, frame); err != nil {
			b.Fatal(err)
		}
		p, _, err := wire.Parse(bytes.Clone(frame[8:]))
		if err != nil {
			b.Fatal(err)
		}
		return kind, *p.(*wire.Disposition).Last
	}
	if _, err := r.Discard(size); err != nil {
		b.Fatal(err)
	}
	return kind, 0
}
