package record

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// Any run of newlines separates records, and reads of any size give the same.
func TestReaderSeparators(t *testing.T) {
	const content = "\n\r\n{\"DATA\":\"a\"}\n{\"DATA\":\"b\"}\n\n{\"DATA\": \"c\" }\r\n\r\n\n\n{\"DATA\":\"d\"}"
	for _, from := range []io.Reader{strings.NewReader(content), iotest.OneByteReader(strings.NewReader(content)), iotest.DataErrReader(strings.NewReader(content))} {
		r := NewReader(from, 20)
		var got string
		for {
			m, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got += string(m.Body.Data[0])
		}
		if got != "abcd" {
			t.Errorf("got %s", got)
		}
	}
}

func TestReaderNamesWhatIsCorrupt(t *testing.T) {
	for line, want := range map[string]string{
		`{"DATA":"a`: "cut short", `{"DATA":"a"`: "cut short", `{"DATA":"a"}x`: "expected nothing more", `{}`: "DATA is missing", `[]`: "expected '{'",
		`{"DATA":"a","DATA":"b"}`: "DATA is there twice", `{"DATA":"a","EXTRA":1}`: "unknown member", "{\"DATA\":\"\xff\"}": "not UTF-8",
		"{\"DATA\":\"\x01\"}": "control character", `{"DATA":"\ud800"}`: "no character", `{"DATA":"\x"}`: "unknown escape", `{"DATA":1}`: "DATA: ",
		`{"DATA":"a","ENCODING":"base64"}`: "base64", `{"DATA":"a","ENCODING":"zip"}`: "ENCODING is", `{"DATA":"a","SECTIONS":[2]}`: "more than there is",
		`{"DATA":"a","SECTIONS":[]}`: "less than there is", `{"DATA":01,"BODY":"value"}`: "no JSON value", `{"DATA":1,"BODY":"x"}`: "BODY is",
		`{"DATA":300,"BODY":"value","TYPES":{"DATA":"byte"}}`: "8 bits", `{"DATA":1,"BODY":"value","TYPES":{"DATA":"x"}}`: "does not fit",
		`{"DATA":{"a":1,"a":2},"BODY":"value"}`: "there twice", `{"DATA":[[[],1]],"BODY":"value","TYPES":{"DATA":"map"}}`: "not a scalar",
		`{"DATA":"","SYSTEM":{"time_to_live_ms":9223372036855}}`: "292 years", `{"DATA":"","SYSTEM":{"time_to_live_ms":"1"}}`: "does not fit",
		`{"DATA":"","SYSTEM":{"delivery_count":-1}}`: "32 bits", `{"DATA":"","SYSTEM":{"delivery_count":4294967296}}`: "32 bits",
		`{"DATA":"","SYSTEM":{"session_id":null}}`: "does not fit", `{"DATA":"","SYSTEM":{"session_id":"","session_id":""}}`: "there twice",
		`{"DATA":"","SYSTEM":{"x":""}}`: "unknown member", `{"DATA":"","METADATA":[]}`: "not an object",
		`{"DATA":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"BODY":"value"}`: "nested deeper",
	} {
		r := NewReader(strings.NewReader("{\"DATA\":\"\"}\n\n"+line+"\n{\"DATA\":\"next\"}\n"), 1<<20)
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		_, err := r.Next()
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.Index != 1 || corrupt.Offset != 13 || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got %v, want %s", line, err, want)
		}
		if m, err := r.Next(); err != nil || string(m.Body.Data[0]) != "next" {
			t.Errorf("%.80s: then %v, %v", line, m, err)
		}
	}
}

// A record over the limit, and a failing read, are final.
func TestReaderStops(t *testing.T) {
	long := `{"DATA":"` + strings.Repeat("x", 1<<20) + `"}`
	for name, r := range map[string]*Reader{
		"long":         NewReader(strings.NewReader(long+"\n"), len(long)-1),
		"long, no end": NewReader(strings.NewReader(long), len(long)-1),
		"failing":      NewReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(long))), 1<<22),
		"idle":         NewReader(idle{}, 10),
	} {
		_, first := r.Next()
		_, second := r.Next()
		if first == nil || first == io.EOF || second != first || !strings.Contains(first.Error(), "record 0 at byte 0") {
			t.Errorf("%s: got %v, then %v", name, first, second)
		}
	}
	if _, err := NewReader(strings.NewReader(long), len(long)).Next(); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }
