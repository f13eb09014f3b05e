package record

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"
)

// appendText appends s, which must be valid UTF-8, as a JSON string. It copies eight bytes at a time
// and looks for what must be escaped afterwards, in the copy still in a register: most words have
// nothing, and the rest go on behind their first escape.
func appendText(dst, s []byte) []byte {
	dst = slices.Grow(dst, len(s)+2)
	dst = append(dst, '"')
	for len(s) >= 8 {
		if cap(dst)-len(dst) < 8 {
			dst = slices.Grow(dst, len(s)+8)
		}
		word := binary.LittleEndian.Uint64(s)
		n := len(dst)
		dst = dst[:n+8]
		binary.LittleEndian.PutUint64(dst[n:], word)
		found := escapes(word)
		if found == 0 {
			s = s[8:]
			continue
		}
		at := bits.TrailingZeros64(found) / 8
		dst = appendEscape(dst[:n+at], s[at])
		s = s[at+1:]
	}
	for _, c := range s {
		if c < ' ' || c == '"' || c == '\\' {
			dst = appendEscape(dst, c)
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// appendString is appendText for a string.
func appendString(dst []byte, s string) []byte {
	return appendText(dst, unsafe.Slice(unsafe.StringData(s), len(s)))
}

// textLen is how many bytes appendText appends, without the quotes.
func textLen(s []byte) int {
	n := len(s)
	for _, c := range s {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			n++
		case c < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
}

// escapes sets the high bit of each byte of the word that is a control character, a quote or a
// backslash. A borrow may set it in bytes above the first of these as well, so only the lowest counts.
func escapes(word uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	control := word - ' '*ones
	quote := word ^ '"'*ones - ones
	backslash := word ^ '\\'*ones - ones
	return (control | quote | backslash) & ^word & highs
}

// appendEscape appends the escape of a control character, a quote or a backslash.
func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
