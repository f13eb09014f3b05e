package emulator

import (
	"encoding/binary"
	"time"

	"persistor/emulator/internal/wire"
)

// Where in a transfer's header the fields are that differ from one delivery to the next. The header is always of the
// full width of its fields, so that filling it in is a few stores.
const (
	headerDeliveryID = 20
	headerTag        = 26
	settledTagSize   = 4
	lockTagSize      = 16 // a .NET GUID
)

// transferHeader makes the frame header and the performative of a link's transfers: handle, delivery-id, delivery-tag,
// message-format 0, settled, more, and five fields without a value. Continuations of a message carry the same.
func transferHeader(channel uint16, handle uint32, settled bool) []byte {
	tagSize := byte(lockTagSize)
	if settled {
		tagSize = settledTagSize
	}
	h := []byte{0, 0, 0, 0, 2, wire.TypeAMQP, byte(channel >> 8), byte(channel)}
	h = append(h, 0x00, 0x53, 0x14, 0xc0, 0, 11)
	h = binary.BigEndian.AppendUint32(append(h, 0x70), handle)
	h = binary.BigEndian.AppendUint32(append(h, 0x70), 0)
	h = append(h, 0xa0, tagSize)
	h = append(h, make([]byte, tagSize)...)
	h = append(h, 0x43)
	h = wire.AppendBool(h, settled)
	h = wire.AppendBool(h, false) // more
	h = append(h, 0x40, 0x40, 0x42, 0x42, 0x42)
	h[12] = byte(len(h) - 13)
	return h
}

// moreFromEnd is where the more field is, counted from the end of the header.
const moreFromEnd = 6

// deliver appends deliveries of the link, as many as its turn, the client's credit and the session's window allow. It
// answers a drain when there is nothing more to send.
func (l *link) deliver(buf []byte) []byte {
	s := l.s
	if l.pending != nil {
		return buf
	}
	before := len(buf)
	done := false // there is nothing more for the credit that the client gave
	for n := 0; n < quantum && len(buf) < writeSize; n++ {
		if l.rest != nil {
			if buf = l.continuation(buf); l.rest != nil {
				return buf // the window is used up, or the buffer
			}
			continue
		}
		if l.credit == 0 || s.peerWindow == 0 {
			done = l.credit == 0
			if f, ok := l.feed.(interface{ sated() }); ok {
				f.sated()
			}
			break
		}
		start := len(buf)
		message, tag, ok := l.feed.next(append(buf, l.header...))
		if !ok {
			done = true
			break
		}
		buf = message
		l.credit--
		l.count++
		binary.BigEndian.PutUint32(buf[start+headerDeliveryID:], s.nextDelivery)
		if l.unsettled {
			copy(buf[start+headerTag:], tag[:])
			s.unsettled[s.nextDelivery] = delivery{link: l, tag: tag}
		} else {
			binary.BigEndian.PutUint32(buf[start+headerTag:], s.nextDelivery)
		}
		s.nextDelivery++
		if size := len(buf) - start; size <= int(s.c.frameSize()) {
			binary.BigEndian.PutUint32(buf[start:], uint32(size))
			s.nextOutgoing++
			s.peerWindow--
		} else {
			copy(l.header, buf[start:start+len(l.header)])
			l.rest = append([]byte(nil), buf[start+len(l.header):]...)
			buf = buf[:start]
		}
	}
	if len(buf) > before {
		l.used = time.Now()
	}
	if l.drain && done {
		buf = l.drained(buf)
	}
	return buf
}

// drained gives the credit back that a draining client left.
func (l *link) drained(buf []byte) []byte {
	s := l.s
	l.count += l.credit
	l.credit = 0
	l.drain = false
	return wire.AppendFrame(buf, s.channel, &wire.Flow{
		NextIncomingID: &s.nextIncoming, IncomingWindow: s.incomingWindow, NextOutgoingID: s.nextOutgoing, OutgoingWindow: sessionWindow,
		Handle: &l.handle, DeliveryCount: &l.count, LinkCredit: &l.credit, Available: new(uint32(0)), Drain: true,
	}, nil)
}

// continuation appends frames of a message that is too large for one, until it is sent, the window is used up or the
// buffer is full.
func (l *link) continuation(buf []byte) []byte {
	s := l.s
	room := int(s.c.frameSize()) - len(l.header)
	for l.rest != nil && s.peerWindow > 0 && len(buf) < writeSize {
		start := len(buf)
		n := min(room, len(l.rest))
		more := n < len(l.rest)
		buf = append(buf, l.header...)
		buf[start+len(l.header)-moreFromEnd] = wire.AppendBool(nil, more)[0]
		buf = append(buf, l.rest[:n]...)
		binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start))
		l.rest = l.rest[n:]
		if !more {
			l.rest = nil
		}
		s.nextOutgoing++
		s.peerWindow--
	}
	return buf
}

// frameSize is the largest frame that the client takes, within what the emulator sends.
func (c *connection) frameSize() uint32 { return min(c.peer.MaxFrameSize, c.e.limits.FrameSize) }
