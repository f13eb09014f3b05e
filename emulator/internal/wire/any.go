package wire

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Go types of the AMQP values that have none of their own. The others are null nil, boolean bool, ubyte uint8, ushort
// uint16, uint uint32, ulong uint64, byte int8, short int16, int int32, long int64, float float32, double float64,
// binary []byte, string string, list []any.
type (
	// Symbol is an ASCII name.
	Symbol string
	// Timestamp is milliseconds since the Unix epoch.
	Timestamp int64
	// UUID is in canonical byte order.
	UUID [16]byte
	// Char is a UTF-32 code unit, not always a valid rune.
	Char uint32
	// Decimal is a decimal floating-point number of 4, 8 or 16 bytes as it stands on the wire.
	Decimal string
	// Array holds values of one type.
	Array []any
	// Map keeps the order of its pairs, which AMQP says is significant.
	Map []Pair
	// Pair is a key and a value of a [Map].
	Pair struct{ Key, Value any }
	// Described is a value with a descriptor that says what it means.
	Described struct{ Descriptor, Value any }
)

// Get returns the value of a key that is a string or a symbol, nil if there is none.
func (m Map) Get(key string) any {
	for _, p := range m {
		switch k := p.Key.(type) {
		case string:
			if k == key {
				return p.Value
			}
		case Symbol:
			if string(k) == key {
				return p.Value
			}
		}
	}
	return nil
}

// String returns the value of a key that is a string or a symbol as text, empty if it is none.
func (m Map) String(key string) string {
	switch v := m.Get(key).(type) {
	case string:
		return v
	case Symbol:
		return string(v)
	}
	return ""
}

// Simple reports whether a value is of a type that may stand in application properties: no compound, none described.
func Simple(v any) bool {
	switch v.(type) {
	case []any, Map, Array, Described:
		return false
	}
	return true
}

// Any reads a value of any type into the Go types listed at [Symbol]. What it returns shares no memory with the buffer.
func (r *Reader) Any() any {
	if r.items++; r.items > maxItems {
		r.fail("a value holds more than %d others", maxItems)
		return nil
	}
	code, c := r.value()
	return r.decode(code, c)
}

func (r *Reader) decode(code byte, c []byte) any {
	switch code {
	case codeNull:
		return nil
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBool:
		return c[0] != 0
	case codeUint0:
		return uint32(0)
	case codeUlong0:
		return uint64(0)
	case codeUbyte:
		return c[0]
	case codeSmallUint:
		return uint32(c[0])
	case codeSmallUlong:
		return uint64(c[0])
	case codeUshort:
		return binary.BigEndian.Uint16(c)
	case codeUint:
		return binary.BigEndian.Uint32(c)
	case codeUlong:
		return binary.BigEndian.Uint64(c)
	case codeByte:
		return int8(c[0])
	case codeSmallInt:
		return int32(int8(c[0]))
	case codeSmallLong:
		return int64(int8(c[0]))
	case codeShort:
		return int16(binary.BigEndian.Uint16(c))
	case codeInt:
		return int32(binary.BigEndian.Uint32(c))
	case codeLong:
		return int64(binary.BigEndian.Uint64(c))
	case codeFloat:
		return math.Float32frombits(binary.BigEndian.Uint32(c))
	case codeDouble:
		return math.Float64frombits(binary.BigEndian.Uint64(c))
	case codeChar:
		return Char(binary.BigEndian.Uint32(c))
	case codeTimestamp:
		return Timestamp(binary.BigEndian.Uint64(c))
	case codeUUID:
		return UUID(c)
	case codeDecimal32, codeDecimal64, codeDecimal128:
		return Decimal(c)
	case codeBin8, codeBin32:
		return append([]byte{}, c...)
	case codeStr8, codeStr32:
		if !utf8.Valid(c) {
			r.fail("a string is not UTF-8")
		}
		return string(c)
	case codeSym8, codeSym32:
		return Symbol(c)
	case codeList0:
		return []any{}
	case codeList8, codeList32:
		items := r.compound(code == codeList32, c)
		items.items = r.items
		list := make([]any, 0, max(items.fields, 0))
		for items.fields > 0 && items.err == nil {
			list = append(list, items.Any())
		}
		r.finish(items)
		return list
	case codeMap8, codeMap32:
		items := r.compound(code == codeMap32, c)
		if items.fields%2 != 0 {
			r.fail("a map has an odd number of items, %d", items.fields)
			return nil
		}
		items.items = r.items
		m := make(Map, 0, items.fields/2)
		for items.fields > 0 && items.err == nil {
			key := items.Any()
			m = append(m, Pair{key, items.Any()})
		}
		r.finish(items)
		return m
	case codeArray8, codeArray32:
		return r.array(code == codeArray32, c)
	case codeDescribed:
		if r.depth >= maxDepth {
			r.fail("values nest deeper than %d", maxDepth)
			return nil
		}
		items := &Reader{b: c, fields: unbounded, depth: r.depth + 1, items: r.items}
		d := Described{Descriptor: items.Any()}
		d.Value = items.Any()
		r.finish(items)
		return d
	}
	r.fail("0x%02x is no constructor", code)
	return nil
}

