package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

const (
	// maxDepth bounds how deep values may nest: a described value, a list, a map and an array are each one deeper.
	maxDepth = 32
	// maxItems bounds how many values one call of [Reader.Any] or [Check] may yield. An array of nulls takes no
	// bytes for its items, so a bound by size alone would let 10 bytes ask for gigabytes.
	maxItems = 65536
)

// A Reader takes encoded values off a buffer, front to back. The first error sticks: what is read after it is null,
// and [Reader.Err] tells. A Reader of the fields of a list yields null for those that the sender left off at the end.
//
// What a Reader returns as []byte is part of the buffer; strings are copies.
type Reader struct {
	b      []byte
	fields int // values left in the list, or unbounded
	depth  int
	items  int // values yielded by Any so far
	err    error
}

const unbounded = -1

// NewReader returns a Reader of the values in b.
func NewReader(b []byte) *Reader { return &Reader{b: b, fields: unbounded} }

// Err returns the first error, always an [*Error] with the condition amqp:decode-error.
func (r *Reader) Err() error { return r.err }

// Rest returns what has not been read.
func (r *Reader) Rest() []byte { return r.b }

// More reports whether there is another value and no error so far.
func (r *Reader) More() bool { return r.err == nil && len(r.b) > 0 && r.fields != 0 }

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Condition: ConditionDecodeError, Description: fmt.Sprintf(format, args...)}
	}
	r.b, r.fields = nil, 0
}

// value splits the next value off: its constructor, and its content without the size. The content of a compound
// value begins with its count; that of a described value is the encoded descriptor and value.
func (r *Reader) value() (code byte, content []byte) {
	if r.err != nil || r.fields == 0 {
		return codeNull, nil
	}
	if len(r.b) == 0 {
		r.fail("the value is missing")
		return codeNull, nil
	}
	if r.fields > 0 {
		r.fields--
	}
	code = r.b[0]
	if code == codeDescribed {
		inner := Reader{b: r.b[1:], fields: unbounded, depth: r.depth + 1}
		if inner.depth > maxDepth {
			r.fail("values nest deeper than %d", maxDepth)
			return codeNull, nil
		}
		inner.value()
		inner.value()
		if inner.err != nil {
			r.fail("%s", inner.err.(*Error).Description)
			return codeNull, nil
		}
		content = r.b[1 : len(r.b)-len(inner.b)]
		r.b = inner.b
		return code, content
	}
	head, size := 1, 0
	switch widths[code] {
	case widthNone:
		r.fail("0x%02x is no constructor", code)
		return codeNull, nil
	case widthSize1:
		if len(r.b) < 2 {
			r.fail("the size of a value is cut off")
			return codeNull, nil
		}
		head, size = 2, int(r.b[1])
	case widthSize4:
		if len(r.b) < 5 {
			r.fail("the size of a value is cut off")
			return codeNull, nil
		}
		claimed := binary.BigEndian.Uint32(r.b[1:])
		if claimed > math.MaxInt32 {
			r.fail("a value claims %d bytes", claimed)
			return codeNull, nil
		}
		head, size = 5, int(claimed)
	default:
		size = int(widths[code]) - widthFixed
	}
	if len(r.b)-head < size {
		r.fail("a value claims %d bytes where %d are left", size, len(r.b)-head)
		return codeNull, nil
	}
	content = r.b[head : head+size]
	r.b = r.b[head+size:]
	return code, content
}

// Raw returns the next value's encoding, nil for a null and for a field left off.
func (r *Reader) Raw() []byte {
	before := r.b
	code, _ := r.value()
	if code == codeNull {
		return nil
	}
	return before[:len(before)-len(r.b)]
}

// Uint reads an unsigned integer of any width, or a signed one that is not negative: clients do not agree on widths.
// It is false for null.
func (r *Reader) Uint() (uint64, bool) {
	n, negative, ok := r.integer()
	if negative {
		r.fail("an unsigned integer is expected, got %d", int64(n))
		return 0, false
	}
	return n, ok
}

