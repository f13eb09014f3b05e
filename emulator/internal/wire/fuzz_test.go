package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
)

// seeds adds frames, their bodies and their payloads as the Event Hubs client for Go writes them, from
// the capture that the emulator's own fuzz test begins with, and a few that no client writes.
func seeds(f *testing.F) {
	capture, err := os.ReadFile("../../testdata/client.amqp")
	if err != nil {
		f.Fatal(err)
	}
	for r, buf := bytes.NewReader(capture), []byte(nil); r.Len() > 0; {
		from := len(capture) - r.Len()
		if bytes.HasPrefix(capture[from:], []byte("AMQP")) {
			r.Seek(8, io.SeekCurrent)
			continue
		}
		frame, err := ReadFrame(r, 1<<20, &buf)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(capture[from : len(capture)-r.Len()]))
		f.Add(bytes.Clone(frame.Body))
		if _, payload, err := Parse(frame.Body); err == nil && len(payload) > 0 {
			f.Add(bytes.Clone(payload))
		}
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
// is an [*Error] or a value; what it made of good bytes it writes so that it reads the same again; and
// it takes memory for what is there, not for what is claimed to be.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		defer func() {
			runtime.ReadMemStats(&after)
			// Values may take a hundred times their bytes, and an array of nulls as many as maxItems.
			if took, most := after.TotalAlloc-before.TotalAlloc, uint64(8<<20+1000*len(b)); took > most {
				t.Errorf("%d bytes took %d of memory, want at most %d", len(b), took, most)
			}
		}()
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
	if r.Any(); r.Err() != nil {
		wantError(t, r.Err())
		return
	}
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
