package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Protocol headers, parts 2.2 and 5.3.2 of the standard.
const (
	HeaderAMQP = "AMQP\x00\x01\x00\x00"
	HeaderSASL = "AMQP\x03\x01\x00\x00"
)

// Frame types.
const (
	TypeAMQP = 0
	TypeSASL = 1
)

// FrameHeaderSize is how many bytes go before the body of a frame without an extended header.
const FrameHeaderSize = 8

// MinMaxFrameSize is the least that a peer may give as its largest frame, part 2.7.1.
const MinMaxFrameSize = 512

// Frame is a frame as it was read. Body is valid until the next one is read.
type Frame struct {
	Type    byte
	Channel uint16
	Body    []byte
}

// ReadFrame reads a frame of at most most bytes into *buf, which it enlarges as it must and which Frame.Body becomes a
// part of. A frame that breaks the rules is an [*Error] with the condition amqp:connection:framing-error; any other
// error is r's.
func ReadFrame(r io.Reader, most uint32, buf *[]byte) (Frame, error) {
	var head [FrameHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	size, offset := binary.BigEndian.Uint32(head[:]), 4*uint32(head[4])
	switch {
	case size > most:
		return Frame{}, framingError("a frame claims %d bytes, more than %d", size, most)
	case offset < FrameHeaderSize || size < offset:
		return Frame{}, framingError("a frame of %d bytes claims that its body begins at %d", size, offset)
	case head[5] > TypeSASL:
		return Frame{}, framingError("a frame has the unknown type %d", head[5])
	}
	n := int(size) - FrameHeaderSize
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return Frame{}, err
	}
	return Frame{Type: head[5], Channel: binary.BigEndian.Uint16(head[6:]), Body: b[offset-FrameHeaderSize:]}, nil
}

func framingError(format string, args ...any) *Error {
	return &Error{Condition: ConditionFramingError, Description: fmt.Sprintf(format, args...)}
}

// AppendEmptyFrame appends a frame without a body, which keeps a connection from being taken for dead.
func AppendEmptyFrame(dst []byte) []byte { return append(dst, 0, 0, 0, 8, 2, TypeAMQP, 0, 0) }

// AppendFrame appends a frame with a performative and a payload.
func AppendFrame(dst []byte, channel uint16, p Performative, payload []byte) []byte {
	return appendFrame(dst, TypeAMQP, channel, p, payload)
}

// AppendSASLFrame appends a SASL frame.
func AppendSASLFrame(dst []byte, p Performative) []byte { return appendFrame(dst, TypeSASL, 0, p, nil) }

func appendFrame(dst []byte, kind byte, channel uint16, p Performative, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 2, kind, byte(channel>>8), byte(channel))
	dst = append(p.appendTo(dst), payload...)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}