// Int reads an integer of any width. It is false for null.
func (r *Reader) Int() (int64, bool) {
	n, negative, ok := r.integer()
	if !negative && n > math.MaxInt64 {
		r.fail("%d does not fit a signed integer", n)
		return 0, false
	}
	return int64(n), ok
}

func (r *Reader) integer() (n uint64, negative, ok bool) {
	code, c := r.value()
	switch code {
	case codeNull:
		return 0, false, false
	case codeUint0, codeUlong0:
		return 0, false, true
	case codeUbyte, codeSmallUint, codeSmallUlong:
		return uint64(c[0]), false, true
	case codeUshort:
		return uint64(binary.BigEndian.Uint16(c)), false, true
	case codeUint:
		return uint64(binary.BigEndian.Uint32(c)), false, true
	case codeUlong:
		return binary.BigEndian.Uint64(c), false, true
	}
	var s int64
	switch code {
	case codeByte, codeSmallInt, codeSmallLong:
		s = int64(int8(c[0]))
	case codeShort:
		s = int64(int16(binary.BigEndian.Uint16(c)))
	case codeInt:
		s = int64(int32(binary.BigEndian.Uint32(c)))
	case codeLong, codeTimestamp:
		s = int64(binary.BigEndian.Uint64(c))
	default:
		r.fail("an integer is expected, got constructor 0x%02x", code)
		return 0, false, false
	}
	return uint64(s), s < 0, true
}

// uint reads an unsigned integer of at most most, or nil.
func (r *Reader) uint(most uint64) *uint64 {
	n, ok := r.Uint()
	if !ok {
		return nil
	}
	if n > most {
		r.fail("%d is more than a field of at most %d holds", n, most)
		return nil
	}
	return &n
}

// Uint32 reads an unsigned integer of 32 bits, nil for null.
func (r *Reader) Uint32() *uint32 {
	n := r.uint(math.MaxUint32)
	if n == nil {
		return nil
	}
	return new(uint32(*n))
}

// Uint32Or reads an unsigned integer of 32 bits, or otherwise for null.
func (r *Reader) Uint32Or(otherwise uint32) uint32 {
	if n := r.Uint32(); n != nil {
		return *n
	}
	return otherwise
}

// Uint16 reads an unsigned integer of 16 bits, nil for null.
func (r *Reader) Uint16() *uint16 {
	n := r.uint(math.MaxUint16)
	if n == nil {
		return nil
	}
	return new(uint16(*n))
}

// Uint8 reads an unsigned integer of 8 bits, nil for null.
func (r *Reader) Uint8() *uint8 {
	n := r.uint(math.MaxUint8)
	if n == nil {
		return nil
	}
	return new(uint8(*n))
}

// Bool reads a boolean, false for null.
func (r *Reader) Bool() bool {
	b := r.OptionalBool()
	return b != nil && *b
}

// OptionalBool reads a boolean, nil for null.
func (r *Reader) OptionalBool() *bool {
	code, c := r.value()
	switch code {
	case codeNull:
		return nil
	case codeTrue:
		return new(true)
	case codeFalse:
		return new(false)
	case codeBool:
		if c[0] <= 1 {
			return new(c[0] == 1)
		}
	}
	r.fail("a boolean is expected, got constructor 0x%02x", code)
	return nil
}

// String reads a string or a symbol, empty for null: clients do not agree on which goes where.
func (r *Reader) String() string {
	s, _ := r.OptionalString()
	return s
}

// OptionalString reads a string or a symbol. It is false for null.
func (r *Reader) OptionalString() (string, bool) {
	code, c := r.value()
	switch code {
	case codeNull:
		return "", false
	case codeStr8, codeStr32:
		if !utf8.Valid(c) {
			r.fail("a string is not UTF-8")
			return "", false
		}
		return string(c), true
	case codeSym8, codeSym32:
		return string(c), true
	}
	r.fail("a string is expected, got constructor 0x%02x", code)
	return "", false
}