// finish takes the count and the error over from a Reader of a part, which must have been read whole.
func (r *Reader) finish(part *Reader) {
	if part.err == nil && len(part.b) > 0 {
		part.fail("a compound value has %d bytes after its last item", len(part.b))
	}
	r.items = part.items
	r.adopt(part)
}

// array decodes the content of an array: a count, one constructor, and items without constructors.
func (r *Reader) array(wide bool, c []byte) any {
	var count uint32
	switch {
	case wide && len(c) >= 5:
		count, c = binary.BigEndian.Uint32(c), c[4:]
	case !wide && len(c) >= 2:
		count, c = uint32(c[0]), c[1:]
	default:
		r.fail("the count of an array is cut off")
		return nil
	}
	if r.depth >= maxDepth {
		r.fail("values nest deeper than %d", maxDepth)
		return nil
	}
	if int64(count)+int64(r.items) > maxItems {
		r.fail("an array claims %d items", count)
		return nil
	}
	items := &Reader{b: c, fields: unbounded, depth: r.depth + 1, items: r.items}
	var descriptor any
	described := c[0] == codeDescribed
	if described {
		items.b = items.b[1:]
		descriptor = items.Any()
	}
	if items.err != nil || len(items.b) == 0 || items.b[0] == codeDescribed {
		r.fail("the constructor of an array is malformed")
		return nil
	}
	constructor := items.b[0]
	items.b = items.b[1:]
	array := Array{}
	for range count {
		// The item reader wants a constructor before each item: give it one, and the bytes that are left.
		items.items++
		code, content := items.arrayItem(constructor)
		v := items.decode(code, content)
		if items.err != nil {
			break
		}
		if described {
			v = Described{descriptor, v}
		}
		array = append(array, v)
	}
	r.finish(items)
	return array
}

// arrayItem splits an item without a constructor off.
func (r *Reader) arrayItem(code byte) (byte, []byte) {
	head, size := 0, 0
	switch widths[code] {
	case widthNone:
		r.fail("0x%02x is no constructor", code)
		return codeNull, nil
	case widthSize1:
		if len(r.b) < 1 {
			r.fail("an array is cut off")
			return codeNull, nil
		}
		head, size = 1, int(r.b[0])
	case widthSize4:
		if len(r.b) < 4 {
			r.fail("an array is cut off")
			return codeNull, nil
		}
		claimed := binary.BigEndian.Uint32(r.b)
		if claimed > math.MaxInt32 {
			r.fail("a value claims %d bytes", claimed)
			return codeNull, nil
		}
		head, size = 4, int(claimed)
	default:
		size = int(widths[code]) - widthFixed
	}
	if len(r.b)-head < size {
		r.fail("an array is cut off")
		return codeNull, nil
	}
	content := r.b[head : head+size]
	r.b = r.b[head+size:]
	return code, content
}

// Check decodes the one value that b must hold and forgets it: nil if a client can decode it too.
func Check(b []byte) error {
	r := NewReader(b)
	r.Any()
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes follow the value", len(r.b))
	}
	return r.err
}
