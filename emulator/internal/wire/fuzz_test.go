package wire

import (
	"bytes"
	"errors"
	"testing"
)

// seeds are frame bodies and messages as the clients write them, from the capture of a session in which
// the Event Hubs client for Go put a token, read properties, sent a batch and received it.
func seeds(f *testing.F) {
	for _, s := range captured {
		f.Add([]byte(s))
	}
	for _, s := range []string{
		"",
		"\x00", "\x00\x53", "\x00\x53\x10", "\x00\x53\x10\x45",
		"\x00\x53\x12\xc0\x40\x03",                         // a list that is cut off
		"\x00\x53\x12\xd0\x00\x00\x00\x04\x3b\x9a\xca\x00", // a list of a billion fields
		"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40",         // an array of four billion nulls
		"\xc1\x02\x01\x40",                                 // a map with an odd count
		"\x00\x00\x00\x00\x00\x00\x00\x00",                 // descriptors of descriptors
	} {
		f.Add([]byte(s))
	}
}

// FuzzDecode holds every way into the codec to this: whatever the bytes, it returns, with an error that
// is an [*Error] or a value; and what it made of good bytes it writes so that it reads the same again.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		decodePerformative(t, b)
		decodeValue(t, b)
		for section, err := range Sections(b) {
			if err != nil {
				wantError(t, err)
				break
			}
			if _, err := ParseProperties(section.Value); err != nil {
				wantError(t, err)
			}
		}
		var buf []byte
		if _, err := ReadFrame(bytes.NewReader(b), 4096, &buf); cap(buf) > 64<<10 {
			t.Fatalf("read a frame of at most 4096 bytes into %d (%v)", cap(buf), err)
		}
	})
}

func decodePerformative(t *testing.T, b []byte) {
	p, payload, err := Parse(b)
	if err != nil {
		wantError(t, err)
		return
	}
	once := AppendFrame(nil, 1, p, payload)
	again, rest, err := Parse(once[8:])
	if err != nil {
		t.Fatalf("%s was written as %x, which does not parse: %v", Name(p), once, err)
	}
	if twice := AppendFrame(nil, 1, again, rest); !bytes.Equal(once, twice) {
		t.Fatalf("%s was written as %x, then as %x", Name(p), once, twice)
	}
}

func decodeValue(t *testing.T, b []byte) {
	r := NewReader(b)
	v := r.Any()
	if r.Err() != nil {
		wantError(t, r.Err())
		return
	}
	_ = v
	if err := Check(b); err != nil {
		wantError(t, err)
	}
}

func wantError(t *testing.T, err error) {
	var e *Error
	if !errors.As(err, &e) || e.Condition == "" || e.Description == "" {
		t.Fatalf("error %v of type %T, want an *Error with a condition and a description", err, err)
	}
}