// Binary reads a binary value, nil for null.
func (r *Reader) Binary() []byte {
	code, c := r.value()
	switch code {
	case codeNull:
		return nil
	case codeBin8, codeBin32:
		return c
	}
	r.fail("a binary value is expected, got constructor 0x%02x", code)
	return nil
}

// Symbols reads a symbol or an array of symbols: AMQP calls that a multiple field.
func (r *Reader) Symbols() []string {
	raw := r.Raw()
	if raw == nil {
		return nil
	}
	if raw[0] != codeArray8 && raw[0] != codeArray32 {
		one := NewReader(raw)
		s := one.String()
		r.adopt(one)
		return []string{s}
	}
	values := NewReader(raw)
	array, _ := values.Any().(Array)
	r.adopt(values)
	var symbols []string
	for _, v := range array {
		switch v := v.(type) {
		case Symbol:
			symbols = append(symbols, string(v))
		case string:
			symbols = append(symbols, v)
		default:
			r.fail("a symbol is expected, got %T", v)
		}
	}
	return symbols
}

// adopt makes the error of a Reader of a part of r's buffer r's own.
func (r *Reader) adopt(part *Reader) {
	if part.err != nil && r.err == nil {
		r.fail("%s", part.err.(*Error).Description)
	}
}

// List reads a list and returns a Reader of its items, one without any for null.
func (r *Reader) List() *Reader {
	code, c := r.value()
	switch code {
	case codeNull, codeList0:
		return &Reader{}
	case codeList8, codeList32:
		return r.compound(code == codeList32, c)
	}
	r.fail("a list is expected, got constructor 0x%02x", code)
	return &Reader{err: r.err}
}

// Map reads a map and returns a Reader of its keys and values in turn, one without any for null.
func (r *Reader) Map() *Reader {
	code, c := r.value()
	switch code {
	case codeNull:
		return &Reader{}
	case codeMap8, codeMap32:
		pairs := r.compound(code == codeMap32, c)
		if pairs.fields%2 != 0 {
			r.fail("a map has an odd number of items, %d", pairs.fields)
			return &Reader{err: r.err}
		}
		return pairs
	}
	r.fail("a map is expected, got constructor 0x%02x", code)
	return &Reader{err: r.err}
}

// compound returns a Reader of the items of a list or map with the given content. Every item has at least its
// constructor, so a count above the bytes that are there is a lie.
func (r *Reader) compound(wide bool, c []byte) *Reader {
	var count uint32
	switch {
	case wide && len(c) >= 4:
		count, c = binary.BigEndian.Uint32(c), c[4:]
	case !wide && len(c) >= 1:
		count, c = uint32(c[0]), c[1:]
	default:
		r.fail("the count of a list or map is cut off")
		return &Reader{err: r.err}
	}
	if uint64(count) > uint64(len(c)) {
		r.fail("a list or map claims %d items in %d bytes", count, len(c))
		return &Reader{err: r.err}
	}
	if r.depth >= maxDepth {
		r.fail("values nest deeper than %d", maxDepth)
		return &Reader{err: r.err}
	}
	return &Reader{b: c, fields: int(count), depth: r.depth + 1}
}

// Described reads a described value and returns its descriptor's code and a Reader of the value. For a symbolic
// descriptor the code is 0 and the name is set. ok is false for null.
func (r *Reader) Described() (code uint64, name string, value *Reader, ok bool) {
	constructor, c := r.value()
	switch constructor {
	case codeNull:
		return 0, "", &Reader{}, false
	case codeDescribed:
	default:
		r.fail("a described value is expected, got constructor 0x%02x", constructor)
		return 0, "", &Reader{err: r.err}, false
	}
	value = &Reader{b: c, fields: unbounded, depth: r.depth + 1}
	switch c[0] {
	case codeSym8, codeSym32:
		name = value.String()
	default:
		code, _ = value.Uint()
	}
	if value.err != nil {
		r.adopt(value)
		return 0, "", value, false
	}
	return code, name, value, true
}
