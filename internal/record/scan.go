package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// A scanner goes through one line of JSON. Its methods begin at the next byte, leave behind what they
// read, and report in their errors what they expected. Positions in errors count bytes of the line.
type scanner struct {
	line []byte
	at   int
}

var errShort = errors.New("the record is cut short")

func (s *scanner) fail(expected string) error {
	if s.at >= len(s.line) {
		return errShort
	}
	return fmt.Errorf("%q at position %d, expected %s", s.line[s.at], s.at, expected)
}

// peek skips white space and returns the byte behind it, 0 at the end.
func (s *scanner) peek() byte {
	for s.at < len(s.line) {
		switch c := s.line[s.at]; c {
		case ' ', '\t', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// expect skips white space and the byte c.
func (s *scanner) expect(c byte) error {
	if s.peek() != c {
		return s.fail(fmt.Sprintf("%q", c))
	}
	s.at++
	return nil
}

// elements calls each at every element of a list or every key of an object, which open and end enclose.
func (s *scanner) elements(open, end byte, each func() error) error {
	if err := s.expect(open); err != nil {
		return err
	}
	if s.peek() == end {
		s.at++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case end:
			s.at++
			return nil
		default:
			return s.fail(fmt.Sprintf("',' or %q", end))
		}
	}
}

// members calls each at the value of every member of an object.
func (s *scanner) members(each func(key []byte) error) error {
	return s.elements('{', '}', func() error {
		key, err := s.text()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		return each(key)
	})
}

// text returns a string's bytes, which are part of the line unless the string has escapes.
func (s *scanner) text() ([]byte, error) {
	raw, escaped, err := s.rawText()
	if err != nil || !escaped {
		return raw, err
	}
	return unescapeText(raw)
}

// rawText returns what is between the quotes of a string, and whether there are escapes in it.
func (s *scanner) rawText() (raw []byte, escaped bool, err error) {
	if err := s.expect('"'); err != nil {
		return nil, false, err
	}
	start := s.at
	for s.at < len(s.line) {
		if s.at+8 <= len(s.line) {
			found := escapes(binary.LittleEndian.Uint64(s.line[s.at:]))
			if found == 0 {
				s.at += 8
				continue
			}
			s.at += bits.TrailingZeros64(found) / 8
		}
		switch c := s.line[s.at]; {
		case c == '"':
			s.at++
			return s.line[start : s.at-1], escaped, nil
		case c == '\\':
			escaped = true
			s.at += 2
		case c < ' ':
			return nil, false, s.fail("no control character in a string")
		default:
			s.at++
		}
	}
	return nil, false, errShort
}

// word returns the letters, digits and signs of a number or of true, false or null.
func (s *scanner) word() (string, error) {
	s.peek()
	start := s.at
	for s.at < len(s.line) && bytes.IndexByte([]byte(",]}: \t\r\"[{"), s.line[s.at]) < 0 {
		s.at++
	}
	if s.at == start {
		return "", s.fail("a value")
	}
	return string(s.line[start:s.at]), nil
}

// skip moves behind a value. It checks no more than it must to find the value's end.
func (s *scanner) skip() error {
	for depth := 0; ; {
		switch s.peek() {
		case '"':
			if _, _, err := s.rawText(); err != nil {
				return err
			}
		case '{', '[':
			depth++
			s.at++
		case '}', ']':
			depth--
			s.at++
		case ',', ':':
			s.at++
		default:
			if _, err := s.word(); err != nil {
				return err
			}
		}
		switch {
		case depth < 0:
			s.at--
			return s.fail("a value")
		case depth == 0:
			return nil
		}
	}
}

// unescapeText returns what a string with escapes stands for.
func unescapeText(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw))
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(out, raw...), nil
		}
		out = append(out, raw[:i]...)
		raw = raw[i+1:] // the scanner saw to it that something follows
		c := raw[0]
		raw = raw[1:]
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, n := escapedRune(raw)
			if n == 0 {
				return nil, fmt.Errorf("escape \\u%.4q stands for no character", raw)
			}
			out = utf8.AppendRune(out, r)
			raw = raw[n:]
		default:
			return nil, fmt.Errorf("unknown escape \\%q", c)
		}
	}
}

// escapedRune reads what follows \u: four hexadecimal digits, or two such escapes that make a surrogate
// pair. It returns the length of what it read, 0 when that is no character.
func escapedRune(raw []byte) (rune, int) {
	r, ok := hexRune(raw)
	switch {
	case !ok:
		return 0, 0
	case !utf16.IsSurrogate(r):
		return r, 4
	case len(raw) < 6 || raw[4] != '\\' || raw[5] != 'u':
		return 0, 0
	}
	low, ok := hexRune(raw[6:])
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 10
}

func hexRune(raw []byte) (rune, bool) {
	if len(raw) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range raw[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
