// Package record turns messages into bytes and back: the record that stands for a message in a blob,
// the blob's name, and the metadata that say which messages it holds: those that chain a partition's
// blobs together, and those of Service Bus. docs/record.md describes the format to those who read it
// with other programs.
//
// A record is one JSON object on one line, and every record ends with the separator, the last one of a
// blob too: blobs can be concatenated, and the tail of a batch is a batch.
package record

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"persistor/internal/message"
)

// The separators that ParseSeparator knows by name. Blank lines between records make a blob easier on
// the eye; without them each line of it is a JSON document.
const (
	OneNewline  = "\n"
	TwoNewlines = "\n\n"
)

// ParseSeparator reads the value of RECORD_SEPARATOR, "one" or "two" newlines.
func ParseSeparator(name string) (string, error) {
	switch name {
	case "one":
		return OneNewline, nil
	case "two":
		return TwoNewlines, nil
	}
	return "", fmt.Errorf("parse record separator: %.40q is not one of: one, two", name)
}

// Format is how records are written. The zero value writes bodies alone, followed by two newlines.
type Format struct {
	// Metadata adds application and system properties to the body.
	Metadata bool
	// Separator ends every record: OneNewline or TwoNewlines; "" means TwoNewlines.
	Separator string
}

// Append appends one record, with its separator, to dst and returns the extended buffer. It accepts any
// message: no content is refused. What it appends depends on the message and the format alone. It may
// be called concurrently, and keeps neither dst nor m.
//
// It allocates nothing but room in dst, as long as the message has one data section and no more than
// [fewKeys] properties of scalar types.
func (f Format) Append(dst []byte, m *message.Message) []byte {
	dst = append(dst, '{')
	dst = appendBody(dst, &m.Body)
	if f.Metadata {
		dst = appendMetadata(dst, m)
	}
	dst = appendTypes(dst, f, m)
	dst = append(dst, '}')
	if f.Separator == "" {
		return append(dst, TwoNewlines...)
	}
	return append(dst, f.Separator...)
}

// appendBody writes DATA and the members that tell how to read it.
func appendBody(dst []byte, b *message.Body) []byte {
	dst = append(dst, `"DATA":`...)
	switch b.Kind {
	case message.Value:
		dst = appendValue(dst, b.Value, 0)
		return append(dst, `,"BODY":"value"`...)
	case message.Sequence:
		dst = appendList(dst, sections(b.Sequence), 0)
		return append(dst, `,"BODY":"sequence"`...)
	case message.JSON:
		return appendJSON(dst, b.JSON)
	}
	if len(b.Data) == 1 {
		return appendData(dst, b.Data[0])
	}
	dst = appendData(dst, slices.Concat(b.Data...))
	dst = append(dst, `,"SECTIONS":[`...)
	for i, section := range b.Data {
		dst = appendComma(dst, i)
		dst = strconv.AppendInt(dst, int64(len(section)), 10)
	}
	return append(dst, ']')
}

// appendJSON writes a JSON value as it is, on one line. What is no JSON becomes an ordinary body.
func appendJSON(dst, value []byte) []byte {
	start := len(dst)
	line := bytes.NewBuffer(dst)
	if !utf8.Valid(value) || json.Compact(line, value) != nil {
		return appendData(dst[:start], value)
	}
	return append(line.Bytes(), `,"BODY":"json"`...)
}

// largeBody is from how many bytes on a body is written in the shorter of two forms. Service Bus has
// bodies of 100 MB; of control characters alone, the text would not fit into a blob.
const largeBody = 32 << 20

func appendData(dst, data []byte) []byte {
	if utf8.Valid(data) && (len(data) < largeBody || textIsShort(data)) {
		return appendText(dst, data)
	}
	dst = appendBase64(dst, data)
	return append(dst, `,"ENCODING":"base64"`...)
}

// textIsShort reports whether data are no longer as text than in base64.
func textIsShort(data []byte) bool { return textLen(data) <= base64.StdEncoding.EncodedLen(len(data)) }

func appendBase64(dst, data []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '"')
}

// appendComma separates the elements of a list or an object.
func appendComma(dst []byte, i int) []byte {
	if i > 0 {
		return append(dst, ',')
	}
	return dst
}
